// The first program in C++17: objects that release themselves, and errors as exceptions.
// usage: first_cpp DATA.csv TARGET MODEL.safetensors
#include <descent/descent.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// A handle that its function releases: Device, Dataset, Network.
template <auto release>
struct Release {
  template <typename Object>
  void operator()(Object *object) const {
    release(object);
  }
};
using Device = std::unique_ptr<descent_device, Release<descent_device_close>>;
using Dataset = std::unique_ptr<descent_dataset, Release<descent_dataset_free>>;
using Network = std::unique_ptr<descent_network, Release<descent_network_free>>;

class Error : public std::runtime_error {
 public:
  explicit Error(descent_status code) : std::runtime_error(descent_last_error()), status(code) {}
  descent_status status;
};

void check(descent_status status) {
  if (status != DESCENT_OK) throw Error(status);
}

// make<Device>(descent_device_open, "cpu", 1): calls the function with a place for its object behind the arguments.
template <typename Owner, typename Function, typename... Arguments>
Owner make(Function function, Arguments... arguments) {
  typename Owner::pointer object = nullptr;
  check(function(arguments..., &object));
  return Owner(object);
}

Network create(const descent_dataset *data) {
  const bool binary = descent_dataset_task(data) == DESCENT_TASK_BINARY;
  const std::vector<int64_t> widths = {16, 8, binary ? 1 : descent_dataset_classes(data)};
  descent_network_options shape = descent_network_options_default();
  shape.inputs = descent_dataset_inputs(data);
  shape.layers = static_cast<int32_t>(widths.size());
  shape.widths = widths.data();
  shape.loss = binary ? DESCENT_LOSS_BINARY_CROSS_ENTROPY : DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  Network network = make<Network>(descent_network_create, &shape);
  check(descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 1));
  return network;
}

// A callback is a C function: `user` leads to the C++ object.
int keep_loss(void *user, const descent_epoch_info *info) {
  static_cast<std::vector<double> *>(user)->push_back(info->validation->loss);
  return 0;
}

double accuracy(const Network &network, const Device &device, const Dataset &data) {
  descent_metrics metrics{};
  check(descent_evaluate(network.get(), device.get(), data.get(), 0, &metrics));
  const double share = metrics.accuracy;
  descent_metrics_clear(&metrics);
  return share;
}

void run(const char *path, const char *target, const char *model) {
  descent_dataset_options source = descent_dataset_options_default();
  source.target = target;
  const Device device = make<Device>(descent_device_open, "auto", 0);
  const Dataset data = make<Dataset>(descent_dataset_read, path, &source);
  descent_dataset *kept = nullptr, *held_out = nullptr;
  check(descent_dataset_split(data.get(), 0.25, 1, &kept, &held_out));
  const Dataset training(kept), validation(held_out);

  const Network network = create(data.get());
  check(descent_network_fit_preprocessing(network.get(), training.get(), DESCENT_NORMALIZE_STANDARD,
                                          DESCENT_IMPUTE_MEAN, false));
  std::vector<double> losses;
  descent_train_options options = descent_train_options_default();
  options.epochs = 50;
  options.callbacks.on_epoch = keep_loss;
  options.callbacks.user = &losses;
  check(descent_fit(network.get(), device.get(), training.get(), validation.get(), &options, nullptr));
  check(descent_network_save(network.get(), model));
  std::printf("validation loss %.4f, then %.4f; accuracy %.4f; saved %s\n", losses.front(), losses.back(),
              accuracy(network, device, validation), model);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: first_cpp DATA.csv TARGET MODEL.safetensors\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3]);
  } catch (const Error &error) {
    std::fprintf(stderr, "first_cpp: %s: %s\n", descent_status_text(error.status), error.what());
    return 1;
  }
  return 0;
}
