/* What the columns of a table mean to a network: where its inputs come from, and the names of targets and classes. Part
 * of a dataset and of a network alike, and of the files of both. */
#ifndef DESCENT_MODEL_SCHEMA_H
#define DESCENT_MODEL_SCHEMA_H

#include <cjson/cJSON.h>
#include <descent/descent.h>

/* A column that inputs are made from. Numbers give one input, categories one per category (1 for the row's, 0 for the
 * others), and `indicator` one more, behind those: 1 where the cell was missing, else 0. */
struct feature {
  char *name;        /* NULL in a table without names */
  char **categories; /* (n_categories) distinct, ascending by bytes; NULL: numbers */
  int64_t n_categories;
  bool indicator;
};

/* Lists without names are NULL and their lengths 0. */
struct schema {
  struct feature *features; /* (n_features) in the order of their inputs; NULL: every input is a nameless number */
  int64_t n_features;
  char **input_names; /* (inputs) made by schema_name_inputs: "age", "colour=red", "age missing"; NULL without names */
  int64_t inputs;
  char **target_names; /* (targets) */
  int64_t targets;
  char **class_names; /* (classes) */
  int64_t classes;
  descent_unseen unseen; /* what a category that is not in the list counts as */
  char **missing;        /* (n_missing) the texts that counted as missing cells, maybe none; NULL: the usual ones */
  int64_t n_missing;
  /* Where columns of the file lay that are no features, for files without names: its targets', and those left out,
   * ascending. Both NULL: the targets came last and nothing was left out. */
  int64_t *target_positions, *left_out; /* (n_target_positions), (n_left_out) */
  int64_t n_target_positions, n_left_out;
};

/* The members of a JSON object that describe a schema; NULL where absent. */
struct schema_members {
  const cJSON *columns, *unseen, *target_names, *class_names, *missing, *target_positions, *left_out;
};

/* How many inputs a feature gives. */
int64_t feature_inputs(const struct feature *feature);
/* How many all of them give; 0 without features. */
int64_t schema_inputs(const struct schema *schema);
/* Text i of a list of n; NULL where there is no list or the index is out of range. */
const char *schema_text(char *const *texts, int64_t n, int64_t i);
/* What there is to say of a column; NULL and 0 where there are no features or the index is out of range. */
const char *schema_column_name(const struct schema *schema, int64_t column);
int64_t schema_column_categories(const struct schema *schema, int64_t column);
const char *schema_column_category(const struct schema *schema, int64_t column, int64_t category);
/* The feature of a column; NULL where there are none or the index is out of range. */
const struct feature *schema_feature(const struct schema *schema, int64_t column);
/* Makes input_names of the features' names; call it when all features are known. A nameless feature that gives several
 * inputs is called by its place, "column 3=red"; where all features are nameless numbers there are no names. */
descent_status schema_name_inputs(struct schema *schema);
/* `*copy` is overwritten; on failure it is empty. */
descent_status schema_copy(const struct schema *schema, struct schema *copy);
void schema_clear(struct schema *schema);
void schema_drop_classes(struct schema *schema);
void schema_drop_features(struct schema *schema);
/* Copies what the reading was told: unseen, missing and the places, which `copy` must not have yet. */
descent_status schema_copy_reading(const struct schema *schema, struct schema *copy);
/* The texts as `missing`, which must not be set yet. */
descent_status schema_set_missing(struct schema *schema, const char *const *texts, int64_t n);
/* Copies categories and indicator, not the name. */
descent_status feature_copy_kind(const struct feature *feature, struct feature *copy);

/* {"columns": [..], "unseen": "..", "target_names": [..], "class_names": [..], "missing": [..],
 * "target_places": [..], "left_out": [..]}: adds the members that
 * the schema has to `object`. A column is its name, or {"name": .., "categories": [..], "indicator": true} with the
 * members that it has. `where` leads the messages. ERROR_WRITE for a name that is not UTF-8. */
descent_status schema_write(const char *where, const struct schema *schema, cJSON *object);
/* The reverse, from the members found; all of it or nothing. `inputs` and `classes` are what
 * the rest of the file says: ERROR_MODEL when the columns or names do not add up to them. */
descent_status schema_read(const char *where, const struct schema_members *members, int64_t inputs, int64_t targets,
                           int64_t classes, struct schema *schema);

/* The network's, for whoever reads data that has to fit it; valid while the network lives and until its preprocessing
 * is fitted again. Defined by model/. */
const struct schema *network_schema(const descent_network *network);

#endif
