/* With the library of a core-only build: trains from memory and from CSV, keeps the model, and gets one clear error for
 * each format that is left out. usage: core_only DATA.csv FOLDER */
#include <descent/descent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds, const char *what) {
  if (holds) return;
  printf("%s: %s\n", what, descent_last_error());
  exit(1);
}

/* "<path>: this build does not <does> (build with -DDESCENT_FORMATS=ON)" */
static void require_left_out(descent_status status, const char *path, const char *does) {
  char expected[512];
  snprintf(expected, sizeof expected, "%s: this build does not %s (build with -DDESCENT_FORMATS=ON)", path, does);
  require(status == DESCENT_ERROR_UNSUPPORTED && strcmp(descent_last_error(), expected) == 0, expected);
}

static double train(descent_device *device, const descent_dataset *data, descent_network **network) {
  const int64_t widths[] = {8, 1};
  descent_network_options shape = descent_network_options_default();
  descent_train_options options = descent_train_options_default();
  descent_metrics metrics = {0};
  shape.inputs = descent_dataset_inputs(data), shape.layers = 2, shape.widths = widths;
  options.epochs = 60, options.optimizer.learning_rate = 0.02;
  require(
      !descent_network_create(&shape, network) && !descent_network_initialise(*network, DESCENT_INIT_AUTO, 1) &&
          !descent_network_fit_preprocessing(*network, data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false) &&
          !descent_fit(*network, device, data, NULL, &options, NULL) &&
          !descent_evaluate(*network, device, data, 0, &metrics),
      "training");
  const double accuracy = metrics.accuracy;
  descent_metrics_clear(&metrics);
  return accuracy;
}

static void touch(const char *path, const char *bytes, size_t n) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, n, file) != n || fclose(file)) exit(2);
}

int main(int argc, char **argv) {
  const float X[] = {0, 0, 0, 1, 1, 0, 1, 1}, y[] = {0, 1, 1, 1};
  const struct {
    const char *name, *bytes, *reads, *writes;
  } formats[] = {{"a.npz", "PK\3\4", "read npz", "write npz"},
                 {"a.h5", "\x89HDF\r\n\x1a\n", "read HDF5", "write HDF5"},
                 {"a.csv.gz", "\x1f\x8b\x08", "read gzip", NULL}};
  descent_device *device = NULL;
  descent_dataset *four = NULL, *data = NULL, *none = NULL;
  descent_network *small = NULL, *network = NULL, *loaded = NULL;
  char path[400];
  if (argc != 3) return 2;
  require(strstr(descent_version(), "; formats: not built;") != NULL, descent_version());
  require(!descent_device_open("cpu", 1, &device), "device");
  require(!descent_dataset_create(X, y, NULL, 4, 2, 1, DESCENT_TASK_BINARY, 2, &four), "rows in memory");
  require(train(device, four, &small) == 1.0, "training from memory");

  descent_dataset_options source = descent_dataset_options_default(), plain = source;
  source.target = "diagnosis";
  require(!descent_dataset_read(argv[1], &source, &data), "CSV");
  require(train(device, data, &network) > 0.97, "training from CSV");
  snprintf(path, sizeof path, "%s/model.safetensors", argv[2]);
  require(!descent_network_save(network, path) && !descent_network_load(path, &loaded), "the model file");
  snprintf(path, sizeof path, "%s/data.npy", argv[2]);
  require(!descent_dataset_save(data, path) && !descent_dataset_read(path, &plain, &none), "npy");
  descent_dataset_free(none);
  none = NULL;
  snprintf(path, sizeof path, "%s/model.c", argv[2]);
  require(!descent_network_export(network, DESCENT_EXPORT_FORMAT_C, path), "C");

  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    snprintf(path, sizeof path, "%s/%s", argv[2], formats[i].name);
    touch(path, formats[i].bytes, strlen(formats[i].bytes));
    require_left_out(descent_dataset_read(path, &plain, &none), path, formats[i].reads);
    if (formats[i].writes) require_left_out(descent_dataset_save(data, path), path, formats[i].writes);
  }
  snprintf(path, sizeof path, "%s/model.onnx", argv[2]);
  require_left_out(descent_network_export(network, DESCENT_EXPORT_FORMAT_ONNX, path), path, "write ONNX");
  snprintf(path, sizeof path, "%s/model.npz", argv[2]);
  require_left_out(descent_network_export(network, DESCENT_EXPORT_FORMAT_NPZ, path), path, "write npz");

  descent_network_free(loaded);
  descent_network_free(network);
  descent_network_free(small);
  descent_dataset_free(data);
  descent_dataset_free(four);
  descent_device_close(device);
  return 0;
}
