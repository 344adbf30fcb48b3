// Weights from other programs: PyTorch's state_dicts in every type, Descent's model files, and files that do not fit.
#include <gtest/gtest.h>

#include <cmath>

#include "data_files.h"

namespace {

class Weights : public DataFiles {
 protected:
  static Network Make(std::vector<int64_t> widths, int64_t inputs = 3) {
    std::vector<descent_activation> activations(widths.size(), DESCENT_ACTIVATION_TANH);
    activations.back() = DESCENT_ACTIVATION_IDENTITY;
    descent_network_options options = descent_network_options_default();
    options.inputs = inputs;
    options.layers = static_cast<int32_t>(widths.size());
    options.widths = widths.data();
    options.activations = activations.data();
    options.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *made = nullptr;
    EXPECT_EQ(descent_network_create(&options, &made), DESCENT_OK) << descent_last_error();
    return Network(made);
  }
  std::string Fixture(const std::string &name) const {
    return DESCENT_SOURCE_DIR "/tests/fixtures/models/" + name + ".safetensors";
  }
};

// What PyTorch printed for these rows: tests/fixtures/make_weights.py.
TEST_F(Weights, OfASequentialGiveItsOutputs) {
  const struct {
    const char *name;
    double outputs[4];
  } cases[] = {
      {"sequential", {-0.264925241, -0.231990755, -0.299918681, -0.101398498}},
      {"sequential_f64", {-0.264925241, -0.231990755, -0.299918681, -0.101398498}},
      {"sequential_f16", {-0.264962941, -0.231979519, -0.299957931, -0.101419866}},
      {"sequential_bf16", {-0.264826834, -0.232423693, -0.300025165, -0.102282584}},
  };
  const float X[] = {0.5F, -1, 2, 3, 0.25F, -0.75F};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Network network = Make({4, 2});
    ASSERT_EQ(descent_network_load_weights(network.get(), Fixture(c.name).c_str()), DESCENT_OK) << descent_last_error();
    descent_dataset *made = nullptr;
    ASSERT_EQ(descent_dataset_create(X, nullptr, nullptr, 2, 3, 0, DESCENT_TASK_REGRESSION, 0, &made), DESCENT_OK);
    const Dataset dataset(made);
    descent_device *device = nullptr;
    ASSERT_EQ(descent_device_open("reference", 1, &device), DESCENT_OK);
    float outputs[4];
    EXPECT_EQ(descent_predict(network.get(), device, made, outputs), DESCENT_OK);
    descent_device_close(device);
    // PyTorch summed in float32: 4 products of at most 1, and their bias.
    for (int i = 0; i < 4; i++) EXPECT_NEAR(static_cast<double>(outputs[i]), c.outputs[i], 8 * 0x1p-24) << i;
  }
}

TEST_F(Weights, OfAModelFileAreThoseOfTheModel) {
  const Network from = Make({5, 2}), to = Make({5, 2});
  ASSERT_EQ(descent_network_initialise(from.get(), DESCENT_INIT_AUTO, 3), DESCENT_OK);
  from->shift[0] = 7;
  from->normalize = DESCENT_NORMALIZE_STANDARD;
  ASSERT_EQ(descent_network_save(from.get(), Path("m").c_str()), DESCENT_OK);
  ASSERT_EQ(descent_network_load_weights(to.get(), Path("m").c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(memcmp(from->parameters, to->parameters, static_cast<size_t>(from->n_parameters) * 4), 0);
  EXPECT_EQ(to->shift[0], 0);
}

// A file of F32 tensors (n) of ones, by name and shape.
std::string File(const std::vector<std::pair<std::string, std::vector<int>>> &tensors) {
  std::string header = "{", data;
  for (const auto &[name, shape] : tensors) {
    size_t count = 1;
    std::string sides;
    for (const int side : shape) {
      count *= static_cast<size_t>(side);
      sides += (sides.empty() ? "" : ",") + std::to_string(side);
    }
    const std::string begin = std::to_string(data.size());
    for (size_t i = 0; i < count; i++) data += std::string("\0\0\x80\x3f", 4);
    header += (header.size() > 1 ? "," : "") + ("\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + sides + "],") +
              "\"data_offsets\":[" + begin + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size() % 256);
  length[1] = static_cast<char>(header.size() / 256);
  return length + header + data;
}

TEST_F(Weights, ThatDoNotFitAreRefusedByName) {
  const struct {
    const char *name;
    std::vector<std::pair<std::string, std::vector<int>>> tensors;
    const char *says;
  } cases[] = {
      {"too few layers", {{"0.weight", {2, 3}}, {"0.bias", {2}}}, "1 linear layers, but the network has 2"},
      {"another width",
       {{"0.weight", {5, 3}}, {"0.bias", {5}}, {"2.weight", {2, 4}}, {"2.bias", {2}}},
       "tensor '0.weight' has shape [5, 3], but layer 1 of the network needs [4, 3]"},
      {"a matrix for a bias",
       {{"0.weight", {4, 3}}, {"0.bias", {4, 1}}, {"2.weight", {2, 4}}, {"2.bias", {2}}},
       "tensor '0.bias' has shape [4, 1], but layer 1 of the network needs [4]"},
      {"no bias", {{"0.weight", {4, 3}}, {"2.weight", {2, 4}}, {"2.bias", {2}}}, "'0.weight' has no matching bias"},
      {"batch normalisation",
       {{"0.weight", {4, 3}}, {"0.bias", {4}}, {"1.running_mean", {4}}},
       "'1.running_mean' is not the weight or bias of a numbered linear layer"},
      {"two parts",
       {{"a.0.weight", {4, 3}}, {"a.0.bias", {4}}, {"b.0.weight", {2, 4}}, {"b.0.bias", {2}}},
       "has another prefix than the first one"},
      {"no number", {{"fc.weight", {4, 3}}, {"fc.bias", {4}}}, "'fc.weight' is not the weight or bias of a numbered"},
  };
  for (const auto &c : cases) {
    const Network network = Make({4, 2});
    EXPECT_EQ(descent_network_load_weights(network.get(), Write("w", File(c.tensors)).c_str()), DESCENT_ERROR_MODEL);
    EXPECT_NE(std::string(descent_last_error()).find(c.says), std::string::npos)
        << c.name << ": " << descent_last_error();
    for (int64_t i = 0; i < network->n_parameters; i++) ASSERT_EQ(network->parameters[i], 0) << c.name;
  }
}

// Layers are taken in the order of their numbers, which is not that of their names: 10 follows 2.
TEST_F(Weights, AreOrderedByNumber) {
  const Network network = Make({4, 2, 3});
  const std::string path = Write("w", File({{"10.weight", {3, 2}},
                                            {"10.bias", {3}},
                                            {"0.weight", {4, 3}},
                                            {"0.bias", {4}},
                                            {"2.weight", {2, 4}},
                                            {"2.bias", {2}}}));
  EXPECT_EQ(descent_network_load_weights(network.get(), path.c_str()), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(network->parameters[network->layers[2].at.b], 1);
}

}  // namespace
