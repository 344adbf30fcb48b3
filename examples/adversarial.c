/* Adversarial examples by the fast gradient sign method (Goodfellow et al. 2015): each pixel of a digit moves by `change`
 * of 16 in the direction in which the loss grows. Run in the repository's root. */
#include <descent/descent.h>
#include <stdio.h>

enum { ROWS = 1797, INPUTS = 64, CLASSES = 10 };
static const float change = 1.5F;

/* p - onehot(y) of each row: dL / d logits of the cross-entropy. Returns how many rows have their class's p as largest. */
static int differentiate(const float *p, const float *y, float *dOutputs) {
  int right = 0;
  for (int r = 0; r < ROWS; r++) {
    int most = 0;
    for (int k = 0; k < CLASSES; k++) {
      if (p[r * CLASSES + k] > p[r * CLASSES + most]) most = k;
      dOutputs[r * CLASSES + k] = p[r * CLASSES + k] - (k == (int)y[r] ? 1 : 0);
    }
    right += most == (int)y[r];
  }
  return right;
}

int main(void) {
  static float X[ROWS * INPUTS], dX[ROWS * INPUTS], y[ROWS], p[ROWS * CLASSES], dOutputs[ROWS * CLASSES];
  descent_device *device = NULL;
  descent_dataset *training = NULL, *test = NULL;
  descent_network *network = NULL;
  descent_predictor *predictor = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  source.target = "digit";
  shape.inputs = INPUTS, shape.layers = 2, shape.widths = (const int64_t[]){32, CLASSES};
  shape.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, options.epochs = 15, options.optimizer.learning_rate = 0.005;
  int failed =
      descent_device_open("auto", 0, &device) ||
      descent_dataset_read("examples/optdigits_train.csv", &source, &training) ||
      descent_dataset_read("examples/optdigits_test.csv", &source, &test) || descent_network_create(&shape, &network) ||
      descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_network_fit_preprocessing(network, training, DESCENT_NORMALIZE_MINMAX, DESCENT_IMPUTE_MEAN, false) ||
      descent_fit(network, device, training, NULL, &options, NULL) ||
      descent_predictor_create(network, device, ROWS, &predictor);
  for (int64_t r = 0; !failed && r < ROWS; r++)
    failed = descent_dataset_row(test, r, X + r * INPUTS) || descent_dataset_target(test, r, y + r);
  failed = failed || descent_predictor_run(predictor, X, ROWS, p);
  const int before = differentiate(p, y, dOutputs);
  failed = failed || descent_predictor_input_gradient(predictor, X, dOutputs, ROWS, dX);
  for (int i = 0; i < ROWS * INPUTS; i++) X[i] += change * (float)((dX[i] > 0) - (dX[i] < 0));
  failed = failed || descent_predictor_run(predictor, X, ROWS, p);
  if (failed) fprintf(stderr, "adversarial: %s\n", descent_last_error());
  const int after = differentiate(p, y, dOutputs);
  printf("%.3f of the digits are recognised, with pixels changed by %.1f of 16 %.3f\n", (double)before / ROWS,
         (double)change, (double)after / ROWS);
  descent_predictor_free(predictor);
  descent_network_free(network);
  descent_dataset_free(training), descent_dataset_free(test);
  descent_device_close(device);
  return failed || before < 0.9 * ROWS || after > before / 2;
}
