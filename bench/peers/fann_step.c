/* Times one epoch of FANN's batch training on one batch: the peer's closest thing to a training step.
 * usage: fann_step ACTIVATION BATCH SECONDS n_0 n_1 ... ; prints the median seconds per step. */
#include <floatfann.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  unsigned batch = (unsigned)atoi(argv[2]), layers = (unsigned)argc - 4, n[32];
  double seconds = atof(argv[3]);
  for (unsigned l = 0; l < layers && l < 32; l++) n[l] = (unsigned)atoi(argv[4 + l]);
  struct fann *network = fann_create_standard_array(layers, n);
  struct fann_train_data *data = fann_create_train(batch, n[0], n[layers - 1]);
  if (!network || !data) return 1;
  fann_set_activation_function_hidden(network, strcmp(argv[1], "tanh") ? FANN_SIGMOID : FANN_SIGMOID_SYMMETRIC);
  fann_set_activation_function_output(network, FANN_SIGMOID);
  fann_set_training_algorithm(network, FANN_TRAIN_BATCH);
  fann_set_learning_rate(network, 1e-3f);
  for (unsigned i = 0; i < batch; i++) {
    for (unsigned j = 0; j < n[0]; j++) data->input[i][j] = (float)rand() / (float)RAND_MAX * 2 - 1;
    for (unsigned j = 0; j < n[layers - 1]; j++) data->output[i][j] = (float)(rand() & 1);
  }
  enum { MOST = 100000 };
  static double samples[MOST];
  int count = 0;
  fann_train_epoch(network, data);
  for (double end = now() + seconds; count < MOST && (now() < end || count < 3);) {
    double start = now();
    fann_train_epoch(network, data);
    samples[count++] = now() - start;
  }
  qsort(samples, (size_t)count, sizeof *samples, ascending);
  printf("%.9g\n", samples[count / 2]);
  fann_destroy_train(data);
  fann_destroy(network);
  return 0;
}
