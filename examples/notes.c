/* The notes' network, step by step: three layers, binary cross-entropy, gradient descent. Every formula is written out
 * in double beside the library's own step, and the two are printed together. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>

enum { M = 4, N0 = 2, N1 = 4, N2 = 3, STEPS = 5 }; /* the four rows of exclusive or; one output */
static const float X[M][N0] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
static const float y[M] = {0, 1, 1, 0};
static const double alpha = 0.5;

/* W[l] is (n_l, n_{l-1}) and b[l] (n_l), as in the library. */
static double W1[N1][N0], b1[N1], W2[N2][N1], b2[N2], W3[1][N2], b3[1];

static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

/* One step of the notes on all M rows; returns J before the update. */
static double step_by_hand(void) {
  double J = 0, dW1[N1][N0] = {{0}}, db1[N1] = {0}, dW2[N2][N1] = {{0}}, db2[N2] = {0}, dW3[N2] = {0}, db3 = 0;
  for (int i = 0; i < M; i++) {
    double a1[N1], a2[N2], z3 = b3[0], d2[N2], d1[N1];
    for (int j = 0; j < N1; j++) { /* z[1] = W[1] x + b[1], a[1] = tanh z[1] */
      a1[j] = b1[j];
      for (int k = 0; k < N0; k++) a1[j] += W1[j][k] * (double)X[i][k];
      a1[j] = tanh(a1[j]);
    }
    for (int j = 0; j < N2; j++) { /* a[2] = tanh(W[2] a[1] + b[2]) */
      a2[j] = b2[j];
      for (int k = 0; k < N1; k++) a2[j] += W2[j][k] * a1[k];
      a2[j] = tanh(a2[j]);
    }
    for (int k = 0; k < N2; k++) z3 += W3[0][k] * a2[k];
    double a3 = sigmoid(z3), t = (double)y[i]; /* a[3] = sigmoid(z[3]) */
    J += -(t * log(a3) + (1 - t) * log(1 - a3)) / M;

    double d3 = (a3 - t) / M;                                                 /* dJ/dz[3] = (a - y) / m */
    for (int k = 0; k < N2; k++) d2[k] = d3 * W3[0][k] * (1 - a2[k] * a2[k]); /* tanh' = 1 - a^2 */
    for (int k = 0; k < N1; k++) {
      d1[k] = 0;
      for (int j = 0; j < N2; j++) d1[k] += d2[j] * W2[j][k];
      d1[k] *= 1 - a1[k] * a1[k];
    }
    for (int k = 0; k < N2; k++) dW3[k] += d3 * a2[k]; /* dJ/dW[l] = dJ/dz[l] a[l-1]^T, dJ/db[l] = dJ/dz[l] */
    db3 += d3;
    for (int j = 0; j < N2; j++) {
      for (int k = 0; k < N1; k++) dW2[j][k] += d2[j] * a1[k];
      db2[j] += d2[j];
    }
    for (int j = 0; j < N1; j++) {
      for (int k = 0; k < N0; k++) dW1[j][k] += d1[j] * (double)X[i][k];
      db1[j] += d1[j];
    }
  }
  for (int j = 0; j < N1; j++) { /* w -= alpha dJ/dw */
    for (int k = 0; k < N0; k++) W1[j][k] -= alpha * dW1[j][k];
    b1[j] -= alpha * db1[j];
  }
  for (int j = 0; j < N2; j++) {
    for (int k = 0; k < N1; k++) W2[j][k] -= alpha * dW2[j][k];
    b2[j] -= alpha * db2[j];
  }
  for (int k = 0; k < N2; k++) W3[0][k] -= alpha * dW3[k];
  b3[0] -= alpha * db3;
  return J;
}

/* Copies the network's weights into the arrays above. */
static descent_status take_weights(const descent_network *network) {
  float w1[N1][N0], w2[N2][N1], w3[N2];
  descent_status status = descent_network_get_layer(network, 1, &w1[0][0], NULL);
  if (!status) status = descent_network_get_layer(network, 2, &w2[0][0], NULL);
  if (!status) status = descent_network_get_layer(network, 3, w3, NULL);
  if (status) return status;
  for (int j = 0; j < N1; j++)
    for (int k = 0; k < N0; k++) W1[j][k] = (double)w1[j][k];
  for (int j = 0; j < N2; j++)
    for (int k = 0; k < N1; k++) W2[j][k] = (double)w2[j][k];
  for (int k = 0; k < N2; k++) W3[0][k] = (double)w3[k];
  return DESCENT_OK;
}

static double largest_difference(const descent_network *network) {
  float w1[N1][N0], w2[N2][N1];
  double largest = 0;
  if (descent_network_get_layer(network, 1, &w1[0][0], NULL) || descent_network_get_layer(network, 2, &w2[0][0], NULL))
    return NAN;
  for (int j = 0; j < N1; j++)
    for (int k = 0; k < N0; k++) largest = fmax(largest, fabs((double)w1[j][k] - W1[j][k]));
  for (int j = 0; j < N2; j++)
    for (int k = 0; k < N1; k++) largest = fmax(largest, fabs((double)w2[j][k] - W2[j][k]));
  return largest;
}

int main(void) {
  descent_device *device = NULL;
  descent_network *network = NULL;
  descent_trainer *trainer = NULL;
  double worst = 0;

  descent_network_options shape = descent_network_options_default();
  shape.inputs = N0;
  shape.layers = 3;
  shape.widths = (const int64_t[]){N1, N2, 1};
  shape.activations = (const descent_activation[]){DESCENT_ACTIVATION_TANH, DESCENT_ACTIVATION_TANH,
                                                   DESCENT_ACTIVATION_IDENTITY}; /* logits; the loss has the sigmoid */
  shape.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
  descent_train_options options = descent_train_options_default();
  options.optimizer.kind = DESCENT_OPTIMIZER_GD;
  options.optimizer.learning_rate = alpha;

  descent_status status = descent_device_open("cpu", 1, &device);
  if (!status) status = descent_network_create(&shape, &network);
  if (!status) status = descent_network_initialise(network, DESCENT_INIT_XAVIER_UNIFORM, 3);
  if (!status) status = take_weights(network);
  if (!status) status = descent_trainer_create(network, device, &options, M, &trainer);

  printf("step   J (library)    J (by hand)    largest difference of a weight after the update\n");
  for (int step = 1; !status && step <= STEPS; step++) {
    descent_step_info info;
    status = descent_trainer_step(trainer, &X[0][0], y, NULL, M, &info);
    if (!status) status = descent_trainer_sync(trainer);
    if (status) break;
    double J = step_by_hand(), difference = largest_difference(network);
    worst = fmax(worst, difference);
    printf("%4d   %.9f    %.9f    %.2g\n", step, info.loss, J, difference);
  }
  if (status) fprintf(stderr, "notes: %s\n", descent_last_error());
  descent_trainer_free(trainer);
  descent_network_free(network);
  descent_device_close(device);
  /* float32 against double over five steps: a few units in the seventh digit of weights near 1. */
  return status || !(worst < 1e-6);
}
