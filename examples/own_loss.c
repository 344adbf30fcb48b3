/* A loss of the program's own: Huber's, against the mean squared error, on targets of which every tenth is wrong. Run in
 * the repository's root. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>

enum { ROWS = 569, INPUTS = 29 };

/* L = e^2 / 2 for |e| <= 1, else |e| - 1/2, with e = output - y (Huber 1964); dL/d output = e, or its sign. */
static double huber(void *user, const float *outputs, const float *y, const float *weights, int64_t rows, int64_t K,
                    float *dOutputs) {
  double J = 0, sum = 0;
  (void)user;
  for (int64_t r = 0; r < rows; r++) sum += weights[r];
  for (int64_t i = 0; i < rows * K; i++) {
    const double w = weights[i / K] / sum, e = outputs[i] - y[i];
    J += w * (fabs(e) <= 1 ? e * e / 2 : fabs(e) - 0.5);
    dOutputs[i] = (float)(w * fmin(fmax(e, -1), 1));
  }
  return J;
}

/* Trains on the wrong targets; the mean distance of the predictions from the right ones, -1 after a failure. */
static double train(descent_device *device, const descent_dataset *wrong, const descent_dataset *right,
                    descent_loss_function *loss) {
  static float predicted[ROWS];
  descent_network *network = NULL;
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  shape.inputs = descent_dataset_inputs(wrong), shape.layers = 2, shape.widths = (const int64_t[]){16, 1};
  shape.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  options.epochs = 60, options.optimizer.learning_rate = 0.005, options.callbacks.loss = loss;
  const int failed =
      descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_network_fit_preprocessing(network, wrong, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, true) ||
      descent_fit(network, device, wrong, NULL, &options, NULL) || descent_predict(network, device, right, predicted);
  double distance = 0;
  for (int64_t r = 0; r < ROWS; r++) distance += fabs(predicted[r] - descent_dataset_target_value(right, r, 0)) / ROWS;
  return descent_network_free(network), failed ? -1 : distance;
}

int main(void) {
  static float X[ROWS * INPUTS], y[ROWS];
  descent_device *device = NULL;
  descent_dataset *right = NULL, *wrong = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  source.target = "worst_area", source.ignore = (const char *const[]){"diagnosis"}, source.ignored = 1;
  int failed =
      descent_device_open("auto", 0, &device) || descent_dataset_read("examples/breast_cancer.csv", &source, &right);
  for (int64_t r = 0; !failed && r < ROWS; y[r] *= r % 10 ? 1 : 10, r++)
    failed = descent_dataset_row(right, r, X + r * INPUTS) || descent_dataset_target(right, r, y + r);
  failed = failed || descent_dataset_create(X, y, NULL, ROWS, INPUTS, 1, DESCENT_TASK_REGRESSION, 0, &wrong);
  const double squared = failed ? -1 : train(device, wrong, right, NULL);
  const double own = failed ? -1 : train(device, wrong, right, huber);
  if (own < 0) fprintf(stderr, "own_loss: %s\n", descent_last_error());
  printf("mean distance from the right targets: squared error %.4g, Huber %.4g\n", squared, own);
  descent_dataset_free(wrong), descent_dataset_free(right), descent_device_close(device);
  return own < 0 || own > 0.75 * squared;
}
