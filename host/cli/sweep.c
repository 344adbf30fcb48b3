/* `descent sweep DATA`: the best of many configurations. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/results.h"
#include "cli/sweep_run.h"
#include "report/terminal.h"
#include "report/text.h"

static const char *const command = sweep_command;

static void sweep_clear(struct sweep *sweep) {
  sweep_record_close(sweep);
  sweep_network_clear(sweep);
  free(sweep->in_race);
  sweep->shared.record = NULL; /* the first trial's */
  training_clear(&sweep->shared);
  sweep_trials_clear(&sweep->trials, sweep->options.n_axes);
  sweep_options_clear(&sweep->options);
}

/* ---- before the training ------------------------------------------------------------------------------------------ */

/* Reads the data by the options of the first trial, which has those of all. */
static int open_data(struct sweep *sweep) {
  sweep->shared.values = sweep->trials.trials[0].train;
  sweep->shared.values.quiet = sweep->options.quiet;
  sweep->shared.record = sweep->trials.trials[0].record;
  sweep->shared.command = command;
  sweep->shared.job = (struct job){NULL, 0, 1, 0, false};
  sweep_keep_messages();
  return sweep_print_message(command, training_open(&sweep->shared));
}

static int check_measure(const struct sweep *sweep) {
  const descent_task task = descent_dataset_task(sweep->shared.data);
  const enum sweep_measure measure = sweep->options.measure;
  const char *const text = sweep->options.measure_text;
  if (measure == SWEEP_RMSE && task != DESCENT_TASK_REGRESSION)
    return fail(command, EXIT_USAGE, "--measure rmse: is for regression; the task here has classes");
  if (measure == SWEEP_ACCURACY && task == DESCENT_TASK_REGRESSION)
    return fail(command, EXIT_USAGE, "--measure accuracy: is for classes; the task here is regression");
  if (measure == SWEEP_AUC && task != DESCENT_TASK_BINARY)
    return fail(command, EXIT_USAGE, "--measure auc: is for two classes");
  if (!sweep->shared.rows.validation && measure != SWEEP_LOSS)
    return fail(command, EXIT_USAGE, "--measure %s: needs validation rows", text);
  return EXIT_DONE;
}

static int plan_halving(struct sweep *sweep) {
  const struct sweep_options *o = &sweep->options;
  const int64_t epochs = sweep->shared.values.training.train.epochs;
  if (!sweep->shared.rows.validation)
    return fail(command, EXIT_USAGE, "--search halving: needs validation rows to compare trials on");
  if (o->min_epochs >= epochs && o->min_epochs > 0)
    return fail(command, EXIT_USAGE, "--min-epochs %" PRId64 ": must be below --epochs, which is %" PRId64,
                o->min_epochs, epochs);
  sweep->rungs = sweep_rungs_plan(sweep->trials.n, epochs, o->eta, o->min_epochs);
  sweep->in_race = calloc((size_t)sweep->trials.n, sizeof *sweep->in_race);
  if (!sweep->in_race) return fail(command, EXIT_RUN, "out of memory");
  for (int64_t t = 0; t < sweep->trials.n; t++) sweep->in_race[t] = true;
  return EXIT_DONE;
}

static int prepare(struct sweep *sweep) {
  int code = sweep_trials_create(command, &sweep->options, &sweep->trials);
  if (code != EXIT_DONE) return code;
  code = sweep_options_check_outputs(&sweep->options, &sweep->trials.trials[0].train);
  if (code != EXIT_DONE) return code;
  if (sweep->trials.trials[0].train.training.train.epochs == 0)
    return fail(command, EXIT_USAGE, "--epochs 0: a sweep compares trained networks");
  code = open_data(sweep);
  if (code == EXIT_DONE) code = check_measure(sweep);
  if (code == EXIT_DONE && sweep->options.search == SWEEP_HALVING) code = plan_halving(sweep);
  if (code == EXIT_DONE) code = sweep_check(sweep);
  return code == EXIT_DONE ? sweep_record_open(sweep) : code;
}

static int64_t count_recorded(const struct sweep *sweep) {
  int64_t n = 0;
  for (int64_t t = 0; t < sweep->trials.n; t++) n += sweep->trials.trials[t].recorded;
  return n;
}

static void print_data(const struct sweep *sweep) {
  struct summary summary = training_summary(&sweep->shared);
  summary.trials = true;
  summary_print(stderr, &summary);
}

static void print_plan(const struct sweep *sweep) {
  const struct sweep_options *o = &sweep->options;
  const int64_t epochs = sweep->shared.values.training.train.epochs;
  char count[TEXT_SIZE];
  if (o->quiet) return;
  print_data(sweep);
  text_print(stderr, "sweep       %s: %" PRId64 " trial%s of at most %s epoch%s\n", sweep_search_names[o->search],
             sweep->trials.n, sweep->trials.n == 1 ? "" : "s", text_count(epochs, count), epochs == 1 ? "" : "s");
  for (int a = 0; a < o->n_axes; a++)
    text_print(stderr, "            %s %s\n", o->axes[a].option->name, o->axes[a].text);
  for (int i = 0; i < sweep->rungs.n; i++)
    fprintf(stderr, "%s%" PRId64 " after epoch %" PRId64 "%s",
            i ? ", " : "            the best continue: ", sweep->rungs.keep[i], sweep->rungs.epochs[i],
            i + 1 == sweep->rungs.n ? "\n" : "");
  if (count_recorded(sweep))
    text_print(stderr, "resumed     %s: %" PRId64 " of them are finished\n", o->resume, count_recorded(sweep));
  fputs("\n", stderr);
}

/* ---- results ------------------------------------------------------------------------------------------------------ */

static int print_end(const struct sweep *sweep, const struct sweep_trial *best) {
  enum { SHOWN = 10, WIDEST = 1000 };
  const struct sweep_options *o = &sweep->options;
  char value[TEXT_SIZE], which[1024];
  const bool validation = sweep->shared.rows.validation != NULL;
  const int columns = terminal_is_live(stdout) ? terminal_columns(stdout) - 1 : WIDEST;
  char *line = sweep_trial_command(o, best);
  if (!line || !sweep_table_write(sweep, stdout, SHOWN, columns)) {
    free(line);
    return fail(command, EXIT_RUN, "out of memory");
  }
  sweep_trial_describe(o, best, which, sizeof which);
  text_print(stdout, "\nbest trial %" PRId64 ": %s\n", best->number, which);
  printf("%s %s", sweep_measure_title(sweep), text_loss(best->objective, value));
  if (best->best_epoch && validation) printf(" at epoch %" PRId64, best->best_epoch);
  printf(" of %" PRId64 "\n", best->epochs);
  text_print(stdout, "model saved to %s\n", o->out);
  puts(best->status == SWEEP_TRIAL_DROPPED ? "it was dropped; trained alone to its end by:" : "trained alone by:");
  text_print(stdout, "  %s\n", line);
  free(line);
  return EXIT_DONE;
}

/* How to continue after a signal. */
static void print_interruption(const struct sweep *sweep) {
  const int64_t recorded = count_recorded(sweep);
  if (sweep->saved)
    text_print(stdout, "the best so far is trial %" PRId64 ", saved to %s\n", sweep->saved->number, sweep->options.out);
  if (sweep->record.path)
    text_print(stdout,
               "stopped; %" PRId64 " of %" PRId64
               " trials are finished; the same command with --resume %s%s continues\n",
               recorded, sweep->trials.n, sweep->record.path, sweep->options.log ? " in place of --log" : "");
  else
    printf("stopped; without --log, nothing was recorded to continue from\n");
}

/* No trial has a result. */
static int all_diverged(const struct sweep *sweep) {
  const struct sweep_trial *first = &sweep->trials.trials[0];
  return fail(command, EXIT_DIVERGED, "all trials have diverged; trial 1: %s", first->error ? first->error : "");
}

/* As train measures its model, which is the one that --out holds. */
static int measure_best(const struct sweep *sweep) {
  struct measured measured = {0};
  descent_network *network = NULL;
  const descent_status status = descent_network_load(sweep->options.out, &network);
  if (status != DESCENT_OK) return fail_status(command, status);
  sweep_keep_messages();
  const int code = sweep_print_message(command, results_measure(&sweep->shared, network, &measured));
  if (code == EXIT_DONE && !interrupt_signal()) {
    report_metrics_print(stdout, network, measured.columns, measured.n);
    fputs("\n", stdout);
  }
  measured_clear(&measured);
  descent_network_free(network);
  return code;
}

static int finish(struct sweep *sweep) {
  struct sweep_trial *best = sweep_best(sweep);
  if (!best && !interrupt_signal()) return all_diverged(sweep);
  int code = EXIT_DONE;
  if (best && !interrupt_signal()) code = sweep_save_best(sweep, best);
  sweep_table_close(&sweep->table);
  if (code != EXIT_DONE) return code;
  if (best && !interrupt_signal()) code = measure_best(sweep);
  if (code == EXIT_DONE && best && !interrupt_signal()) code = print_end(sweep, best);
  if (interrupt_signal()) print_interruption(sweep);
  return code == EXIT_DONE && best ? sweep_report(sweep, best) : code;
}

static int run(struct sweep *sweep) {
  int code = prepare(sweep);
  if (code != EXIT_DONE) return code;
  print_plan(sweep);
  sweep_table_open(&sweep->table, sweep->options.quiet);
  interrupt_watch();
  code = sweep_train(sweep);
  sweep_table_close(&sweep->table);
  if (code == EXIT_DONE) code = finish(sweep);
  return code == EXIT_DONE && interrupt_signal() ? EXIT_SIGNAL + interrupt_signal() : code;
}

int command_sweep(int argc, char **argv) {
  struct sweep sweep = {.failed = false};
  int code = sweep_options_read(argc, argv, &sweep.options);
  if (code == OPTIONS_CONTINUE) code = run(&sweep);
  sweep_clear(&sweep);
  return code;
}
