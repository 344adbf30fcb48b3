/* Which inputs does a trained network look at? The mean |d logit / d x| of each, times the input's standard deviation.
 * Run in the repository's root. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>

enum { ROWS = 569, INPUTS = 30, SHOWN = 5 };

/* Mean over the rows of |dX| of one input, times the standard deviation of its x. */
static double saliency(const float *X, const float *dX, int input) {
  double mean = 0, squares = 0, slope = 0;
  for (int r = 0; r < ROWS; r++) mean += X[r * INPUTS + input] / ROWS;
  for (int r = 0; r < ROWS; r++) squares += pow(X[r * INPUTS + input] - mean, 2) / ROWS;
  for (int r = 0; r < ROWS; r++) slope += fabs((double)dX[r * INPUTS + input]) / ROWS;
  return slope * sqrt(squares);
}

int main(void) {
  static float X[ROWS * INPUTS], dX[ROWS * INPUTS], ones[ROWS];
  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_network *network = NULL;
  descent_predictor *predictor = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  source.target = "diagnosis";
  shape.inputs = INPUTS, shape.layers = 2, shape.widths = (const int64_t[]){16, 1};
  options.epochs = 30, options.optimizer.learning_rate = 0.01, options.optimizer.weight_decay = 0.1;
  for (int r = 0; r < ROWS; r++) ones[r] = 1;
  int failed =
      descent_device_open("auto", 0, &device) || descent_dataset_read("examples/breast_cancer.csv", &source, &data) ||
      descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_network_fit_preprocessing(network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false) ||
      descent_fit(network, device, data, NULL, &options, NULL) ||
      descent_predictor_create(network, device, ROWS, &predictor);
  for (int64_t r = 0; !failed && r < ROWS; r++) failed = descent_dataset_row(data, r, X + r * INPUTS) != DESCENT_OK;
  failed = failed || descent_predictor_input_gradient(predictor, X, ones, ROWS, dX);
  if (failed) fprintf(stderr, "saliency: %s\n", descent_last_error());
  double all[INPUTS], total = 0, shown = 0;
  for (int i = 0; i < INPUTS; i++) total += all[i] = saliency(X, dX, i);
  for (int n = 0; n < SHOWN && !failed; n++) {
    int most = 0;
    for (int i = 1; i < INPUTS; i++)
      if (all[i] > all[most]) most = i;
    printf("%-24s %.3f of the logit per standard deviation\n", descent_network_input_name(network, most), all[most]);
    shown += all[most], all[most] = 0;
  }
  descent_predictor_free(predictor);
  descent_network_free(network);
  descent_dataset_free(data);
  descent_device_close(device);
  return shown > total * SHOWN / INPUTS ? 0 : 1;
}
