/* UTF-8 validation, for names that are stored as JSON. */
#ifndef DESCENT_CORE_UTF8_H
#define DESCENT_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* False when text[0 .. length) is not UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF); *bad is
 * then the offset of the first invalid sequence. */
bool utf8_valid(const char *text, size_t length, size_t *bad);

#endif
