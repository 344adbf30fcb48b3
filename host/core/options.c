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

static const descent_source source_defaults = {
    .size = sizeof source_defaults,
};

static const descent_preprocessing preprocessing_defaults = {
    .size = sizeof preprocessing_defaults,
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
                  .epsilon = 1e-8,
                  .trust_coefficient = 1e-3},
    .schedule = {.kind = DESCENT_SCHEDULE_CONSTANT, .every = 10, .gamma = 0.1, .power = 1},
    .early_stopping = {.restore_best = true},
    .checkpoint = {.seconds = 60, .keep = 2, .rollback_factor = 0.1},
    .gpu = {.fusion = DESCENT_FUSION_AUTO},
};

static const descent_predict_options predict_defaults = {
    .size = sizeof predict_defaults,
    .precision = DESCENT_PRECISION_FP32,
    .fusion = DESCENT_FUSION_AUTO,
};

static const descent_member member_defaults = {
    .size = sizeof member_defaults,
};

static const descent_members_options members_defaults = {
    .size = sizeof members_defaults,
};

static const descent_array array_defaults = {
    .size = sizeof array_defaults,
};

/* A new member must enlarge the struct, since an older header leaves padding unset. A new member of a group uses its
 * reserved space, so that the size of the group and the offsets of later members do not change. */
#define SIZE_OF(type, member) sizeof(((type *)NULL)->member)
#define ENDS_WITH(type, member) \
  _Static_assert(offsetof(type, member) + SIZE_OF(type, member) == sizeof(type), #type " ends with padding")
ENDS_WITH(descent_dataset_options, max_rows);
ENDS_WITH(descent_network_options, activations);
ENDS_WITH(descent_train_options, shuffle_seed);
ENDS_WITH(descent_predict_options, fusion);
ENDS_WITH(descent_preprocessing, y_scale);
ENDS_WITH(descent_source, reserved);
ENDS_WITH(descent_member, result);
ENDS_WITH(descent_members_options, reserved);
ENDS_WITH(descent_array, column_stride);
#define GROUP_SIZE(group, bytes) \
  _Static_assert(sizeof(void *) != 8 || SIZE_OF(descent_train_options, group) == (bytes), #group " changed its size")
GROUP_SIZE(optimizer, 128);
GROUP_SIZE(schedule, 64);
GROUP_SIZE(early_stopping, 64);
GROUP_SIZE(checkpoint, 128);
GROUP_SIZE(gpu, 32);
GROUP_SIZE(ranks, 32);
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

/* A struct that starts with its size, and its text in errors. */
struct kind {
  const char *what, *type;
  const void *defaults;
  size_t known; /* its size in this version */
};
static const struct kind dataset_kind = {"dataset options", "dataset_options", &dataset_defaults,
                                         sizeof dataset_defaults};
static const struct kind network_kind = {"network options", "network_options", &network_defaults,
                                         sizeof network_defaults};
static const struct kind train_kind = {"train options", "train_options", &train_defaults, sizeof train_defaults};
static const struct kind predict_kind = {"predict options", "predict_options", &predict_defaults,
                                         sizeof predict_defaults};
static const struct kind preprocessing_kind = {"preprocessing", "preprocessing", &preprocessing_defaults,
                                               sizeof preprocessing_defaults};
static const struct kind member_kind = {"a member", "member", &member_defaults, sizeof member_defaults};
static const struct kind members_kind = {"members options", "members_options", &members_defaults,
                                         sizeof members_defaults};
static const struct kind array_kind = {"an array", "array", &array_defaults, sizeof array_defaults};
static const struct kind source_kind = {"the source", "source", &source_defaults, sizeof source_defaults};

static descent_status read_size(const struct kind *kind, const void *given, size_t *size) {
  const size_t largest = 4 * kind->known; /* a larger size is not initialised, so the struct's end must not be read */
  *size = 0;
  if (given) memcpy(size, given, sizeof *size);
  if (*size > sizeof *size && *size % sizeof *size == 0 && *size <= largest) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s must start from descent_%s_default()", kind->what, kind->type);
}

static descent_status unknown_member(const struct kind *kind) {
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: a member is set that library version %s does not know", kind->what,
                    DESCENT_VERSION);
}

static descent_status complete(const struct kind *kind, const void *given, void *out) {
  const size_t known = kind->known;
  size_t size;
  descent_status status;
  TRY(read_size(kind, given, &size));
  if (size > known && !is_zero((const char *)given + known, size - known)) TRY(unknown_member(kind));
  memcpy(out, kind->defaults, known);
  memcpy(out, given, size < known ? size : known);
  memcpy(out, &known, sizeof known);
done:
  return status;
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

void descent_predict_options_init(descent_predict_options *options, size_t size) {
  fill(&predict_defaults, sizeof predict_defaults, options, size);
}

void descent_preprocessing_init(descent_preprocessing *preprocessing, size_t size) {
  fill(&preprocessing_defaults, sizeof preprocessing_defaults, preprocessing, size);
}

void descent_source_init(descent_source *source, size_t size) {
  fill(&source_defaults, sizeof source_defaults, source, size);
}

void descent_member_init(descent_member *member, size_t size) {
  fill(&member_defaults, sizeof member_defaults, member, size);
}

void descent_members_options_init(descent_members_options *options, size_t size) {
  fill(&members_defaults, sizeof members_defaults, options, size);
}

void descent_array_init(descent_array *array, size_t size) {
  fill(&array_defaults, sizeof array_defaults, array, size);
}

descent_status complete_dataset_options(const descent_dataset_options *given, descent_dataset_options *out) {
  const descent_status status = complete(&dataset_kind, given, out);
  if (status != DESCENT_OK || is_zero(out->unused, sizeof out->unused)) return status;
  return unknown_member(&dataset_kind);
}

descent_status complete_network_options(const descent_network_options *given, descent_network_options *out) {
  return complete(&network_kind, given, out);
}

descent_status complete_train_options(const descent_train_options *given, descent_train_options *out) {
  const descent_status status = complete(&train_kind, given, out);
  if (status != DESCENT_OK) return status;
#define UNSET(group) is_zero(out->group.reserved, sizeof out->group.reserved)
  if (UNSET(optimizer) && UNSET(schedule) && UNSET(early_stopping) && UNSET(checkpoint) && UNSET(callbacks) &&
      UNSET(gpu) && UNSET(ranks))
    return DESCENT_OK;
#undef UNSET
  return unknown_member(&train_kind);
}

descent_status complete_predict_options(const descent_predict_options *given, descent_predict_options *out) {
  return complete(&predict_kind, given, out);
}

descent_status complete_source(const descent_source *given, descent_source *out) {
  const descent_status status = complete(&source_kind, given, out);
  return status != DESCENT_OK || is_zero(out->reserved, sizeof out->reserved) ? status : unknown_member(&source_kind);
}

descent_status complete_member(const descent_member *given, descent_member *out) {
  const descent_status status = complete(&member_kind, given, out);
  return status != DESCENT_OK || is_zero(out->unused, sizeof out->unused) ? status : unknown_member(&member_kind);
}

descent_status complete_members_options(const descent_members_options *given, descent_members_options *out) {
  const descent_status status = complete(&members_kind, given, out);
  return status != DESCENT_OK || is_zero(out->reserved, sizeof out->reserved) ? status : unknown_member(&members_kind);
}

descent_status complete_array(const descent_array *given, const char *name, descent_array *out) {
  struct kind named = array_kind;
  named.what = name;
  return complete(&named, given, out);
}

descent_status complete_preprocessing(const descent_preprocessing *given, descent_preprocessing *out) {
  return complete(&preprocessing_kind, given, out);
}

descent_status give_preprocessing(const descent_preprocessing *values, descent_preprocessing *out) {
  size_t size;
  const descent_status status = read_size(&preprocessing_kind, out, &size);
  if (status == DESCENT_OK) fill(values, sizeof *values, out, size);
  return status;
}
