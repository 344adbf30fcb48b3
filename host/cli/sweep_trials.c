/* The configurations of a sweep: each becomes an argument list of `descent train` and is parsed by it, so that a trial
 * means what its command line means. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sweep.h"

#define ENTRY(name, text) text,
const char *const sweep_status_names[SWEEP_STATUSES] = {SWEEP_STATUS_MAP(ENTRY)};
#undef ENTRY

static int out_of_memory(const char *command) { return fail(command, EXIT_RUN, "out of memory"); }

/* ---- configurations ---------------------------------------------------------------------------------------------- */

static double combinations(const struct sweep_options *options) {
  double n = 1;
  for (int a = 0; a < options->n_axes; a++) n *= sweep_axis_count(&options->axes[a]);
  return n;
}

static int check_grid(const char *command, const struct sweep_options *options) {
  for (int a = 0; a < options->n_axes; a++)
    if (options->axes[a].n == 0)
      return fail(command, EXIT_USAGE, "--%s '%s': a grid needs the number of points of a range, like %s:5",
                  options->axes[a].option->name, options->axes[a].text, options->axes[a].text);
  if (combinations(options) > SWEEP_TRIALS_MOST)
    return fail(command, EXIT_USAGE,
                "the grid has %.0f combinations, and at most %d are trained: use fewer points or --search random",
                combinations(options), SWEEP_TRIALS_MOST);
  return EXIT_DONE;
}

/* Combination `index`: the last axis changes fastest. */
static bool take_combination(const struct sweep_options *options, int64_t index, char **values) {
  for (int a = options->n_axes - 1; a >= 0; a--) {
    const struct sweep_axis *axis = &options->axes[a];
    values[a] = strdup(axis->values[index % axis->n]);
    if (!values[a]) return false;
    index /= axis->n;
  }
  return true;
}

/* Draw `index`. Number j of the draws, from 1, is that of member j of the seed, a hash below 2^53. */
static bool draw(const struct sweep_options *options, uint64_t seed, int64_t index, char **values) {
  for (int a = 0; a < options->n_axes; a++) {
    const int64_t j = 1 + index * options->n_axes + a;
    values[a] = sweep_axis_draw(&options->axes[a], (double)descent_member_seed(seed, j) * 0x1p-53);
    if (!values[a]) return false;
  }
  return true;
}

static void free_values(const struct sweep_options *options, char **values) {
  for (int a = 0; values && a < options->n_axes; a++) {
    free(values[a]);
    values[a] = NULL;
  }
}

static bool is_new(const struct sweep_options *options, const struct sweep_trials *trials, char *const *values) {
  for (int64_t t = 0; t < trials->n; t++) {
    int a = 0;
    while (a < options->n_axes && strcmp(trials->trials[t].values[a], values[a]) == 0) a++;
    if (a == options->n_axes) return false;
  }
  return true;
}

static bool allocate(struct sweep_trials *trials, int64_t n) {
  trials->trials = calloc((size_t)n, sizeof *trials->trials);
  return trials->trials != NULL;
}

/* The next trial, with room for its values; NULL when memory ran out. */
static struct sweep_trial *next_trial(const struct sweep_options *options, struct sweep_trials *trials) {
  struct sweep_trial *t = &trials->trials[trials->n];
  if (!t->values) t->values = calloc((size_t)options->n_axes, sizeof *t->values);
  t->number = trials->n + 1;
  t->objective = NAN;
  return t->values ? t : NULL;
}

static int make_grid(const char *command, const struct sweep_options *options, struct sweep_trials *trials) {
  const int code = check_grid(command, options);
  if (code != EXIT_DONE) return code;
  const int64_t n = (int64_t)combinations(options);
  if (!allocate(trials, n)) return out_of_memory(command);
  for (; trials->n < n; trials->n++) {
    struct sweep_trial *t = next_trial(options, trials);
    if (!t || !take_combination(options, trials->n, t->values)) return out_of_memory(command);
  }
  return EXIT_DONE;
}

/* A configuration that was drawn before is left out. */
static int make_random(const char *command, const struct sweep_options *options, uint64_t seed,
                       struct sweep_trials *trials) {
  enum { DRAWS = 1000 }; /* per trial, before giving up: only where nearly all configurations are taken */
  const double all = combinations(options);
  const int64_t n = options->trials ? options->trials : (int64_t)fmin(all, SWEEP_TRIALS);
  if ((double)n > all)
    return fail(command, EXIT_USAGE, "--trials %lld: there are only %.0f configurations: use --search grid",
                (long long)n, all);
  if (!allocate(trials, n)) return out_of_memory(command);
  for (int64_t i = 0; trials->n < n && i < DRAWS * n; i++) {
    struct sweep_trial *t = next_trial(options, trials);
    if (!t || !draw(options, seed, i, t->values)) return out_of_memory(command);
    if (is_new(options, trials, t->values))
      trials->n++;
    else
      free_values(options, t->values);
  }
  return trials->n == n ? EXIT_DONE
                        : fail(command, EXIT_USAGE, "--trials %lld: only %lld different configurations were drawn",
                               (long long)n, (long long)trials->n);
}

/* ---- argument lists ---------------------------------------------------------------------------------------------- */

static char *argument(const struct sweep_given *given, const struct sweep_trial *trial) {
  char *text = NULL;
  const char *value = given->axis >= 0 ? trial->values[given->axis] : given->text;
  if (asprintf(&text, value ? "--%s=%s" : "--%s", given->option->name, value) < 0) return NULL;
  return text;
}

/* A file that begins with - would be an option in the command line. The model records its name, so both have the same. */
static const char *path_prefix(const struct sweep_options *options) { return *options->data_path == '-' ? "./" : ""; }

static bool make_arguments(const struct sweep_options *options, struct sweep_trial *t) {
  t->argv = calloc((size_t)options->n_given + 5, sizeof *t->argv);
  if (!t->argv) return false;
  t->argv[t->argc++] = strdup("descent train");
  for (int i = 0; i < options->n_given; i++) t->argv[t->argc++] = argument(&options->given[i], t);
  if (asprintf(&t->argv[t->argc], "--out=%s", options->out) >= 0) t->argc++;
  t->argv[t->argc++] = strdup("--");
  if (asprintf(&t->argv[t->argc], "%s%s", path_prefix(options), options->data_path) >= 0) t->argc++;
  for (int i = 0; i < t->argc; i++)
    if (!t->argv[i]) return false;
  return t->argc == options->n_given + 4;
}

void sweep_keep_messages(void) { messages_keep(false); }

int sweep_print_message(const char *command, int code) {
  char text[MESSAGES_KEPT];
  snprintf(text, sizeof text, "%s", messages_kept());
  messages_print_nothing();
  messages_print(); /* from here on all are */
  return code == EXIT_DONE || !*text ? code : fail(command, code, "%s", text);
}

static int parse(const char *command, struct sweep_trial *t) {
  const struct launcher alone = {"", 0, 1};
  struct option_config none = {0};
  sweep_keep_messages();
  const int code = train_options_read(t->argc, t->argv, &alone, &t->train, &none, &t->record);
  return sweep_print_message(command, code == OPTIONS_CONTINUE ? EXIT_DONE : code);
}

/* Quotes what a shell would not take as it is. */
static void write_quoted(FILE *out, const char *text) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";
  if (*text && !text[strspn(text, plain)]) {
    fputs(text, out);
    return;
  }
  fputc('\'', out);
  for (; *text; text++)
    if (*text == '\'')
      fputs("'\\''", out);
    else
      fputc(*text, out);
  fputc('\'', out);
}

char *sweep_trial_command(const struct sweep_options *options, const struct sweep_trial *trial) {
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (!out) return NULL;
  fputs("descent train ", out);
  fputs(path_prefix(options), out);
  write_quoted(out, options->data_path);
  for (int i = 0; i < options->n_given; i++) {
    const struct sweep_given *given = &options->given[i];
    fprintf(out, " --%s", given->option->name);
    const char *value = given->axis >= 0 ? trial->values[given->axis] : given->text;
    if (!value) continue;
    fputc(*value == '-' ? '=' : ' ', out);
    write_quoted(out, value);
  }
  fputs(" --out ", out);
  write_quoted(out, options->out);
  const bool whole = !ferror(out);
  if (fclose(out) == 0 && whole) return text;
  free(text);
  return NULL;
}

void sweep_trial_describe(const struct sweep_options *options, const struct sweep_trial *trial, char *text,
                          size_t size) {
  size_t used = 0;
  *text = '\0';
  for (int a = 0; a < options->n_axes && used < size; a++)
    used += (size_t)snprintf(text + used, size - used, "%s%s %s", a ? ", " : "", options->axes[a].option->name,
                             trial->values[a]);
}

static uint64_t seed_of(const struct sweep_options *options) {
  int64_t seed = 0;
  const cJSON *text = cJSON_GetObjectItem(options->fixed, "seed");
  return text && option_integer(text->valuestring, &seed) ? (uint64_t)seed : 0;
}

int sweep_trials_create(const char *command, const struct sweep_options *options, struct sweep_trials *trials) {
  *trials = (struct sweep_trials){0};
  int code = options->search == SWEEP_GRID ? make_grid(command, options, trials)
                                           : make_random(command, options, seed_of(options), trials);
  for (int64_t t = 0; t < trials->n && code == EXIT_DONE; t++)
    code = make_arguments(options, &trials->trials[t]) ? parse(command, &trials->trials[t]) : out_of_memory(command);
  return code;
}

void sweep_course_clear(struct sweep_course *course) {
  free(course->train_loss);
  free(course->validation_loss);
  free(course->objective);
  *course = (struct sweep_course){0};
}

static void clear_trial(struct sweep_trial *t, int n_axes) {
  for (int a = 0; t->values && a < n_axes; a++) free(t->values[a]);
  free(t->values);
  for (int i = 0; i < t->argc; i++) free(t->argv[i]);
  free(t->argv);
  cJSON_Delete(t->record);
  free(t->error);
  sweep_course_clear(&t->course);
  descent_network_free(t->network);
  free(t->class_weights);
}

void sweep_trials_clear(struct sweep_trials *trials, int n_axes) {
  for (int64_t t = 0; t < trials->n; t++) clear_trial(&trials->trials[t], n_axes);
  free(trials->trials);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

bool sweep_course_add(struct sweep_course *course, double train_loss, double validation_loss, double objective) {
  if (course->n == course->capacity) {
    const int64_t capacity = course->capacity ? 2 * course->capacity : 16;
    double **const arrays[] = {&course->train_loss, &course->validation_loss, &course->objective};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
      double *larger = realloc(*arrays[i], (size_t)capacity * sizeof *larger);
      if (!larger) return false;
      *arrays[i] = larger;
    }
    course->capacity = capacity;
  }
  course->train_loss[course->n] = train_loss;
  course->validation_loss[course->n] = validation_loss;
  course->objective[course->n++] = objective;
  return true;
}

/* Lower is better: trials that went their whole way, those that were dropped on it, those without a result. */
static int class_of(const struct sweep_trial *t) {
  if (isnan(t->objective)) return 3;
  switch (t->status) {
    case SWEEP_TRIAL_DONE:
    case SWEEP_TRIAL_EARLY: return 0;
    case SWEEP_TRIAL_OPEN:
    case SWEEP_TRIAL_DROPPED: return 1;
    case SWEEP_TRIAL_DIVERGED:
    case SWEEP_STATUSES: break;
  }
  return 2;
}

bool sweep_measure_is_better(enum sweep_measure measure, double a, double b) {
  if (isnan(a) || isnan(b)) return isnan(b) && !isnan(a);
  return measure == SWEEP_ACCURACY || measure == SWEEP_AUC ? a > b : a < b;
}

static int compare(const struct sweep_trial *a, const struct sweep_trial *b, enum sweep_measure measure) {
  if (class_of(a) != class_of(b)) return class_of(a) < class_of(b) ? -1 : 1;
  if (sweep_measure_is_better(measure, a->objective, b->objective)) return -1;
  if (sweep_measure_is_better(measure, b->objective, a->objective)) return 1;
  return a->number < b->number ? -1 : 1;
}

static int compare_entries(const void *a, const void *b, void *measure) {
  return compare(*(struct sweep_trial *const *)a, *(struct sweep_trial *const *)b,
                 *(const enum sweep_measure *)measure);
}

struct sweep_trial **sweep_trials_ranked(const struct sweep_trials *trials, enum sweep_measure measure) {
  struct sweep_trial **ranked = calloc((size_t)trials->n + 1, sizeof *ranked);
  if (!ranked) return NULL;
  for (int64_t t = 0; t < trials->n; t++) ranked[t] = &trials->trials[t];
  qsort_r(ranked, (size_t)trials->n, sizeof *ranked, compare_entries, &measure);
  return ranked;
}

struct sweep_trial *sweep_trials_best(const struct sweep_trials *trials, enum sweep_measure measure) {
  struct sweep_trial *best = NULL;
  for (int64_t t = 0; t < trials->n; t++) {
    struct sweep_trial *trial = &trials->trials[t];
    if (trial->status == SWEEP_TRIAL_OPEN || class_of(trial) > 1) continue;
    if (!best || compare(trial, best, measure) < 0) best = trial;
  }
  return best;
}
