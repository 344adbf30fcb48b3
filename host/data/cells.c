/* Distinguishing numbers, categories, missing cells, dates and free text. */
#include "data/cells.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/number.h"
#include "core/status.h"

/* ---- one cell --------------------------------------------------------------------------------------------------- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

void cell_trim(const char **text, size_t *length) {
  while (*length && is_blank((*text)[*length - 1])) --*length;
  while (*length && is_blank(**text)) ++*text, --*length;
}

bool cell_number_is_missing(const struct table *t, double number) {
  for (int64_t i = 0; i < t->n_missing_numbers; i++)
    if (t->missing_numbers[i] == number) return true;
  return isnan(number);
}

bool cell_is_missing(const struct table *t, const char *text, size_t length) {
  static const char *const usual[] = {"?", "NA", "N/A", "NaN", "null"};
  const descent_dataset_options *options = t->request.options;
  double number;
  cell_trim(&text, &length);
  if (!options->missing && options->strict) return false;
  if (!options->missing) {
    if (length == 0) return true;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
      if (strlen(usual[i]) == length && strncasecmp(usual[i], text, length) == 0) return true;
    return false;
  }
  for (int64_t i = 0; i < options->missing_texts; i++) {
    const char *listed = options->missing[i];
    size_t listed_length = strlen(listed);
    cell_trim(&listed, &listed_length);
    if (listed_length == length && memcmp(listed, text, length) == 0) return true;
  }
  return t->n_missing_numbers && number_parse(text, length, &number) && !isnan(number) &&
         cell_number_is_missing(t, number);
}

static bool looks_like_decimal_comma(const char *text, size_t length) {
  char copy[64];
  double value;
  if (length >= sizeof copy) return false;
  memcpy(copy, text, length);
  char *comma = memchr(copy, ',', length);
  if (!comma) return false;
  *comma = '.';
  return number_parse(copy, length, &value);
}

const char *cell_number_problem(const descent_dataset_options *options, const char *text, size_t length, bool numeric,
                                double value) {
  if (length == 0) return "is empty (fill in a number, or remove the row or the column)";
  if (!numeric && looks_like_decimal_comma(text, length)) return "is not a number (use a decimal point)";
  if (!numeric && options->strict) return "is not a number (correct it, or remove the row or the column)";
  if (!numeric) return "is not a number (correct it, list it as missing, or make the column categorical)";
  if (isnan(value)) return "is not a number (fill one in, or remove the row or the column)";
  return "is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the row or the column)";
}

/* 2024-03-01, 1/3/24, 01.03.2024, 12:30, 2024-03-01T12:30:05Z: groups of digits separated by - / . and :. */
static bool looks_like_date(const char *text, size_t length) {
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

/* ---- a column --------------------------------------------------------------------------------------------------- */

struct column_summary {
  int64_t cells, numbers, dates; /* cells: those not missing */
  int64_t first_text;            /* its row in the sample, or -1 */
  struct dictionary distinct;    /* texts */
};

static descent_status summarize_column(const struct table *t, int64_t column, struct column_summary *s) {
  descent_status status = DESCENT_OK;
  s->first_text = -1;
  for (int64_t r = 0; r < t->sample_rows; r++) {
    const char *text = t->sample.items[r * t->columns.n + column];
    size_t length = strlen(text);
    double value;
    int64_t index;
    cell_trim(&text, &length);
    if (cell_is_missing(t, text, length)) continue;
    s->cells++;
    if (number_parse(text, length, &value)) {
      s->numbers++;
      continue;
    }
    if (s->first_text < 0) s->first_text = r;
    s->dates += looks_like_date(text, length);
    TRY(dictionary_add(&s->distinct, (double)NAN, text, length, 0, &index));
  }
done:
  return status;
}

static descent_status text_error(const struct table *t, int64_t column, int64_t row, const char *problem) {
  char shown[64], name[80];
  const int64_t at = row * t->columns.n + column;
  text_escape(t->sample.items[at], strlen(t->sample.items[at]), shown, sizeof shown);
  columns_describe(&t->columns, column, name, sizeof name);
  return status_set(DESCENT_ERROR_DATA, "%s:%" PRId64 ": %s: '%s' %s", t->path, t->sample.lines[at], name, shown,
                    problem);
}

/* Free text hardly repeats, which only shows in enough rows. */
static bool is_free_text(const struct column_summary *s) {
  enum { FEW = 20 };
  return s->cells >= FEW && s->distinct.n > s->cells / 2;
}

static descent_status infer_kind(const struct table *t, int64_t column, enum feature_kind *kind) {
  struct column_summary s = {0};
  descent_status status;
  *kind = FEATURE_NUMBER;
  TRY(summarize_column(t, column, &s));
  if (s.first_text < 0) goto done;
  if (s.dates == s.cells - s.numbers)
    TRY(text_error(
        t, column, s.first_text,
        "looks like a date or time, which cannot be a category (ignore the column, or replace it with numbers)"));
  if (2 * s.numbers >= s.cells) {
    const char *text = t->sample.items[s.first_text * t->columns.n + column];
    TRY(text_error(t, column, s.first_text, cell_number_problem(t->request.options, text, strlen(text), false, 0)));
  }
  if (is_free_text(&s)) {
    char name[80];
    columns_describe(&t->columns, column, name, sizeof name);
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: %s: %" PRId64 " distinct texts in %" PRId64
                   " rows look like an identifier or free text (ignore the column, or make it categorical)",
                   t->path, name, s.distinct.n, s.cells));
  }
  *kind = FEATURE_CATEGORY;
done:
  dictionary_clear(&s.distinct);
  return status;
}

descent_status cells_infer_kinds(struct table *t) {
  descent_status status = DESCENT_OK;
  for (int64_t c = 0; c < t->columns.n; c++) {
    const int64_t role = t->columns.roles[c];
    if (role >= 0 && t->features[role].kind == FEATURE_UNKNOWN) TRY(infer_kind(t, c, &t->features[role].kind));
  }
done:
  return status;
}
