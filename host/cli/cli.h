/* What the subcommands share: the groups of options that more than one of them takes. The command uses the library
 * through its public header only. */
#ifndef DESCENT_CLI_CLI_H
#define DESCENT_CLI_CLI_H

#include <descent/descent.h>

#include "cli/messages.h"
#include "cli/options.h"

/* One per subcommand; argv[0] is "descent train" and so on. Each returns the exit code. */
int command_train(int argc, char **argv);
int command_sweep(int argc, char **argv);
int command_evaluate(int argc, char **argv);
int command_predict(int argc, char **argv);
int command_plot(int argc, char **argv);
int command_export(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_info(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_devices(int argc, char **argv);

/* ---- groups of options, each with the struct that its values go into ------------------------------------------- */

struct device_choice {
  const char *device;
  int64_t threads;
  descent_precision precision;
  descent_fusion fusion;
};
#define DEVICE_CHOICE_INIT \
  { "auto", 0, DESCENT_PRECISION_FP32, DESCENT_FUSION_AUTO }
extern const struct setting device_options[];

/* Opens the chosen device; on failure prints the error and returns the exit code, else EXIT_DONE. */
int device_choice_open(const char *command, const struct device_choice *choice, descent_device **device);

/* How it evaluates and predicts, and what --help says of that. */
descent_predict_options device_choice_predict_options(const struct device_choice *choice);
#define PREDICTION_PRECISION                                                                                \
  "The precision need not be that of the training. On a GPU, tf32 and bf16 round weights and the values "   \
  "between layers to 11 and 8 significant bits: a change of at most 0.1 % and 0.4 % each time. Where that " \
  "moves logits by at most D, the probability of one of two classes moves by at most D/4, that of one of "  \
  "more by at most D/2."

struct data_choice {
  const char *delimiter; /* one character, "tab" or "auto" */
  const char *header;    /* "yes", "no" or "auto" */
  const char *ignore;    /* "id,name" or NULL */
  const char *missing;   /* "?,NA," or NULL for the usual */
  const char *format;    /* or NULL */
  descent_unseen unseen;
  bool strict;
  const char *categorical; /* "zip,year" or NULL */
  bool indicators;
  const char *target_file, *weight_column; /* or NULL */
  const char *decimal;                     /* ".", ",", "auto" or NULL */
  bool quiet;                              /* no line about a file that takes long */
};
#define DATA_CHOICE_INIT \
  { "auto", "auto", NULL, NULL, NULL, DESCENT_UNSEEN_ERROR, false, NULL, false, NULL, NULL, NULL, false }
extern const struct setting data_options[];       /* of every command that reads data without a model */
extern const struct setting model_data_options[]; /* of every command that reads data for a model */
extern const struct setting column_options[];     /* of training data */
extern const struct setting answer_options[];     /* of targets */

/* Reads `path` by the choice and by what the caller has set in `options` (target, target_file, task, network,
 * features_only), and reports changes to data that has to fit a model (data_choice_note). On failure prints the error
 * and returns the exit code, else EXIT_DONE. */
int data_choice_read(const char *command, const struct data_choice *choice, const char *path,
                     descent_dataset_options options, descent_dataset **dataset);
/* The same block by block; prints no notes. */
int data_choice_read_blocks(const char *command, const struct data_choice *choice, const char *path,
                            descent_dataset_options options, int64_t rows,
                            int (*take)(void *user, const descent_dataset *block), void *user);
int data_choice_convert(const char *command, const struct data_choice *choice, const char *path,
                        descent_dataset_options options, const char *to, descent_dataset **dataset);
int64_t data_choice_missing(const descent_dataset *dataset); /* missing cells, in all columns */
/* One line on what rounding to float32 has lost of the input or target that it affects most; false when no loss can
 * matter. */
bool data_choice_rounding(const descent_dataset *dataset, char text[512]);
/* Rounding that loses something, columns matched otherwise than by name, cells filled in, unseen categories, rows dropped: a line of stderr for each.
 */
void data_choice_note(const char *command, const char *path, const descent_dataset *dataset);

/* What a dataset in its binary form holds, for `descent info`: as text, or as one JSON object; the exit code. */
int data_info_print(const char *command, const char *path, bool json);

struct network_choice {
  const char *hidden; /* "64,32" or "none" */
  descent_activation activation, output_activation;
  descent_init init;
};
#define NETWORK_CHOICE_INIT \
  { "64,32", DESCENT_ACTIVATION_RELU, DESCENT_ACTIVATION_IDENTITY, DESCENT_INIT_AUTO }
extern const struct setting network_options[];

/* Creates the chosen network between `inputs` and `outputs` and draws its weights from `seed`; on failure prints the
 * error and returns the exit code, else EXIT_DONE. */
int network_choice_create(const char *command, const struct network_choice *choice, int64_t inputs, int64_t outputs,
                          descent_loss loss, uint64_t seed, descent_network **network);

struct training_choice {
  descent_train_options train; /* what options set directly; ready to use after training_choice_resolve */
  const char *batch_size;      /* "32" or "all" */
  const char *schedule;        /* "cosine:1e-5" */
  int64_t seed;
  bool no_autotune;
};
#define TRAINING_CHOICE_INIT \
  { descent_train_options_default(), "32", "constant", 0, false }
extern const struct setting optimizer_options[];
extern const struct setting tuning_options[];      /* follows device_options, under their heading */
extern const struct setting micro_batch_options[]; /* precedes rank_options */

/* The name of an option of training that differs from `defaults`, other than the batch size, the seed and the device's.
 * NULL: none. Called before training_choice_resolve. */
const char *training_choice_set(const struct training_choice *choice, const struct training_choice *defaults);

/* Reads the texts (batch size, schedule) into `train`, with `seed`, `no_autotune` and the device's precision and fusion;
 * on failure prints the error and returns the exit code, else EXIT_DONE. */
int training_choice_resolve(const char *command, struct training_choice *choice, const struct device_choice *device);

#endif
