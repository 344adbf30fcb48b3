/* What keeps two networks from being members of one ensemble: the first difference in shape, preprocessing or schema,
 * named with both values. Values count as equal when their bits are. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "core/status.h"
#include "core/terms.h"
#include "model/network.h"

/* "networks[2]: layer 1 has 64 units, but 32 in networks[0]: .."; `format` makes what stands between the colons. */
static descent_status differs(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static descent_status differs(const char *name, const char *format, ...) {
  char text[320];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "%s: %s in networks[0]: members of an ensemble have the same shape, preprocessing and names", name,
                    text);
}

/* ---- shape ------------------------------------------------------------------------------------------------------ */

static descent_status compare_shapes(const char *name, const descent_network *a, const descent_network *b) {
  if (a->inputs != b->inputs)
    return differs(name, "has %" PRId64 " inputs, but there are %" PRId64, a->inputs, b->inputs);
  if (a->n_layers != b->n_layers)
    return differs(name, "has %" PRId32 " layers, but there are %" PRId32, a->n_layers, b->n_layers);
  for (int32_t l = 0; l < a->n_layers; l++) {
    const struct network_layer *x = &a->layers[l], *y = &b->layers[l];
    if (x->n_out != y->n_out)
      return differs(name, "layer %" PRId32 " has %" PRId64 " units, but %" PRId64, l + 1, x->n_out, y->n_out);
    if (x->activation != y->activation)
      return differs(name, "the activation of layer %" PRId32 " is %s, but %s", l + 1,
                     descent_activation_name(x->activation), descent_activation_name(y->activation));
  }
  if (a->loss != b->loss)
    return differs(name, "the loss is %s, but %s", descent_loss_name(a->loss), descent_loss_name(b->loss));
  return DESCENT_OK;
}

/* ---- preprocessing ---------------------------------------------------------------------------------------------- */

static descent_status compare_floats(const char *name, const char *what, const float *a, const float *b, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (memcmp(&a[i], &b[i], sizeof *a) != 0)
      return differs(name, "%s[%" PRId64 "] is %.9g, but %.9g", what, i, (double)a[i], (double)b[i]);
  return DESCENT_OK;
}

static descent_status compare_preprocessing(const char *name, const descent_network *a, const descent_network *b) {
  const int64_t inputs = a->inputs, outputs = network_outputs(a);
  descent_status status;
  if (a->normalize != b->normalize)
    return differs(name, "the normalisation is %s, but %s", descent_normalize_name(a->normalize),
                   descent_normalize_name(b->normalize));
  if (!a->fill != !b->fill)
    return differs(name, "missing cells are %s", a->fill ? "replaced, but not" : "not replaced, but are");
  if (a->fill && a->impute != b->impute)
    return differs(name, "the imputation is %s, but %s", descent_impute_name(a->impute),
                   descent_impute_name(b->impute));
  TRY(a->fill ? compare_floats(name, "fill", a->fill, b->fill, inputs) : DESCENT_OK);
  TRY(compare_floats(name, "shift", a->shift, b->shift, inputs));
  TRY(compare_floats(name, "scale", a->scale, b->scale, inputs));
  TRY(compare_floats(name, "y_shift", a->y_shift, b->y_shift, outputs));
  TRY(compare_floats(name, "y_scale", a->y_scale, b->y_scale, outputs));
done:
  return status;
}

/* ---- schema ----------------------------------------------------------------------------------------------------- */

/* A text that may be absent; `index` of `what`, "column 3". */
static descent_status compare_texts(const char *name, const char *what, int64_t index, const char *a, const char *b) {
  if (!a != !b)
    return differs(name, "%s %" PRId64 " has %s name, but %s", what, index, a ? "a" : "no", a ? "none" : "one");
  if (!a || strcmp(a, b) == 0) return DESCENT_OK;
  return differs(name, "%s %" PRId64 " is '%s', but '%s'", what, index, json_quote(a).text, json_quote(b).text);
}

static descent_status compare_lists(const char *name, const char *what, char *const *a, int64_t n_a, char *const *b,
                                    int64_t n_b) {
  descent_status status = DESCENT_OK;
  if (n_a != n_b) return differs(name, "has %" PRId64 " %s names, but there are %" PRId64, n_a, what, n_b);
  for (int64_t i = 0; i < n_a; i++) TRY(compare_texts(name, what, i, a[i], b[i]));
done:
  return status;
}

static descent_status compare_columns(const char *name, const struct schema *a, const struct schema *b) {
  descent_status status = DESCENT_OK;
  char what[48];
  if (a->n_features != b->n_features)
    return differs(name, "has %" PRId64 " described columns, but there are %" PRId64, a->n_features, b->n_features);
  for (int64_t i = 0; i < a->n_features; i++) {
    const struct feature *x = &a->features[i], *y = &b->features[i];
    TRY(compare_texts(name, "column", i, x->name, y->name));
    if (x->n_categories != y->n_categories)
      return differs(name, "column %" PRId64 " has %" PRId64 " categories, but %" PRId64, i, x->n_categories,
                     y->n_categories);
    snprintf(what, sizeof what, "column %" PRId64 ": category", i);
    for (int64_t k = 0; k < x->n_categories; k++) TRY(compare_texts(name, what, k, x->categories[k], y->categories[k]));
    if (x->indicator != y->indicator)
      return differs(name, "column %" PRId64 " has %s indicator, but %s", i, x->indicator ? "an" : "no",
                     x->indicator ? "none" : "one");
  }
done:
  return status;
}

static descent_status compare_offsets(const char *name, const char *what, const double *a, int64_t n_a, const double *b,
                                      int64_t n_b) {
  for (int64_t i = 0; i < n_a || i < n_b; i++) {
    const double x = schema_offset(a, n_a, i), y = schema_offset(b, n_b, i);
    if (x != y) return differs(name, "the offset of %s %" PRId64 " is %.17g, but %.17g", what, i, x, y);
  }
  return DESCENT_OK;
}

static bool same_integers(const int64_t *a, int64_t n_a, const int64_t *b, int64_t n_b) {
  return n_a == n_b && (n_a == 0 || memcmp(a, b, (size_t)n_a * sizeof *a) == 0);
}

/* How the columns of a file are found and its cells are read. */
static descent_status compare_reading(const char *name, const struct schema *a, const struct schema *b) {
  descent_status status;
  TRY(compare_lists(name, "missing cell", a->missing, a->n_missing, b->missing, b->n_missing));
  if (a->unseen != b->unseen)
    return differs(name, "unseen categories are treated as %s, but %s", descent_unseen_name(a->unseen),
                   descent_unseen_name(b->unseen));
  if (a->numbers != b->numbers) return differs(name, "numbers of files are written otherwise than");
  if (!same_integers(a->target_positions, a->n_target_positions, b->target_positions, b->n_target_positions) ||
      !same_integers(a->left_out, a->n_left_out, b->left_out, b->n_left_out))
    return differs(name, "targets and columns that are left out have other positions than");
  if (a->first_index != b->first_index || a->indexed_columns != b->indexed_columns)
    return differs(name,
                   "svmlight files have %" PRId64 " columns from index %" PRId64 ", but %" PRId64 " from %" PRId64,
                   a->indexed_columns, a->first_index, b->indexed_columns, b->first_index);
done:
  return status;
}

static descent_status compare_schemas(const char *name, const struct schema *a, const struct schema *b) {
  descent_status status;
  TRY(compare_columns(name, a, b));
  TRY(compare_lists(name, "target", a->target_names, a->targets, b->target_names, b->targets));
  TRY(compare_lists(name, "class", a->class_names, a->classes, b->class_names, b->classes));
  TRY(compare_offsets(name, "input", a->offsets, a->n_offsets, b->offsets, b->n_offsets));
  TRY(compare_offsets(name, "target", a->target_offsets, a->n_target_offsets, b->target_offsets, b->n_target_offsets));
  TRY(compare_reading(name, a, b));
done:
  return status;
}

descent_status network_check_joins(const descent_network *network, const char *name, const descent_network *first) {
  descent_status status;
  TRY(compare_shapes(name, network, first));
  TRY(compare_preprocessing(name, network, first));
  TRY(compare_schemas(name, &network->schema, &first->schema));
done:
  return status;
}
