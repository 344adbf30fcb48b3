/* Numbers, categories, dates and free text, told apart by the sample of a column. */
#include "data/column_kinds.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"
#include "data/cell_forms.h"

struct column_summary {
  int64_t cells, numbers, dates; /* cells: those not missing */
  int64_t written;               /* texts that are numbers in another style or with a sign such as $ */
  /* Row of the first text, of the first number with a sign, and of the first text that is neither; -1: none. */
  int64_t first_text, first_decorated, first_other;
  struct dictionary distinct; /* texts */
};

static descent_status summarize_column(const struct table *t, int64_t column, struct column_summary *s) {
  descent_status status = DESCENT_OK;
  s->first_text = s->first_decorated = s->first_other = -1;
  for (int64_t r = 0; r < t->sample_rows; r++) {
    const char *text = t->sample.items[r * t->columns.n + column];
    size_t length = strlen(text);
    double value;
    int64_t index;
    cell_trim(&text, &length);
    if (cell_is_missing(&t->missing, text, length)) continue;
    s->cells++;
    if (number_parse_style(text, length, t->missing.style, &value)) {
      s->numbers++;
      continue;
    }
    if (s->first_text < 0) s->first_text = r;
    const bool separated = cell_number_forms(text, length) != 0,
               decorated = !separated && cell_find_decoration(text, length);
    int64_t *first = decorated ? &s->first_decorated : &s->first_other;
    if (!separated && *first < 0) *first = r;
    s->written += separated || decorated;
    s->dates += !separated && !decorated && cell_looks_like_date(text, length);
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
  if (s.dates && s.dates == s.cells - s.numbers)
    TRY(text_error(t, column, s.first_text,
                   "looks like a date or time (ignore the column, replace it with numbers, or make it categorical)"));
  if (2 * (s.numbers + s.written) >= s.cells) {
    const int64_t row = s.first_decorated >= 0 ? s.first_decorated : s.first_other >= 0 ? s.first_other : s.first_text;
    const char *text = t->sample.items[row * t->columns.n + column];
    TRY(text_error(t, column, row, cell_number_problem(&t->missing, text, strlen(text), false, 0)));
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

/* ---- the style of numbers --------------------------------------------------------------------------------------- */

/* The cells of a column by the ways of reading them; rows of the sample, or -1. */
struct column_style {
  bool numbers;         /* every cell is a number in some style, and there are cells */
  bool separated;       /* some cell is no plain number */
  bool grouped;         /* some cell has both separators, or several of one */
  int64_t comma, point; /* first cell that only a decimal comma, or only a decimal point, can explain */
  int64_t either;       /* first cell that both explain, as different numbers */
};

static struct column_style column_style(const struct table *t, int64_t column) {
  struct column_style s = {.comma = -1, .point = -1, .either = -1};
  s.numbers = false;
  for (int64_t r = 0; r < t->sample_rows; r++) {
    const char *text = t->sample.items[r * t->columns.n + column];
    size_t length = strlen(text);
    cell_trim(&text, &length);
    if (cell_is_missing(&t->missing, text, length)) continue;
    const char *comma = memchr(text, ',', length), *point = memchr(text, '.', length);
    double value;
    if (!comma && !point) { /* every style agrees */
      s.numbers = number_parse(text, length, &value);
      if (!s.numbers) break;
      continue;
    }
    const char *end = text + length;
    if (!comma && end - point != 4 && !memchr(point + 1, '.', (size_t)(end - point - 1))) { /* decimals, mostly */
      s.numbers = number_parse(text, length, &value);
      if (!s.numbers) break;
      if (s.point < 0) s.point = r;
      continue;
    }
    const unsigned forms = cell_number_forms(text, length);
    s.numbers = forms != 0;
    if (!forms) break;
    s.separated = s.separated || !(forms & FORM_PLAIN);
    s.grouped = s.grouped || (comma && point) ||
                (comma && memchr(comma + 1, ',', length - (size_t)(comma + 1 - text))) ||
                (point && memchr(point + 1, '.', length - (size_t)(point + 1 - text)));
    int64_t *first = !(forms & FORM_POINT) ? &s.comma : !(forms & FORM_COMMA) ? &s.point : &s.either;
    if (*first < 0) *first = r;
  }
  return s;
}

static bool holds_numbers(const struct table *t, int64_t column) {
  const int64_t role = t->columns.roles[column];
  const descent_task task = t->request.options->task;
  if (role >= 0) return t->features[role].kind != FEATURE_CATEGORY;
  if (role == COLUMN_WEIGHT) return true;
  return role <= COLUMN_TARGET && (task == DESCENT_TASK_AUTO || task == DESCENT_TASK_REGRESSION);
}

static descent_status check_style(const struct table *t, int64_t column, const struct column_style *s) {
  if (s->comma >= 0 && s->point >= 0)
    return text_error(t, column, s->comma,
                      "has a decimal comma, but other cells of the column have a decimal point (write all numbers in "
                      "one way)");
  if (s->comma >= 0 && t->delimiter == ',')
    return text_error(t, column, s->comma,
                      "has a decimal comma, but commas separate the cells (use a decimal point, or another delimiter)");
  if (s->comma < 0 && s->point < 0)
    return text_error(
        t, column, s->either,
        t->delimiter == ','
            ? "could have a decimal comma or a separator of thousands (choose decimal '.' for thousands, "
              "or write a decimal point for decimal ',')"
            : "could have a decimal comma or a separator of thousands (choose decimal ',' or decimal '.')");
  return DESCENT_OK;
}

/* Says which columns have separators: "decimal commas in columns 'a', 'b'". */
static void note_style(struct table *t, const struct column_style *styles) {
  char names[160] = "", note[240];
  int64_t listed = 0, all = 0;
  for (int64_t c = 0; c < t->columns.n; c++) {
    char name[80];
    if (!styles[c].separated) continue;
    columns_describe(&t->columns, c, name, sizeof name);
    const size_t used = strlen(names);
    if (all++ == listed && used + strlen(name) + 2 < sizeof names)
      listed++, snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
  }
  snprintf(note, sizeof note, "%s in %s%s",
           t->missing.style == NUMBER_POINT_GROUPED ? "thousands separated by commas" : "decimal commas", names,
           all > listed ? ", ..." : "");
  note_add(t->columns.note, note);
}

/* Sets the file's style. Each column with separators must prove the style by its own cells. */
static descent_status infer_style(struct table *t) {
  descent_status status = DESCENT_OK;
  int64_t comma = -1, other = -1, unclear = -1; /* columns */
  bool points = false, grouped = false;
  struct column_style *styles = memory_allocate(t->columns.n, sizeof *styles, "the columns");
  if (!styles) return DESCENT_ERROR_MEMORY;
  for (int64_t c = 0; c < t->columns.n; c++) {
    if (!holds_numbers(t, c)) continue;
    const struct column_style s = column_style(t, c);
    if (!s.numbers) continue;
    if (s.separated) TRY(check_style(t, c, &s));
    if (s.separated) styles[c] = s;
    if (comma < 0 && s.comma >= 0) comma = c;
    if (other < 0 && s.point >= 0) other = c;
    if (unclear < 0 && !s.separated && s.either >= 0 && s.point < 0) unclear = c, styles[c].either = s.either;
    points = points || (s.separated && s.comma < 0);
    grouped = grouped || s.grouped;
  }
  if (comma >= 0 && other >= 0) {
    char name[80], problem[160];
    columns_describe(&t->columns, other, name, sizeof name);
    snprintf(problem, sizeof problem, "has a decimal comma, but %s has decimal points (write all numbers in one way)",
             name);
    TRY(text_error(t, comma, styles[comma].comma, problem));
  }
  if (comma >= 0 && unclear >= 0)
    TRY(text_error(t, unclear, styles[unclear].either,
                   "could have a decimal point or, as other columns have decimal commas, a separator of thousands "
                   "(choose decimal ',' or decimal '.')"));
  if (comma < 0 && !points && unclear >= 0 && t->delimiter != ',') {
    const char *text = t->sample.items[styles[unclear].either * t->columns.n + unclear];
    char name[80], shown[64], note[240];
    columns_describe(&t->columns, unclear, name, sizeof name);
    text_escape(text, strlen(text), shown, sizeof shown);
    snprintf(note, sizeof note, "%s: '%s' is read with a decimal point (decimal ',' reads points between thousands)",
             name, shown);
    note_add(t->columns.note, note);
  }
  if (comma >= 0)
    t->missing.style = grouped ? NUMBER_COMMA_GROUPED : NUMBER_COMMA;
  else if (points)
    t->missing.style = NUMBER_POINT_GROUPED;
  if (t->missing.style != NUMBER_PLAIN) note_style(t, styles);
done:
  free(styles);
  return status;
}

bool columns_infer_style(const struct table *t) {
  return t->delimiter && !t->request.options->decimal && !t->request.expected && !t->request.options->strict;
}

descent_status columns_infer_kinds(struct table *t) {
  descent_status status = DESCENT_OK;
  if (columns_infer_style(t)) TRY(infer_style(t));
  for (int64_t c = 0; c < t->columns.n; c++) {
    const int64_t role = t->columns.roles[c];
    if (role >= 0 && t->features[role].kind == FEATURE_UNKNOWN) TRY(infer_kind(t, c, &t->features[role].kind));
  }
done:
  return status;
}
