/* How long networks take that train together, a line of JSON:
 *
 *   members_time DEVICE WIDTHS BATCH PRECISION MEMBERS STEPS SECONDS [THREADS ACTIVATION ORDER]
 *
 * WIDTHS: inputs, hidden and outputs, "784,128,10"; 1 output: binary. STEPS of an epoch. THREADS of the CPU (0: one per
 * core); ACTIVATION of the hidden layers (relu); ORDER of the rows: "own" of each network, or "shared" by all.
 *
 * It trains MEMBERS networks together for two epochs, and the first, the middle and the last one alone: "same" is whether
 * their bytes are equal. Then it times epochs of one network alone and of all together for SECONDS each, set-up and first
 * epoch not counted: seconds of a step, in which each network does one, and of the processors in it. "placement" is what
 * the device says of the members. */
#include <descent/descent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_MEMBERS = 1024, MOST_LAYERS = 32, COMPARED = 3, EPOCHS = 2 };

struct setup {
  descent_device *device;
  int64_t inputs, widths[MOST_LAYERS];
  int32_t layers;
  int64_t members, rows;
  descent_activation activations[MOST_LAYERS];
  descent_train_options options;
  descent_dataset *data;
};

struct instant {
  double wall, cpu; /* seconds; of all threads of the process */
};

/* Of epochs: when the first and the last one ended. */
struct clock {
  struct instant first, last;
  double limit;
  int64_t epochs;
  char placement[1024];
};

static double read_clock(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static struct instant now(void) {
  return (struct instant){read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static void need(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "members_time: %s\n", what);
  exit(1);
}

static void need_ok(descent_status status) { need(status == DESCENT_OK, descent_last_error()); }

/* xorshift64* (Vigna 2016) */
static float uniform(uint64_t *state) {
  *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
  return (float)((*state * 0x2545f4914f6cdd1dU) >> 40) * 0x1p-24F;
}

static void make_data(struct setup *s) {
  const int64_t outputs = s->widths[s->layers - 1], classes = outputs == 1 ? 2 : outputs;
  float *X = malloc((size_t)(s->rows * s->inputs) * sizeof *X), *y = malloc((size_t)s->rows * sizeof *y);
  uint64_t state = 1;
  need(X && y, "out of memory");
  for (int64_t i = 0; i < s->rows * s->inputs; i++) X[i] = 2 * uniform(&state) - 1;
  for (int64_t r = 0; r < s->rows; r++) y[r] = (float)(int64_t)(uniform(&state) * (float)classes);
  need_ok(descent_dataset_create(X, y, NULL, s->rows, s->inputs, 1,
                                 outputs == 1 ? DESCENT_TASK_BINARY : DESCENT_TASK_CLASSES, classes, &s->data));
}

static descent_network *make_network(const struct setup *s, int64_t member) {
  descent_network_options shape = descent_network_options_default();
  descent_network *network;
  shape.inputs = s->inputs, shape.layers = s->layers, shape.widths = s->widths, shape.activations = s->activations;
  shape.loss = s->widths[s->layers - 1] == 1 ? DESCENT_LOSS_BINARY_CROSS_ENTROPY : DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  need_ok(descent_network_create(&shape, &network));
  need_ok(descent_network_initialise(network, DESCENT_INIT_AUTO, descent_member_seed(1, member)));
  return network;
}

static void keep_time(struct clock *clock, const descent_epoch_info *info) {
  clock->last = now();
  if (clock->epochs++ > 0) return;
  clock->first = clock->last;
  snprintf(clock->placement, sizeof clock->placement, "%s", info->placement);
}

static bool is_over(const struct clock *clock) {
  return clock->limit > 0 && clock->epochs > 2 && clock->last.wall - clock->first.wall > clock->limit;
}

static int after_epoch(void *user, const descent_epoch_info *info) {
  keep_time(user, info);
  return is_over(user);
}

static void after_epochs(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count) {
  need(epochs[0] != NULL, "the first member has ended before the others");
  keep_time(user, epochs[0]);
  for (int64_t k = 0; k < count; k++) stop[k] = is_over(user);
}

/* Of a step: ', "alone_seconds": 1e-3, "alone_cpu_seconds": 2e-3' for `what` "alone". */
static void print_step(const struct setup *s, const struct clock *clock, const char *what) {
  const double steps = (double)(s->rows / s->options.batch_size * (clock->epochs - 1));
  printf(", \"%s_seconds\": %.6e, \"%s_cpu_seconds\": %.6e", what, (clock->last.wall - clock->first.wall) / steps, what,
         (clock->last.cpu - clock->first.cpu) / steps);
}

/* Networks (members), or as many as are timed. */
static void train_together(const struct setup *s, int64_t epochs, descent_network **networks, struct clock *clock) {
  static descent_member members[MOST_MEMBERS];
  static descent_train_options options[MOST_MEMBERS];
  descent_members_options together = descent_members_options_default();
  together.on_epoch = after_epochs, together.user = clock;
  for (int64_t k = 0; k < s->members; k++) {
    options[k] = s->options;
    options[k].epochs = epochs;
    options[k].seed = descent_member_seed(1, k);
    members[k] = descent_member_default();
    members[k].network = networks[k] = make_network(s, k);
    members[k].training = s->data;
    members[k].options = &options[k];
  }
  need_ok(descent_fit_members(s->device, members, s->members, &together));
  for (int64_t k = 0; k < s->members; k++) need(members[k].status == DESCENT_OK, members[k].error);
}

static descent_network *train_alone(const struct setup *s, int64_t epochs, int64_t member, struct clock *clock) {
  descent_train_options options = s->options;
  descent_network *network = make_network(s, member);
  options.epochs = epochs;
  options.seed = descent_member_seed(1, member);
  if (clock) options.callbacks.on_epoch = after_epoch, options.callbacks.user = clock;
  need_ok(descent_fit(network, s->device, s->data, NULL, &options, NULL));
  return network;
}

static bool are_same(const descent_network *a, const descent_network *b) {
  size_t bytes = 0, other = 0;
  need_ok(descent_network_save_memory(a, NULL, 0, &bytes));
  need_ok(descent_network_save_memory(b, NULL, 0, &other));
  char *data[2] = {malloc(bytes), malloc(other)};
  need(data[0] && data[1], "out of memory");
  need_ok(descent_network_save_memory(a, data[0], bytes, &bytes));
  need_ok(descent_network_save_memory(b, data[1], other, &other));
  const bool same = bytes == other && memcmp(data[0], data[1], bytes) == 0;
  free(data[0]);
  free(data[1]);
  return same;
}

static void read_shape(char *widths, const char *activation, struct setup *s) {
  s->inputs = strtoll(widths, &widths, 10);
  while (*widths == ',' && s->layers < MOST_LAYERS) s->widths[s->layers++] = strtoll(widths + 1, &widths, 10);
  need(*widths == 0 && s->layers > 0 && s->inputs > 0, "WIDTHS: give inputs, hidden and outputs");
  for (int32_t l = 0; l < s->layers - 1; l++) need_ok(descent_activation_parse(activation, &s->activations[l]));
  s->activations[s->layers - 1] = DESCENT_ACTIVATION_IDENTITY;
}

static void read_arguments(int n, char **arguments, struct setup *s, double *seconds) {
  need(n == 8 || n == 11,
       "usage: members_time DEVICE WIDTHS BATCH PRECISION MEMBERS STEPS SECONDS [THREADS ACTIVATION ORDER]");
  const bool all = n == 11;
  read_shape(arguments[2], all ? arguments[9] : "relu", s);
  s->options = descent_train_options_default();
  s->options.batch_size = strtoll(arguments[3], NULL, 10);
  s->options.optimizer.kind = DESCENT_OPTIMIZER_ADAM;
  s->options.optimizer.learning_rate = 1e-3;
  need(!all || strcmp(arguments[10], "own") == 0 || strcmp(arguments[10], "shared") == 0, "ORDER: own or shared");
  s->options.shuffle_seed = all && strcmp(arguments[10], "shared") == 0 ? 1 : 0;
  s->members = strtoll(arguments[5], NULL, 10);
  s->rows = strtoll(arguments[6], NULL, 10) * s->options.batch_size;
  *seconds = strtod(arguments[7], NULL);
  need(s->members > 0 && s->members <= MOST_MEMBERS && s->rows > 0, "MEMBERS, BATCH, STEPS: must be positive");
  need_ok(descent_train_options_set(&s->options, "precision", arguments[4]));
  need_ok(descent_device_open(arguments[1], all ? (int32_t)strtol(arguments[8], NULL, 10) : 0, &s->device));
}

int main(int n, char **arguments) {
  static descent_network *networks[MOST_MEMBERS];
  struct setup setup = {0};
  struct clock checked = {0}, together = {0}, alone = {0};
  double seconds;
  bool same = true;
  read_arguments(n, arguments, &setup, &seconds);
  make_data(&setup);
  train_together(&setup, EPOCHS, networks, &checked);
  for (int i = 0; i < COMPARED; i++) {
    const int64_t k = (setup.members - 1) * i / (COMPARED - 1);
    descent_network *const other = train_alone(&setup, EPOCHS, k, NULL);
    same = same && are_same(networks[k], other);
    descent_network_free(other);
  }
  for (int64_t k = 0; k < setup.members; k++) descent_network_free(networks[k]);
  printf("{\"members\": %" PRId64 ", \"same\": %s, \"placement\": \"%s\"", setup.members, same ? "true" : "false",
         checked.placement);
  if (seconds > 0) {
    together.limit = alone.limit = seconds;
    train_together(&setup, INT32_MAX, networks, &together);
    descent_network_free(train_alone(&setup, INT32_MAX, 0, &alone));
    print_step(&setup, &together, "together");
    print_step(&setup, &alone, "alone");
  }
  printf("}\n");
  return 0;
}
