/* What a file may become in memory: a small file must not describe a dense matrix of many gigabytes. */
#ifndef DESCENT_DATA_EXPANSION_H
#define DESCENT_DATA_EXPANSION_H

#include <descent/descent.h>

/* gzip makes text and numbers at most this much smaller, but zeros 1,032 times: more is not counted. */
enum { EXPANSION_GZIP = 16 };

/* Whether a matrix whose sizes come from a file of `bytes` bytes is in proportion to it: at most 2^26 cells (256 MB) and
 * 1,032 for each byte. This is what deflate can hold of cells of one byte, and 3 times a text with 30 of 2^18 hashed
 * features in a row. A column costs about as much as 48 cells, before any row. ERROR_DATA; `detail`, such as " (index 9
 * first at line 1)", and `advice` end the message. */
descent_status expansion_check(const char *path, int64_t rows, int64_t columns, int64_t bytes, const char *detail,
                               const char *advice);

#endif
