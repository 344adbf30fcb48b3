/* The configuration of a training, and the differences between two of them. */
#include "checkpoint/configuration.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/communicator.h"
#include "core/number.h"
#include "core/option_table.h"
#include "core/safetensors.h"
#include "core/status.h"

/* A checkpoint is not usable if one of these differs. */
static const char *const fixed[] = {"network", "optimizer", "batch_size", "data"};
/* Beside the recorded ones of option_table.h. */
static const char *const changeable[] = {"loss",       "class_weights", "schedule",    "seed",      "precision",
                                         "validation", "device",        "library",     "keep_best", "keep_every",
                                         "fusion",     "micro_batches", "shuffle_seed"};
/* What else is kept, and the text for nothing, which earlier versions did not record. More may always be kept. */
static const struct { const char *name, *nothing; } kept[] = {{"keep_best", "no"}, {"keep_every", "none"}};
/* What earlier versions did not record: they had nothing else, or left it to the device. */
static const struct {
  const char *name, *only;
} unrecorded[] = {{"loss", "of the network"},     {"fusion", "auto"},    {"micro_batches", "1"}, {"shuffle_seed", "0"},
                  {"trust_coefficient", "0.001"}, {"warmup_epochs", "0"}};
/* Only reported if it differs. */
static const char noted[] = "arithmetic";
enum { FIXED = sizeof fixed / sizeof *fixed, CHANGEABLE = sizeof changeable / sizeof *changeable };

/* ---- creating --------------------------------------------------------------------------------------------------- */

struct collector {
  cJSON *values;
  bool failed;
};

static void add_text(struct collector *c, const char *name, const char *text) {
  if (!cJSON_AddStringToObject(c->values, name, text)) c->failed = true;
}

static void add_integer(struct collector *c, const char *name, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  add_text(c, name, text);
}

static void add_real(struct collector *c, const char *name, double value) {
  char text[NUMBER_TEXT];
  add_text(c, name, number_format(value, text));
}

static void add_format(struct collector *c, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add_format(struct collector *c, const char *name, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  add_text(c, name, text);
}

static void add_class_weights(struct collector *c, const descent_network *network, const descent_train_options *o) {
  static const char name[] = "class_weights";
  enum { SHOWN = 4 };
  char numbers[SHOWN][NUMBER_TEXT];
  if (o->balance_classes || !o->class_weights) {
    add_text(c, name, o->balance_classes ? "balanced" : "none");
    return;
  }
  const int64_t shown = network->classes < SHOWN ? network->classes : SHOWN;
  const size_t bytes = (size_t)network->classes * sizeof *o->class_weights;
  char text[SHOWN * NUMBER_TEXT] = "";
  for (int64_t k = 0; k < shown; k++)
    strcat(strcat(text, k ? "," : ""), number_format(o->class_weights[k], numbers[k]));
  if (shown == network->classes)
    add_text(c, name, text);
  else
    add_format(c, name, "%s,.. (%s)", text, safetensors_sum_of(o->class_weights, bytes).text);
}

static void add_schedule(struct collector *c, const descent_train_options *o) {
  char gamma[NUMBER_TEXT], minimum[NUMBER_TEXT], power[NUMBER_TEXT];
  const char *name = descent_schedule_name(o->schedule.kind);
  number_format(o->schedule.gamma, gamma);
  number_format(o->schedule.minimum, minimum);
  number_format(o->schedule.power, power);
  switch (o->schedule.kind) {
    case DESCENT_SCHEDULE_CONSTANT: add_text(c, "schedule", name); break;
    case DESCENT_SCHEDULE_EXPONENTIAL: add_format(c, "schedule", "%s:%s", name, gamma); break;
    case DESCENT_SCHEDULE_POLYNOMIAL: add_format(c, "schedule", "%s:%s:%s", name, power, minimum); break;
    case DESCENT_SCHEDULE_COSINE: add_format(c, "schedule", "%s:%s", name, minimum); break;
    case DESCENT_SCHEDULE_STEP: add_format(c, "schedule", "%s:%" PRId64 ":%s", name, o->schedule.every, gamma); break;
    case DESCENT_SCHEDULE_PLATEAU:
      add_format(c, "schedule", "%s:%" PRId64 ":%s:%s", name, o->schedule.every, gamma, minimum);
      break;
  }
}

static void add_recorded(struct collector *c, const struct train_option *option, const descent_train_options *o) {
  if (option->kind == VALUE_REAL) add_real(c, option->name, train_option_real(option, o));
  if (option->kind == VALUE_INTEGER) add_integer(c, option->name, train_option_integer(option, o));
  if (option->kind == VALUE_FLAG) add_text(c, option->name, train_option_flag(option, o) ? "yes" : "no");
}

static void add_options(struct collector *c, const descent_network *network, const descent_train_options *o) {
  add_text(c, "optimizer", descent_optimizer_name(o->optimizer.kind));
  add_integer(c, "batch_size", o->batch_size);
  for (int i = 0; i < n_train_options; i++)
    if (train_options[i].recorded) add_recorded(c, &train_options[i], o);
  add_text(c, "loss", o->callbacks.loss ? "a function of the program" : "of the network");
  add_class_weights(c, network, o);
  add_schedule(c, o);
  add_format(c, "seed", "%" PRIu64, o->seed);
  add_format(c, "shuffle_seed", "%" PRIu64, o->shuffle_seed);
  add_text(c, "precision", descent_precision_name(o->precision));
  add_text(c, "fusion", descent_fusion_name(o->gpu.fusion));
  add_integer(c, "micro_batches", options_micro_batches(o)); /* on however many ranks */
}

/* Resuming without these would remove checkpoints that were to stay. */
static void add_kept(struct collector *c, const descent_train_options *o) {
  const int64_t steps = o->checkpoint.keep_every_steps, epochs = o->checkpoint.keep_every_epochs;
  add_text(c, "keep_best", o->checkpoint.keep_best ? "yes" : "no");
  if (steps && epochs)
    add_format(c, "keep_every", "%" PRId64 " steps, %" PRId64 " epochs", steps, epochs);
  else if (steps || epochs)
    add_format(c, "keep_every", "%" PRId64 " %s", steps ? steps : epochs, steps ? "steps" : "epochs");
  else
    add_text(c, "keep_every", "none");
}

/* The shape as text, and a checksum of the widths, activations and preprocessing. */
static void add_network(struct collector *c, const descent_network *network) {
  enum { SHOWN = 6 };
  XXH64_state_t state;
  char shape[160];
  int used = snprintf(shape, sizeof shape, "%" PRId64, network->inputs);
  XXH64_reset(&state, 0);
  for (int32_t l = 0; l < network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l];
    XXH64_update(&state, &layer->n_out, sizeof layer->n_out);
    XXH64_update(&state, &layer->activation, sizeof layer->activation);
    if (l < SHOWN) used += snprintf(shape + used, sizeof shape - (size_t)used, "-%" PRId64, layer->n_out);
  }
  const int64_t outputs = network_outputs(network);
  const struct {
    const float *values;
    int64_t n;
  } arrays[] = {{network->fill, network->inputs},
                {network->shift, network->inputs},
                {network->scale, network->inputs},
                {network->y_shift, outputs},
                {network->y_scale, outputs}};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
    if (arrays[i].values) XXH64_update(&state, arrays[i].values, (size_t)arrays[i].n * sizeof(float));
  add_format(c, "network", "%s%s %s %s, normalize %s (%s)", shape, network->n_layers > SHOWN ? "-.." : "",
             descent_activation_name(network->layers[0].activation), descent_loss_name(network->loss),
             descent_normalize_name(network->normalize), safetensors_sum_text(XXH64_digest(&state)).text);
}

/* The number of rows and a checksum of all targets and weights, and of X. If X is large, only rows at equal distances
 * are included, because X may be a mapped file and each row a page to read. */
static void add_data(struct collector *c, const char *name, const descent_dataset *dataset) {
  enum { SOME_ROWS = 4096 };
  static const int64_t large = INT64_C(64) << 20;
  if (!dataset) {
    add_text(c, name, "none");
    return;
  }
  const struct dataset_storage *s = dataset->storage;
  const char *X = s->bytes ? (const char *)s->bytes : (const char *)s->X;
  const size_t row_bytes = (size_t)s->inputs * (s->bytes ? 1 : sizeof(float));
  const bool all = dataset->rows <= SOME_ROWS || (double)dataset->rows * (double)row_bytes <= (double)large;
  const int64_t stride = all ? 1 : dataset->rows / SOME_ROWS;
  XXH64_state_t state;
  XXH64_reset(&state, 0);
  for (int64_t r = 0; r < dataset->rows; r++) {
    const int64_t row = dataset_source_row(dataset, r);
    if (r % stride == 0) XXH64_update(&state, X + (size_t)row * row_bytes, row_bytes);
    XXH64_update(&state, s->y + row * s->targets, (size_t)s->targets * sizeof(float));
    if (s->weights) XXH64_update(&state, &s->weights[row], sizeof(float));
  }
  add_format(c, name, "%" PRId64 " rows (%s)", dataset->rows, safetensors_sum_text(XXH64_digest(&state)).text);
}

/* Its shape: the rows are not known before they come. */
static void add_source(struct collector *c, const char *name, const descent_source *source) {
  add_format(c, name,
             "a source of %" PRId64 " rows per epoch (0: unknown), %" PRId64 " inputs, %" PRId64 " targets, %s",
             source->rows_per_epoch, source->inputs, source->targets, descent_task_name(source->task));
}

static descent_status finish(const struct collector *c, struct configuration *configuration) {
  if (c->failed) {
    cJSON_Delete(c->values);
    return status_set(DESCENT_ERROR_MEMORY, "out of memory for the configuration of a training");
  }
  configuration->values = c->values;
  return DESCENT_OK;
}

descent_status configuration_create(const descent_network *network, const char *device, const char *arithmetic,
                                    const descent_dataset *training, const descent_source *source,
                                    const descent_dataset *validation, const descent_train_options *options,
                                    struct configuration *configuration) {
  struct collector c = {.values = cJSON_CreateObject()};
  add_options(&c, network, options); /* first, since they may be the reason for other differences */
  add_kept(&c, options);
  add_network(&c, network);
  if (training)
    add_data(&c, "data", training);
  else
    add_source(&c, "data", source);
  add_data(&c, "validation", validation);
  add_text(&c, "device", device);
  add_text(&c, "library", DESCENT_VERSION);
  if (arithmetic) add_text(&c, noted, arithmetic);
  return finish(&c, configuration);
}

descent_status configuration_create_of_state(const descent_network *network, descent_optimizer optimizer,
                                             struct configuration *configuration) {
  struct collector c = {.values = cJSON_CreateObject()};
  add_text(&c, "optimizer", descent_optimizer_name(optimizer));
  add_network(&c, network);
  return finish(&c, configuration);
}

void configuration_clear(struct configuration *configuration) {
  cJSON_Delete(configuration->values);
  configuration->values = NULL;
}

bool configuration_write(const struct configuration *configuration, cJSON *object, const char *member) {
  return cJSON_AddItemReferenceToObject(object, member, configuration->values);
}

/* ---- comparing -------------------------------------------------------------------------------------------------- */

/* Name `i` of those that may change, or NULL behind the last. */
static const char *changeable_name(int i) {
  if (i < CHANGEABLE) return changeable[i];
  for (int k = 0; k < n_train_options; k++)
    if (train_options[k].recorded && i-- == CHANGEABLE) return train_options[k].name;
  return NULL;
}

static bool is_changeable(const char *name, size_t length) {
  const char *known;
  for (int i = 0; (known = changeable_name(i)); i++)
    if (strlen(known) == length && strncmp(known, name, length) == 0) return true;
  return false;
}

static bool is_in_list(const char *const *names, int n, const char *name, size_t length) {
  for (int i = 0; i < n; i++)
    if (strlen(names[i]) == length && strncmp(names[i], name, length) == 0) return true;
  return false;
}

descent_status configuration_check_names(const char *may_change) {
  for (const char *c = may_change; c && *c;) {
    const size_t length = strcspn(c, ",");
    if (is_in_list(fixed, FIXED, c, length))
      return status_set(DESCENT_ERROR_ARGUMENT,
                        "resume_with '%.*s': cannot change on resume; start a new training from the weights instead",
                        (int)length, c);
    if (!is_changeable(c, length)) {
      char known[600] = "";
      const char *one;
      for (int i = 0; (one = changeable_name(i)); i++) strcat(strcat(known, i ? ", " : ""), one);
      return status_set(DESCENT_ERROR_ARGUMENT, "resume_with '%.*s': unknown name: must be one of %s",
                        (int)(length < 60 ? length : 60), c, known);
    }
    c += length + (c[length] == ',');
  }
  return DESCENT_OK;
}

static bool is_listed(const char *may_change, const char *name) {
  const size_t wanted = strlen(name);
  for (const char *c = may_change; c && *c;) {
    const size_t length = strcspn(c, ",");
    if (length == wanted && strncmp(c, name, length) == 0) return true;
    c += length + (c[length] == ',');
  }
  return false;
}

/* The recorded text of this name; NULL: none. */
static const char *recorded_text(const cJSON *recorded, const char *name) {
  const char *was = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(recorded, name));
  for (size_t i = 0; !was && i < sizeof unrecorded / sizeof *unrecorded; i++)
    if (strcmp(name, unrecorded[i].name) == 0) was = unrecorded[i].only;
  return was;
}

bool configuration_differs(const struct configuration *configuration, const cJSON *recorded, const char *name) {
  const char *is = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(configuration->values, name));
  const char *was = recorded_text(recorded, name);
  return is && (!was || strcmp(was, is) != 0);
}

const char *configuration_other_arithmetic(const struct configuration *configuration, const cJSON *recorded) {
  const char *is = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(configuration->values, noted));
  const char *was = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(recorded, noted));
  return is && was && strcmp(is, was) != 0 ? was : NULL;
}

static bool kept_nothing(const char *name, const char *was) {
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
    if (strcmp(name, kept[i].name) == 0) return !was || strcmp(was, kept[i].nothing) == 0;
  return false;
}

descent_status configuration_compare(const char *path, const struct configuration *configuration, const cJSON *recorded,
                                     const char *may_change) {
  char differences[600] = "";
  size_t used = 0;
  bool forbidden = false;
  const cJSON *item;
  if (!cJSON_IsObject(recorded)) return status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: configuration missing", path);
  cJSON_ArrayForEach(item, configuration->values) {
    if (strcmp(item->string, noted) == 0) continue;
    if (!configuration_differs(configuration, recorded, item->string) || is_listed(may_change, item->string)) continue;
    const char *was = recorded_text(recorded, item->string);
    if (kept_nothing(item->string, was)) continue;
    if (is_in_list(fixed, FIXED, item->string, strlen(item->string))) forbidden = true;
    const int n = snprintf(differences + used, sizeof differences - used, "%s%s was %s and is %s", used ? ", " : "",
                           item->string, was ? was : "unknown", item->valuestring);
    used += (size_t)n < sizeof differences - used ? (size_t)n : sizeof differences - used - 1;
  }
  if (!used) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: the configuration differs: %s; %s", path, differences,
                    forbidden ? "cannot resume with these changes: restore them, or use another folder"
                              : "to resume anyway, name these options in resume_with");
}
