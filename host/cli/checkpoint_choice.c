/* --checkpoint and what goes with it: texts into the training's options. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/place.h"
#include "cli/train.h"
#include "core/replace.h"

struct interval {
  int64_t steps, epochs;
  double seconds; /* one of them is set */
};

/* "100 steps", "2 epochs", "30s": a number, blanks, a unit. False for anything else. */
static bool read_interval(const char *text, struct interval *interval) {
  static const struct {
    const char *unit;
    enum { STEPS, EPOCHS, SECONDS } kind;
    double factor;
  } units[] = {{"step", STEPS, 1}, {"steps", STEPS, 1}, {"epoch", EPOCHS, 1}, {"epochs", EPOCHS, 1},
               {"s", SECONDS, 1},  {"m", SECONDS, 60},  {"h", SECONDS, 3600}};
  char number[32];
  double value;
  const size_t digits = strspn(text, "0123456789.");
  if (digits == 0 || digits >= sizeof number) return false;
  memcpy(number, text, digits);
  number[digits] = '\0';
  const char *unit = text + digits + strspn(text + digits, " ");
  if (!option_real(number, &value) || !(value > 0) || value > 1e15) return false;
  for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
    if (strcmp(unit, units[i].unit) != 0) continue;
    if (units[i].kind != SECONDS && value != floor(value)) return false;
    *interval = (struct interval){.steps = units[i].kind == STEPS ? (int64_t)value : 0,
                                  .epochs = units[i].kind == EPOCHS ? (int64_t)value : 0,
                                  .seconds = units[i].kind == SECONDS ? value * units[i].factor : 0};
    return true;
  }
  return false;
}

/* "stop" or "rollback[:TIMES[:DIVISOR]]" */
static bool read_divergence(const char *text, descent_train_options *train) {
  static const char rollback[] = "rollback";
  const size_t length = sizeof rollback - 1;
  char times[32];
  double divisor = 10;
  train->checkpoint.rollbacks = 0;
  if (strcmp(text, "stop") == 0) return true;
  if (strncmp(text, rollback, length) != 0) return false;
  train->checkpoint.rollbacks = 3;
  const char *at = text + length;
  if (*at == ':') {
    const size_t n = strcspn(++at, ":");
    if (n == 0 || n >= sizeof times) return false;
    memcpy(times, at, n);
    times[n] = '\0';
    if (!option_integer(times, &train->checkpoint.rollbacks) || train->checkpoint.rollbacks < 1) return false;
    at += n;
    if (*at == ':' && !(option_real(++at, &divisor) && divisor > 1)) return false;
    at += strlen(at);
  }
  train->checkpoint.rollback_factor = 1 / divisor;
  return *at == '\0';
}

/* The names of the library's members. */
static bool read_names(const char *text, char *out, size_t size) {
  size_t used = 0;
  *out = '\0';
  for (const char *c = text; c && *c;) {
    const size_t length = strcspn(c, ",");
    char word[OPTION_NAME_SIZE];
    if (length == 0 || length >= sizeof word) return false;
    option_member(c, length, word);
    const int n = snprintf(out + used, size - used, "%s%s", used ? "," : "", word);
    if ((size_t)n >= size - used) return false;
    used += (size_t)n;
    c += length + (c[length] == ',');
  }
  return true;
}

int checkpoint_choice_resolve(const char *command, struct train_values *v) {
  descent_train_options *train = &v->training.train;
  struct interval every, kept = {0};
  if (!v->checkpoint) v->checkpoint = v->resume;
  if (!read_interval(v->checkpoint_every, &every))
    return fail(command, EXIT_USAGE,
                "--checkpoint-every '%s': must be a whole number of steps or epochs or any of s, m or h, above 0, "
                "like '100 steps' or 10m",
                v->checkpoint_every);
  if (v->keep_every && (!read_interval(v->keep_every, &kept) || kept.seconds > 0))
    return fail(
        command, EXIT_USAGE,
        "--keep-every '%s': must be a whole number of steps or epochs above 0, like '1000 steps' or '10 epochs'",
        v->keep_every);
  if (!read_divergence(v->on_divergence, train))
    return fail(
        command, EXIT_USAGE,
        "--on-divergence '%s': must be stop or rollback[:TIMES[:DIVISOR]], with TIMES of at least 1 and DIVISOR "
        "above 1",
        v->on_divergence);
  if (!v->checkpoint && (strcmp(v->checkpoint_every, CHECKPOINT_EVERY) != 0 || v->keep != CHECKPOINTS_KEPT ||
                         v->keep_best || v->keep_every))
    return fail(command, EXIT_USAGE,
                "--checkpoint-every, --keep, --keep-best and --keep-every: need --checkpoint or --resume");
  if (train->checkpoint.rollbacks && !v->checkpoint)
    return fail(command, EXIT_USAGE, "--on-divergence '%s': needs --resume DIR or --checkpoint DIR", v->on_divergence);
  if (v->resume_with && !v->resume)
    return fail(command, EXIT_USAGE, "--resume-with '%s': needs --resume", v->resume_with);
  if ((v->resume_with && !*v->resume_with) || !read_names(v->resume_with, v->may_change, sizeof v->may_change))
    return fail(command, EXIT_USAGE, "--resume-with '%s': must be option names separated by commas", v->resume_with);
  train->checkpoint.folder = v->checkpoint;
  train->checkpoint.resume = v->resume;
  train->checkpoint.resume_with = v->may_change;
  train->checkpoint.steps = every.steps;
  train->checkpoint.epochs = every.epochs;
  train->checkpoint.seconds = every.seconds;
  train->checkpoint.keep = v->keep;
  train->checkpoint.keep_best = v->keep_best;
  train->checkpoint.keep_every_steps = kept.steps;
  train->checkpoint.keep_every_epochs = kept.epochs;
  return EXIT_DONE;
}

const char *checkpoint_choice_keeps(const struct train_values *v, const char *path, char name[NAME_MAX + 1]) {
  const char *const folders[] = {v->checkpoint, v->resume};
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    if (folders[i] && place_within(path, folders[i], name) &&
        (!*name || place_is_of_checkpoints(name) || strcmp(name, MEMBERS_NOTE) == 0))
      return folders[i];
  return NULL;
}
