/* What a caller sets from arrays instead of fitting it to a dataset: preprocessing and names. On failure the network is
 * unchanged. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/number.h"
#include "core/options.h"
#include "core/status.h"
#include "core/terms.h"
#include "core/utf8.h"
#include "model/network.h"

/* ---- preprocessing ---------------------------------------------------------------------------------------------- */

static descent_status check_values(const char *name, const float *values, int64_t n, bool is_scale) {
  const int64_t bad = values ? number_find_non_finite(values, n) : n;
  if (bad < n)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s[%" PRId64 "] is %g: must be finite", name, bad, (double)values[bad]);
  for (int64_t i = 0; values && is_scale && i < n; i++)
    if (!(values[i] > 0))
      return status_set(DESCENT_ERROR_ARGUMENT, "%s[%" PRId64 "] is %g: must be above 0", name, i, (double)values[i]);
  return DESCENT_OK;
}

static descent_status check_preprocessing(const descent_network *network, const descent_preprocessing *p) {
  const int64_t n_x = network->inputs, n_y = network_outputs(network);
  descent_status status;
  if ((unsigned)p->normalize > DESCENT_NORMALIZE_MINMAX)
    return status_set(DESCENT_ERROR_ARGUMENT, "normalize %d: must be a descent_normalize", (int)p->normalize);
  if ((unsigned)p->impute > DESCENT_IMPUTE_MOST_FREQUENT)
    return status_set(DESCENT_ERROR_ARGUMENT, "impute %d: must be a descent_impute", (int)p->impute);
  if (p->normalize == DESCENT_NORMALIZE_NONE && (p->shift || p->scale))
    return status_set(DESCENT_ERROR_ARGUMENT, "normalize none: %s must be NULL (or choose standard or minmax)",
                      p->shift ? "shift" : "scale");
  if (!loss_is_regression(network->loss) && (p->y_shift || p->y_scale))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: must be NULL, since targets of %s are not scaled",
                      p->y_shift ? "y_shift" : "y_scale", descent_loss_name(network->loss));
  TRY(check_values("shift", p->shift, n_x, false));
  TRY(check_values("scale", p->scale, n_x, true));
  TRY(check_values("fill", p->fill, n_x, false));
  TRY(check_values("y_shift", p->y_shift, n_y, false));
  TRY(check_values("y_scale", p->y_scale, n_y, true));
done:
  return status;
}

static void copy_values(float *to, const float *values, int64_t n, float otherwise) {
  for (int64_t i = 0; i < n; i++) to[i] = values ? values[i] : otherwise;
}

descent_status descent_network_set_preprocessing(descent_network *network, const descent_preprocessing *preprocessing) {
  descent_preprocessing p;
  float *fill = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(preprocessing, "preprocessing"));
  TRY(network_check_unused(network));
  TRY(network_check_plain(network, "set_preprocessing"));
  TRY(complete_preprocessing(preprocessing, &p));
  TRY(check_preprocessing(network, &p));
  if (p.fill) {
    fill = memory_allocate(network->inputs, sizeof *fill, "the values of missing cells");
    if (!fill) TRY(DESCENT_ERROR_MEMORY);
    copy_values(fill, p.fill, network->inputs, 0);
  }
  network->normalize = p.normalize;
  network->impute = p.impute;
  copy_values(network->shift, p.shift, network->inputs, 0);
  copy_values(network->scale, p.scale, network->inputs, 1);
  copy_values(network->y_shift, p.y_shift, network_outputs(network), 0);
  copy_values(network->y_scale, p.y_scale, network_outputs(network), 1);
  free(network->fill);
  network->fill = fill;
done:
  return status;
}

descent_status descent_network_get_preprocessing(const descent_network *network, descent_preprocessing *preprocessing) {
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(preprocessing, "preprocessing"));
  const bool scaled = network->normalize != DESCENT_NORMALIZE_NONE, regression = loss_is_regression(network->loss);
  const descent_preprocessing values = {.size = sizeof values,
                                        .normalize = network->normalize,
                                        .impute = network->impute,
                                        .shift = scaled ? network->shift : NULL,
                                        .scale = scaled ? network->scale : NULL,
                                        .fill = network->fill,
                                        .y_shift = regression ? network->y_shift : NULL,
                                        .y_scale = regression ? network->y_scale : NULL};
  status = give_preprocessing(&values, preprocessing);
done:
  return status;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static descent_status check_different(const char *list, const char *const *names, int64_t n) {
  descent_status status = DESCENT_OK;
  const char **sorted = memory_allocate(n, sizeof *sorted, "names");
  if (!sorted) return DESCENT_ERROR_MEMORY;
  memcpy(sorted, names, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, by_text);
  for (int64_t i = 1; i < n; i++)
    if (strcmp(sorted[i - 1], sorted[i]) == 0)
      TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: two are called '%.60s': names must differ", list, sorted[i]));
done:
  free(sorted);
  return status;
}

static descent_status check_names(const char *list, const char *const *names, int64_t n) {
  size_t bad;
  for (int64_t i = 0; i < n; i++) {
    if (!names[i] || !*names[i])
      return status_set(DESCENT_ERROR_ARGUMENT, "%s[%" PRId64 "]: is %s", list, i, names[i] ? "empty" : "NULL");
    if (!utf8_valid(names[i], strlen(names[i]), &bad))
      return status_set(DESCENT_ERROR_ARGUMENT, "%s[%" PRId64 "]: byte %zu is not UTF-8", list, i, bad);
  }
  return check_different(list, names, n);
}

static descent_status copy_name(const char *name, char **copy) {
  *copy = strdup(name);
  return *copy ? DESCENT_OK : status_set(DESCENT_ERROR_MEMORY, "out of memory for names");
}

/* Replaces a list of n texts. */
static descent_status replace_names(const char *list, const char *const *names, int64_t n, char ***texts,
                                    int64_t *length) {
  descent_status status;
  TRY(check_names(list, names, n));
  memory_free_texts(*texts, *length);
  *length = 0;
  *texts = memory_allocate(n, sizeof **texts, "names");
  if (!*texts) TRY(DESCENT_ERROR_MEMORY);
  *length = n;
  for (int64_t i = 0; i < n; i++) TRY(copy_name(names[i], &(*texts)[i]));
done:
  return status;
}

/* One column of numbers for each input. */
static descent_status replace_inputs(const char *const *names, int64_t n, struct schema *schema) {
  descent_status status;
  TRY(check_names("inputs", names, n));
  for (int64_t c = 0; c < schema->n_features; c++)
    if (schema->features[c].categories || schema->features[c].indicator)
      return status_set(DESCENT_ERROR_ARGUMENT,
                        "inputs: must be NULL, since column %" PRId64
                        " (from 0) holds %s and the names come from the data",
                        c, schema->features[c].categories ? "categories" : "an indicator");
  schema_drop_features(schema);
  schema->features = memory_allocate(n, sizeof *schema->features, "the columns");
  if (!schema->features) TRY(DESCENT_ERROR_MEMORY);
  schema->n_features = n;
  for (int64_t c = 0; c < n; c++) TRY(copy_name(names[c], &schema->features[c].name));
  TRY(schema_name_inputs(schema));
done:
  return status;
}

descent_status descent_network_set_names(descent_network *network, const char *const *inputs,
                                         const char *const *targets, const char *const *classes) {
  struct schema made = {0};
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(network_check_unused(network));
  if (classes && !network->classes)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "classes: must be NULL, since %s has none",
                   descent_loss_name(network->loss)));
  TRY(schema_copy(&network->schema, &made));
  if (inputs) TRY(replace_inputs(inputs, network->inputs, &made));
  if (targets)
    TRY(replace_names("targets", targets, network->classes ? 1 : network_outputs(network), &made.target_names,
                      &made.targets));
  if (classes) TRY(replace_names("classes", classes, network->classes, &made.class_names, &made.classes));
  schema_clear(&network->schema);
  network->schema = made;
  made = (struct schema){0};
done:
  schema_clear(&made);
  return status;
}
