/* Writes snapshots to files and reads them. A file is used only if all of its checksums match. */
#include "checkpoint/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/status.h"
#include "data/text.h"
#include "model/model_file.h"

enum { VERSION = 1, EXTRA_TENSORS = 3 };

/* The slots of a layer that are stored: those before the trust ratio, which each step computes before it is used. */
enum { STORED_SLOTS = LAYER_TRUST };
_Static_assert(LAYER_TRUST == LAYER_SLOTS - 1, "a new slot must not change the checkpoints of before");

enum { FIELD_VERSION, FIELD_STEP, FIELD_CONFIGURATION, FIELD_STATE, FIELD_STATISTICS, FIELD_SUMS, FIELDS };
static const char *const fields[FIELDS] = {"version", "step", "configuration", "state", "statistics", "sums"};

static const char *const integer_fields[] = {
#define NAME(field) #field,
    FIT_STATE_INTEGERS(NAME)};
static const char *const real_fields[] = {FIT_STATE_REALS(NAME)
#undef NAME
};
enum {
  INTEGERS = sizeof integer_fields / sizeof *integer_fields,
  REALS = sizeof real_fields / sizeof *real_fields,
};
static const size_t integer_offsets[INTEGERS] = {
#define OFFSET(field) offsetof(struct fit_state, field),
    FIT_STATE_INTEGERS(OFFSET)};
static const size_t real_offsets[REALS] = {FIT_STATE_REALS(OFFSET)
#undef OFFSET
};

/* ---- the tensors ------------------------------------------------------------------------------------------------ */

static void add_flat(struct safetensors_tensor *tensors, int64_t *n, const char *name, float *data, int64_t count) {
  if (!data) return;
  struct safetensors_tensor *tensor = &tensors[(*n)++];
  *tensor = (struct safetensors_tensor){.rank = 1, .shape = {count}, .data = data};
  snprintf(tensor->name, sizeof tensor->name, SAFETENSORS_CHECKPOINT_PREFIX "%s", name);
}

/* Lists the `*n_model` tensors of the model, with the snapshot's parameters, then those of the checkpoint. The caller
 * frees `*list`. */
static descent_status list_tensors(const descent_network *network, const struct snapshot *snapshot,
                                   struct safetensors_tensor **list, int64_t *n_model, int64_t *n) {
  descent_network at_that_step = *network;
  struct safetensors_tensor *model = NULL, *all = NULL;
  descent_status status;
  at_that_step.parameters = snapshot->parameters;
  TRY(model_list_tensors(&at_that_step, &model, n_model));
  all = memory_allocate(*n_model + EXTRA_TENSORS, sizeof *all, "the tensors of a checkpoint");
  if (!all) TRY(DESCENT_ERROR_MEMORY);
  memcpy(all, model, (size_t)*n_model * sizeof *all);
  *n = *n_model;
  add_flat(all, n, "moment1", snapshot->moment1, snapshot->n_parameters);
  add_flat(all, n, "moment2", snapshot->moment2, snapshot->n_parameters);
  if (snapshot->has_best) add_flat(all, n, "best", snapshot->best, snapshot->n_parameters);
  *list = all;
done:
  free(model);
  return status;
}

/* ---- the header text -------------------------------------------------------------------------------------------- */

static struct safetensors_sum real_text(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return safetensors_sum_text(bits);
}

static bool read_real(const cJSON *item, double *value) {
  const char *text = cJSON_GetStringValue(item);
  if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) return false;
  const uint64_t bits = strtoull(text, NULL, 16);
  memcpy(value, &bits, sizeof *value);
  return true;
}

static bool add_state(cJSON *root, const struct fit_state *state) {
  cJSON *object = cJSON_AddObjectToObject(root, fields[FIELD_STATE]);
  bool ok = object != NULL;
  for (int i = 0; ok && i < INTEGERS; i++) {
    const int64_t *value = (const int64_t *)(const void *)((const char *)state + integer_offsets[i]);
    ok = cJSON_AddNumberToObject(object, integer_fields[i], (double)*value) != NULL;
  }
  for (int i = 0; ok && i < REALS; i++) {
    const double *value = (const double *)(const void *)((const char *)state + real_offsets[i]);
    ok = cJSON_AddStringToObject(object, real_fields[i], real_text(*value).text) != NULL;
  }
  return ok;
}

static bool add_statistics(cJSON *root, const struct snapshot *snapshot) {
  cJSON *list = cJSON_AddArrayToObject(root, fields[FIELD_STATISTICS]);
  bool ok = list != NULL;
  for (int64_t i = 0; ok && i < snapshot->n_statistics; i++)
    if (i % LAYER_SLOTS < STORED_SLOTS)
      ok = cJSON_AddItemToArray(list, cJSON_CreateString(real_text(snapshot->statistics[i]).text));
  return ok;
}

static bool add_sums(cJSON *root, const struct safetensors_tensor *tensors, int64_t n) {
  cJSON *object = cJSON_AddObjectToObject(root, fields[FIELD_SUMS]);
  bool ok = object != NULL;
  for (int64_t i = 0; ok && i < n; i++) {
    const size_t bytes = (size_t)safetensors_count(&tensors[i]) * sizeof(float);
    ok = cJSON_AddStringToObject(object, tensors[i].name, safetensors_sum_of(tensors[i].data, bytes).text) != NULL;
  }
  return ok;
}

/* Freed by cJSON_free; NULL if out of memory. */
static char *describe(const struct configuration *configuration, const struct snapshot *snapshot,
                      const struct safetensors_tensor *tensors, int64_t n) {
  cJSON *root = cJSON_CreateObject();
  char *text = NULL;
  if (cJSON_AddNumberToObject(root, fields[FIELD_VERSION], VERSION) &&
      cJSON_AddNumberToObject(root, fields[FIELD_STEP], (double)snapshot->step) &&
      configuration_write(configuration, root, fields[FIELD_CONFIGURATION]) && add_state(root, &snapshot->state) &&
      add_statistics(root, snapshot) && add_sums(root, tensors, n))
    text = cJSON_PrintUnformatted(root);
  cJSON_Delete(root);
  return text;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

descent_status checkpoint_write(struct file_writer *file, const descent_network *network,
                                const struct configuration *configuration, const struct snapshot *snapshot) {
  struct safetensors_tensor *tensors = NULL;
  char *model = NULL, *text = NULL;
  int64_t n_model, n;
  descent_status status;
  TRY(list_tensors(network, snapshot, &tensors, &n_model, &n));
  TRY(model_describe(file->path, network, &model));
  text = describe(configuration, snapshot, tensors, n);
  if (!text) TRY(status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the header", file->path));
  const struct safetensors_sum sum = safetensors_sum_model(model, tensors, n_model);
  const char *const texts[SAFETENSORS_TEXTS] = {[SAFETENSORS_MODEL] = model,
                                                [SAFETENSORS_MODEL_SUM] = sum.text,
                                                [SAFETENSORS_CHECKPOINT] = text,
                                                [SAFETENSORS_HEADER_SUM] = ""};
  TRY(safetensors_write_to(file, texts, tensors, n));
  status = file_commit(file);
done:
  file_abandon(file);
  cJSON_free(text);
  cJSON_free(model);
  free(tensors);
  return status;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static descent_status damaged(const char *path, const char *what) {
  return status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: %s", path, what);
}

static descent_status damaged_state(const char *path, const char *name) {
  return status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: state '%s': missing or not a valid number", path, name);
}

static descent_status read_state(const char *path, const cJSON *object, struct fit_state *state) {
  const char *names[INTEGERS + REALS];
  const cJSON *found[INTEGERS + REALS];
  descent_status status;
  memcpy(names, integer_fields, sizeof integer_fields);
  memcpy(names + INTEGERS, real_fields, sizeof real_fields);
  TRY(json_fields(path, object, names, INTEGERS + REALS, found));
  for (int i = 0; i < INTEGERS; i++)
    if (!json_integer(found[i], (int64_t *)(void *)((char *)state + integer_offsets[i])))
      TRY(damaged_state(path, names[i]));
  for (int i = 0; i < REALS; i++)
    if (!read_real(found[INTEGERS + i], (double *)(void *)((char *)state + real_offsets[i])))
      TRY(damaged_state(path, names[INTEGERS + i]));
done:
  return status;
}

static descent_status read_statistics(const char *path, const cJSON *list, struct snapshot *snapshot) {
  const cJSON *item;
  int64_t n = 0;
  if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != snapshot->n_statistics / LAYER_SLOTS * STORED_SLOTS)
    return damaged(path, "layer statistics do not match the network");
  cJSON_ArrayForEach(item, list) {
    double *value = &snapshot->statistics[n / STORED_SLOTS * LAYER_SLOTS + n % STORED_SLOTS];
    if (!read_real(item, value)) return damaged(path, "invalid number in the layer statistics");
    n++;
  }
  return DESCENT_OK;
}

/* Every tensor of the file must have a checksum, and match it. */
static descent_status check_sums(struct safetensors *file, const cJSON *sums) {
  descent_status status = DESCENT_OK;
  if (!cJSON_IsObject(sums) || cJSON_GetArraySize(sums) != file->n)
    return damaged(file->path, "must have one checksum for each tensor");
  for (int64_t i = 0; i < file->n; i++) {
    struct safetensors_sum sum;
    const char *recorded = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(sums, file->entries[i].name));
    TRY(safetensors_sum_entry(file, &file->entries[i], &sum));
    if (!recorded || strcmp(recorded, sum.text) != 0)
      TRY(status_set(DESCENT_ERROR_MODEL,
                     "%s: tensor '%s' was altered since it was saved: its checksum is %s, not '%s'", file->path,
                     json_quote(file->entries[i].name).text, sum.text, json_quote(recorded ? recorded : "").text));
  }
done:
  return status;
}

/* Reads the parameters and the tensors of the checkpoint. The preprocessing is not read; the configuration covers
 * it. */
static descent_status read_tensors(struct safetensors *file, const descent_network *network,
                                   struct snapshot *snapshot) {
  struct safetensors_tensor *tensors = NULL;
  struct safetensors_entry *entry;
  int64_t n_model, n;
  descent_status status;
  const bool best = safetensors_find(file, SAFETENSORS_CHECKPOINT_PREFIX "best") != NULL;
  snapshot->has_best = best && snapshot->best; /* not needed if restore_best is off now */
  TRY(list_tensors(network, snapshot, &tensors, &n_model, &n));
  if (n + (best && !snapshot->best) != file->n)
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "%s: its optimizer moments do not match the options: restore momentum, or use another checkpoint",
                   file->path));
  for (int64_t i = 0; i < n; i++) {
    TRY(safetensors_expect(file, &tensors[i], &entry));
    if (i < 2 * network->n_layers || i >= n_model) TRY(safetensors_read_bytes(file, entry, tensors[i].data));
  }
done:
  free(tensors);
  return status;
}

descent_status checkpoint_read(const char *path, const descent_network *network,
                               const struct configuration *configuration, const char *may_change,
                               struct snapshot *snapshot) {
  struct safetensors file = {0};
  cJSON *root = NULL;
  const cJSON *found[FIELDS];
  char where[512];
  int64_t version;
  descent_status status;
  snprintf(where, sizeof where, "%.400s: checkpoint", path);
  TRY(safetensors_open(path, &file));
  const char *text = file.texts[SAFETENSORS_CHECKPOINT];
  if (!text || !file.texts[SAFETENSORS_HEADER_SUM]) TRY(damaged(path, "header missing or altered"));
  TRY(json_parse(path, 0, text, strlen(text), &root));
  /* Not damaged: the file must neither be passed over nor removed. */
  TRY(json_version(where, root, VERSION, DESCENT_ERROR_ARGUMENT, &version));
  TRY(json_fields(path, root, fields, FIELDS, found));
  TRY(check_sums(&file, found[FIELD_SUMS]));
  TRY(configuration_compare(path, configuration, found[FIELD_CONFIGURATION], may_change));
  snapshot->new_rate = configuration_differs(configuration, found[FIELD_CONFIGURATION], "learning_rate") ||
                       configuration_differs(configuration, found[FIELD_CONFIGURATION], "schedule");
  snapshot->new_validation = configuration_differs(configuration, found[FIELD_CONFIGURATION], "validation");
  const char *arithmetic = configuration_other_arithmetic(configuration, found[FIELD_CONFIGURATION]);
  text_escape(arithmetic ? arithmetic : "", arithmetic ? strlen(arithmetic) : 0, snapshot->other_arithmetic,
              sizeof snapshot->other_arithmetic);
  if (!json_integer(found[FIELD_STEP], &snapshot->step)) TRY(damaged(path, "invalid step"));
  TRY(read_state(path, found[FIELD_STATE], &snapshot->state));
  TRY(read_statistics(path, found[FIELD_STATISTICS], snapshot));
  TRY(read_tensors(&file, network, snapshot));
done:
  cJSON_Delete(root);
  safetensors_close(&file);
  return status;
}
