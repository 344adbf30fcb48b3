/* Opening the binary form: X is mapped, everything else is read and checked. */
#include "data/binary.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/json.h"
#include "core/memory.h"
#include "core/status.h"

/* ---- the description -------------------------------------------------------------------------------------------- */

enum {
  VERSION,
  TASK,
  CLASSES,
  COLUMNS,
  UNSEEN,
  TARGET_NAMES,
  CLASS_NAMES,
  MISSING,
  NUMBERS,
  TARGET_POSITIONS,
  LEFT_OUT,
  SVMLIGHT,
  OFFSETS,
  TARGET_OFFSETS,
  ROUNDING,
  TARGET_ROUNDING,
  FIELDS
};
static const char *const fields[FIELDS] = {
    "version", "task",          "classes",  "columns",  "unseen",  "target_names",   "class_names", "missing",
    "numbers", "target_places", "left_out", "svmlight", "offsets", "target_offsets", "rounding",    "target_rounding"};

static descent_status find_tensor(const struct binary *b, const char *name, int64_t *columns,
                                  const struct safetensors_entry **found) {
  const struct safetensors_entry *entry = safetensors_find(&b->file, name);
  *columns = 0;
  *found = entry;
  if (!entry) return DESCENT_OK;
  *columns = entry->rank == 2 ? entry->shape[1] : 1;
  if (entry->rank < 1 || *columns < 1 || (b->rows && entry->shape[0] != b->rows))
    return status_set(DESCENT_ERROR_DATA,
                      "%s: tensor '%s' has %d dimensions, [%" PRId64 ", %" PRId64 "], but X has %" PRId64 " rows",
                      b->file.path, name, entry->rank, entry->shape[0], entry->shape[1], b->rows);
  return DESCENT_OK;
}

/* A description always comes with both checksums; when one is missing, the metadata was altered. */
static bool has_all_checksums(const char *const *texts) {
  return !texts[SAFETENSORS_DATA_SUM] == !texts[SAFETENSORS_X_SUM] &&
         (texts[SAFETENSORS_DATA] || !texts[SAFETENSORS_X_SUM]);
}

static descent_status check_kind(const struct binary *b) {
  const char *path = b->file.path;
  if (!has_all_checksums(b->file.texts))
    return status_set(DESCENT_ERROR_DATA, "%s: altered since it was saved: part of its metadata is missing", path);
  if (!b->file.texts[SAFETENSORS_DATA] && b->file.texts[SAFETENSORS_MODEL])
    return status_set(DESCENT_ERROR_DATA, "%s: holds a model, not data (the model comes first on the command line)",
                      path);
  const struct safetensors_entry *X = safetensors_find(&b->file, "X");
  if (!X)
    return status_set(DESCENT_ERROR_DATA, "%s: not a dataset: a .safetensors file without a tensor 'X' (rows, inputs)",
                      path);
  if (X->rank != 2 || X->shape[0] < 1 || X->shape[1] < 1)
    return status_set(DESCENT_ERROR_DATA,
                      "%s: tensor 'X' must be (rows, inputs), at least 1 each, but has %d dimensions, [%" PRId64
                      ", %" PRId64 "]",
                      path, X->rank, X->shape[0], X->shape[1]);
  return DESCENT_OK;
}

static descent_status bad_field(const char *where, int field, const char *expected) {
  return status_set(DESCENT_ERROR_DATA, "%s: '%s' is not %s", where, fields[field], expected);
}

static descent_status read_task(const char *where, const cJSON *const *found, struct binary *b) {
  const char *name = cJSON_GetStringValue(found[TASK]);
  if (!name || descent_task_parse(json_quote(name).text, &b->task) != DESCENT_OK || b->task == DESCENT_TASK_AUTO)
    return bad_field(where, TASK, "binary, classes or regression");
  const bool classes = b->task != DESCENT_TASK_REGRESSION;
  if (found[CLASSES] && !json_integer(found[CLASSES], &b->classes)) return bad_field(where, CLASSES, "a number");
  if (classes ? b->classes < 2 || b->classes > TARGETS_MAX_CLASSES : b->classes != 0)
    return bad_field(where, CLASSES, "a valid number of classes for the task");
  if ((b->task == DESCENT_TASK_BINARY && b->classes != 2) || (classes && b->targets != 1))
    return bad_field(where, TASK, "consistent with the classes and targets");
  return DESCENT_OK;
}

static descent_status read_description(struct binary *b) {
  const char *text = b->file.texts[SAFETENSORS_DATA];
  const cJSON *found[FIELDS];
  char where[512];
  int64_t version;
  cJSON *json = NULL;
  descent_status status;
  if (!text) return DESCENT_OK;
  snprintf(where, sizeof where, "%.400s: metadata", b->file.path);
  TRY(json_parse(where, 0, text, strlen(text), &json));
  TRY(json_version(where, json, 1, DESCENT_ERROR_DATA, &version));
  TRY(json_fields(where, json, fields, FIELDS, found));
  if (b->targets) TRY(read_task(where, found, b));
  const struct schema_members members = {.columns = found[COLUMNS],
                                         .unseen = found[UNSEEN],
                                         .target_names = found[TARGET_NAMES],
                                         .class_names = found[CLASS_NAMES],
                                         .missing = found[MISSING],
                                         .numbers = found[NUMBERS],
                                         .target_positions = found[TARGET_POSITIONS],
                                         .left_out = found[LEFT_OUT],
                                         .svmlight = found[SVMLIGHT],
                                         .offsets = found[OFFSETS],
                                         .target_offsets = found[TARGET_OFFSETS]};
  TRY(schema_read(where, &members, b->inputs, b->targets, b->classes, &b->schema));
  TRY(schema_read_reals(where, found[ROUNDING], b->inputs, &b->X_rounding));
  TRY(schema_read_reals(where, found[TARGET_ROUNDING], b->targets, &b->y_rounding));
  b->described = true;
done:
  cJSON_Delete(json);
  return status;
}

static void note_unread(struct binary *b) {
  static const char *const read[] = {"X", "y", "weights"};
  struct unread_parts unread = {.n = 0};
  for (int64_t i = 0; i < b->file.n; i++) {
    bool is_read = false;
    for (size_t k = 0; k < sizeof read / sizeof *read; k++)
      is_read = is_read || strcmp(b->file.entries[i].name, read[k]) == 0;
    if (!is_read) matrix_add_unread(&unread, b->file.entries[i].name);
  }
  matrix_note_unread(&unread, b->note);
}

/* ---- y and weights ---------------------------------------------------------------------------------------------- */

static descent_status bad_value(const struct binary *b, const struct safetensors_entry *entry, int64_t i, float value,
                                const char *expected) {
  return status_set(DESCENT_ERROR_DATA, "%s: byte %" PRId64 ": %s[%" PRId64 "] is %g, not %s", b->file.path,
                    b->file.data_start + entry->begin + 4 * i, entry->name, i, (double)value, expected);
}

static descent_status check_y(const struct binary *b, const struct safetensors_entry *entry) {
  for (int64_t i = 0; i < b->rows * b->targets; i++) {
    const float value = b->y[i];
    if (!isfinite(value)) return bad_value(b, entry, i, value, "a finite number");
    if (b->classes && !(value >= 0 && value < (float)b->classes && value == truncf(value)))
      return bad_value(b, entry, i, value, "a class index");
  }
  return DESCENT_OK;
}

static descent_status check_weights(const struct binary *b, const struct safetensors_entry *entry) {
  for (int64_t i = 0; i < b->rows; i++)
    if (!(isfinite(b->weights[i]) && b->weights[i] >= 0))
      return bad_value(b, entry, i, b->weights[i], "a finite weight >= 0");
  return DESCENT_OK;
}

static descent_status read_values(struct binary *b, const struct safetensors_entry *entry, float **values) {
  if (!entry) return DESCENT_OK;
  *values = memory_allocate((entry->end - entry->begin) / 4, sizeof **values, entry->name);
  if (!*values) return DESCENT_ERROR_MEMORY;
  return safetensors_read_bytes(&b->file, entry, *values);
}

static struct safetensors_sum sum_of(const struct binary *b) {
  XXH64_state_t state;
  const char *text = b->file.texts[SAFETENSORS_DATA];
  XXH64_reset(&state, 0);
  XXH64_update(&state, text, strlen(text));
  if (b->y) XXH64_update(&state, b->y, (size_t)(b->rows * b->targets) * sizeof *b->y);
  if (b->weights) XXH64_update(&state, b->weights, (size_t)b->rows * sizeof *b->weights);
  return safetensors_sum_text(XXH64_digest(&state));
}

/* ---- X ---------------------------------------------------------------------------------------------------------- */

static descent_status map_X(struct binary *b, const struct safetensors_entry *entry) {
  const int64_t offset = b->file.data_start + entry->begin;
  struct stat now;
  if (offset % (int64_t)sizeof(float)) { /* a header may have any length */
    b->owned_X = memory_allocate(b->rows * b->inputs, sizeof *b->owned_X, "X");
    b->X = b->owned_X;
    return b->owned_X ? safetensors_read_bytes(&b->file, entry, b->owned_X) : DESCENT_ERROR_MEMORY;
  }
  const size_t bytes = (size_t)b->file.about.st_size;
  void *mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fileno(b->file.stream), 0);
  if (mapping == MAP_FAILED)
    return status_set(errno == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_READ,
                      "%s: cannot map %zu bytes into memory: %s", b->file.path, bytes, strerror(errno));
  b->mapping = mapping;
  b->mapped_bytes = bytes;
  b->X = (const float *)((const char *)mapping + offset);
  if (fstat(fileno(b->file.stream), &now) != 0 || now.st_size != b->file.about.st_size ||
      now.st_mtim.tv_sec != b->file.about.st_mtim.tv_sec || now.st_mtim.tv_nsec != b->file.about.st_mtim.tv_nsec)
    return status_set(DESCENT_ERROR_READ, "%s: the file changed while it was opened (is it still being written?)",
                      b->file.path);
  return DESCENT_OK;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static void close_binary(struct binary *b) {
  if (b->mapping) munmap(b->mapping, b->mapped_bytes);
  free(b->owned_X);
  free(b->y);
  free(b->weights);
  free(b->X_rounding);
  free(b->y_rounding);
  schema_clear(&b->schema);
  safetensors_close(&b->file);
  *b = (struct binary){0};
}

static descent_status open_binary(const char *path, struct binary *b) {
  const struct safetensors_entry *X, *y, *weights;
  int64_t columns;
  descent_status status;
  *b = (struct binary){.task = DESCENT_TASK_AUTO};
  TRY(safetensors_open(path, &b->file));
  TRY(check_kind(b));
  TRY(find_tensor(b, "X", &b->inputs, &X));
  b->rows = X->shape[0];
  TRY(find_tensor(b, "y", &b->targets, &y));
  TRY(find_tensor(b, "weights", &columns, &weights));
  if (columns > 1)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: tensor 'weights' has %" PRId64 " columns, not 1", path, columns));
  TRY(read_description(b));
  TRY(read_values(b, y, &b->y));
  TRY(read_values(b, weights, &b->weights));
  TRY(check_y(b, y));
  if (weights) TRY(check_weights(b, weights));
  if (b->described) TRY(safetensors_check_sum(&b->file, SAFETENSORS_DATA_SUM, sum_of(b)));
  TRY(map_X(b, X));
  note_unread(b);
done:
  /* safetensors.c reports format errors as ERROR_MODEL. */
  if (status == DESCENT_ERROR_MODEL) status = status_set(DESCENT_ERROR_DATA, "%s", descent_last_error());
  return status;
}

/* ---- can the file be mapped? ------------------------------------------------------------------------------------ */

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : !a && !b; }

static bool same_texts(char *const *a, int64_t n_a, char *const *b, int64_t n_b) {
  if (n_a != n_b) return false;
  for (int64_t i = 0; i < n_a; i++)
    if (!same_text(a[i], b[i])) return false;
  return true;
}

static bool has_names(const struct schema *schema) { return schema->n_features && schema->features[0].name; }

/* Whether the file's inputs are the network's, compared by position when either has no names. */
static bool same_columns(const struct binary *b, const struct expected_data *expected) {
  const struct schema *ours = &b->schema, *theirs = expected->schema;
  const int64_t targets = b->y && !expected->classes ? b->targets : 0;
  if (b->inputs != expected->inputs || !dataset_has_offsets(ours, theirs, b->inputs, targets)) return false;
  if (!ours->features || !theirs->features) return true;
  if (ours->n_features != theirs->n_features) return false;
  const bool by_name = has_names(ours) && has_names(theirs);
  for (int64_t c = 0; c < ours->n_features; c++) {
    const struct feature *x = &ours->features[c], *y = &theirs->features[c];
    if ((by_name && !same_text(x->name, y->name)) || x->indicator != y->indicator ||
        !same_texts(x->categories, x->n_categories, y->categories, y->n_categories))
      return false;
  }
  return true;
}

static bool same_targets(const struct binary *b, const struct expected_data *expected) {
  if (!b->y || !b->described) return true; /* no targets, or infer_targets maps them to the network's classes */
  if (b->task != expected->task || b->classes != expected->classes) return false;
  if (!b->classes) return b->targets == expected->targets;
  return same_texts(b->schema.class_names, b->schema.classes, expected->schema->class_names, expected->schema->classes);
}

/* Whether `wanted` names the file's own targets. */
static bool names_own_target(const struct binary *b, const char *wanted) {
  for (int64_t k = 0; k < b->schema.targets; k++) {
    const size_t length = strlen(b->schema.target_names[k]);
    if (strncmp(wanted, b->schema.target_names[k], length) != 0) return false;
    wanted += length;
    if (k + 1 < b->schema.targets && *wanted++ != ',') return false;
  }
  return b->schema.targets && !*wanted;
}

/* Whether the file was converted with the requested texts for missing cells. */
static bool same_missing(const struct binary *b, const descent_dataset_options *options) {
  if (b->schema.n_missing != options->missing_texts) return false;
  for (int64_t i = 0; i < options->missing_texts; i++)
    if (strcmp(b->schema.missing[i], options->missing[i]) != 0) return false;
  return true;
}

static bool can_be_mapped(const struct binary *b, const struct read_request *request) {
  const descent_dataset_options *options = request->options;
  const struct expected_data *expected = request->expected;
  if (options->target || options->weight_column || options->ignored || options->categoricals || options->indicators)
    return false;
  if (request->all_targets) return false;
  /* The texts may be numbers, which the file may hold unless it was converted with these texts. */
  if (options->missing_texts && !same_missing(b, options)) return false;
  if (b->y && b->described && options->task != DESCENT_TASK_AUTO && options->task != b->task) return false;
  /* A network without replacements for missing cells needs every cell checked. */
  return !expected || (expected->imputes && same_columns(b, expected) && same_targets(b, expected));
}

/* ---- the dataset ------------------------------------------------------------------------------------------------ */

/* Sets task, targets and classes; infers them from y for a file without a description. */
static descent_status infer_targets(const struct binary *b, const descent_dataset_options *options,
                                    const struct expected_data *expected, struct dataset_storage *storage) {
  struct targets targets = {0};
  const char *problem = NULL;
  const descent_task task = expected ? expected->task : options->task;
  descent_status status;
  if (b->targets > 1 || b->described) {
    if (!b->described && task != DESCENT_TASK_AUTO && task != DESCENT_TASK_REGRESSION)
      return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " targets, but task %s takes one (choose task regression)",
                        b->file.path, b->targets, descent_task_name(task));
    storage->task = b->described ? b->task : DESCENT_TASK_REGRESSION;
    storage->targets = b->targets;
    storage->classes = b->classes;
    return DESCENT_OK;
  }
  TRY(targets_begin(&targets, task, expected));
  for (int64_t r = 0; r < b->rows; r++) {
    status = targets_add_number(&targets, (double)b->y[r], r + 1, &problem);
    if (problem)
      status = status_set(DESCENT_ERROR_DATA, "%s: y[%" PRId64 "]: %g %s", b->file.path, r, (double)b->y[r], problem);
    TRY(status);
  }
  TRY(targets_finish(&targets, b->file.path, "y", storage));
done:
  targets_clear(&targets);
  return status;
}

static void drop_targets(struct schema *schema) {
  memory_free_texts(schema->target_names, schema->targets);
  free(schema->target_offsets);
  schema->target_names = NULL;
  schema->target_offsets = NULL;
  schema->targets = schema->n_target_offsets = 0;
  schema_drop_classes(schema);
}

/* Moves everything to a new storage. */
static descent_status make_storage(struct binary *b, const descent_dataset_options *options,
                                   const struct expected_data *expected, struct dataset_storage **out) {
  descent_status status = DESCENT_OK;
  struct dataset_storage *s = memory_allocate(1, sizeof *s, "the dataset");
  if (!s) return DESCENT_ERROR_MEMORY;
  *s = (struct dataset_storage){.references = 1, .rows = b->rows, .inputs = b->inputs, .task = options->task};
  if (expected) s->task = expected->task;
  s->schema = b->schema;
  b->schema = (struct schema){0};
  s->X_rounding = b->X_rounding;
  s->y_rounding = b->y_rounding;
  b->X_rounding = b->y_rounding = NULL;
  if (options->unseen != DESCENT_UNSEEN_ERROR) s->schema.unseen = options->unseen;
  if (!b->y || options->features_only || options->target_file)
    drop_targets(&s->schema);
  else
    TRY(infer_targets(b, options, expected, s));
  if (s->targets && !s->y) {
    s->y = s->owned_y = b->y;
    b->y = NULL;
  }
  s->weights = s->owned_weights = b->weights;
  b->weights = NULL;
  if (expected && has_names(&s->schema) != has_names(expected->schema))
    note_add(s->note, has_names(expected->schema) ? "the file has no column names: columns are matched by position"
                                                  : "the model has no column names: columns are matched by position");
  note_add(s->note, b->note);
  if (b->mapping && (s->mapped_file = fcntl(fileno(b->file.stream), F_DUPFD_CLOEXEC, 0)) < 0)
    TRY(status_set(DESCENT_ERROR_READ, "%s: cannot duplicate its file descriptor: %s", b->file.path, strerror(errno)));
  s->mapped_time = b->file.about.st_mtim;
  s->X = b->X;
  s->owned_X = b->owned_X;
  s->mapping = b->mapping;
  s->mapped_bytes = b->mapped_bytes;
  if (b->described && b->file.texts[SAFETENSORS_X_SUM])
    snprintf(s->X_sum, sizeof s->X_sum, "%s", b->file.texts[SAFETENSORS_X_SUM]);
  b->owned_X = NULL;
  b->mapping = NULL;
  *out = s;
  s = NULL;
done:
  dataset_storage_release(s);
  return status;
}

/* Passes on the block of rows from `first`, which borrows from `whole`. */
static descent_status pass_block(const struct dataset_storage *whole, int64_t first,
                                 const struct table_blocks *blocks) {
  const int64_t left = whole->rows - first, rows = left < blocks->rows ? left : blocks->rows;
  struct dataset_storage *block = memory_allocate(1, sizeof *block, "a block of rows");
  if (!block) return DESCENT_ERROR_MEMORY;
  *block = (struct dataset_storage){.references = 1,
                                    .X = whole->X + first * whole->inputs,
                                    .y = whole->y ? whole->y + first * whole->targets : NULL,
                                    .weights = whole->weights ? whole->weights + first : NULL,
                                    .rows = rows,
                                    .inputs = whole->inputs,
                                    .targets = whole->targets,
                                    .classes = whole->classes,
                                    .task = whole->task};
  note_add(block->note, whole->note);
  const descent_status status = schema_copy(&whole->schema, &block->schema);
  if (status == DESCENT_OK) return blocks->consume(blocks->user, block);
  dataset_storage_release(block);
  return status;
}

descent_status binary_read(const char *path, const struct read_request *request, const struct table_blocks *blocks,
                           struct dataset_storage **storage) {
  struct binary binary;
  descent_dataset_options options = *request->options;
  const struct read_request adjusted = {&options, request->expected, request->all_targets};
  struct dataset_storage *whole = NULL;
  descent_status status;
  TRY(open_binary(path, &binary));
  if (options.target && names_own_target(&binary, options.target)) options.target = NULL;
  if (!can_be_mapped(&binary, &adjusted)) {
    TRY(binary_read_as_table(&binary, &adjusted, blocks, storage));
    goto done;
  }
  TRY(make_storage(&binary, &options, adjusted.expected, &whole));
  for (int64_t first = 0; blocks && first < whole->rows; first += blocks->rows) TRY(pass_block(whole, first, blocks));
  *storage = blocks ? NULL : whole;
  if (!blocks) whole = NULL;
done:
  dataset_storage_release(whole);
  close_binary(&binary);
  return status;
}
