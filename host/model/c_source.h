/* Pieces of C99 source that mean the same under any locale and hold no surprise whatever a name contains. */
#ifndef DESCENT_MODEL_C_SOURCE_H
#define DESCENT_MODEL_C_SOURCE_H

#include <descent/descent.h>
#include <stdio.h>

/* "static const float NAME[N] = {..};" in hexadecimal: every bit is kept. */
void c_floats(FILE *stream, const char *name, const float *values, int64_t n);
/* 'text', for a comment: it cannot end the comment, begin another, or reorder what is shown. */
void c_quoted(FILE *stream, const char *text);

#endif
