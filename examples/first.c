/* The shortest whole use of the library: read a CSV file of classes, hold a quarter out, train, measure, save.
 * usage: first DATA.csv TARGET MODEL.safetensors */
#include <descent/descent.h>
#include <stdio.h>

static int report(void *user, const descent_epoch_info *info) {
  (void)user;
  if (info->epoch % 10 == 0)
    printf("epoch %3lld  training loss %.4f  validation loss %.4f  accuracy %.4f\n", (long long)info->epoch,
           info->train_loss, info->validation->loss, info->validation->accuracy);
  return 0; /* anything else would stop the training here */
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: first DATA.csv TARGET MODEL.safetensors\n"), 2;
  descent_device *device = NULL;
  descent_dataset *data = NULL, *training = NULL, *validation = NULL;
  descent_network *network = NULL;
  descent_metrics metrics = {0};

  descent_dataset_options source = descent_dataset_options_default();
  source.target = argv[2];
  descent_status status = descent_dataset_read(argv[1], &source, &data);
  if (!status) status = descent_dataset_split(data, 0.25, 1, &training, &validation);
  if (!status) status = descent_device_open("auto", 0, &device);

  if (!status) {
    bool binary = descent_dataset_task(data) == DESCENT_TASK_BINARY;
    int64_t widths[] = {16, 8, binary ? 1 : descent_dataset_classes(data)};
    descent_network_options shape = descent_network_options_default();
    shape.inputs = descent_dataset_inputs(data);
    shape.layers = 3;
    shape.widths = widths;
    shape.loss = binary ? DESCENT_LOSS_BINARY_CROSS_ENTROPY : DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
    status = descent_network_create(&shape, &network);
  }
  if (!status) status = descent_network_initialise(network, DESCENT_INIT_AUTO, 1);
  if (!status)
    status =
        descent_network_fit_preprocessing(network, training, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false);

  descent_train_options options = descent_train_options_default();
  options.epochs = 50;
  options.callbacks.on_epoch = report;
  if (!status) status = descent_fit(network, device, training, validation, &options, NULL);
  if (!status) status = descent_evaluate(network, device, validation, 0, &metrics);
  if (!status) status = descent_network_save(network, argv[3]);

  if (status)
    fprintf(stderr, "first: %s\n", descent_last_error());
  else
    printf("accuracy %.4f on %lld held-out rows; saved %s\n", metrics.accuracy, (long long)metrics.rows, argv[3]);
  descent_metrics_clear(&metrics);
  descent_network_free(network);
  descent_device_close(device);
  descent_dataset_free(validation);
  descent_dataset_free(training);
  descent_dataset_free(data);
  return status ? 1 : 0;
}
