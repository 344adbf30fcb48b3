/* A running sweep: its trials, the data that they share, its record and what is shown of it. */
#ifndef DESCENT_CLI_SWEEP_RUN_H
#define DESCENT_CLI_SWEEP_RUN_H

#include "cli/run.h"
#include "cli/sweep.h"
#include "report/appended.h"

/* ---- successive halving ------------------------------------------------------------------------------------------ */

/* After epochs[i] of them, the best keep[i] of the trials continue. */
enum { RUNGS_MOST = 40 };
struct sweep_rungs {
  int64_t epochs[RUNGS_MOST], keep[RUNGS_MOST];
  int n;
};

/* r, r eta, r eta^2 .. below `epochs`, with floor(1/eta) of the trials after each and at least one; min_epochs r = 0: the
 * largest with which one eta-th remains floor(log_eta trials) times. */
struct sweep_rungs sweep_rungs_plan(int64_t trials, int64_t epochs, int64_t eta, int64_t min_epochs);

/* Clears in_race[t] of the trials that do not continue after rung `rung`, by what each had reached at its epochs. */
bool sweep_rungs_cut(const struct sweep_rungs *rungs, int rung, const struct sweep_trials *trials,
                     enum sweep_measure measure, bool *in_race);

/* Has --patience ended it? Told from its epochs, since a running trial and a recorded one must count the same. */
bool sweep_ended_early(const struct sweep_trial *trial);

/* ---- the record -------------------------------------------------------------------------------------------------- */

/* A file of JSON lines: what the sweep is, then one line for each finished trial. */
struct sweep_record {
  const char *path; /* NULL: none */
  struct appended_file file;
};

struct sweep;
/* Starts the file, or reads what an earlier sweep of the same configuration recorded into the trials. EXIT_DONE or the
 * exit code. */
int sweep_record_open(struct sweep *sweep);
/* Adds the line of a trial; false after saying why it could not be written. */
bool sweep_record_trial(struct sweep *sweep, struct sweep_trial *trial);
void sweep_record_close(struct sweep *sweep);

/* ---- the table --------------------------------------------------------------------------------------------------- */

/* The best trials: on a terminal redrawn in place, elsewhere a line for each event. */
struct sweep_table {
  FILE *stream; /* NULL: silent */
  bool live;
  int lines; /* on the screen */
  double started, drawn_at;
};
void sweep_table_open(struct sweep_table *table, bool quiet);
/* After an epoch; `training` trials are at it. */
void sweep_table_epoch(struct sweep *sweep, int64_t epoch, int64_t epochs, int64_t training);
/* A line that stays. */
void sweep_table_say(struct sweep *sweep, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes the live table. */
void sweep_table_close(struct sweep_table *table);
/* The best trials as a table of at most `columns`, a line for each; false when memory ran out. There is a best one. */
bool sweep_table_write(const struct sweep *sweep, FILE *out, int64_t most, int columns);

/* ---- everything -------------------------------------------------------------------------------------------------- */

struct sweep {
  struct sweep_options options;
  struct sweep_trials trials;
  struct training shared; /* data, device and the options that all trials share */
  struct sweep_rungs rungs;
  bool *in_race; /* (trials) halving: not dropped at a rung */
  struct sweep_preprocessing *preprocessing;
  struct sweep_record record;
  struct sweep_table table;
  const struct sweep_trial *saved; /* whose model --out holds */
  bool failed;                     /* the record could not be written, or memory ran out; has been reported */
};
extern const char sweep_command[]; /* "descent sweep", in messages */
/* "validation loss", or "training loss" without validation rows. */
const char *sweep_measure_title(const struct sweep *sweep);

struct sweep_preprocessing; /* sweep_network.c */

/* The network of a trial as train makes it, without preprocessing. EXIT_DONE or the exit code; messages are to be kept. */
int sweep_network_create(const struct sweep *sweep, struct sweep_trial *trial);
/* With it: fitted to the training rows once for each pair of --normalize and --impute. */
int sweep_network_prepare(struct sweep *sweep, struct sweep_trial *trial);
void sweep_network_clear(struct sweep *sweep);

/* Makes each trial's network once, and checks its options; EXIT_DONE or the exit code. */
int sweep_check(struct sweep *sweep);
/* The best trial so far, or NULL. In a race that is broken off it is none that was dropped: others were better. */
struct sweep_trial *sweep_best(const struct sweep *sweep);
/* Trains all open trials, and saves the best model after each wave; EXIT_DONE or the exit code. */
int sweep_train(struct sweep *sweep);
/* Saves the model of the best trial, unless --out holds it: where an earlier sweep trained it, it is trained again.
 * EXIT_DONE or the exit code. */
int sweep_save_best(struct sweep *sweep, struct sweep_trial *best);
/* --report; EXIT_DONE or the exit code. */
int sweep_report(const struct sweep *sweep, const struct sweep_trial *best);

#endif
