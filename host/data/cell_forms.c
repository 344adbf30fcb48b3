/* Forms of cells that are not plain numbers. */
#include "data/cell_forms.h"

#include <ctype.h>
#include <string.h>

#include "core/number.h"

enum { LONGEST = 63 }; /* bytes of a number as people write it */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

void cell_trim(const char **text, size_t *length) {
  while (*length && is_blank((*text)[*length - 1])) --*length;
  while (*length && is_blank(**text)) ++*text, --*length;
}

unsigned cell_number_forms(const char *text, size_t length) {
  double value;
  unsigned forms = 0;
  if (number_parse(text, length, &value)) forms |= FORM_PLAIN;
  if (number_parse_separated(text, length, NUMBER_COMMA_GROUPED, &value)) forms |= FORM_COMMA;
  if (number_parse_separated(text, length, NUMBER_POINT_GROUPED, &value)) forms |= FORM_POINT;
  return forms;
}

bool cell_looks_like_date(const char *text, size_t length) {
  int groups = 0, marks = 0;
  bool in_group = false;
  for (size_t i = 0; i < length; i++) {
    const char c = text[i];
    if (isdigit((unsigned char)c)) {
      groups += !in_group;
      in_group = true;
    } else {
      in_group = false;
      if (strchr("-/.:", c))
        marks++;
      else if (!strchr("TZ+ ,", c))
        return false;
    }
  }
  return groups >= 2 && groups <= 8 && marks >= (memchr(text, ':', length) ? 1 : 2);
}

/* ---- decorations ------------------------------------------------------------------------------------------------ */

#define DECORATION(sign)                                                             \
  {                                                                                  \
    sign, "is not a number (remove the '" sign "', or make the column categorical)", \
        "is not a number (remove the '" sign "', or choose task classes)"            \
  }
static const struct cell_decoration around[] = {
    DECORATION("$"),   DECORATION("€"),   DECORATION("£"),   DECORATION("¥"),   DECORATION("₹"),   DECORATION("%"),
    DECORATION("USD"), DECORATION("EUR"), DECORATION("GBP"), DECORATION("JPY"), DECORATION("CHF"), DECORATION("CNY"),
};
/* Between the digits: blanks (also those that do not break a line) and apostrophes that separate thousands. */
static const struct cell_decoration between[] = {
    DECORATION(" "), DECORATION("'"), DECORATION("\u2019"), DECORATION("\u00a0"), DECORATION("\u202f"),
};
#undef DECORATION

static bool starts_with(const char *text, size_t length, const char *sign) {
  return strlen(sign) <= length && memcmp(text, sign, strlen(sign)) == 0;
}

/* Whether the text is a number once the sign before or after it is removed. */
static bool has_around(const char *text, size_t length, const char *sign) {
  const size_t n = strlen(sign);
  const bool negative = length && (*text == '-' || *text == '+');
  const char *rest = text + negative;
  size_t left = length - negative;
  if (starts_with(rest, left, sign))
    rest += n, left -= n;
  else if (left > n && memcmp(rest + left - n, sign, n) == 0)
    left -= n;
  else
    return false;
  cell_trim(&rest, &left);
  return cell_number_forms(rest, left) != 0 || cell_find_decoration(rest, left) != NULL;
}

/* Whether the text is a number once the sign is removed, which stands between groups of three digits. */
static bool has_between(const char *text, size_t length, const char *sign) {
  char plain[LONGEST];
  const size_t step = strlen(sign);
  size_t n = 0;
  bool found = false;
  for (size_t i = 0; i < length;) {
    if (!starts_with(text + i, length - i, sign)) {
      plain[n++] = text[i++];
      continue;
    }
    size_t digits = 0;
    for (i += step; i + digits < length && isdigit((unsigned char)text[i + digits]);) digits++;
    if (!n || !isdigit((unsigned char)plain[n - 1]) || digits != 3) return false;
    found = true;
  }
  return found && cell_number_forms(plain, n) != 0;
}

const struct cell_decoration *cell_find_decoration(const char *text, size_t length) {
  cell_trim(&text, &length);
  if (length > LONGEST) return NULL;
  for (size_t i = 0; i < sizeof around / sizeof *around; i++)
    if (has_around(text, length, around[i].sign)) return &around[i];
  for (size_t i = 0; i < sizeof between / sizeof *between; i++)
    if (has_between(text, length, between[i].sign)) return &between[i];
  return NULL;
}
