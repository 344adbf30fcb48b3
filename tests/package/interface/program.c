/* Trains, evaluates, predicts and measures, by whatever header it is compiled with, and prints all results exactly. Every
 * struct that the library fills is followed by bytes that must stay as they are. */
#include <descent/descent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 569, INPUTS = 30, GUARD = 64, GUARD_BYTE = 0xA5 };

#define GUARDED(type)           \
  struct {                      \
    type it;                    \
    unsigned char guard[GUARD]; \
  }
#define SET_GUARD(guarded) memset(&(guarded), GUARD_BYTE, sizeof(guarded))
#define CHECK_GUARD(guarded) check_guard((guarded).guard, #guarded)

static void check_guard(const unsigned char *guard, const char *name) {
  for (int i = 0; i < GUARD; i++)
    if (guard[i] != GUARD_BYTE) {
      printf("the library wrote behind %s\n", name);
      exit(1);
    }
}

static void check(descent_status status) {
  if (!status) return;
  printf("%s\n", descent_last_error());
  exit(1);
}

static void ignore(void *user, const descent_bench_row *row) { (void)user, (void)row; }

int main(int argc, char **argv) {
  static float probabilities[ROWS], X[INPUTS], y[1];
  const int64_t widths[] = {6, 1};
  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_network *network = NULL;
  descent_trainer *trainer = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  GUARDED(descent_metrics) metrics;
  GUARDED(descent_fit_result) result;
  GUARDED(descent_step_info) step;
  GUARDED(descent_bench_result) bench;
  if (argc != 2) return 2;
  SET_GUARD(metrics), SET_GUARD(result), SET_GUARD(step), SET_GUARD(bench);
  source.target = "diagnosis";
  shape.inputs = INPUTS, shape.layers = 2, shape.widths = widths;
  options.epochs = 3, options.optimizer.learning_rate = 0.02;

  check(descent_device_open("cpu", 1, &device));
  check(descent_dataset_read(argv[1], &source, &data));
  check(descent_network_create(&shape, &network));
  check(descent_network_initialise(network, DESCENT_INIT_AUTO, 1));
  check(descent_network_fit_preprocessing(network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false));
  check(descent_fit(network, device, data, NULL, &options, &result.it));
  CHECK_GUARD(result);
  printf("fit %lld %a\n", (long long)result.it.steps, result.it.train_loss);
  check(descent_evaluate(network, device, data, 0, &metrics.it));
  CHECK_GUARD(metrics);
  printf("evaluate %lld %a %a %a %lld\n", (long long)metrics.it.rows, metrics.it.loss, metrics.it.accuracy,
         metrics.it.auc, (long long)metrics.it.confusion[3]);
  descent_metrics_clear(&metrics.it);
  CHECK_GUARD(metrics);
  printf("cleared %lld %p\n", (long long)metrics.it.rows, (void *)metrics.it.f1);
  check(descent_predict(network, device, data, probabilities));
  for (int i = 0; i < ROWS; i += 100) printf("predict %a\n", (double)probabilities[i]);
  check(descent_dataset_row(data, 0, X));
  check(descent_dataset_target(data, 0, y));
  check(descent_trainer_create(network, device, &options, 1, &trainer));
  check(descent_trainer_step(trainer, X, y, NULL, 1, &step.it));
  CHECK_GUARD(step);
  printf("step %a %a\n", step.it.loss, step.it.gradient_norm);
  descent_trainer_free(trainer);
  check(descent_bench(network, device, &options, 0.02, ignore, NULL, &bench.it));
  CHECK_GUARD(bench);

  descent_network_free(network);
  descent_dataset_free(data);
  descent_device_close(device);
  return 0;
}
