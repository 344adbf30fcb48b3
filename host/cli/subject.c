/* What to check or to time: a network from a file or from options, and a device. */
#include "cli/subject.h"

#include <string.h>

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
  descent_status status = descent_network_load(arguments->values[0], network);
  return status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
}

int subject_open(const char *command, const struct arguments *arguments, struct subject *chosen,
                 const struct subject *defaults, descent_network **network, descent_device **device) {
  int code = training_choice_resolve(command, &chosen->training, &chosen->device);
  if (code == EXIT_DONE && network) code = open_network(command, arguments, chosen, defaults, network);
  return code == EXIT_DONE ? device_choice_open(command, &chosen->device, device) : code;
}
