/* The binary form read through a table: rows are decoded into cells of the original columns, for a network with other
 * columns, or for options that assign other roles. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "data/binary.h"

struct row_decoder {
  const struct binary *b;
  int64_t features, columns;
  descent_dataset_options options;
  const char **categorical; /* (options.categoricals) */
  char (*positions)[24];    /* (features) indices as text, for features without names */
  struct table table;
};

/* Lists the names of features, weight and targets for table_set_columns; NULL when features have no names. */
static descent_status list_names(const struct row_decoder *t, char ***names) {
  const struct schema *schema = &t->b->schema;
  int64_t n = 0;
  if (!schema->n_features || !schema->features[0].name) return DESCENT_OK;
  *names = memory_allocate(t->columns, sizeof **names, "the column names");
  if (!*names) return DESCENT_ERROR_MEMORY;
  for (int64_t f = 0; f < t->features; f++) (*names)[n++] = schema->features[f].name;
  if (t->b->weights) (*names)[n++] = "weights";
  for (int64_t k = 0; k < t->b->targets; k++) (*names)[n++] = schema->target_names ? schema->target_names[k] : "y";
  return DESCENT_OK;
}

/* Copies the options, adds the file's categorical columns and disables inference. */
static descent_status extend_options(struct row_decoder *t, const descent_dataset_options *options) {
  const struct schema *schema = &t->b->schema;
  t->options = *options;
  t->options.strict = true;
  t->categorical = memory_allocate(t->features + options->categoricals, sizeof *t->categorical, "the columns");
  t->positions = memory_allocate(t->features, sizeof *t->positions, "the columns");
  if (!t->categorical || !t->positions) return DESCENT_ERROR_MEMORY;
  int64_t n = 0;
  for (int64_t k = 0; k < options->categoricals; k++) t->categorical[n++] = options->categorical[k];
  for (int64_t f = 0; f < schema->n_features; f++) {
    if (schema->features[f].indicator) t->options.indicators = true;
    if (!schema->features[f].categories) continue;
    snprintf(t->positions[f], sizeof *t->positions, "%" PRId64, f);
    t->categorical[n++] = schema->features[f].name ? schema->features[f].name : t->positions[f];
  }
  t->options.categorical = t->categorical;
  t->options.categoricals = n;
  return DESCENT_OK;
}

static descent_status decode_category(struct row_decoder *t, const struct feature *feature, int64_t column,
                                      const float *inputs, int64_t row) {
  const int64_t category = dataset_category(feature, inputs);
  if (category == CATEGORY_MISSING) return table_add_number(&t->table, column, (double)inputs[0], row);
  if (category >= 0)
    return table_add_text(&t->table, column, feature->categories[category], strlen(feature->categories[category]), row);
  char name[80];
  columns_describe(&t->table.columns, column, name, sizeof name);
  return status_set(DESCENT_ERROR_DATA,
                    "%s: row %" PRId64 ": %s has none of its categories (use the network that the file was made for)",
                    t->b->file.path, row, name);
}

static descent_status decode_row(struct row_decoder *t, int64_t r) {
  const struct binary *b = t->b;
  const float *const first = b->X + r * b->inputs, *X = first;
  const struct schema *schema = &b->schema;
  int64_t column = 0;
  descent_status status = DESCENT_OK;
  for (; column < t->features; column++) {
    const struct feature *feature = schema_feature(&b->schema, column);
    TRY(feature && feature->categories
            ? decode_category(t, feature, column, X, r + 1)
            : table_add_number(&t->table, column,
                               dataset_add_offset(schema_offset(schema->offsets, schema->n_offsets, X - first), *X),
                               r + 1));
    X += feature ? feature_inputs(feature) : 1;
  }
  if (b->weights) TRY(table_add_number(&t->table, column++, (double)b->weights[r], r + 1));
  for (int64_t k = 0; k < b->targets; k++, column++) {
    const float y = b->y[r * b->targets + k];
    const char *name = b->schema.class_names ? b->schema.class_names[(int64_t)y] : NULL;
    TRY(name ? table_add_text(&t->table, column, name, strlen(name), r + 1)
             : table_add_number(
                   &t->table, column,
                   dataset_add_offset(schema_offset(schema->target_offsets, schema->n_target_offsets, k), y), r + 1));
  }
  TRY(table_end_row(&t->table));
done:
  return status;
}

descent_status binary_read_as_table(const struct binary *b, const struct read_request *request,
                                    const struct table_blocks *blocks, struct dataset_storage **storage) {
  enum { SOME_ROWS = 256 };
  const int64_t features = b->schema.features ? b->schema.n_features : b->inputs;
  struct row_decoder t = {.b = b, .features = features, .columns = features + (b->weights != NULL) + b->targets};
  char **names = NULL;
  descent_status status;
  struct read_request adjusted = *request;
  TRY(extend_options(&t, request->options));
  adjusted.options = &t.options;
  TRY(list_names(&t, &names));
  TRY(table_begin(&t.table, b->file.path, &adjusted, blocks));
  TRY(table_set_columns(&t.table, t.columns, names, b->targets, b->weights != NULL));
  if (b->schema.indexed_columns == features) { /* otherwise the positions of columns left out are counted anew */
    t.table.columns.schema.first_index = b->schema.first_index;
    t.table.columns.schema.indexed_columns = b->schema.indexed_columns;
  }
  note_add(t.table.columns.note, b->note);
  for (int64_t r = 0; r < b->rows; r++) {
    TRY(decode_row(&t, r));
    if (r % SOME_ROWS == 0) TRY(progress_report("reading", b->file.path, "rows", r + 1, b->rows));
  }
  TRY(table_finish(&t.table, storage));
done:
  table_clear(&t.table);
  free(names);
  free(t.categorical);
  free(t.positions);
  return status;
}
