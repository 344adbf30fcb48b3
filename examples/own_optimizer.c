/* An optimizer of the program's own: Lion, which steps by the sign of an interpolated momentum (Chen et al. 2023), on the
 * gradients of a trainer. Run in the repository's root. */
#include <descent/descent.h>
#include <stdio.h>

enum { ROWS = 569, INPUTS = 30, HIDDEN = 16, LAYERS = 2, BATCH = 32, EPOCHS = 40 };
static const float learning_rate = 1e-3F, weight_decay = 0.1F, beta1 = 0.9F, beta2 = 0.99F;

/* c = beta1 m + (1 - beta1) g;  w -= learning_rate (sign(c) + weight_decay w);  m = beta2 m + (1 - beta2) g. */
static void lion(float *w, float *m, const float *g, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    const float c = beta1 * m[i] + (1 - beta1) * g[i];
    w[i] -= learning_rate * ((float)((c > 0) - (c < 0)) + weight_decay * w[i]);
    m[i] = beta2 * m[i] + (1 - beta2) * g[i];
  }
}

static int update(descent_trainer *trainer, int layer, int64_t weights, int64_t biases) {
  static float mW[LAYERS][HIDDEN * INPUTS], mb[LAYERS][HIDDEN];
  float W[HIDDEN * INPUTS], b[HIDDEN], dW[HIDDEN * INPUTS], db[HIDDEN];
  if (descent_trainer_get_layer(trainer, layer, W, b) || descent_trainer_get_gradient(trainer, layer, dW, db)) return 1;
  lion(W, mW[layer - 1], dW, weights);
  lion(b, mb[layer - 1], db, biases);
  return descent_trainer_set_layer(trainer, layer, W, b) != DESCENT_OK;
}

int main(void) {
  static float X[ROWS * INPUTS], y[ROWS];
  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_network *network = NULL;
  descent_trainer *trainer = NULL;
  descent_metrics metrics = {0};
  descent_dataset_options source = descent_dataset_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  source.target = "diagnosis", shape.inputs = INPUTS, shape.layers = 2, shape.widths = (const int64_t[]){HIDDEN, 1};
  int failed =
      descent_device_open("auto", 0, &device) || descent_dataset_read("examples/breast_cancer.csv", &source, &data) ||
      descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_network_fit_preprocessing(network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false) ||
      descent_trainer_create(network, device, &options, BATCH, &trainer);
  for (int64_t r = 0; !failed && r < ROWS; r++)
    failed = descent_dataset_row(data, r, X + r * INPUTS) || descent_dataset_target(data, r, y + r);
  for (int64_t at = 0, steps = 0, n; !failed && at < EPOCHS * ROWS; at += n) {
    const int64_t r = at % ROWS;
    n = ROWS - r < BATCH ? ROWS - r : BATCH;
    failed = descent_trainer_gradient(trainer, X + r * INPUTS, y + r, NULL, n, NULL) ||
             update(trainer, 1, HIDDEN * INPUTS, HIDDEN) || update(trainer, 2, HIDDEN, 1) ||
             descent_trainer_set_steps(trainer, ++steps);
  }
  failed = failed || descent_trainer_sync(trainer) || descent_evaluate(network, device, data, 0, &metrics);
  if (failed) fprintf(stderr, "own_optimizer: %s\n", descent_last_error());
  printf("Lion, %d epochs: loss %.4f, accuracy %.4f\n", EPOCHS, metrics.loss, metrics.accuracy);
  failed = failed || metrics.accuracy < 0.97;
  descent_metrics_clear(&metrics), descent_trainer_free(trainer), descent_network_free(network);
  descent_dataset_free(data), descent_device_close(device);
  return failed;
}
