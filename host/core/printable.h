/* Which characters of a name may reach a terminal or a page as they are, and how the others are shown. Inline, since
 * the library and the command both need it. */
#ifndef DESCENT_CORE_PRINTABLE_H
#define DESCENT_CORE_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bytes of an escaped character at most, with the NUL; the code of what is not UTF-8. */
enum { PRINTABLE_SIZE = 8, PRINTABLE_INVALID = 0x110000 };

/* The UTF-8 character at text[0 .. left), left > 0, and its bytes. The lead byte gives the length and the range of the
 * second byte (RFC 3629, section 4). PRINTABLE_INVALID, of one byte, for what is malformed. */
static inline uint32_t printable_decode(const char *text, size_t left, size_t *length) {
  const unsigned char *c = (const unsigned char *)text, lead = *c;
  *length = 1;
  if (lead < 0x80) return lead;
  if (lead < 0xc2 || lead > 0xf4) return PRINTABLE_INVALID;
  const size_t n = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  unsigned char low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;  /* overlong */
  if (lead == 0xed) high = 0x9f; /* surrogates */
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f; /* beyond U+10FFFF */
  if (n > left || c[1] < low || c[1] > high) return PRINTABLE_INVALID;
  uint32_t code = lead & (0x7fU >> n);
  for (size_t i = 1; i < n; i++) {
    if ((c[i] & 0xc0) != 0x80) return PRINTABLE_INVALID;
    code = code << 6 | (c[i] & 0x3f);
  }
  *length = n;
  return code;
}

/* Characters that move the cursor, start a command of the terminal, break the line or reverse the text after them, and
 * what is not a character. */
static inline bool printable_harmful(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) ||         /* controls: C0, DEL, C1 */
         code == 0x061c || code == 0x200e || code == 0x200f ||   /* direction marks */
         (code >= 0x2028 && code <= 0x202e) ||                   /* line and paragraph separators, embeddings */
         (code >= 0x2066 && code <= 0x2069) || code == 0xfeff || /* isolates, byte order mark */
         code == 0xfffe || code == 0xffff || code == PRINTABLE_INVALID;
}

/* Copies the character at text[0 .. left), left > 0, as it is shown: itself, or where it is harmful \n, \t, \r, \xNN
 * (a byte) or \uNNNN. Returns its bytes in `text`. */
static inline size_t printable_escape(const char *text, size_t left, char shown[PRINTABLE_SIZE]) {
  size_t length;
  const uint32_t code = printable_decode(text, left, &length);
  const char *letter = code && code < 0x20 ? strchr("\nn\tt\rr", (int)code) : NULL;
  if (letter)
    snprintf(shown, PRINTABLE_SIZE, "\\%c", letter[1]);
  else if (code < 0x80 && printable_harmful(code))
    snprintf(shown, PRINTABLE_SIZE, "\\x%02x", (unsigned)code);
  else if (code == PRINTABLE_INVALID)
    snprintf(shown, PRINTABLE_SIZE, "\\x%02x", (unsigned char)*text);
  else if (printable_harmful(code))
    snprintf(shown, PRINTABLE_SIZE, "\\u%04x", (unsigned)code & 0xffff);
  else
    snprintf(shown, PRINTABLE_SIZE, "%.*s", (int)length, text);
  return length;
}

#endif
