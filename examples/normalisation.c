/* Why inputs are normalised: the same network, seed and data with and without it. The breast-cancer features range
 * from 0.001 to 4000, so without it a few of them saturate every unit of the first layer.
 * usage: normalisation [breast_cancer.csv] */
#include <descent/descent.h>
#include <stdio.h>

enum { EPOCHS = 40 };
struct curve {
  double loss[EPOCHS], accuracy[EPOCHS];
};

static int record(void *user, const descent_epoch_info *info) {
  struct curve *curve = user;
  curve->loss[info->epoch - 1] = info->validation->loss;
  curve->accuracy[info->epoch - 1] = info->validation->accuracy;
  return 0;
}

static descent_status train(descent_device *device, const descent_dataset *training, const descent_dataset *validation,
                            descent_normalize normalize, struct curve *curve) {
  descent_network *network = NULL;
  descent_network_options shape = descent_network_options_default();
  shape.inputs = descent_dataset_inputs(training);
  shape.layers = 3;
  shape.widths = (const int64_t[]){16, 8, 1};
  shape.activations =
      (const descent_activation[]){DESCENT_ACTIVATION_SIGMOID, DESCENT_ACTIVATION_SIGMOID, DESCENT_ACTIVATION_IDENTITY};
  descent_train_options options = descent_train_options_default();
  options.optimizer.learning_rate = 0.01;
  options.epochs = EPOCHS;
  options.callbacks.on_epoch = record;
  options.callbacks.user = curve;
  descent_status status = descent_network_create(&shape, &network);
  if (!status) status = descent_network_initialise(network, DESCENT_INIT_AUTO, 1);
  if (!status) status = descent_network_fit_preprocessing(network, training, normalize, DESCENT_IMPUTE_MEAN, false);
  if (!status) status = descent_fit(network, device, training, validation, &options, NULL);
  descent_network_free(network);
  return status;
}

int main(int argc, char **argv) {
  static struct curve curves[3];
  descent_device *device = NULL;
  descent_dataset *data = NULL, *training = NULL, *validation = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  source.target = "diagnosis";
  descent_status status = descent_dataset_read(argc > 1 ? argv[1] : "examples/breast_cancer.csv", &source, &data);
  if (!status) status = descent_dataset_split(data, 0.25, 1, &training, &validation);
  if (!status) status = descent_device_open("cpu", 0, &device);
  for (int k = 0; !status && k < 3; k++) status = train(device, training, validation, (descent_normalize)k, &curves[k]);
  if (status)
    fprintf(stderr, "normalisation: %s\n", descent_last_error());
  else {
    printf("validation loss and accuracy by epoch\nepoch");
    for (int k = 0; k < 3; k++) printf("  %16s", descent_normalize_name((descent_normalize)k));
    static const int shown[] = {1, 2, 5, 10, 20, EPOCHS};
    for (size_t e = 0; e < sizeof shown / sizeof *shown; e++) {
      printf("\n%5d", shown[e]);
      for (int k = 0; k < 3; k++)
        printf("  %7.4f  %7.4f", curves[k].loss[shown[e] - 1], curves[k].accuracy[shown[e] - 1]);
    }
    printf("\n");
  }
  descent_device_close(device);
  descent_dataset_free(validation);
  descent_dataset_free(training);
  descent_dataset_free(data);
  return status ? 1 : 0;
}
