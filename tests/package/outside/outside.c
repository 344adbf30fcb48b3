/* A stranger's program: trains "a or b" with the installed library; 0 when all four rows come out right. */
#include <descent/descent.h>
#include <stdio.h>

/* Names that the library has inside, too: a program's own must neither clash with them nor be called by it. */
int status_set(int status, const char *text);
int status_set(int status, const char *text) {
  return fprintf(stderr, "the library called status_set: %s\n", text), status;
}
double file_write, pool_run, gemm;

int main(void) {
  const float X[] = {0, 0, 0, 1, 1, 0, 1, 1}, y[] = {0, 1, 1, 1};
  const int64_t widths[] = {4, 1};
  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_network *network = NULL;
  descent_metrics metrics = {0};
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  shape.inputs = 2, shape.layers = 2, shape.widths = widths;
  options.optimizer.learning_rate = 0.05;
  if (descent_device_open("cpu", 1, &device) ||
      descent_dataset_create(X, y, NULL, 4, 2, 1, DESCENT_TASK_BINARY, 2, &data) ||
      descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_fit(network, device, data, NULL, &options, NULL) || descent_evaluate(network, device, data, 0, &metrics))
    fprintf(stderr, "%s\n", descent_last_error());
  printf("descent %s: accuracy %g\n", descent_version(), metrics.accuracy);
  int right = metrics.accuracy == 1.0 && descent_network_load("there is no such file", &network) == DESCENT_ERROR_READ;
  descent_metrics_clear(&metrics);
  descent_network_free(network);
  descent_dataset_free(data);
  descent_device_close(device);
  return right ? 0 : 1;
}
