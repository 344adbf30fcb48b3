/* Compares, before the first step, what the result of a training depends on: as names and texts, so that an error can say
 * what differs. */
#include "train/ranks_compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "checkpoint/configuration.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/option_table.h"
#include "core/safetensors.h"
#include "core/status.h"
#include "train/ranks.h"

/* ---- what is compared ------------------------------------------------------------------------------------------- */

/* The options that a checkpoint does not record as they are. Texts are names of files, which rank 0 alone uses: it
 * counts whether there is one. */
static bool add_option(cJSON *values, const struct train_option *option, const descent_train_options *o) {
  char text[NUMBER_TEXT] = "";
  switch (option->kind) {
    case VALUE_REAL: number_format(train_option_real(option, o), text); break;
    case VALUE_INTEGER: snprintf(text, sizeof text, "%" PRId64, train_option_integer(option, o)); break;
    case VALUE_FLAG: snprintf(text, sizeof text, "%s", train_option_flag(option, o) ? "yes" : "no"); break;
    case VALUE_TEXT:
      snprintf(text, sizeof text, "%s", *(const char *const *)((const char *)o + option->offset) ? "given" : "none");
      break;
    case VALUE_SEED:
    case VALUE_TERM: return true; /* the configuration has them */
  }
  return cJSON_AddStringToObject(values, option->name, text) != NULL;
}

/* GPUs choose algorithms by measuring and may choose differently. The replicas stay equal, since all ranks receive the
 * same sums, and updates have one algorithm. So the choices, which end the text, are compared apart. */
static bool add_arithmetic(cJSON *values, const char *arithmetic) {
  static const char choices[] = ", choices ";
  char text[256];
  const char *end = strstr(arithmetic, choices);
  snprintf(text, sizeof text, "%.*s", end ? (int)(end - arithmetic) : (int)strlen(arithmetic), arithmetic);
  return cJSON_AddStringToObject(values, "arithmetic", text) != NULL;
}

/* The configuration of this rank as JSON, {NAME: TEXT, ..}; the caller frees it. */
static descent_status describe(const struct rank_work *w, char **text) {
  const descent_network *network = w->network;
  const struct program *program = w->program;
  struct configuration configuration = {0};
  descent_status status;
  TRY(configuration_create(network, program->backend->name, NULL, w->training, w->source, w->validation, w->options,
                           &configuration));
  bool added = cJSON_AddStringToObject(
      configuration.values, "initial weights",
      safetensors_sum_of(network->parameters, (size_t)network->n_parameters * sizeof *network->parameters).text);
  if (added && program->arithmetic) added = add_arithmetic(configuration.values, program->arithmetic);
  for (int i = 0; added && i < n_train_options; i++)
    if (!train_options[i].recorded && !cJSON_HasObjectItem(configuration.values, train_options[i].name))
      added = add_option(configuration.values, &train_options[i], w->options);
  for (int i = 0; added && i < w->n_more; i++)
    added = cJSON_AddStringToObject(configuration.values, w->more[i].name, w->more[i].text) != NULL;
  *text = added ? cJSON_PrintUnformatted(configuration.values) : NULL;
  if (!*text) TRY(status_set(DESCENT_ERROR_MEMORY, "out of memory for the configuration of a rank"));
done:
  configuration_clear(&configuration);
  return status;
}

/* ---- differences ------------------------------------------------------------------------------------------------ */

static const char *value_of(const cJSON *values, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(values, name));
  return text ? text : "unknown";
}

/* "seed is 2, but 1 on rank 0; .."; "" if all is equal. */
static void list_differences(const cJSON *values, const cJSON *first, char *text, size_t size) {
  const cJSON *item;
  size_t used = 0;
  *text = '\0';
  cJSON_ArrayForEach(item, values) {
    const char *is = value_of(values, item->string), *expected = value_of(first, item->string);
    if (strcmp(is, expected) == 0) continue;
    const int n = snprintf(text + used, size - used, "%s%s is %s, but %s on rank 0", used ? "; " : "", item->string, is,
                           expected);
    used += (size_t)n < size - used ? (size_t)n : size - used - 1;
  }
}

/* texts (ranks, length): the same error on every rank. */
static descent_status compare_texts(struct descent_communicator *communicator, const char *texts, int64_t length) {
  const int size = communicator_size(communicator);
  char differences[600];
  cJSON *first = cJSON_Parse(texts), *other = NULL;
  descent_status status = DESCENT_OK;
  for (int r = 1; r < size; r++) {
    const char *text = texts + r * length;
    if (strcmp(text, texts) == 0) continue;
    other = cJSON_Parse(text);
    if (!first || !other) TRY(status_set(DESCENT_ERROR_MEMORY, "out of memory for the configuration of rank %d", r));
    list_differences(other, first, differences, sizeof differences);
    TRY(status_set(DESCENT_ERROR_ARGUMENT,
                   "rank %d (%s): %s; start all ranks with the same program, options, network and data", r,
                   communicator_host(communicator, r),
                   *differences ? differences : "another version of the program than on rank 0"));
  }
done:
  cJSON_Delete(first);
  cJSON_Delete(other);
  return status;
}

/* Differing choices are no error, but then the bits depend on the number of ranks. */
static descent_status compare_choices(struct fit *f) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const char *arithmetic = f->trainer->program.arithmetic ? f->trainer->program.arithmetic : "";
  uint64_t *const sums = f->ranks.sums, own = XXH64(arithmetic, strlen(arithmetic), 0);
  descent_status status;
  TRY(communicator_gather(communicator, &own, sizeof own, sums));
  for (int r = 1; r < communicator_size(communicator); r++) f->ranks.choices_differ |= sums[r] != sums[0];
done:
  return status;
}

descent_status ranks_compare_work(const struct rank_work *work) {
  struct descent_communicator *communicator = work->options->ranks.communicator;
  const int size = communicator_size(communicator);
  char *text = NULL, *texts = NULL;
  int64_t *lengths = NULL, own = 0, longest = 0;
  descent_status status = DESCENT_OK;
  if (size == 1) return status;
  status = describe(work, &text);
  if (status == DESCENT_OK && !(lengths = memory_allocate(size, sizeof *lengths, "configurations of ranks")))
    status = DESCENT_ERROR_MEMORY;
  TRY(communicator_agree(communicator, status));
  own = (int64_t)strlen(text) + 1;
  TRY(communicator_gather(communicator, &own, sizeof own, lengths));
  for (int r = 0; r < size; r++)
    if (lengths[r] > longest) longest = lengths[r];
  texts = memory_allocate(size + 1, (size_t)longest, "configurations of ranks");
  TRY(communicator_agree(communicator, texts ? DESCENT_OK : DESCENT_ERROR_MEMORY));
  memcpy(texts + size * longest, text, (size_t)own); /* the rest is zeros */
  TRY(communicator_gather(communicator, texts + size * longest, longest, texts));
  TRY(compare_texts(communicator, texts, longest));
done:
  cJSON_free(text);
  free(lengths);
  free(texts);
  return status;
}

descent_status ranks_compare(struct fit *f) {
  const struct rank_work work = {.network = f->trainer->network,
                                 .program = &f->trainer->program,
                                 .options = &f->options,
                                 .training = f->training,
                                 .validation = f->validation,
                                 .source = f->source};
  descent_status status;
  TRY(ranks_compare_work(&work));
  TRY(compare_choices(f));
done:
  return status;
}
