/* Trains on a file with the options of the header it is compiled with, and prints what versions.sh compares. */
#include <descent/descent.h>
#include <stdio.h>
#include <string.h>

#ifdef NEWER
/* A member that the library does not know must stay as it was. */
static int refused(descent_status status, const char *what) {
  if (status == DESCENT_ERROR_ARGUMENT && strstr(descent_last_error(), "does not know")) return 1;
  printf("%s: a member unknown to the library was accepted\n", what);
  return 0;
}
#endif

int main(int argc, char **argv) {
  const int64_t widths[] = {4, 1};
  descent_device *device = NULL;
  descent_dataset *data = NULL;
  descent_network *network = NULL;
  descent_fit_result result = {0};
  descent_dataset_options source = descent_dataset_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  if (argc != 2) return 2;
  printf("sizes %zu %zu %zu\n", source.size, shape.size, options.size);
  source.target = "diagnosis";
  shape.inputs = 30, shape.layers = 2, shape.widths = widths;
  options.epochs = 2, options.optimizer.learning_rate = 0.02, options.checkpoint.keep = 1;
  if (descent_device_open("cpu", 1, &device) || descent_dataset_read(argv[1], &source, &data) ||
      descent_network_create(&shape, &network) || descent_network_initialise(network, DESCENT_INIT_AUTO, 1) ||
      descent_network_fit_preprocessing(network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false) ||
      descent_fit(network, device, data, NULL, &options, &result))
    return printf("%s\n", descent_last_error()), 1;
  printf("trained %.17g\n", result.train_loss);
  int right = 1;
#ifdef NEWER
  descent_train_options grouped = options;
  source.future = shape.future = options.future = grouped.checkpoint.future = 1;
  right = refused(descent_dataset_read(argv[1], &source, &data), "dataset") &&
          refused(descent_network_create(&shape, &network), "network") &&
          refused(descent_fit(network, device, data, NULL, &options, NULL), "train") &&
          refused(descent_fit(network, device, data, NULL, &grouped, NULL), "a group of train");
#endif
  descent_network_free(network);
  descent_dataset_free(data);
  descent_device_close(device);
  return !right;
}
