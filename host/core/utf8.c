/* UTF-8 by the table of RFC 3629, section 4: the lead byte gives the length and the range of the second byte. */
#include "core/utf8.h"

/* Bytes of the sequence at `text`; 0 when it is malformed. */
static size_t sequence_length(const unsigned char *text, size_t left) {
  const unsigned char lead = text[0];
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (length > left) return 0;
  unsigned char low = 0x80, high = 0xbf;
  if (lead == 0xe0) low = 0xa0;  /* overlong */
  if (lead == 0xed) high = 0x9f; /* surrogates */
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f; /* beyond U+10FFFF */
  if (text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < length; i++)
    if (text[i] < 0x80 || text[i] > 0xbf) return 0;
  return length;
}

bool utf8_valid(const char *text, size_t length, size_t *bad) {
  for (size_t i = 0; i < length;) {
    size_t step = sequence_length((const unsigned char *)text + i, length - i);
    if (step == 0) {
      *bad = i;
      return false;
    }
    i += step;
  }
  return true;
}
