/* Cautions about a training's data: identifiers among the features, classes without rows. */
#include "cli/cautions.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/text.h"

enum { NAMES_SHOWN = 3, NAME_COLUMNS = 28 };

/* ---- identifiers ------------------------------------------------------------------------------------------------- */

enum {
  ROWS_LEAST = 50, /* in fewer rows whole numbers are different by chance */
  ROWS_SCREENED = 64
};

/* "id", "user_id", "user id", "userId" and "userID", but neither "paid" nor "GRID". */
static bool is_called_identifier(const char *name) {
  const size_t n = name ? strlen(name) : 0;
  if (n < 2 || tolower((unsigned char)name[n - 2]) != 'i' || tolower((unsigned char)name[n - 1]) != 'd') return false;
  if (n == 2 || !isalnum((unsigned char)name[n - 3])) return true;
  return name[n - 2] == 'I' && islower((unsigned char)name[n - 3]);
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Are these numbers, which it sorts, an identifier: whole, and either all different and close together, other than years, or
 * different in nearly every row of a column called so? `*different`: how many there are. */
static bool is_identifier(double *values, int64_t n, bool called, int64_t *different) {
  for (int64_t r = 0; r < n; r++)
    if (!isfinite(values[r]) || values[r] != trunc(values[r])) return false;
  qsort(values, (size_t)n, sizeof *values, by_value);
  *different = 1;
  for (int64_t r = 1; r < n; r++) *different += values[r] != values[r - 1];
  const bool years = values[0] >= 1500 && values[n - 1] <= 2200;
  const bool dense = *different == n && values[n - 1] - values[0] < 2 * (double)n && !years;
  return dense || (called && 10 * *different >= 9 * n);
}

static void copy_input(const descent_dataset *data, int64_t input, int64_t n, double *values) {
  for (int64_t r = 0; r < n; r++) values[r] = descent_dataset_input_value(data, r, input);
}

static void print_identifier(FILE *stream, const descent_dataset *data, int64_t column, int64_t different) {
  char name[TEXT_SIZE], count[TEXT_SIZE], rows[TEXT_SIZE];
  const char *named = descent_dataset_column_name(data, column);
  text_count(different, count);
  text_count(descent_dataset_rows(data), rows);
  if (named)
    fprintf(stream,
            "warning     column '%s' looks like a row number or identifier: %s different whole numbers in %s rows "
            "(--ignore %s leaves it out)\n",
            text_label(named, NAME_COLUMNS, name), count, rows, name);
  else
    fprintf(stream,
            "warning     feature %" PRId64
            " (from 0) looks like a row number or identifier: %s different whole numbers "
            "in %s rows (--ignore leaves columns out)\n",
            column, count, rows);
}

void cautions_print_identifiers(FILE *stream, const descent_dataset *data) {
  const int64_t rows = descent_dataset_rows(data), columns = descent_dataset_columns(data);
  if (rows < ROWS_LEAST || columns < 2) return;
  double *screened = malloc(ROWS_SCREENED * sizeof *screened), *values = malloc((size_t)rows * sizeof *values);
  int64_t input = 0, different;
  for (int64_t c = 0; screened && values && c < columns; c++) {
    const int64_t first = rows < ROWS_SCREENED ? rows : ROWS_SCREENED;
    const bool called = is_called_identifier(descent_dataset_column_name(data, c));
    /* Few columns are different whole numbers in the first rows, so few are read to the end. */
    if (descent_dataset_column_categories(data, c) == 0) {
      copy_input(data, input, first, screened);
      if (is_identifier(screened, first, true, &different)) {
        copy_input(data, input, rows, values);
        if (is_identifier(values, rows, called, &different)) print_identifier(stream, data, c, different);
      }
    }
    input += descent_dataset_column_inputs(data, c);
  }
  free(screened);
  free(values);
}

/* ---- classes ----------------------------------------------------------------------------------------------------- */

/* The rows of each class, or NULL without classes or memory. The caller frees it. */
static int64_t *count_classes(const descent_dataset *data) {
  const int64_t classes = descent_dataset_classes(data);
  int64_t *counts = classes ? calloc((size_t)classes, sizeof *counts) : NULL;
  float y;
  for (int64_t r = 0; counts && r < descent_dataset_rows(data); r++)
    if (descent_dataset_target(data, r, &y) == DESCENT_OK && y >= 0 && y < (float)classes) counts[(int64_t)y]++;
  return counts;
}

/* "no validation rows of class b (1 row in all): ..." */
static void print_absent(FILE *stream, const descent_dataset *data, const int64_t *absent_from, const int64_t *present,
                         const char *side, const char *consequence) {
  char name[TEXT_SIZE], count[TEXT_SIZE];
  int64_t absent = 0, shown = 0;
  for (int64_t k = 0; k < descent_dataset_classes(data); k++) absent += !absent_from[k] && present[k];
  if (!absent) return;
  fprintf(stream, "warning     no %s rows of class%s", side, absent > 1 ? "es" : "");
  for (int64_t k = 0; k < descent_dataset_classes(data) && shown < NAMES_SHOWN; k++) {
    const char *known = descent_dataset_class_name(data, k);
    if (absent_from[k] || !present[k]) continue;
    fputs(shown++ ? ", " : " ", stream);
    if (known)
      fputs(text_label(known, NAME_COLUMNS, name), stream);
    else
      fprintf(stream, "%" PRId64, k);
    fprintf(stream, " (%s row%s)", text_count(present[k], count), present[k] == 1 ? "" : "s");
  }
  if (absent > shown) fprintf(stream, " and %s more", text_count(absent - shown, count));
  fprintf(stream, ": %s\n", consequence);
}

void cautions_print_classes(FILE *stream, const descent_dataset *training, const descent_dataset *validation) {
  int64_t *trained = count_classes(training), *validated = count_classes(validation);
  if (trained && validated) {
    print_absent(stream, training, trained, validated, "training", "not learned");
    print_absent(stream, training, validated, trained, "validation", "not measured");
  }
  free(trained);
  free(validated);
}

bool cautions_lacks_class(const descent_dataset *data, const descent_dataset *part) {
  int64_t *all = count_classes(data), *some = count_classes(part);
  bool lacks = false;
  for (int64_t k = 0; all && some && k < descent_dataset_classes(data); k++) lacks = lacks || (all[k] && !some[k]);
  free(all);
  free(some);
  return lacks;
}
