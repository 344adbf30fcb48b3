/* Numbers, categories, dates and free text, told apart by the sample of a column. */
#include "data/column_kinds.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/number.h"
#include "core/status.h"

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
    if (cell_is_missing(&t->missing, text, length)) continue;
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

descent_status columns_infer_kinds(struct table *t) {
  descent_status status = DESCENT_OK;
  for (int64_t c = 0; c < t->columns.n; c++) {
    const int64_t role = t->columns.roles[c];
    if (role >= 0 && t->features[role].kind == FEATURE_UNKNOWN) TRY(infer_kind(t, c, &t->features[role].kind));
  }
done:
  return status;
}
