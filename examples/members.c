/* Many networks trained together. First an ensemble of eight, which is better than its members are on average; then
 * successive halving (Jamieson and Talwalkar 2016), which finds a learning rate: of sixteen, the better half trains on after
 * epochs 1, 2, 4 and 8. Run in the repository's root. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 16, ENSEMBLE = 8, EPOCHS = 16, INPUTS = 64 };

/* The members of a call. */
static descent_network *networks[MOST];
static descent_train_options options[MOST];
static descent_member members[MOST];

static int prepare(int count, const descent_dataset *training, const descent_dataset *validation) {
  descent_network_options shape = descent_network_options_default();
  shape.inputs = INPUTS, shape.layers = 2, shape.widths = (const int64_t[]){32, 10};
  shape.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  for (int k = 0; k < count; k++) {
    const uint64_t seed = descent_member_seed(1, k);
    if (descent_network_create(&shape, &networks[k]) ||
        descent_network_initialise(networks[k], DESCENT_INIT_AUTO, seed) ||
        descent_network_fit_preprocessing(networks[k], training, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN,
                                          false))
      return 1;
    options[k] = descent_train_options_default();
    options[k].seed = seed;
    options[k].epochs = EPOCHS;
    members[k] = descent_member_default();
    members[k].network = networks[k];
    members[k].training = training, members[k].validation = validation;
    members[k].options = &options[k];
  }
  return 0;
}

static void release(int count) {
  for (int k = 0; k < count; k++) descent_network_free(networks[k]), networks[k] = NULL;
}

static int loss_of(const descent_network *network, descent_device *device, const descent_dataset *test, double *loss) {
  descent_metrics metrics = {0};
  const int failed = descent_evaluate(network, device, test, 0, &metrics) != DESCENT_OK;
  *loss = metrics.loss;
  descent_metrics_clear(&metrics);
  return failed;
}

static int train_ensemble(descent_device *device, const descent_dataset *training, const descent_dataset *test) {
  descent_network *ensemble = NULL;
  double loss = 0, mean = 0, joined = 0;
  int failed = prepare(ENSEMBLE, training, NULL) || descent_fit_members(device, members, ENSEMBLE, NULL);
  for (int k = 0; !failed && k < ENSEMBLE; k++) {
    failed = members[k].status != DESCENT_OK || loss_of(networks[k], device, test, &loss);
    mean += loss / ENSEMBLE;
  }
  failed = failed || descent_network_join((const descent_network *const *)networks, ENSEMBLE, &ensemble) ||
           loss_of(ensemble, device, test, &joined);
  if (!failed) printf("log-loss of an ensemble of %d: %.4f; its members: %.4f on average\n", ENSEMBLE, joined, mean);
  descent_network_free(ensemble);
  release(ENSEMBLE);
  return failed || joined >= mean;
}

/* ---- successive halving ------------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* After epochs 1, 2, 4, .. stops those whose validation loss is above the median. */
static void halve(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count) {
  double losses[MOST];
  int64_t n = 0, epoch = 0;
  (void)user;
  for (int64_t k = 0; k < count; k++) {
    if (!epochs[k]) continue;
    losses[n++] = epochs[k]->validation->loss;
    epoch = epochs[k]->epoch;
  }
  if (n < 2 || (epoch & (epoch - 1))) return;
  qsort(losses, (size_t)n, sizeof *losses, compare);
  for (int64_t k = 0; k < count; k++) stop[k] = epochs[k] && epochs[k]->validation->loss > losses[(n - 1) / 2];
  printf("epoch %2d: %2d learning rates, best validation loss %.4f\n", (int)epoch, (int)n, losses[0]);
}

static int find_learning_rate(descent_device *device, const descent_dataset *training,
                              const descent_dataset *validation) {
  descent_members_options together = descent_members_options_default();
  int best = 0, failed = prepare(MOST, training, validation);
  for (int k = 0; k < MOST; k++) options[k].optimizer.learning_rate = 1e-4 * pow(1e4, k / (MOST - 1.0)); /* .. 1 */
  together.on_epoch = halve;
  failed = failed || descent_fit_members(device, members, MOST, &together);
  for (int k = 0; k < MOST; k++)
    if (members[k].status == DESCENT_OK && members[k].result.best_loss < members[best].result.best_loss) best = k;
  if (!failed)
    printf("learning rate %.4f: validation loss %.4f after %d epochs\n", options[best].optimizer.learning_rate,
           members[best].result.best_loss, (int)members[best].result.epochs);
  release(MOST);
  return failed || members[best].result.epochs != EPOCHS;
}

int main(void) {
  descent_device *device = NULL;
  descent_dataset *data = NULL, *training = NULL, *validation = NULL, *test = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  source.target = "digit";
  int failed = descent_device_open("auto", 0, &device) ||
               descent_dataset_read("examples/optdigits_train.csv", &source, &data) ||
               descent_dataset_read("examples/optdigits_test.csv", &source, &test) ||
               descent_dataset_split(data, 0.2, 1, &training, &validation) || train_ensemble(device, training, test) ||
               find_learning_rate(device, training, validation);
  if (failed) fprintf(stderr, "members: %s\n", descent_last_error());
  descent_dataset_free(training), descent_dataset_free(validation), descent_dataset_free(data);
  descent_dataset_free(test), descent_device_close(device);
  return failed;
}
