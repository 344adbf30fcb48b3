/* Tables about the data: files, split, classes, columns. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "report/markup.h"
#include "report/page_tables.h"
#include "report/text.h"

enum { CLASSES_LISTED = 30, COLUMNS_LISTED = 60, ROWS_SEEN = 100000, CATEGORIES_NAMED = 6 };

static void write_files(FILE *out, const struct page *p) {
  char text[TEXT_SIZE], line[TEXT_SIZE + 64];
  const descent_dataset *data = p->data;
  fputs("<div class=\"card\"><table class=\"pairs\"><tbody>\n", out);
  page_pair(out, "file", p->data_path);
  page_pair(out, "rows", text_count(descent_dataset_rows(data), text));
  if (descent_dataset_dropped(data))
    page_pair(out, "rows without target, left out", text_count(descent_dataset_dropped(data), text));
  page_pair(out, "feature columns", text_count(descent_dataset_columns(data), text));
  if (descent_dataset_inputs(data) != descent_dataset_columns(data))
    page_pair(out, "network inputs", text_count(descent_dataset_inputs(data), text));
  page_pair(out, "training rows", text_count(descent_dataset_rows(p->training), text));
  if (p->validation && p->validation_path) {
    snprintf(line, sizeof line, "%s from a separate file", text_count(descent_dataset_rows(p->validation), text));
    page_pair(out, "validation rows", line);
    page_pair(out, "validation file", p->validation_path);
  } else if (p->validation) {
    snprintf(line, sizeof line, "%s held out", text_count(descent_dataset_rows(p->validation), text));
    page_pair(out, "validation rows", line);
  }
  if (p->test_path) page_pair(out, "test file", p->test_path);
  if (*descent_dataset_note(data)) page_pair(out, "note", descent_dataset_note(data));
  fputs("</tbody></table></div>\n", out);
}

static void write_name(FILE *out, const char *name, int64_t index) {
  if (name)
    markup_text(out, name);
  else
    fprintf(out, "%" PRId64, index);
}

static void write_classes(FILE *out, const descent_dataset *data) {
  char text[TEXT_SIZE];
  const int64_t classes = descent_dataset_classes(data);
  const double rows = (double)descent_dataset_rows(data);
  fputs(
      "<div class=\"card\"><table><thead><tr><th>class</th><th class=\"n\">rows</th><th class=\"n\">share</th><th></th>"
      "</tr></thead><tbody>\n",
      out);
  for (int64_t k = 0; k < classes && k < CLASSES_LISTED; k++) {
    const double share = 100 * (double)descent_dataset_class_count(data, k) / rows;
    fputs("<tr><th>", out);
    write_name(out, descent_dataset_class_name(data, k), k);
    fprintf(out,
            "</th><td class=\"n\">%s</td><td class=\"n\">%.1f %%</td>"
            "<td><span class=\"share\"><i style=\"width:%.1f%%\"></i></span></td></tr>\n",
            text_count(descent_dataset_class_count(data, k), text), share, share);
  }
  fputs("</tbody></table>\n", out);
  if (classes > CLASSES_LISTED)
    fprintf(out, "<p class=\"note\">and %" PRId64 " more classes</p>\n", classes - CLASSES_LISTED);
  fputs("</div>\n", out);
}

/* ---- columns ---------------------------------------------------------------------------------------------------- */

struct input_range {
  double low, high, sum, squares;
  int64_t n;
};

/* Range and sums of each input over at most ROWS_SEEN evenly spread rows; NULL when out of memory. */
static struct input_range *find_ranges(const descent_dataset *data) {
  const int64_t inputs = descent_dataset_inputs(data), rows = descent_dataset_rows(data);
  const int64_t every = (rows - 1) / ROWS_SEEN + 1;
  struct input_range *ranges = calloc((size_t)inputs, sizeof *ranges);
  float *row = malloc((size_t)inputs * sizeof *row);
  for (int64_t i = 0; ranges && row && i < rows; i += every) {
    if (descent_dataset_row(data, i, row) != DESCENT_OK) break;
    for (int64_t j = 0; j < inputs; j++) {
      const double x = (double)row[j];
      struct input_range *r = &ranges[j];
      if (isnan(x)) continue;
      r->low = r->n ? fmin(r->low, x) : x, r->high = r->n ? fmax(r->high, x) : x;
      r->n++, r->sum += x, r->squares += x * x;
    }
  }
  if (!row) {
    free(ranges);
    ranges = NULL;
  }
  free(row);
  return ranges;
}

static void write_value(FILE *out, double value) { fprintf(out, "<td class=\"n\">%.4g</td>", value); }

static void write_column(FILE *out, const descent_dataset *data, int64_t column, int64_t missing,
                         const struct input_range *range) {
  char text[TEXT_SIZE];
  const int64_t categories = descent_dataset_column_categories(data, column);
  fputs("<tr><th>", out);
  write_name(out, descent_dataset_column_name(data, column), column);
  fprintf(out, "</th><td class=\"n\">%s</td>", text_count(missing, text));
  if (categories) {
    fprintf(out, "<td colspan=\"4\">%s categories: ", text_count(categories, text));
    for (int64_t k = 0; k < categories && k < CATEGORIES_NAMED; k++) {
      if (k) fputs(", ", out);
      markup_label(out, descent_dataset_column_category(data, column, k), 24);
    }
    fputs(categories > CATEGORIES_NAMED ? ", &hellip;</td></tr>\n" : "</td></tr>\n", out);
  } else if (range->n) {
    const double mean = range->sum / (double)range->n;
    write_value(out, mean);
    write_value(out, sqrt(fmax(0, range->squares / (double)range->n - mean * mean)));
    write_value(out, range->low);
    write_value(out, range->high);
    fputs("</tr>\n", out);
  } else {
    fputs("<td class=\"n\" colspan=\"4\">-</td></tr>\n", out);
  }
}

static bool write_columns(FILE *out, const descent_dataset *data) {
  const int64_t columns = descent_dataset_columns(data);
  int64_t *missing = calloc((size_t)columns, sizeof *missing);
  struct input_range *ranges = missing ? find_ranges(data) : NULL;
  if (!ranges) {
    free(missing);
    return false;
  }
  descent_dataset_missing(data, missing);
  fputs(
      "<h3>Columns</h3>\n<div class=\"card\"><table><thead><tr><th></th><th class=\"n\">missing</th>"
      "<th class=\"n\">mean</th><th class=\"n\">std. deviation</th>"
      "<th class=\"n\">minimum</th><th class=\"n\">maximum</th></tr></thead><tbody>\n",
      out);
  for (int64_t c = 0, input = 0; c < columns && c < COLUMNS_LISTED; c++) {
    write_column(out, data, c, missing[c], &ranges[input]);
    input += descent_dataset_column_inputs(data, c);
  }
  fputs("</tbody></table>\n", out);
  free(ranges);
  free(missing);
  if (columns > COLUMNS_LISTED)
    fprintf(out, "<p class=\"note\">and %" PRId64 " more columns</p>\n", columns - COLUMNS_LISTED);
  fputs("</div>\n<p class=\"note\">Over the training rows", out);
  if (descent_dataset_rows(data) > ROWS_SEEN) fputs(", of which about 100,000 are sampled", out);
  fputs(".</p>\n", out);
  return true;
}

bool page_data(FILE *out, const struct page *p) {
  fputs("<div class=\"two\">\n", out);
  write_files(out, p);
  if (descent_dataset_classes(p->data)) write_classes(out, p->data);
  fputs("</div>\n", out);
  return write_columns(out, p->training);
}
