/* The options of `descent train`: their values, and what the texts among them stand for. */
#ifndef DESCENT_CLI_TRAIN_H
#define DESCENT_CLI_TRAIN_H

#include <limits.h>

#include "cli/cli.h"
#include "cli/job.h"

#define CHECKPOINT_LOG "log.jsonl" /* in the folder of checkpoints */

/* Defaults. */
#define CHECKPOINT_EVERY "60s"
enum { CHECKPOINTS_KEPT = 2 };

struct train_values {
  const char *target, *validation, *test;
  const char *validation_targets, *test_targets; /* or NULL */
  descent_task task;
  descent_normalize normalize;
  descent_impute impute;
  struct data_choice data;
  struct network_choice network;
  struct training_choice training;
  const char *weights;       /* or NULL */
  const char *class_weights; /* or NULL */
  struct device_choice device;
  struct rank_choice ranks;
  const char *out, *log, *tensorboard, *report, *config;
  const char *checkpoint, *resume;              /* folders, or NULL; with resume there is always a checkpoint */
  const char *checkpoint_every, *on_divergence; /* texts */
  const char *resume_with;                      /* option names, or NULL */
  const char *keep_every;                       /* a text, or NULL */
  int64_t ensemble, folds;                      /* networks: 1 and 0 for one */
  const char *ensemble_shuffle, *out_of_fold;   /* "own" or "shared"; or NULL */
  int64_t keep;
  bool keep_best;
  bool quiet;
  /* Worked out from the above: */
  const char *data_path;
  const char *validation_path; /* or NULL */
  double validation_fraction;  /* 0 with a path */
  bool validation_given;       /* false: the fraction is the default */
  bool out_given;              /* likewise */
  char may_change[512];        /* resume_with in the library's names */
};

/* The tables of its options, for `values`, which get their defaults. */
enum { TRAIN_SETS = 13 };
void train_options_sets(struct train_values *values, struct setting_set sets[TRAIN_SETS]);

/* The command line into `values`, with --config, every text that can be checked before the data is read, and
 * `*record`, the configuration as JSON text (freed by the caller). OPTIONS_CONTINUE or the exit code. The strings in
 * `values` live as long as argv and `config`. Of several ranks the first alone is to write files. */
int train_options_read(int argc, char **argv, const struct launcher *launcher, struct train_values *values,
                       struct option_config *config, cJSON **record);

/* checkpoint_choice.c: the texts about checkpoints into the training's options; EXIT_DONE or the exit code. */
int checkpoint_choice_resolve(const char *command, struct train_values *values);

/* The folder of --checkpoint or --resume, if `path` is that folder or what it keeps for itself; else NULL. `name`: the
 * name in it; "" for the folder. */
const char *checkpoint_choice_keeps(const struct train_values *values, const char *path, char name[NAME_MAX + 1]);

/* members_choice.c: whether --ensemble, --folds and what depends on them fit the other options; EXIT_DONE or the exit
 * code. */
int members_choice_check(const char *command, const struct train_values *values, const struct launcher *launcher);

/* Notes in the folder of --checkpoint, which has one of each network, what the trainings depend on, for the command that
 * resumes them. False with errno set. */
#define MEMBERS_NOTE "networks.txt"
bool members_note_write(const struct train_values *values);

/* The log of a network after the last of `count`, where one is there of an earlier training; else NULL. The caller frees
 * it. */
char *members_log_left(const struct train_values *values, int64_t count);

/* Of the files and folders of `values`, those of network k of several: "log-3.jsonl", "DIR/member-3". */
struct member_places {
  char *checkpoint, *resume, *log, *tensorboard; /* allocated; NULL where nothing is written */
};
bool member_places_set(struct member_places *places, struct train_values *values, int64_t k); /* false: out of memory */
void member_places_clear(struct member_places *places);

/* --class-weights for these classes into `weights` (classes) and the options; EXIT_DONE or the exit code. */
int train_class_weights(const struct train_values *values, const descent_dataset *data, double *weights,
                        descent_train_options *options);

#endif
