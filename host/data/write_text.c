/* Writing datasets as text: CSV with the original categories and class names, and svmlight. Every number is the
 * shortest text that parses to the same float32, or double in a column with an offset. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "core/number.h"
#include "core/status.h"
#include "data/write.h"

static descent_status write_text(struct file_writer *file, const char *text) {
  return file_write(file, text, strlen(text));
}

/* ---- CSV -------------------------------------------------------------------------------------------------------- */

struct csv_writer {
  const descent_dataset *dataset;
  const char *path;
  char delimiter;
  bool alone;   /* a single column, in which an empty cell must be quoted: a blank line is not a row */
  bool guarded; /* see descent_dataset_save_guarded */
  struct file_writer file;
};

/* Would a spreadsheet compute a cell of this text? Not that of a number, whatever its sign. */
static bool is_formula(const char *text) {
  double value;
  return *text && strchr("=+-@\t\r\n", *text) && !number_parse(text, strlen(text), &value);
}

/* Writes a text as a cell, quoted and guarded when necessary. */
static descent_status write_cell(struct csv_writer *w, const char *text) {
  const char special[] = {w->delimiter, '"', '\n', '\r', 0};
  const size_t length = strlen(text);
  const bool blanks = length && (strchr(" \t", text[0]) || strchr(" \t", text[length - 1]));
  const char *guard = w->guarded && is_formula(text) ? "'" : "";
  const bool quoted = blanks || text[strcspn(text, special)] || (w->alone && !length);
  descent_status status;
  TRY(write_text(&w->file, quoted ? "\"" : ""));
  TRY(write_text(&w->file, guard));
  if (!quoted) return write_text(&w->file, text);
  for (const char *quote; (quote = strchr(text, '"')); text = quote + 1) {
    TRY(file_write(&w->file, text, (size_t)(quote + 1 - text)));
    TRY(write_text(&w->file, "\""));
  }
  TRY(write_text(&w->file, text));
  TRY(write_text(&w->file, "\""));
done:
  return status;
}

static descent_status write_number(struct csv_writer *w, double number, double offset) {
  char text[NUMBER_TEXT];
  return isnan(number) ? write_cell(w, "") : write_text(&w->file, write_number_text(number, offset, text));
}

static descent_status separate(struct csv_writer *w, bool *first) {
  const bool begins = *first;
  *first = false;
  return begins ? DESCENT_OK : file_write(&w->file, &w->delimiter, 1);
}

/* Writes a name for a nameless column, made distinct from the features' names. */
static descent_status write_new_name(struct csv_writer *w, const char *wanted) {
  const struct schema *schema = &w->dataset->storage->schema;
  char name[64];
  snprintf(name, sizeof name, "%s", wanted);
  for (int64_t f = 0; f < schema->n_features; f++)
    if (strcmp(schema->features[f].name, name) == 0 && strlen(name) + 2 < sizeof name) {
      strcat(name, "_");
      f = -1;
    }
  return write_cell(w, name);
}

static descent_status write_header(struct csv_writer *w) {
  const struct dataset_storage *s = w->dataset->storage;
  const struct schema *schema = &s->schema;
  descent_status status = DESCENT_OK;
  bool first = true;
  if (!schema->n_features || !schema->features[0].name) return DESCENT_OK;
  for (int64_t f = 0; f < schema->n_features; f++) {
    TRY(separate(w, &first));
    TRY(write_cell(w, schema->features[f].name));
  }
  if (s->weights) {
    TRY(separate(w, &first));
    TRY(write_new_name(w, "weight"));
  }
  for (int64_t k = 0; s->y && k < s->targets; k++) {
    char numbered[32] = "target";
    if (s->targets > 1) snprintf(numbered, sizeof numbered, "target %" PRId64, k);
    TRY(separate(w, &first));
    TRY(schema->target_names ? write_cell(w, schema->target_names[k]) : write_new_name(w, numbered));
  }
  TRY(write_text(&w->file, "\n"));
done:
  return status;
}

static descent_status write_category(struct csv_writer *w, const struct feature *feature, const float *inputs,
                                     int64_t row) {
  const int64_t category = dataset_category(feature, inputs);
  if (category == CATEGORY_MISSING) return write_cell(w, "");
  if (category >= 0) return write_cell(w, feature->categories[category]);
  return status_set(DESCENT_ERROR_WRITE, "%s: not written: row %" PRId64 " has none of the categories of '%s'", w->path,
                    row, feature->name ? feature->name : "a column");
}

static descent_status write_row(struct csv_writer *w, int64_t row) {
  const struct dataset_storage *s = w->dataset->storage;
  const int64_t at = dataset_source_row(w->dataset, row);
  const struct schema *schema = &s->schema;
  int64_t j = 0;
  const int64_t features = s->schema.features ? s->schema.n_features : s->inputs;
  descent_status status = DESCENT_OK;
  bool first = true;
  for (int64_t f = 0; f < features; f++) {
    const struct feature *feature = schema_feature(&s->schema, f);
    TRY(separate(w, &first));
    TRY(feature && feature->categories
            ? write_category(w, feature, s->X + at * s->inputs + j, row) /* bytes have no features */
            : write_number(w, write_input(w->dataset, row, j), schema_offset(schema->offsets, schema->n_offsets, j)));
    j += feature ? feature_inputs(feature) : 1;
  }
  if (s->weights) {
    TRY(separate(w, &first));
    TRY(write_number(w, (double)s->weights[at], 0));
  }
  for (int64_t k = 0; s->y && k < s->targets; k++) {
    TRY(separate(w, &first));
    TRY(schema->class_names ? write_cell(w, schema->class_names[(int64_t)s->y[at * s->targets + k]])
                            : write_number(w, dataset_target(s, at, k),
                                           schema_offset(schema->target_offsets, schema->n_target_offsets, k)));
  }
  TRY(write_text(&w->file, "\n"));
done:
  return status;
}

static descent_status write(const descent_dataset *dataset, const char *path, bool guarded) {
  const struct dataset_storage *s = dataset->storage;
  const size_t length = strlen(path);
  struct csv_writer w = {.dataset = dataset, .path = path, .delimiter = ',', .guarded = guarded};
  descent_status status;
  if (strcasecmp(path + length - 4, ".tsv") == 0) w.delimiter = '\t';
  w.alone = (s->schema.features ? s->schema.n_features : s->inputs) == 1 && !s->y && !s->weights;
  TRY(file_create(path, &w.file));
  TRY(write_header(&w));
  for (int64_t r = 0; r < dataset->rows; r++) TRY(write_row(&w, r));
  status = file_commit(&w.file);
done:
  file_abandon(&w.file);
  return status;
}

descent_status write_csv(const descent_dataset *dataset, const char *path) { return write(dataset, path, false); }
descent_status write_csv_guarded(const descent_dataset *dataset, const char *path) {
  return write(dataset, path, true);
}

/* ---- svmlight --------------------------------------------------------------------------------------------------- */

/* Indices count as in the svmlight file that the data come from, else from 1. Zeros are omitted, except in the last
 * column of the first row, so that the file shows the number of columns, and in its column 0, so that it shows where
 * indices start. */
static descent_status write_pairs(struct file_writer *file, const descent_dataset *dataset, int64_t row) {
  const int64_t inputs = dataset->storage->inputs;
  const struct schema *schema = &dataset->storage->schema;
  const int64_t base = schema->indexed_columns ? schema->first_index : 1;
  descent_status status = DESCENT_OK;
  char number[NUMBER_TEXT], pair[NUMBER_TEXT + 32];
  for (int64_t j = 0; j < inputs; j++) {
    const double x = write_input(dataset, row, j), offset = schema_offset(schema->offsets, schema->n_offsets, j);
    const bool shows = row == 0 && (j == inputs - 1 || (j == 0 && base == 0));
    if (x == 0 && !signbit(x) && !shows) continue;
    snprintf(pair, sizeof pair, " %" PRId64 ":%s", j + base, isnan(x) ? "nan" : write_number_text(x, offset, number));
    TRY(write_text(file, pair));
  }
  TRY(write_text(file, "\n"));
done:
  return status;
}

descent_status write_svmlight(const descent_dataset *dataset, const char *path) {
  const struct dataset_storage *s = dataset->storage;
  struct file_writer file = {0};
  double *classes = NULL;
  char label[NUMBER_TEXT];
  descent_status status;
  if (!s->y || s->targets != 1 || s->weights)
    return status_set(DESCENT_ERROR_WRITE,
                      "%s: not written: svmlight stores one target and no weight per row (choose npz, csv, hdf5 or "
                      "safetensors)",
                      path);
  TRY(write_class_numbers(dataset, &classes));
  TRY(file_create(path, &file));
  for (int64_t r = 0; r < dataset->rows; r++) {
    const double y = write_target(dataset, classes, r, 0);
    const double offset = schema_offset(s->schema.target_offsets, s->schema.n_target_offsets, 0);
    TRY(write_text(&file, classes ? number_format(y, label) : write_number_text(y, offset, label)));
    TRY(write_pairs(&file, dataset, r));
  }
  status = file_commit(&file);
done:
  file_abandon(&file);
  free(classes);
  return status;
}
