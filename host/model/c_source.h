/* C99 source independent of the locale, and safe for any text in names. */
#ifndef DESCENT_MODEL_C_SOURCE_H
#define DESCENT_MODEL_C_SOURCE_H

#include <descent/descent.h>
#include <stdio.h>

/* A finite float in hexadecimal, which is exact. */
void c_float(FILE *stream, float value);
/* "static const float NAME[N] = {..};" of such floats. */
void c_floats(FILE *stream, const char *name, const float *values, int64_t n);
/* "static const float NAME[ROWS][N] = {{..}, ..};" of rows that begin `stride` floats apart. */
void c_float_rows(FILE *stream, const char *name, const float *values, int64_t rows, int64_t stride, int64_t n);
/* 'text' for a comment, escaped so that it cannot end the comment, start another, or change the text direction. */
void c_quoted(FILE *stream, const char *text);

#endif
