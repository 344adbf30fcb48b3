/* The schema maps the columns of a table to the inputs of a network and names targets and classes. Datasets, networks
 * and the files of both have one. */
#ifndef DESCENT_MODEL_SCHEMA_H
#define DESCENT_MODEL_SCHEMA_H

#include <cjson/cJSON.h>
#include <descent/descent.h>

#include "core/number.h"

/* A column that is encoded as inputs: one for a number, one per category (one-hot) for categories, and one more at the
 * end with `indicator`, which is 1 when the cell is missing, else 0. */
struct feature {
  char *name;        /* NULL in a table without names */
  char **categories; /* (n_categories) distinct, ascending by bytes; NULL: numbers */
  int64_t n_categories;
  bool indicator;
};

/* Absent lists are NULL, with length 0. */
struct schema {
  struct feature
      *features; /* (n_features) in the order of their inputs; NULL: every input is a number without a name */
  int64_t n_features;
  char **input_names; /* (inputs) from schema_name_inputs: "age", "colour=red", "age missing" */
  int64_t inputs;
  char **target_names; /* (targets) */
  int64_t targets;
  char **class_names; /* (classes) */
  int64_t classes;
  /* Columns of numbers that float32 does not hold finely enough are kept as differences: the inputs and targets hold
   * value - offset, in double until then. NULL: all offsets are 0. See data/offset.h. */
  double *offsets;        /* (n_offsets = inputs); 0 for categories and indicators */
  double *target_offsets; /* (n_target_offsets = targets) regression */
  int64_t n_offsets, n_target_offsets;
  descent_unseen unseen; /* treatment of a category that is not in the list */
  char **missing;        /* (n_missing) texts that stand for missing cells; NULL: the default ones */
  int64_t n_missing;
  enum number_style numbers; /* how the file writes numbers */
  /* For matching files without names: ascending positions of the columns that are targets, and of those left out. Both
   * NULL: the targets are last and no column is left out. */
  int64_t *target_positions, *left_out; /* (n_target_positions), (n_left_out) */
  int64_t n_target_positions, n_left_out;
  /* Data read from svmlight files: their first index, 0 or 1, and their number of columns without weight and label. A
   * file read for a network continues the count of its training file. indexed_columns 0: other formats. */
  int64_t first_index, indexed_columns;
};

/* The members of a JSON object that describe a schema; NULL where absent. */
struct schema_members {
  const cJSON *columns, *unseen, *target_names, *class_names, *missing, *numbers, *target_positions, *left_out,
      *svmlight, *offsets, *target_offsets;
};

/* The number of inputs of a feature. */
int64_t feature_inputs(const struct feature *feature);
/* The number of inputs of all features; 0 without features. */
int64_t schema_inputs(const struct schema *schema);
/* Text i of a list of n; NULL without a list or when i is out of range. */
const char *schema_text(char *const *texts, int64_t n, int64_t i);
/* Properties of a column; NULL or 0 without features or when the index is out of range. */
const char *schema_column_name(const struct schema *schema, int64_t column);
int64_t schema_column_categories(const struct schema *schema, int64_t column);
const char *schema_column_category(const struct schema *schema, int64_t column, int64_t category);
/* The feature of a column; NULL without features or when the index is out of range. */
const struct feature *schema_feature(const struct schema *schema, int64_t column);
/* The offset of input or target i of a list of n; 0 without a list. */
static inline double schema_offset(const double *offsets, int64_t n, int64_t i) {
  return offsets && i >= 0 && i < n ? offsets[i] : 0;
}
/* Sets input_names from the features, which must be complete. A feature without a name is called by its position,
 * "column 3=red". When all features are numbers without names, inputs have none either. */
descent_status schema_name_inputs(struct schema *schema);
/* `*copy` is overwritten; on failure it is empty. */
descent_status schema_copy(const struct schema *schema, struct schema *copy);
void schema_clear(struct schema *schema);
void schema_drop_classes(struct schema *schema);
void schema_drop_features(struct schema *schema);
/* Exchanges the names and offsets of targets and the names of classes. */
void schema_swap_targets(struct schema *a, struct schema *b);
/* Copies the offsets of inputs and targets, which `copy` must not have yet. */
descent_status schema_copy_offsets(const struct schema *schema, struct schema *copy);
/* Copies what reading depends on: unseen, missing, numbers and the positions, which `copy` must not have yet, and the
 * count of svmlight's indices. */
descent_status schema_copy_reading(const struct schema *schema, struct schema *copy);
/* Sets `missing`, which must not be set yet, to copies of the texts. */
descent_status schema_set_missing(struct schema *schema, const char *const *texts, int64_t n);
/* Copies categories and indicator, not the name. */
descent_status feature_copy_kind(const struct feature *feature, struct feature *copy);

/* Adds the schema's members to `object`:
 *
 *   {"columns": [..], "unseen": "..", "target_names": [..], "class_names": [..], "missing": [..],
 *    "numbers": "1234,5", "target_places": [..], "left_out": [..], "svmlight": {"first_index": 0, "columns": 10},
 *    "offsets": [..], "target_offsets": [..]}
 *
 * numbers is 1234.5 as the file writes it, with a decimal comma or separators of thousands; absent: "1234.5".
 * A column is its name, or {"name": .., "categories": [..], "indicator": true} with the members that apply. Messages
 * start with `where`. ERROR_WRITE for a name that is not UTF-8. */
descent_status schema_write(const char *where, const struct schema *schema, cJSON *object);
/* Reads a schema from its members; unchanged on failure. ERROR_MODEL when columns or names do not match the numbers of
 * inputs, targets and classes that the rest of the file states. */
descent_status schema_read(const char *where, const struct schema_members *members, int64_t inputs, int64_t targets,
                           int64_t classes, struct schema *schema);

/* Reads a list of n numbers that float32 can hold; *reals is from malloc, NULL without a list. */
descent_status schema_read_reals(const char *where, const cJSON *list, int64_t n, double **reals);
/* Adds a list of n numbers; NULL adds nothing. */
descent_status schema_write_reals(const char *where, cJSON *object, const char *member, const double *reals, int64_t n);

/* The network's schema, for readers of data that must fit it; valid until the network is freed or its preprocessing is
 * fitted again. Defined in network.c. */
const struct schema *network_schema(const descent_network *network);

#endif
