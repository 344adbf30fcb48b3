/* Defaults of the option structs, and conversion of structs from other versions of the header. */
#include "core/options.h"

#include <string.h>

#include "core/status.h"

static const descent_dataset_options dataset_defaults = {
    .size = sizeof dataset_defaults,
    .header = -1,
};

static const descent_network_options network_defaults = {
    .size = sizeof network_defaults,
    .loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY,
};

static const descent_train_options train_defaults = {
    .size = sizeof train_defaults,
    .epochs = 100,
    .batch_size = 32,
    .precision = DESCENT_PRECISION_FP32,
    .autotune = true,
    .optimizer = {.kind = DESCENT_OPTIMIZER_ADAM,
                  .learning_rate = 1e-3,
                  .beta1 = 0.9,
                  .beta2 = 0.999,
                  .rho = 0.99,
                  .epsilon = 1e-8},
    .schedule = {.kind = DESCENT_SCHEDULE_CONSTANT, .every = 10, .gamma = 0.1},
    .early_stopping = {.restore_best = true},
    .checkpoint = {.seconds = 60, .keep = 2, .rollback_factor = 0.1},
};

static const descent_array array_defaults = {
    .size = sizeof array_defaults,
};

/* A new member must enlarge the struct, since an older header leaves padding unset. A new member of a group uses its
 * reserved space, so that the size of the group and the offsets of later members do not change. */
#define SIZE_OF(type, member) sizeof(((type *)NULL)->member)
#define ENDS_WITH(type, member) \
  _Static_assert(offsetof(type, member) + SIZE_OF(type, member) == sizeof(type), #type " ends with padding")
ENDS_WITH(descent_dataset_options, unused);
ENDS_WITH(descent_network_options, activations);
ENDS_WITH(descent_train_options, callbacks);
ENDS_WITH(descent_array, column_stride);
#define GROUP_SIZE(group, bytes) \
  _Static_assert(sizeof(void *) != 8 || SIZE_OF(descent_train_options, group) == (bytes), #group " changed its size")
GROUP_SIZE(optimizer, 128);
GROUP_SIZE(schedule, 64);
GROUP_SIZE(early_stopping, 64);
GROUP_SIZE(checkpoint, 128);
GROUP_SIZE(callbacks, 64);

static void fill(const void *defaults, size_t known, void *options, size_t size) {
  if (!options) return;
  memcpy(options, defaults, size < known ? size : known);
  if (size > known) memset((char *)options + known, 0, size - known);
  if (size >= sizeof size) memcpy(options, &size, sizeof size);
}

static bool is_zero(const void *bytes, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (((const unsigned char *)bytes)[i]) return false;
  return true;
}

/* `what`: dataset, network or train. Every option struct starts with its size. */
static descent_status complete(const char *what, const void *given, const void *defaults, size_t known, void *out) {
  const size_t largest = 4 * known; /* a larger size is not initialised, so the struct's end must not be read */
  size_t size = 0;
  if (given) memcpy(&size, given, sizeof size);
  if (size <= sizeof size || size % sizeof size || size > largest)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s options must start from descent_%s_options_default()", what, what);
  if (size > known && !is_zero((const char *)given + known, size - known))
    return status_set(DESCENT_ERROR_ARGUMENT, "%s options: a member is set that library version %s does not know", what,
                      DESCENT_VERSION);
  memcpy(out, defaults, known);
  memcpy(out, given, size < known ? size : known);
  memcpy(out, &known, sizeof known);
  return DESCENT_OK;
}

void descent_dataset_options_init(descent_dataset_options *options, size_t size) {
  fill(&dataset_defaults, sizeof dataset_defaults, options, size);
}

void descent_network_options_init(descent_network_options *options, size_t size) {
  fill(&network_defaults, sizeof network_defaults, options, size);
}

void descent_train_options_init(descent_train_options *options, size_t size) {
  fill(&train_defaults, sizeof train_defaults, options, size);
}

void descent_array_init(descent_array *array, size_t size) {
  fill(&array_defaults, sizeof array_defaults, array, size);
}

descent_status complete_dataset_options(const descent_dataset_options *given, descent_dataset_options *out) {
  const descent_status status = complete("dataset", given, &dataset_defaults, sizeof dataset_defaults, out);
  if (status != DESCENT_OK || is_zero(out->unused, sizeof out->unused)) return status;
  return status_set(DESCENT_ERROR_ARGUMENT, "dataset options: a member is set that library version %s does not know",
                    DESCENT_VERSION);
}

descent_status complete_network_options(const descent_network_options *given, descent_network_options *out) {
  return complete("network", given, &network_defaults, sizeof network_defaults, out);
}

descent_status complete_train_options(const descent_train_options *given, descent_train_options *out) {
  const descent_status status = complete("train", given, &train_defaults, sizeof train_defaults, out);
  if (status != DESCENT_OK) return status;
#define UNSET(group) is_zero(out->group.reserved, sizeof out->group.reserved)
  if (UNSET(optimizer) && UNSET(schedule) && UNSET(early_stopping) && UNSET(checkpoint) && UNSET(callbacks))
    return DESCENT_OK;
#undef UNSET
  return status_set(DESCENT_ERROR_ARGUMENT, "train options: a member is set that library version %s does not know",
                    DESCENT_VERSION);
}
