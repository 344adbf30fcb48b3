// Exported networks: the file says what the network says, in every activation, task and normalisation; a file that says
// anything else is found out; what cannot be written leaves nothing behind.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "data_files.h"
#include "internal.h"

namespace {

struct CloseDevice {
  void operator()(descent_device *device) const { descent_device_close(device); }
};
using Device = std::unique_ptr<descent_device, CloseDevice>;

Device OpenCpu() {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open("cpu", 1, &device), DESCENT_OK) << descent_last_error();
  return Device(device);
}

#define TERM_VALUE(NAME, text) DESCENT_ACTIVATION_##NAME,
constexpr descent_activation kActivations[] = {DESCENT_ACTIVATION_MAP(TERM_VALUE)};
#undef TERM_VALUE
#define TERM_VALUE(NAME, text) DESCENT_NORMALIZE_##NAME,
constexpr descent_normalize kNormalizes[] = {DESCENT_NORMALIZE_MAP(TERM_VALUE)};
#undef TERM_VALUE
#define TERM_VALUE(NAME, text) DESCENT_LOSS_##NAME,
constexpr descent_loss kLosses[] = {DESCENT_LOSS_MAP(TERM_VALUE)};
#undef TERM_VALUE

// 5 inputs, two hidden layers, the outputs that the loss needs; drawn weights, preprocessing that matters.
Network Make(descent_activation activation, descent_loss loss, descent_normalize normalize) {
  const int64_t outputs = loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3, widths[] = {7, 6, outputs};
  const bool regression = loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const descent_activation activations[] = {activation, activation,
                                            regression ? activation : DESCENT_ACTIVATION_IDENTITY};
  descent_network_options options = DESCENT_NETWORK_OPTIONS_INIT;
  options.inputs = 5;
  options.layers = 3;
  options.widths = widths;
  options.activations = activations;
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_HE_NORMAL, 3), DESCENT_OK);
  network->normalize = normalize;
  for (int j = 0; j < 5 && normalize != DESCENT_NORMALIZE_NONE; j++) {
    network->shift[j] = 10.0f * static_cast<float>(j) - 7;
    network->scale[j] = std::exp2(static_cast<float>(j - 2)) * 0.7f;
  }
  for (int64_t k = 0; k < outputs && regression; k++) {
    network->y_shift[k] = 100;
    network->y_scale[k] = 0.3f;
  }
  return Network(network);
}

using Export = DataFiles;

TEST_F(Export, OnnxSaysWhatTheNetworkSays) {
  const Device device = OpenCpu();
  for (descent_activation activation : kActivations)
    for (descent_loss loss : kLosses)
      for (descent_normalize normalize : kNormalizes) {
        SCOPED_TRACE(std::string(descent_activation_name(activation)) + ", " + descent_loss_name(loss) + ", " +
                     descent_normalize_name(normalize));
        const Network network = Make(activation, loss, normalize);
        const std::string path = Path("network.onnx");
        ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK)
            << descent_last_error();
        descent_export_difference difference = {};
        ASSERT_EQ(descent_export_check(network.get(), device.get(), path.c_str(), nullptr, &difference), DESCENT_OK)
            << descent_last_error();
        EXPECT_TRUE(difference.pass) << difference.largest << ", " << difference.ratio << " of the bound, "
                                     << difference.wrong_labels << " labels";
        EXPECT_EQ(difference.rows, 256);
        EXPECT_EQ(difference.wrong_labels, 0);
      }
}

// A change in the third digit of any one number, wherever it lies, is beyond what rounding can do.
TEST_F(Export, TheCheckFindsAFileThatSaysSomethingElse) {
  const Device device = OpenCpu();
  const struct {
    const char *name;
    void (*alter)(descent_network *network);
  } cases[] = {
      {"a weight", [](descent_network *n) { n->parameters[n->layers[0].at.W] *= 1.001f; }},
      {"an output's bias", [](descent_network *n) { n->parameters[n->layers[2].at.b] += 0.001f; }},
      {"a shift", [](descent_network *n) { n->shift[1] += 0.01f; }},
      {"a scale", [](descent_network *n) { n->scale[4] *= 1.001f; }},
      {"an activation", [](descent_network *n) { n->layers[1].activation = DESCENT_ACTIVATION_SIGMOID; }},
      {"two layers in turn", [](descent_network *n) { std::swap(n->layers[0].activation, n->layers[1].activation); }},
  };
  for (descent_loss loss : kLosses)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(c.name) + ", " + descent_loss_name(loss));
      const Network network = Make(DESCENT_ACTIVATION_TANH, loss, DESCENT_NORMALIZE_STANDARD);
      network->layers[0].activation = DESCENT_ACTIVATION_SILU;
      const std::string path = Path("network.onnx");
      c.alter(network.get());
      ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK);
      const Network original = Make(DESCENT_ACTIVATION_TANH, loss, DESCENT_NORMALIZE_STANDARD);
      original->layers[0].activation = DESCENT_ACTIVATION_SILU;
      descent_export_difference difference = {};
      ASSERT_EQ(descent_export_check(original.get(), device.get(), path.c_str(), nullptr, &difference), DESCENT_OK);
      EXPECT_FALSE(difference.pass) << difference.largest << ", " << difference.ratio << " of the bound";
    }
}

}  // namespace
