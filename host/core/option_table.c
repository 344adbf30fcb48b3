/* The table of the training options, and setting one by its name. */
#include "core/option_table.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/handle.h"
#include "core/number.h"
#include "core/options.h"
#include "core/status.h"

/* ---- ranges ----------------------------------------------------------------------------------------------------- */

/* Finite in float32, in which the backends compute. */
static bool is_float(double value) { return isfinite((float)value); }
static bool is_positive(double value) { return value > 0 && is_float(value); }
static bool is_normal(double value) { return value >= (double)FLT_MIN && is_float(value); }
static bool is_from_0(double value) { return value >= 0 && is_float(value); }
static bool is_loss_difference(double value) { return value >= 0 && isfinite(value); }
static bool is_time(double value) { return value >= 0; }
static bool is_share(double value) { return value >= 0 && value < 1; }
static bool is_factor(double value) { return value > 0 && value <= 1; }
static bool is_reduction(double value) { return value > 0 && value < 1; }
static bool is_count(double value) { return value >= 0; }
static bool is_positive_count(double value) { return value >= 1; }

static const char share[] = "in [0, 1)", from_0[] = "a number of at least 0", count[] = "at least 0",
                  positive_count[] = "at least 1", some_or_none[] = "at least 1, or 0 for none";

/* ---- terms ------------------------------------------------------------------------------------------------------ */

#define TERM_COUNTED(NAME, text) +1
#define TERM(type, MAP)                                                                     \
  static bool is_##type(double value) { return value >= 0 && value < 0 MAP(TERM_COUNTED); } \
  static descent_status parse_##type(const char *text, void *term) { return descent_##type##_parse(text, term); }
TERM(optimizer, DESCENT_OPTIMIZER_MAP)
TERM(schedule, DESCENT_SCHEDULE_MAP)
TERM(precision, DESCENT_PRECISION_MAP)
TERM(fusion, DESCENT_FUSION_MAP)

/* ---- the table -------------------------------------------------------------------------------------------------- */

#define MEMBER(kind, member) \
#member, kind, offsetof(descent_train_options, member), sizeof(((descent_train_options *)NULL)->member)
#define REAL(name, member, recorded, holds, range) \
  { name, MEMBER(VALUE_REAL, member), recorded, holds, range, NULL }
#define INTEGER(name, member, recorded, holds, range) \
  { name, MEMBER(VALUE_INTEGER, member), recorded, holds, range, NULL }
#define FLAG(name, member, recorded) \
  { name, MEMBER(VALUE_FLAG, member), recorded, NULL, NULL, NULL }
#define NAMED(type, member) \
  { #type, MEMBER(VALUE_TERM, member), false, is_##type, "a descent_" #type, parse_##type }
#define TEXT(name, member) \
  { name, MEMBER(VALUE_TEXT, member), false, NULL, NULL, NULL }

const struct train_option train_options[] = {
    REAL("learning_rate", optimizer.learning_rate, true, is_positive, "a number above 0"),
    REAL("momentum", optimizer.momentum, true, is_share, share),
    REAL("beta1", optimizer.beta1, true, is_share, share),
    REAL("beta2", optimizer.beta2, true, is_share, share),
    REAL("rho", optimizer.rho, true, is_share, share),
    REAL("epsilon", optimizer.epsilon, true, is_normal, "at least 1.2e-38, the smallest normal float32"),
    REAL("weight_decay", optimizer.weight_decay, true, is_from_0, from_0),
    REAL("l2", optimizer.l2, true, is_from_0, from_0),
    REAL("clip_norm", optimizer.clip_norm, true, is_from_0, "a number of at least 0 (0: off)"),
    REAL("dropout", dropout, true, is_share, share),
    REAL("label_smoothing", label_smoothing, true, is_share, share),
    REAL("min_delta", early_stopping.min_delta, true, is_loss_difference, from_0),
    REAL("trust_coefficient", optimizer.trust_coefficient, true, is_positive, "a number above 0"),
    INTEGER("warmup_steps", schedule.warmup_steps, true, is_count, count),
    REAL("warmup_epochs", schedule.warmup_epochs, true, is_from_0, from_0),
    INTEGER("epochs", epochs, true, is_count, count),
    INTEGER("patience", early_stopping.patience, true, is_count, "at least 1, or 0 to never stop early"),
    FLAG("nesterov", optimizer.nesterov, true),
    FLAG("restore_best", early_stopping.restore_best, true),
    FLAG("autotune", autotune, true),
    INTEGER("batch_size", batch_size, false, is_count, "at least 1, or 0 for all rows"),
    {"seed", MEMBER(VALUE_SEED, seed), false, NULL, NULL, NULL},
    {"shuffle_seed", MEMBER(VALUE_SEED, shuffle_seed), false, NULL, NULL, NULL},
    NAMED(precision, precision),
    FLAG("balance_classes", balance_classes, false),
    NAMED(optimizer, optimizer.kind),
    NAMED(schedule, schedule.kind),
    INTEGER("schedule every", schedule.every, false, is_positive_count, positive_count),
    REAL("schedule gamma", schedule.gamma, false, is_factor, "in (0, 1]"),
    REAL("schedule power", schedule.power, false, is_positive, "a number above 0"),
    REAL("schedule minimum", schedule.minimum, false, is_from_0, "between 0 and the learning rate"),
    TEXT("checkpoint folder", checkpoint.folder),
    TEXT("resume", checkpoint.resume),
    TEXT("resume_with", checkpoint.resume_with),
    INTEGER("checkpoint steps", checkpoint.steps, false, is_count, some_or_none),
    INTEGER("checkpoint epochs", checkpoint.epochs, false, is_count, some_or_none),
    REAL("checkpoint seconds", checkpoint.seconds, false, is_time, from_0),
    INTEGER("checkpoint keep", checkpoint.keep, false, is_positive_count, positive_count),
    INTEGER("rollbacks", checkpoint.rollbacks, false, is_count, count),
    REAL("rollback_factor", checkpoint.rollback_factor, false, is_reduction, "in (0, 1)"),
    INTEGER("keep_every_steps", checkpoint.keep_every_steps, false, is_count, some_or_none),
    INTEGER("keep_every_epochs", checkpoint.keep_every_epochs, false, is_count, some_or_none),
    FLAG("keep_best", checkpoint.keep_best, false),
    NAMED(fusion, gpu.fusion),
    INTEGER("micro_batches", ranks.micro_batches, false, is_count, "at least 1, or 0 for one of each rank"),
};
const int n_train_options = sizeof train_options / sizeof *train_options;

/* ---- values ----------------------------------------------------------------------------------------------------- */

static const void *place(const struct train_option *option, const descent_train_options *options) {
  return (const char *)options + option->offset;
}

double train_option_real(const struct train_option *option, const descent_train_options *options) {
  return *(const double *)place(option, options);
}

int64_t train_option_integer(const struct train_option *option, const descent_train_options *options) {
  return *(const int64_t *)place(option, options);
}

bool train_option_flag(const struct train_option *option, const descent_train_options *options) {
  return *(const bool *)place(option, options);
}

static double as_number(const struct train_option *option, const descent_train_options *options) {
  switch (option->kind) {
    case VALUE_REAL: return train_option_real(option, options);
    case VALUE_INTEGER: return (double)train_option_integer(option, options);
    case VALUE_TERM: return *(const int *)place(option, options);
    case VALUE_SEED:
    case VALUE_FLAG:
    case VALUE_TEXT: break; /* without a range */
  }
  return 0;
}

descent_status train_option_check(const struct train_option *option, const descent_train_options *options) {
  const double value = as_number(option, options);
  if (!option->holds || option->holds(value)) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s %.10g: must be %s", option->name, value, option->range);
}

/* ---- setting by name -------------------------------------------------------------------------------------------- */

/* Equal but for - and _. */
static bool same_name(const char *given, const char *known) {
  while (*given && (*given == '-' ? '_' : *given) == *known) given++, known++;
  return !*given && !*known;
}

static const struct train_option *find(const char *name) {
  for (int i = 0; i < n_train_options; i++)
    if (same_name(name, train_options[i].name) || same_name(name, train_options[i].path)) return &train_options[i];
  return NULL;
}

static descent_status unknown_option(const char *name) {
  char known[800] = "";
  for (int i = 0; i < n_train_options; i++) strcat(strcat(known, i ? ", " : ""), train_options[i].name);
  return status_set(DESCENT_ERROR_ARGUMENT, "unknown option '%.60s' (known: %s)", name, known);
}

static bool parse_seed(const char *text, uint64_t *seed) {
  char *end = NULL;
  errno = 0;
  if (!isdigit((unsigned char)*text)) return false;
  *seed = strtoull(text, &end, 10);
  return !*end && !errno;
}

static bool parse_flag(const char *text, bool *flag) {
  static const char *const words[2][3] = {{"no", "false", "0"}, {"yes", "true", "1"}};
  for (int value = 0; value < 2; value++)
    for (int i = 0; i < 3; i++)
      if (strcmp(text, words[value][i]) == 0) {
        *flag = value;
        return true;
      }
  return false;
}

/* Writes the value to `to`; ERROR_ARGUMENT if the text is not of the option's kind. */
static descent_status parse_value(const struct train_option *option, const char *text, void *to) {
  const char *expected = NULL;
  switch (option->kind) {
    case VALUE_REAL: expected = number_parse(text, strlen(text), to) ? NULL : "a number"; break;
    case VALUE_INTEGER: expected = number_parse_integer(text, to) ? NULL : "a whole number"; break;
    case VALUE_SEED: expected = parse_seed(text, to) ? NULL : "a whole number from 0 to 2^64 - 1"; break;
    case VALUE_FLAG: expected = parse_flag(text, to) ? NULL : "yes or no"; break;
    case VALUE_TERM: return option->parse(text, to);
    case VALUE_TEXT: memcpy(to, &text, sizeof text); break;
  }
  if (!expected) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s '%.60s': must be %s", option->name, text, expected);
}

descent_status descent_train_options_set(descent_train_options *options, const char *name, const char *value) {
  descent_train_options changed;
  descent_status status;
  TRY(argument_check(options, "options"));
  TRY(argument_check(name, "name"));
  TRY(argument_check(value, "value"));
  TRY(complete_train_options(options, &changed));
  const struct train_option *option = find(name);
  if (!option) TRY(unknown_option(name));
  if (option->offset + option->size > options->size)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "%s: is not part of these options, whose size is %zu", option->name,
                   options->size));
  TRY(parse_value(option, value, (char *)&changed + option->offset));
  TRY(train_option_check(option, &changed));
  memcpy((char *)options + option->offset, place(option, &changed), option->size);
done:
  return status;
}
