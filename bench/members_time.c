/* How long trainings of many networks take: members_time THREADS INPUTS HIDDEN CLASSES MEMBERS BATCH STEPS EPOCHS answers
 * requests "turn" and "together", one a line, with the seconds of training all members, one after another or at once, the
 * seconds of the processors, and a digest of what the members have become. HIDDEN is "128,64"; CLASSES 2 is one sigmoid output. An epoch has STEPS batches of
 * random rows, in an order that the members share. The trainings of one request begin from the same parameters as those
 * of every other. */
#include <descent/descent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_LAYERS = 8, MOST_MEMBERS = 1024 };

struct work {
  descent_device *device;
  descent_dataset *dataset;
  int64_t members;
  descent_network *initial[MOST_MEMBERS], *networks[MOST_MEMBERS];
  descent_train_options options[MOST_MEMBERS];
};

static void need(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "members_time: %s\n", what);
  exit(1);
}

static void need_ok(descent_status status) { need(status == DESCENT_OK, descent_last_error()); }

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Uniform in [-1, 1). */
static float draw(uint64_t *state) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (float)(*state >> 40) * 0x1p-23F - 1;
}

static descent_dataset *make_dataset(int64_t rows, int64_t inputs, int64_t classes) {
  float *X = malloc((size_t)(rows * inputs) * sizeof *X), *y = malloc((size_t)rows * sizeof *y);
  uint64_t state = 1;
  descent_dataset *dataset;
  need(X && y, "out of memory");
  for (int64_t i = 0; i < rows * inputs; i++) X[i] = draw(&state);
  for (int64_t i = 0; i < rows; i++) y[i] = (float)(i % classes);
  need_ok(descent_dataset_create(X, y, NULL, rows, inputs, 1, classes == 2 ? DESCENT_TASK_BINARY : DESCENT_TASK_CLASSES,
                                 classes, &dataset)); /* which borrows X and y until the process ends */
  return dataset;
}

static void make_networks(struct work *work, int64_t inputs, char *hidden, int64_t classes) {
  int64_t widths[MOST_LAYERS];
  descent_activation activations[MOST_LAYERS];
  descent_network_options shape = descent_network_options_default();
  for (char *width = strtok(hidden, ","); width && shape.layers < MOST_LAYERS - 1; width = strtok(NULL, ","))
    widths[shape.layers++] = atoll(width);
  for (int l = 0; l < shape.layers; l++)
    activations[l] = classes == 2 ? DESCENT_ACTIVATION_SIGMOID : DESCENT_ACTIVATION_RELU;
  activations[shape.layers] = DESCENT_ACTIVATION_IDENTITY;
  widths[shape.layers++] = classes == 2 ? 1 : classes;
  shape.inputs = inputs;
  shape.widths = widths;
  shape.activations = activations;
  shape.loss = classes == 2 ? DESCENT_LOSS_BINARY_CROSS_ENTROPY : DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  for (int64_t k = 0; k < work->members; k++) {
    need_ok(descent_network_create(&shape, &work->initial[k]));
    need_ok(descent_network_initialise(work->initial[k], DESCENT_INIT_AUTO, descent_member_seed(1, k)));
  }
}

static void train_in_turn(struct work *work) {
  for (int64_t k = 0; k < work->members; k++)
    need_ok(descent_fit(work->networks[k], work->device, work->dataset, NULL, &work->options[k], NULL));
}

static void train_together(struct work *work) {
  static descent_member members[MOST_MEMBERS];
  for (int64_t k = 0; k < work->members; k++) {
    members[k] = descent_member_default();
    members[k].network = work->networks[k];
    members[k].training = work->dataset;
    members[k].options = &work->options[k];
  }
  need_ok(descent_fit_members(work->device, members, work->members, NULL));
}

/* FNV-1a over the bits of the layer's weights and biases. */
static uint64_t digest_layer(uint64_t digest, const descent_network *network, int32_t layer, float *W, float *b) {
  need_ok(descent_network_get_layer(network, layer, W, b));
  const int64_t n_out = descent_network_width(network, layer), n = n_out * descent_network_width(network, layer - 1);
  for (int64_t i = 0; i < n + n_out; i++) {
    uint32_t bits;
    memcpy(&bits, i < n ? &W[i] : &b[i - n], sizeof bits);
    digest = (digest ^ bits) * UINT64_C(1099511628211);
  }
  return digest;
}

static uint64_t digest_networks(const struct work *work) {
  const size_t most = (size_t)descent_network_parameters(work->initial[0]);
  float *W = malloc(most * sizeof *W), *b = malloc(most * sizeof *b);
  uint64_t digest = UINT64_C(14695981039346656037);
  need(W && b, "out of memory");
  for (int64_t k = 0; k < work->members; k++)
    for (int32_t l = 1; l <= descent_network_layers(work->networks[k]); l++)
      digest = digest_layer(digest, work->networks[k], l, W, b);
  free(W);
  free(b);
  return digest;
}

static void answer(struct work *work, bool together) {
  for (int64_t k = 0; k < work->members; k++) need_ok(descent_network_clone(work->initial[k], &work->networks[k]));
  const double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
  (together ? train_together : train_in_turn)(work);
  const double seconds = now(CLOCK_MONOTONIC) - start, cpu_seconds = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  printf("{\"seconds\": %.9f, \"cpu\": %.9f, \"digest\": \"%016" PRIx64 "\"}\n", seconds, cpu_seconds,
         digest_networks(work));
  fflush(stdout);
  for (int64_t k = 0; k < work->members; k++) descent_network_free(work->networks[k]);
}

int main(int argc, char **argv) {
  static struct work work;
  char way[16];
  if (argc != 9) return 2;
  const int64_t inputs = atoll(argv[2]), classes = atoll(argv[4]), batch = atoll(argv[6]), steps = atoll(argv[7]);
  work.members = atoll(argv[5]);
  need(work.members >= 1 && work.members <= MOST_MEMBERS, "1 to 1024 members");
  need_ok(descent_device_open("cpu", atoi(argv[1]), &work.device));
  work.dataset = make_dataset(steps * batch, inputs, classes);
  make_networks(&work, inputs, argv[3], classes);
  for (int64_t k = 0; k < work.members; k++) {
    descent_train_options *options = &work.options[k];
    *options = descent_train_options_default();
    options->optimizer.kind = DESCENT_OPTIMIZER_ADAM;
    options->epochs = atoll(argv[8]);
    options->batch_size = batch;
    options->seed = descent_member_seed(1, k);
    options->shuffle_seed = 1;
  }
  while (scanf("%15s", way) == 1) answer(&work, strcmp(way, "together") == 0);
  return 0;
}
