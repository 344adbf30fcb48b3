/* The options of `descent sweep`: its own, and those of train as texts, so that each can hold several values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/sweep_run.h"

const char sweep_command[] = "descent sweep";
static const char *const command = sweep_command;

const char *const sweep_search_names[3] = {"grid", "random", "halving"};

#define AT(member) offsetof(struct sweep_options, member)
static const struct setting search_rows[] = {
    ROW_HEADING("Search:"),
    ROW_TEXT("search", "grid|random|halving", AT(search_text),
             "grid: all combinations; random: --trials of them; halving: as random, and the worst stop early", 0),
    ROW_INTEGER("trials", "N", AT(trials), "Trials of random and halving (0: at most 32)", 0, 0, SWEEP_TRIALS_MOST),
    ROW_TEXT("measure", "loss|accuracy|auc|rmse", AT(measure_text),
             "What the best trial is best in, on the validation rows, at its best epoch", 0),
    ROW_INTEGER("min-epochs", "N", AT(min_epochs),
                "halving: epochs before the first comparison (0: so that one trial remains for the last epochs)", 0, 0,
                1e12),
    ROW_INTEGER("eta", "N", AT(eta), "halving: 1/N of the trials continue after each comparison, to N times the epochs",
                0, 2, 1e6),
    ROW_INTEGER("together", "N", AT(together),
                "Most trials that train at the same time (0: by the device); the results do not depend on it", 0, 0,
                SWEEP_TRIALS_MOST),
    ROW_END,
};
static const struct setting output_rows[] = {
    ROW_HEADING("Output:"),
    ROW_TEXT("out", "FILE", AT(out), "Model file of the best trial; an existing file is replaced", 0),
    ROW_TEXT("log", "FILE", AT(log), "Write one JSON object per finished trial to this new file", 0),
    ROW_TEXT("resume", "FILE", AT(resume),
             "Continue the sweep recorded in this --log file, or start it if there is none", 0),
    ROW_TEXT("report", "FILE", AT(report), "Write an HTML report of all trials", 0),
    ROW_TEXT("config", "FILE", AT(config), "JSON object of option names and values; the command line takes precedence",
             0),
    ROW_FLAG("quiet", AT(quiet), "Print only results and errors", 0),
    ROW_END,
};
#undef AT

/* Options of train that a sweep has its own of, or cannot have. */
static bool left_out(const struct setting *o) {
  static const char *const names[] = {"checkpoint",
                                      "checkpoint-every",
                                      "keep",
                                      "keep-best",
                                      "keep-every",
                                      "resume",
                                      "resume-with",
                                      "on-divergence",
                                      "out",
                                      "log",
                                      "tensorboard",
                                      "report",
                                      "config",
                                      "quiet",
                                      "micro-batches",
                                      "ranks",
                                      "comm-timeout",
                                      "ensemble",
                                      "ensemble-shuffle",
                                      "folds",
                                      "out-of-fold"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i], o->name) == 0) return true;
  return false;
}

static const struct setting *find(const struct setting *table, const char *name) {
  for (; table->kind != OPTION_END; table++)
    if (table->kind != OPTION_HEADING && strcmp(table->name, name) == 0) return table;
  return NULL;
}

/* Options of the network and its training may vary. What the trials share may not: the data, the seed that splits them,
 * and the epochs. */
static bool can_vary(const struct setting *o) {
  static const char *const others[] = {"normalize", "impute", "min-delta", "class-weights", "label-smoothing"};
  if (strcmp(o->name, "seed") == 0 || strcmp(o->name, "shuffle-seed") == 0 || o->kind == OPTION_FLAG) return false;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (strcmp(others[i], o->name) == 0) return true;
  return find(network_options, o->name) || find(optimizer_options, o->name);
}

/* What a range of the option consists of: a batch size is a text in train's table, for "all". */
static const struct setting *ranged(const struct setting *o, const char *text) {
  static const struct setting batch_size = ROW_INTEGER("batch-size", "N", 0, "", 0, 1, 1e12);
  return strcmp(o->name, batch_size.name) == 0 && !strchr(text, ';') ? &batch_size : o;
}

/* ---- train's options as texts ------------------------------------------------------------------------------------ */

/* A table like train's in which every value is a text; flags stay flags. */
struct twins {
  struct train_values values;       /* the defaults */
  const struct setting **originals; /* (n); headings too */
  struct setting *rows;             /* (n + 1) */
  struct twin {
    const char *text, *initial; /* unused by a flag */
    bool flag;
    char fallback[64]; /* the default */
  } * slots;           /* (n) */
  int n;
};

static void twins_clear(struct twins *twins) {
  free(twins->originals);
  free(twins->rows);
  free(twins->slots);
}

/* The default as a text, or NULL. */
static const char *default_text(const struct setting *o, const void *value, char *text, size_t size) {
  switch (o->kind) {
    case OPTION_INTEGER: snprintf(text, size, "%lld", (long long)*(const int64_t *)value); return text;
    case OPTION_REAL: snprintf(text, size, "%.15g", *(const double *)value); return text;
    case OPTION_TERM: return o->term->name(value);
    case OPTION_TEXT: return *(const char *const *)value;
    case OPTION_FLAG:
    case OPTION_HEADING:
    case OPTION_END: break;
  }
  return NULL;
}

static void add_twin(struct twins *twins, const struct setting *o, const void *values) {
  struct twin *slot = &twins->slots[twins->n];
  struct setting *row = &twins->rows[twins->n];
  *row = *o;
  row->offset = (size_t)((char *)slot - (char *)twins->slots);
  twins->originals[twins->n++] = o;
  if (o->kind == OPTION_HEADING) return;
  row->offset += o->kind == OPTION_FLAG ? offsetof(struct twin, flag) : offsetof(struct twin, text);
  slot->text = slot->initial = default_text(o, (const char *)values + o->offset, slot->fallback, sizeof slot->fallback);
  if (o->kind != OPTION_FLAG) row->kind = OPTION_TEXT;
}

static bool twins_create(struct twins *twins) {
  struct setting_set sets[TRAIN_SETS];
  size_t n = 0;
  train_options_sets(&twins->values, sets);
  for (int s = 0; s < TRAIN_SETS; s++)
    for (const struct setting *o = sets[s].options; o->kind != OPTION_END; o++) n++;
  twins->originals = calloc(n, sizeof *twins->originals);
  twins->rows = calloc(n + 1, sizeof *twins->rows);
  twins->slots = calloc(n, sizeof *twins->slots);
  if (!twins->originals || !twins->rows || !twins->slots) return false;
  for (int s = 0; s < TRAIN_SETS; s++) {
    const struct setting *heading = NULL; /* written before the first option that stays */
    for (const struct setting *o = sets[s].options; o->kind != OPTION_END; o++) {
      if (o->kind == OPTION_HEADING) heading = o;
      if (o->kind == OPTION_HEADING || left_out(o)) continue;
      if (heading) add_twin(twins, heading, NULL);
      heading = NULL;
      add_twin(twins, o, sets[s].values);
    }
  }
  return true;
}

/* ---- what was given ---------------------------------------------------------------------------------------------- */

static int add_axis(struct sweep_options *options, struct sweep_given *given) {
  given->axis = options->n_axes;
  struct sweep_axis *axis = &options->axes[options->n_axes++];
  return sweep_axis_read(command, ranged(given->option, given->text), given->text, axis);
}

static bool is_one_value(const struct setting *o) {
  return o->kind == OPTION_INTEGER || o->kind == OPTION_REAL || o->kind == OPTION_TERM;
}

static int add_given(struct sweep_options *options, const struct setting *o, const struct twin *slot) {
  const bool flag = o->kind == OPTION_FLAG;
  struct sweep_given *given = &options->given[options->n_given++];
  *given = (struct sweep_given){o, flag ? NULL : slot->text, -1};
  if (flag || !sweep_axis_is(given->text)) return EXIT_DONE;
  if (can_vary(o)) return add_axis(options, given);
  if (is_one_value(o))
    return fail(command, EXIT_USAGE, "--%s '%s': must be one value: it is the same for all trials of a sweep", o->name,
                given->text);
  return EXIT_DONE;
}

static bool add_fixed(struct sweep_options *options, const struct setting *o, const struct twin *slot) {
  if (o->marks & OPTION_UNRECORDED) return true;
  if (o->kind == OPTION_FLAG)
    return cJSON_AddStringToObject(options->fixed, o->name, slot->flag ? "yes" : "no") != NULL;
  return !slot->text || cJSON_AddStringToObject(options->fixed, o->name, slot->text) != NULL;
}

static int read_given(struct sweep_options *options, const struct twins *twins) {
  options->given = calloc((size_t)twins->n, sizeof *options->given);
  options->axes = calloc((size_t)twins->n, sizeof *options->axes);
  options->fixed = cJSON_CreateObject();
  if (!options->given || !options->axes || !options->fixed) return fail(command, EXIT_RUN, "out of memory");
  for (int i = 0; i < twins->n; i++) {
    const struct setting *o = twins->originals[i];
    const struct twin *slot = &twins->slots[i];
    if (o->kind == OPTION_HEADING) continue;
    const int axes = options->n_axes;
    if (o->kind == OPTION_FLAG ? slot->flag : slot->text != slot->initial) {
      const int code = add_given(options, o, slot);
      if (code != EXIT_DONE) return code;
    }
    if (options->n_axes == axes && !add_fixed(options, o, slot)) return fail(command, EXIT_RUN, "out of memory");
  }
  return EXIT_DONE;
}

/* ---- the command line -------------------------------------------------------------------------------------------- */

static int parse(const struct command_syntax *syntax, int argc, char **argv, struct sweep_options *options) {
  struct arguments arguments;
  int code = options_parse(syntax, argc, argv, NULL, 0, &arguments);
  if (code == OPTIONS_CONTINUE && options->config) {
    code = options_config_read(syntax, options->config, argc, argv, &options->file);
    if (code == EXIT_DONE)
      code = options_parse(syntax, options->file.argc, options->file.argv, options->config, options->file.n_config,
                           &arguments);
  }
  options->data_path = arguments.values[0];
  return code;
}

/* The place of `text` among the names, or -1. */
static int place_of(const char *text, const char *const *names, int n) {
  for (int i = 0; i < n; i++)
    if (strcmp(names[i], text) == 0) return i;
  return -1;
}

static int resolve(struct sweep_options *o) {
  static const char *const measures[] = {"loss", "accuracy", "auc", "rmse"};
  const int search = place_of(o->search_text, sweep_search_names, 3), measure = place_of(o->measure_text, measures, 4);
  if (search < 0) return fail(command, EXIT_USAGE, "--search '%s': must be grid, random or halving", o->search_text);
  if (measure < 0)
    return fail(command, EXIT_USAGE, "--measure '%s': must be loss, accuracy, auc or rmse", o->measure_text);
  o->search = (enum sweep_search)search;
  o->measure = (enum sweep_measure)measure;
  if (o->search == SWEEP_GRID && o->trials)
    return fail(command, EXIT_USAGE, "--trials is for random and halving: a grid has a trial for each combination");
  if (o->search != SWEEP_HALVING && (o->min_epochs || o->eta != SWEEP_ETA))
    return fail(command, EXIT_USAGE, "--%s is for --search halving", o->min_epochs ? "min-epochs" : "eta");
  if (o->search == SWEEP_HALVING && o->together)
    return fail(command, EXIT_USAGE, "--together is for grid and random: halving trains all trials together");
  if (o->log && o->resume)
    return fail(command, EXIT_USAGE, "--log and --resume: give one; a resumed sweep is recorded in the same file");
  if (o->n_axes == 0)
    return fail(command, EXIT_USAGE,
                "nothing differs between trials: give an option a range like --learning-rate 1e-4..1e-2:log, or "
                "alternatives like --hidden '64,32;128'");
  return EXIT_DONE;
}

struct output {
  const char *option, *path;
};
enum { OUTPUTS = 4 };

static void list_outputs(const struct sweep_options *o, struct output files[static OUTPUTS]) {
  const struct output all[OUTPUTS] = {{"out", o->out}, {"log", o->log}, {"resume", o->resume}, {"report", o->report}};
  memcpy(files, all, sizeof all);
}

/* No two outputs in the same place. */
static int check_different(const struct sweep_options *o) {
  struct output files[OUTPUTS];
  list_outputs(o, files);
  for (size_t i = 0; i < OUTPUTS; i++)
    for (size_t k = 0; k < i; k++)
      if (files[i].path && files[k].path && output_same_place(files[i].path, files[k].path))
        return fail(command, EXIT_USAGE, "--%s '%s': is also the file of --%s", files[i].option, files[i].path,
                    files[k].option);
  return EXIT_DONE;
}

int sweep_options_check_outputs(const struct sweep_options *o, const struct train_values *values) {
  struct train_values inputs = *values;
  struct output files[OUTPUTS];
  int code = EXIT_DONE;
  inputs.config = o->config;
  list_outputs(o, files);
  sweep_keep_messages();
  for (size_t i = 0; i < OUTPUTS && code == EXIT_DONE; i++)
    code = train_output_check(&inputs, files[i].option, files[i].path);
  return sweep_print_message(command, code);
}

static int complete(struct sweep_options *options, const struct twins *twins) {
  int code = read_given(options, twins);
  if (code == EXIT_DONE) code = resolve(options);
  if (code == EXIT_DONE) code = check_different(options);
  return code == EXIT_DONE ? OPTIONS_CONTINUE : code;
}

static const char about[] =
    "Train many networks with different options on the file DATA, several at a time, and save the best. Every option "
    "of the network and its training that takes a number also takes a range LO..HI, or LO..HI:log for one that is "
    "uniform in the logarithm, and every one takes alternatives a;b;c, in quotes. A grid needs the number of points of "
    "a range: 1e-4..1e-2:log:5. All other options are as for train."
    "\vThe model of the best trial is the same file, to the byte, as that of the command line that is printed with it. "
    "A trial that diverges is recorded and is never the best. SIGINT, SIGTERM and SIGHUP end the sweep; the same "
    "command with --resume FILE starts a sweep and continues it after every interruption, without training finished "
    "trials again. See docs/sweep.md.";

int sweep_options_read(int argc, char **argv, struct sweep_options *options) {
  *options = (struct sweep_options){
      .search_text = "random", .measure_text = "loss", .eta = SWEEP_ETA, .out = "model.safetensors"};
  struct twins twins = {0};
  if (!twins_create(&twins)) {
    twins_clear(&twins);
    return fail(command, EXIT_RUN, "out of memory");
  }
  const struct setting_set sets[] = {{search_rows, options}, {twins.rows, twins.slots}, {output_rows, options}};
  const struct command_syntax syntax = {.name = command,
                                        .arguments = "DATA",
                                        .about = about,
                                        .fewest = 1,
                                        .most = 1,
                                        .sets = sets,
                                        .n_sets = sizeof sets / sizeof *sets};
  int code = parse(&syntax, argc, argv, options);
  if (code == OPTIONS_CONTINUE) code = complete(options, &twins);
  twins_clear(&twins);
  return code;
}

void sweep_options_clear(struct sweep_options *options) {
  for (int i = 0; i < options->n_axes; i++) sweep_axis_clear(&options->axes[i]);
  free(options->axes);
  free(options->given);
  cJSON_Delete(options->fixed);
  options_config_free(&options->file);
}

const char *sweep_measure_title(const struct sweep *sweep) {
  static const char *const titles[] = {"validation loss", "validation accuracy", "validation AUC", "validation RMSE"};
  const enum sweep_measure measure = sweep->options.measure;
  return measure == SWEEP_LOSS && !sweep->shared.rows.validation ? "training loss" : titles[measure];
}
