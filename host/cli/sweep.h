/* `descent sweep`: trials of `descent train` with different options, trained together. */
#ifndef DESCENT_CLI_SWEEP_H
#define DESCENT_CLI_SWEEP_H

#include "cli/checksum.h"
#include "cli/sweep_axis.h"
#include "cli/train.h"

enum sweep_search { SWEEP_GRID, SWEEP_RANDOM, SWEEP_HALVING };
extern const char *const sweep_search_names[3];
enum sweep_measure { SWEEP_LOSS, SWEEP_ACCURACY, SWEEP_AUC, SWEEP_RMSE };

/* An option of train that was given. */
struct sweep_given {
  const struct setting *option; /* of train's tables */
  const char *text;             /* NULL: a flag */
  int axis;                     /* the values are those of this axis; -1: the same in all trials */
};

struct sweep_options {
  const char *data_path;
  /* As given: */
  const char *search_text, *measure_text;
  int64_t trials;                    /* 0: as many as there are configurations, at most SWEEP_TRIALS */
  int64_t eta, min_epochs, together; /* 0: chosen */
  const char *out, *log, *resume, *report, *config;
  bool quiet;
  /* Worked out: */
  enum sweep_search search;
  enum sweep_measure measure;
  struct option_config file; /* what --config holds */
  struct sweep_given *given; /* (n_given) in the order of train's tables */
  int n_given;
  struct sweep_axis *axes; /* (n_axes) */
  int n_axes;
  cJSON *fixed; /* texts of every option that affects the models and is no axis, defaults too, by name */
};
enum { SWEEP_TRIALS = 32, SWEEP_TRIALS_MOST = 10000, SWEEP_ETA = 3 };

/* OPTIONS_CONTINUE or the exit code. Strings live as long as argv. */
int sweep_options_read(int argc, char **argv, struct sweep_options *options);
void sweep_options_clear(struct sweep_options *options);
/* Whether the outputs are no inputs of the trials, whose `values` name them, and can be written; EXIT_DONE or the exit
 * code. */
int sweep_options_check_outputs(const struct sweep_options *options, const struct train_values *values);
bool sweep_measure_is_better(enum sweep_measure measure, double a, double b); /* NaN is the worst */

/* Between these calls train's refusals are kept; the last is then printed as the sweep's. Returns `code`. */
void sweep_keep_messages(void);
int sweep_print_message(const char *command, int code);

/* ---- trials ------------------------------------------------------------------------------------------------------ */

#define SWEEP_STATUS_MAP(ENTRY)                                      \
  ENTRY(OPEN, "open")           /* not trained, or not to its end */ \
  ENTRY(DONE, "done")           /* all epochs */                     \
  ENTRY(EARLY, "stopped early") /* by --patience */                  \
  ENTRY(DROPPED, "dropped")     /* by successive halving */          \
  ENTRY(DIVERGED, "diverged")
enum sweep_status {
#define ENTRY(name, text) SWEEP_TRIAL_##name,
  SWEEP_STATUS_MAP(ENTRY)
#undef ENTRY
      SWEEP_STATUSES
};
extern const char *const sweep_status_names[SWEEP_STATUSES];

/* What happened, by epoch. */
struct sweep_course {
  double *train_loss, *validation_loss; /* (n); NaN without validation rows */
  double *objective;                    /* (n) the measure of the weights that the trial would end with */
  int64_t n, capacity;
};

struct sweep_trial {
  int64_t number; /* from 1 */
  char **values;  /* (n_axes) */
  char **argv;    /* (argc) of train */
  int argc;
  struct train_values train;
  cJSON *record; /* train's configuration */
  /* What came of it: */
  enum sweep_status status;
  bool recorded;             /* in the file of trials */
  char *error;               /* of a divergence, or NULL */
  char model[CHECKSUM_SIZE]; /* checksum of its model file; "": unknown */
  int64_t epochs, best_epoch;
  double objective; /* NaN: none */
  double seconds;
  struct sweep_course course;
  descent_network *network; /* while it trains; of the best, until a better one */
  double *class_weights;
};

struct sweep_trials {
  struct sweep_trial *trials; /* (n) */
  int64_t n;
};

/* Makes all configurations and parses each as train does; EXIT_DONE or the exit code after the first refusal. */
int sweep_trials_create(const char *command, const struct sweep_options *options, struct sweep_trials *trials);
void sweep_trials_clear(struct sweep_trials *trials, int n_axes);
/* The command that trains it alone; NULL when memory ran out. */
char *sweep_trial_command(const struct sweep_options *options, const struct sweep_trial *trial);
/* "learning-rate 0.01, hidden 64,32" */
void sweep_trial_describe(const struct sweep_options *options, const struct sweep_trial *trial, char *text,
                          size_t size);
void sweep_course_clear(struct sweep_course *course);
bool sweep_course_add(struct sweep_course *course, double train_loss, double validation_loss, double objective);

/* The best trial so far, of those with all their epochs if there is one, else of the dropped; NULL: none. Of equals the
 * first. */
struct sweep_trial *sweep_trials_best(const struct sweep_trials *trials, enum sweep_measure measure);
/* Pointers to all trials from the best to the worst (n); NULL when memory ran out. */
struct sweep_trial **sweep_trials_ranked(const struct sweep_trials *trials, enum sweep_measure measure);

#endif
