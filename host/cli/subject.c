/* What to check or to time: a network from a file or from options, a device, and the ranks of a step. */
#include "cli/subject.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/summary.h"

#define AT(member) offsetof(struct subject_choice, member)
enum { WIDEST = 1 << 30 };
const struct setting subject_options[] = {
    ROW_HEADING("Network, if no MODEL is given:"),
    ROW_INTEGER("inputs", "N", AT(inputs), "Input features", 0, 1, WIDEST),
    ROW_INTEGER("outputs", "K", AT(outputs), "Outputs", 0, 1, WIDEST),
    ROW_TEXT(
        "loss", "NAME", AT(loss),
        "binary_cross_entropy (1 output), softmax_cross_entropy, mean_squared_error, or auto: the cross-entropy for "
        "the number of outputs",
        0),
    ROW_END,
};
#undef AT

static int choose_loss(const char *command, const struct subject_choice *shape, descent_loss *loss) {
  if (strcmp(shape->loss, "auto") == 0) {
    *loss = shape->outputs == 1 ? DESCENT_LOSS_BINARY_CROSS_ENTROPY : DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    return EXIT_DONE;
  }
  descent_status status = descent_loss_parse(shape->loss, loss);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

static bool equal(const struct subject *a, const struct subject *b) {
  return a->shape.inputs == b->shape.inputs && a->shape.outputs == b->shape.outputs &&
         strcmp(a->shape.loss, b->shape.loss) == 0 && strcmp(a->network.hidden, b->network.hidden) == 0 &&
         a->network.activation == b->network.activation &&
         a->network.output_activation == b->network.output_activation && a->network.init == b->network.init;
}

static int open_network(const char *command, const struct arguments *arguments, const struct subject *chosen,
                        const struct subject *defaults, descent_network **network) {
  if (arguments->count == 0) {
    descent_loss loss;
    int code = choose_loss(command, &chosen->shape, &loss);
    if (code != EXIT_DONE) return code;
    return network_choice_create(command, &chosen->network, chosen->shape.inputs, chosen->shape.outputs, loss,
                                 chosen->training.train.seed, network);
  }
  if (!equal(chosen, defaults))
    return fail(command, EXIT_USAGE, "%s defines the network: omit the network options", arguments->values[0]);
  const descent_status status = descent_network_load(arguments->values[0], network);
  if (status != DESCENT_OK) return fail_status(command, status);
  const int64_t members = descent_network_members(*network);
  if (members == 1) return EXIT_DONE;
  return fail(command, EXIT_DATA,
              "%s: an ensemble of %" PRId64
              " networks: write one of them as a model (descent export --member) and use that",
              arguments->values[0], members);
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

int subject_read(const struct command_syntax *syntax, const struct launcher *launcher, int argc, char **argv,
                 const struct subject *chosen, struct arguments *arguments) {
  if (launcher->size > 1) messages_keep(launcher->rank > 0);
  const int code = options_parse(syntax, argc, argv, NULL, 0, arguments);
  if (code != OPTIONS_CONTINUE) return code;
  const int checked = rank_choice_check(syntax->name, launcher, &chosen->ranks, chosen->device.device);
  return checked == EXIT_DONE ? OPTIONS_CONTINUE : checked;
}

int subject_connect(const char *command, const struct launcher *launcher, int argc, char **argv, int code,
                    struct subject *chosen) {
  if (code == EXIT_DONE) code = job_start(command, launcher, &chosen->ranks, chosen->device.device, argc, argv);
  code = job_open(command, launcher, &chosen->ranks, code, &chosen->job);
  if (code == EXIT_DONE && chosen->job.rank > 0 && !freopen("/dev/null", "w", stdout))
    return fail(command, EXIT_RUN, "/dev/null: cannot write: %s", strerror(errno));
  return code;
}

/* The options, the kind of device and the shape of the network, which may come from a file. */
static int compare(const struct command_syntax *syntax, const struct subject *chosen, const descent_network *network,
                   const descent_device *device) {
  cJSON *record = options_record(syntax), *object = job_describe(syntax->name, record, device);
  char shape[512];
  bool whole = object != NULL;
  if (whole && network) {
    summary_shape(network, shape, sizeof shape);
    whole = cJSON_AddStringToObject(object, "the network", shape) != NULL;
  }
  const int code = job_compare(syntax->name, &chosen->job, whole ? object : NULL);
  cJSON_Delete(record);
  cJSON_Delete(object);
  return code;
}

int subject_check(const char *who, const descent_train_options *train, const descent_network *network,
                  const descent_device *device) {
  const descent_status status = descent_train_options_check(train, network, device);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(who, status);
}

void subject_print_ranks(const struct subject *chosen) {
  const descent_train_options *const train = &chosen->training.train;
  if (chosen->job.communicator)
    summary_ranks(stderr, "ranks: ", chosen->job.communicator, train);
  else if (train->ranks.micro_batches > 1)
    fprintf(stderr, "micro-batches: %" PRId64 "\n", train->ranks.micro_batches);
}

static int open_here(const char *command, const struct arguments *arguments, struct subject *chosen,
                     const struct subject *defaults, descent_network **network, descent_device **device) {
  int code = training_choice_resolve(command, &chosen->training, &chosen->device);
  if (code == EXIT_DONE && network) code = open_network(command, arguments, chosen, defaults, network);
  if (code == EXIT_DONE) code = job_choose_device(command, &chosen->job, &chosen->device, chosen->device_name);
  if (code == EXIT_DONE) code = device_choice_open(command, &chosen->device, device);
  chosen->training.train.ranks.communicator = chosen->job.communicator;
  return code;
}

int subject_open(const struct command_syntax *syntax, const struct arguments *arguments, struct subject *chosen,
                 const struct subject *defaults, descent_network **network, descent_device **device) {
  const struct job *const job = &chosen->job;
  int code = open_here(syntax->name, arguments, chosen, defaults, network, device);
  code = job_agree(syntax->name, job, code);
  if (code == EXIT_DONE && job->size > 1) code = compare(syntax, chosen, network ? *network : NULL, *device);
  if (code == EXIT_DONE && job->rank == 0) messages_print(); /* from here on rank 0 reports */
  return code;
}
