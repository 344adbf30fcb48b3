/* `descent verify`: every operation of a training on two devices, as a table of errors against their bounds. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/subject.h"
#include "report/text.h"

static const char command[] = "descent verify";

struct verify_choice {
  const char *reference;
  int64_t rows, steps;
  bool all;
};

#define AT(member) offsetof(struct verify_choice, member)
static const struct setting verify_options[] = {
    ROW_HEADING("Comparison:"),
    ROW_TEXT("reference", "NAME", AT(reference), "Device to compare with", 0),
    ROW_INTEGER("rows", "N", AT(rows), "Synthetic rows, in batches of --batch-size and a remainder", 0, 1, 1e9),
    ROW_INTEGER("steps", "N", AT(steps), "Training steps", 0, 1, 1e6),
    ROW_FLAG(
        "all", AT(all),
        "Check every activation, loss and optimizer on this shape, one line each (for mean_squared_error the output "
        "layer uses this activation as well)",
        0),
    ROW_END,
};
#undef AT

struct verify {
  struct subject subject, defaults;
  struct verify_choice choice;
  descent_device *candidate, *reference;
};

struct tally {
  bool quiet; /* of --all: keep the worst row instead of printing each */
  int64_t compared, failed;
  char worst[64];
  double worst_ratio;
};

static void print_row(const descent_verify_row *row) {
  printf("%-40s %12" PRId64 "  %13.3e  %13.3e  %11.4f  %s\n", row->operation, row->values, row->largest_error,
         row->bound, row->error_to_bound, row->pass ? "pass" : "FAIL");
}

static void take_row(void *user, const descent_verify_row *row) {
  struct tally *tally = user;
  tally->compared++;
  if (!row->pass) tally->failed++;
  if (tally->compared == 1 || isnan(row->error_to_bound) || row->error_to_bound > tally->worst_ratio) {
    tally->worst_ratio = row->error_to_bound;
    snprintf(tally->worst, sizeof tally->worst, "%s", row->operation);
  }
  if (tally->quiet) return;
  if (tally->compared == 1)
    printf("%-40s %12s  %13s  %13s  %11s\n", "operation", "values", "largest error", "its bound", "error/bound");
  print_row(row);
}

/* `who`: the subject of an error message. */
static int compare(const struct verify *v, const char *who, const descent_network *network,
                   const descent_train_options *options, struct tally *tally) {
  bool passed;
  descent_status status = descent_verify(network, v->candidate, v->reference, options, v->choice.rows, v->choice.steps,
                                         take_row, tally, &passed);
  if (status != DESCENT_OK) return fail_status(who, status);
  return passed ? EXIT_DONE : EXIT_RUN;
}

static int verify_one(const struct verify *v, const descent_network *network) {
  struct tally tally = {0};
  int code = job_agree(command, &v->subject.job, compare(v, command, network, &v->subject.training.train, &tally));
  if (tally.compared)
    printf("%" PRId64 " operations on %s against %s: %" PRId64 " failed\n", tally.compared,
           descent_device_name(v->candidate), descent_device_name(v->reference), tally.failed);
  return code;
}

/* One line of --all, the first one below the header; EXIT_DONE, EXIT_RUN where a comparison failed, or another code after
 * an error message. */
static int verify_combination(const struct verify *v, descent_activation activation, descent_loss loss,
                              descent_optimizer optimizer, bool first) {
  descent_train_options options = v->subject.training.train;
  options.optimizer.kind = optimizer;
  if (optimizer != DESCENT_OPTIMIZER_SGD) options.optimizer.nesterov = false;
  struct network_choice choice = v->subject.network;
  choice.activation = activation;
  choice.output_activation = loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? activation : DESCENT_ACTIVATION_IDENTITY;
  int64_t outputs = v->subject.shape.outputs;
  if (loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) outputs = 1;
  if (loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY && outputs < 2) outputs = 2;
  descent_network *network = NULL;
  char who[128];
  snprintf(who, sizeof who, "%s: %s, %s, %s", command, descent_activation_name(activation), descent_loss_name(loss),
           descent_optimizer_name(optimizer));
  int code = network_choice_create(who, &choice, v->subject.shape.inputs, outputs, loss, options.seed, &network);
  if (code == EXIT_DONE) code = subject_check(who, &options, network, v->candidate);
  code = job_agree(who, &v->subject.job, code);
  struct tally tally = {.quiet = true};
  if (code == EXIT_DONE) code = job_agree(who, &v->subject.job, compare(v, who, network, &options, &tally));
  descent_network_free(network);
  if (tally.compared && first)
    printf("%-11s %-21s %-9s %11s  %-40s\n", "activation", "loss", "optimizer", "error/bound", "of operation");
  if (tally.compared)
    printf("%-11s %-21s %-9s %11.4f  %-40s  %s\n", descent_activation_name(activation), descent_loss_name(loss),
           descent_optimizer_name(optimizer), tally.worst_ratio, tally.worst, tally.failed ? "FAIL" : "pass");
  return code;
}

static int verify_all(const struct verify *v) {
#define TERM_VALUE(NAME, text) 1 +
  enum {
    ACTIVATIONS = DESCENT_ACTIVATION_MAP(TERM_VALUE) 0,
    LOSSES = DESCENT_LOSS_MAP(TERM_VALUE) 0,
    OPTIMIZERS = DESCENT_OPTIMIZER_MAP(TERM_VALUE) 0,
    COMBINATIONS = ACTIVATIONS * LOSSES * OPTIMIZERS
  };
#undef TERM_VALUE
  int failed = 0;
  for (int i = 0; i < COMBINATIONS; i++) {
    int code = verify_combination(v, (descent_activation)(i / (LOSSES * OPTIMIZERS)),
                                  (descent_loss)(i / OPTIMIZERS % LOSSES), (descent_optimizer)(i % OPTIMIZERS), i == 0);
    if (code == EXIT_RUN) failed++;
    if (code != EXIT_DONE && code != EXIT_RUN) return code;
  }
  printf("%d combinations on %s against %s: %d failed\n", COMBINATIONS, descent_device_name(v->candidate),
         descent_device_name(v->reference), failed);
  return failed ? EXIT_RUN : EXIT_DONE;
}

static int open_reference(struct verify *v) {
  descent_status status = descent_device_open(v->choice.reference, (int)v->subject.device.threads, &v->reference);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

/* The second device, and whether the options suit the first. */
static int prepare(struct verify *v, const descent_network *network) {
  const int code = open_reference(v);
  if (code != EXIT_DONE || !network) return code;
  return subject_check(command, &v->subject.training.train, network, v->candidate);
}

static void print_start(const struct verify *v) {
  if (v->subject.job.rank > 0) return;
  text_print(stderr, "candidate: %s\n", descent_device_description(v->candidate));
  text_print(stderr, "reference: %s\n", descent_device_description(v->reference));
  subject_print_ranks(&v->subject);
}

static int check(const struct verify *v, const struct arguments *arguments) {
  if (!v->choice.all || arguments->count == 0) return EXIT_DONE;
  return fail(command, EXIT_USAGE, "--all creates its own networks: omit %s", arguments->values[0]);
}

static int run(struct verify *v, const struct command_syntax *verify_syntax, const struct arguments *arguments) {
  descent_network *network = NULL;
  int code =
      subject_open(verify_syntax, arguments, &v->subject, &v->defaults, v->choice.all ? NULL : &network, &v->candidate);
  if (code == EXIT_DONE) code = job_agree(command, &v->subject.job, prepare(v, network));
  if (code == EXIT_DONE) {
    print_start(v);
    code = network ? verify_one(v, network) : verify_all(v);
  }
  descent_device_close(v->reference);
  descent_device_close(v->candidate);
  descent_network_free(network);
  return code;
}

int command_verify(int argc, char **argv) {
  struct verify v = {
      .defaults = SUBJECT_CHOICE_INIT(30, 3),
      .choice = {.reference = "reference", .rows = 100, .steps = 3},
  };
  v.subject = v.defaults;
  const struct setting_set sets[] = {{verify_options, &v.choice}, SUBJECT_SETS(&v.subject)};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "[MODEL]",
      .about =
          "Run every operation of a training, an evaluation and a prediction on two devices from the same inputs, and "
          "compare all values that the operation writes. The network is MODEL's, or one of the given shape."
          "\vThe bound of a value is the largest error that rounding in the chosen precision can cause, derived from "
          "the length of its sums and the unit round-off; a larger error is a fault of the device. With --reference "
          "other than reference, a value may differ by up to twice the bound. The exit code is 1 if any comparison "
          "fails.\n\n"
          "With --micro-batches, combine adds the gradients of the parts, and allreduce those of the ranks. Each of "
          "several ranks compares its device with its reference; a row has the values of all ranks and the largest "
          "error among them.\n\n"
          "Rows that begin with fused compare what a kernel of several layers leaves (--fusion) with the interval that "
          "rounding in all of these layers allows. Their error is the distance from its middle, and so larger than in "
          "the other rows. Values whose interval says nothing, because it is wider than the values, are not counted: "
          "deep networks may have no such rows. Rows that begin with fused train compare what two training steps at "
          "once leave, from the rows of the batch to the parameters, with what the same steps in parts do: the layers, "
          "then norm, update and metrics. With micro-batches they compare what the parts of one step leave in one call "
          "with what they leave one by one. All bits must be equal.",
      .most = 1,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  const struct launcher launcher = launcher_find();
  struct arguments arguments;
  int code = subject_read(&syntax, &launcher, argc, argv, &v.subject, &arguments);
  if (code == EXIT_DONE) return code; /* --help */
  if (code == OPTIONS_CONTINUE) code = check(&v, &arguments);
  code = subject_connect(command, &launcher, argc, argv, code, &v.subject);
  if (code == EXIT_DONE) code = run(&v, &syntax, &arguments);
  job_close(&v.subject.job);
  return code;
}
