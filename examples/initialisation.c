/* Vanishing and exploding gradients: the gradient's norm at every layer of a 20-layer network before its first update,
 * under small naive weights, large naive weights, Xavier and He. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 20, WIDTH = 64, INPUTS = 64, ROWS = 256 };

struct scheme {
  const char *name;
  double naive; /* standard deviation of normal weights, or 0: `init` */
  descent_init init;
};

/* Standard normal from two uniform numbers (Box and Muller 1958). */
static double normal(void) {
  double u = (rand() + 0.5) / (RAND_MAX + 1.0), v = (rand() + 0.5) / (RAND_MAX + 1.0);
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static int keep_health(void *user, const descent_epoch_info *info) {
  double *norms = user;
  for (int l = 0; l < info->layers; l++) norms[l] = info->health[l].gradient_norm;
  if (*info->warning) printf("    descent says: %s\n", info->warning);
  return 0;
}

static descent_status gradient_norms(descent_device *device, const descent_dataset *data, descent_activation activation,
                                     const struct scheme *scheme, double *norms) {
  int64_t widths[LAYERS];
  descent_activation activations[LAYERS];
  for (int l = 0; l < LAYERS; l++) widths[l] = WIDTH, activations[l] = activation;
  widths[LAYERS - 1] = 1;
  activations[LAYERS - 1] = DESCENT_ACTIVATION_IDENTITY;
  descent_network_options shape = descent_network_options_default();
  shape.inputs = INPUTS;
  shape.layers = LAYERS;
  shape.widths = widths;
  shape.activations = activations;
  shape.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;

  descent_network *network = NULL;
  descent_status status = descent_network_create(&shape, &network);
  if (!status) status = descent_network_initialise(network, scheme->init, 1);
  srand(1);
  for (int l = 1; !status && scheme->naive > 0 && l <= LAYERS; l++) {
    static float W[WIDTH * WIDTH];
    for (int i = 0; i < WIDTH * WIDTH; i++) W[i] = (float)(scheme->naive * normal());
    status = descent_network_set_layer(network, l, W, NULL);
  }
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = 1e-12; /* one step whose gradients we look at */
  options.batch_size = 0;
  options.epochs = 1;
  options.callbacks.on_epoch = keep_health;
  options.callbacks.user = norms;
  if (!status) status = descent_fit(network, device, data, NULL, &options, NULL);
  descent_network_free(network);
  return status;
}

int main(void) {
  static const struct scheme schemes[] = {{"naive, sd 0.01", 0.01, DESCENT_INIT_AUTO},
                                          {"naive, sd 1", 1.0, DESCENT_INIT_AUTO},
                                          {"xavier", 0, DESCENT_INIT_XAVIER_NORMAL},
                                          {"he", 0, DESCENT_INIT_HE_NORMAL}};
  static const descent_activation kinds[] = {DESCENT_ACTIVATION_TANH, DESCENT_ACTIVATION_RELU};
  enum { SCHEMES = sizeof schemes / sizeof *schemes };
  static float X[ROWS * INPUTS], y[ROWS];
  srand(2);
  for (int i = 0; i < ROWS * INPUTS; i++) X[i] = (float)normal();
  for (int i = 0; i < ROWS; i++) y[i] = X[i * INPUTS] > 0 ? 1.0f : 0.0f;

  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_status status = descent_device_open("cpu", 0, &device);
  if (!status) status = descent_dataset_create(X, y, NULL, ROWS, INPUTS, 1, DESCENT_TASK_BINARY, 2, &data);
  for (size_t k = 0; !status && k < sizeof kinds / sizeof *kinds; k++) {
    double norms[SCHEMES][LAYERS];
    printf("%s, %d layers of %d units: norm of dJ/dW, dJ/db before the first update\n",
           descent_activation_name(kinds[k]), LAYERS, WIDTH);
    for (int s = 0; !status && s < SCHEMES; s++) {
      printf("  %s\n", schemes[s].name);
      status = gradient_norms(device, data, kinds[k], &schemes[s], norms[s]);
    }
    if (status) break;
    printf("  layer");
    for (int s = 0; s < SCHEMES; s++) printf("  %14s", schemes[s].name);
    for (int l = 0; l < LAYERS; l++) {
      printf("\n  %5d", l + 1);
      for (int s = 0; s < SCHEMES; s++) printf("  %14.2e", norms[s][l]);
    }
    printf("\n\n");
  }
  if (status) fprintf(stderr, "initialisation: %s\n", descent_last_error());
  descent_dataset_free(data);
  descent_device_close(device);
  return status ? 1 : 0;
}
