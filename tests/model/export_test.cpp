// Networks exported as C source: the source predicts what the network predicts, for every activation, task,
// normalisation and treatment of missing cells. tests/python/onnx_test.py is the same for graphs.
#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "data_files.h"
#include "export_bounds.h"
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

// 5 inputs, two hidden layers, the outputs that the loss needs; random weights, non-trivial preprocessing.
Network Make(descent_activation activation, descent_loss loss, descent_normalize normalize, uint64_t seed = 3) {
  const int64_t outputs = loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3, widths[] = {7, 6, outputs};
  const bool regression = loss_is_regression(loss);
  const descent_activation activations[] = {activation, activation,
                                            regression ? activation : DESCENT_ACTIVATION_IDENTITY};
  descent_network_options options = descent_network_options_default();
  options.inputs = 5;
  options.layers = 3;
  options.widths = widths;
  options.activations = activations;
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_HE_NORMAL, seed), DESCENT_OK);
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

class Export : public DataFiles {
 protected:
  std::string ReadText(const std::string &name) const {
    std::ifstream stream(Path(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }
};

// A table of numbers and categories, some of them missing. With a network, that network's columns.
Dataset ReadTable(const std::string &path, const descent_network *network) {
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "answer";
  options.indicators = !network;
  options.network = network;
  options.unseen = DESCENT_UNSEEN_ZEROS;
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &dataset), DESCENT_OK) << descent_last_error();
  return Dataset(dataset);
}

std::string TableText(descent_loss loss, const char *green) {
  const char *const colours[] = {"red", green, "\"light, blue\""}, *const sizes[] = {"S", "M", "L", "XL"};
  const char *const answers[] = {"no", "yes", loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? "no" : "maybe"};
  std::string text = "age,colour,size,height,answer\n";
  for (int i = 0; i < 60; i++)
    text += (i % 9 ? std::to_string(20 + 7 * i % 41) : "") + "," + colours[i % 3] + "," +
            (i % 11 ? sizes[i % 7 % 4] : "?") + "," + std::to_string(150 + i * 11 % 37) + "," +
            (loss_is_regression(loss) ? std::to_string(0.25 * i) : answers[i % 5 % 3]) + "\n";
  return text;
}

// Fitted to the table, with random weights.
Network MakeForTable(const descent_dataset *dataset, descent_loss loss, descent_normalize normalize) {
  const int64_t widths[] = {6, loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY ? 3 : 1};
  descent_network_options options = descent_network_options_default();
  options.inputs = descent_dataset_inputs(dataset);
  options.layers = 2;
  options.widths = widths;
  options.loss = loss;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 3), DESCENT_OK);
  EXPECT_EQ(
      descent_network_fit_preprocessing(network, dataset, normalize, DESCENT_IMPUTE_MEAN, loss_is_regression(loss)),
      DESCENT_OK)
      << descent_last_error();
  return Network(network);
}

// ---- C --------------------------------------------------------------------------------------------------------------

// Compiles the exported file as a user would, and calls it.
class Compiled {
 public:
  explicit Compiled(const std::string &source) {
    const std::string library = source + ".so";
    const std::string command = std::string(DESCENT_C_COMPILER) +
                                " -std=c99 -Wall -Wextra -pedantic -Wconversion -Werror -O1 -fPIC -shared -o '" +
                                library + "' '" + source + "' -lm";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) predict_ = reinterpret_cast<void (*)(const float *, float *)>(dlsym(handle_, "predict"));
  }
  ~Compiled() {
    if (handle_) dlclose(handle_);
  }
  Compiled(const Compiled &) = delete;
  Compiled &operator=(const Compiled &) = delete;
  void (*predict() const)(const float *, float *) { return predict_; }

 private:
  void *handle_ = nullptr;
  void (*predict_)(const float *, float *) = nullptr;
};

constexpr int64_t kRows = 40;

// Rows around the middle of what the network normalises, with missing cells where it fills them in.
Dataset DrawRows(const descent_network *network, std::vector<float> *X) {
  X->resize(static_cast<size_t>(kRows * network->inputs));
  for (size_t i = 0; i < X->size(); i++) {
    const size_t j = i % static_cast<size_t>(network->inputs);
    const double u = rng_word(5, RNG_SYNTHETIC, 0, 0, i) * 0x1p-32;
    (*X)[i] = network->fill && rng_word(5, RNG_SYNTHETIC, 0, 1, i) % 8 == 0
                  ? NAN
                  : static_cast<float>(network->shift[j] + (6 * u - 3) / network->scale[j]);
  }
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_create(X->data(), nullptr, nullptr, kRows, network->inputs, 0, DESCENT_TASK_REGRESSION, 0,
                                   &dataset),
            DESCENT_OK);
  return Dataset(dataset);
}

// The source's arguments for a row of inputs: a number for each column of the table.
std::vector<float> Columns(const descent_network *network, const std::vector<float> &X) {
  if (!network->schema.features) return X;
  std::vector<float> x;
  size_t j = 0;
  for (int64_t c = 0; c < network->schema.n_features; c++) {
    const struct feature &feature = network->schema.features[c];
    x.push_back(feature.categories && !std::isnan(X[j]) ? -1 : X[j]);
    for (int64_t k = 0; k < feature.n_categories; k++)
      if (X[j + static_cast<size_t>(k)] == 1) x.back() = static_cast<float>(k);
    j += static_cast<size_t>(feature_inputs(&feature));
  }
  return x;
}

// The largest difference between the source's outputs and the network's, as a share of the rounding bound.
double WorstShare(const std::string &path, const descent_network *network, descent_device *device,
                  const descent_dataset *rows) {
  const Compiled compiled(path);
  if (!compiled.predict()) return NAN;
  const size_t n = static_cast<size_t>(descent_network_outputs(network));
  std::vector<float> expected(static_cast<size_t>(descent_dataset_rows(rows)) * n), y(n);
  std::vector<float> X(static_cast<size_t>(network->inputs));
  EXPECT_EQ(descent_predict(network, device, rows, expected.data()), DESCENT_OK) << descent_last_error();
  double worst = 0;
  for (int64_t r = 0; r < descent_dataset_rows(rows); r++) {
    EXPECT_EQ(descent_dataset_row(rows, r, X.data()), DESCENT_OK);
    compiled.predict()(Columns(network, X).data(), y.data());
    const std::vector<Estimate> exact = EstimateMeans(network, X.data());
    for (size_t k = 0; k < n; k++) {
      const double difference = std::fabs(y[k] - expected[static_cast<size_t>(r) * n + k]);
      const double share = difference / (kExportErrors * exact[k].error);
      if (!(share <= worst)) worst = share;  // a NaN stays
      if (std::isnan(worst)) return worst;
    }
  }
  return worst;
}

TEST_F(Export, CSourceCompilesWithoutAWarningAndSaysWhatTheNetworkSays) {
  const Device device = OpenCpu();
  int number = 0;
  for (descent_activation activation : kActivations)
    for (descent_loss loss : kLosses)
      for (descent_normalize normalize : kNormalizes) {
        SCOPED_TRACE(std::string(descent_activation_name(activation)) + ", " + descent_loss_name(loss) + ", " +
                     descent_normalize_name(normalize));
        const Network network = Make(activation, loss, normalize);
        if (number++ % 2) {  // the number of normalisations is odd: each is with and without missing cells
          network->fill = static_cast<float *>(memory_allocate(network->inputs, sizeof *network->fill, "fill"));
          for (int j = 0; j < 5; j++) network->fill[j] = network->shift[j] + 0.25f / network->scale[j];
        }
        const std::string path = Path("network" + std::to_string(number) + ".c");
        ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK)
            << descent_last_error();
        std::vector<float> X;
        const Dataset rows = DrawRows(network.get(), &X);
        EXPECT_LE(WorstShare(path, network.get(), device.get(), rows.get()), 1);
      }
}

// Members of other weights and biases.
Network MakeEnsemble(descent_activation activation, descent_loss loss, descent_normalize normalize, int64_t members,
                     bool fills) {
  std::vector<Network> networks;
  std::vector<const descent_network *> list;
  for (int64_t k = 0; k < members; k++) {
    networks.push_back(Make(activation, loss, normalize, 3 + static_cast<uint64_t>(k)));
    descent_network *network = networks.back().get();
    for (int32_t l = 0; l < network->n_layers; l++)
      for (int64_t j = 0; j < network->layers[l].n_out; j++)
        network->parameters[network->layers[l].at.b + j] = 0.1f * static_cast<float>(k + l - j);
    if (fills) network->fill = static_cast<float *>(memory_allocate(network->inputs, sizeof *network->fill, "fill"));
    for (int j = 0; j < 5 && fills; j++) network->fill[j] = network->shift[j] + 0.25f / network->scale[j];
    list.push_back(network);
  }
  descent_network *ensemble = nullptr;
  EXPECT_EQ(descent_network_join(list.data(), members, &ensemble), DESCENT_OK) << descent_last_error();
  return Network(ensemble);
}

TEST_F(Export, CSourceOfAnEnsembleSaysWhatTheEnsembleSays) {
  const Device device = OpenCpu();
  const int64_t members[] = {2, 3, 5};
  int number = 0;
  for (descent_activation activation : kActivations)
    for (descent_loss loss : kLosses) {
      const descent_normalize normalize = kNormalizes[(number + number / 3) % 3];
      SCOPED_TRACE(std::string(descent_activation_name(activation)) + ", " + descent_loss_name(loss) + ", " +
                   descent_normalize_name(normalize));
      const Network network = MakeEnsemble(activation, loss, normalize, members[number % 3], number % 2 == 0);
      const std::string name = "ensemble" + std::to_string(number++) + ".c", path = Path(name);
      ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK)
          << descent_last_error();
      // The inputs, and twice the widest layer.
      EXPECT_NE(ReadText(name).find(" uses " + std::to_string(4 * (5 + 2 * 7)) + " bytes of stack"), std::string::npos);
      std::vector<float> X;
      const Dataset rows = DrawRows(network.get(), &X);
      EXPECT_LE(WorstShare(path, network.get(), device.get(), rows.get()), 1);
    }
}

// A change of one number of one member of three is seen in the mean.
TEST_F(Export, CSourceOfAnEnsembleThatSaysSomethingElseIsFound) {
  const Device device = OpenCpu();
  const struct {
    const char *name;
    void (*alter)(descent_network *network);
  } cases[] = {
      {"a weight", [](descent_network *n) { n->parameters[2 * n->n_parameters + n->layers[0].at.W] *= 1.003f; }},
      {"a bias", [](descent_network *n) { n->parameters[n->n_parameters + n->layers[2].at.b] += 0.001f; }},
      {"two layers in turn", [](descent_network *n) { std::swap(n->layers[0].activation, n->layers[1].activation); }},
      {"a member twice",
       [](descent_network *n) { std::copy_n(n->parameters, n->n_parameters, n->parameters + n->n_parameters); }},
      {"a member less", [](descent_network *n) { n->members--; }},
  };
  int number = 0;
  for (descent_loss loss : kLosses)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(c.name) + ", " + descent_loss_name(loss));
      Network networks[2];
      for (Network &network : networks) {
        network = MakeEnsemble(DESCENT_ACTIVATION_TANH, loss, DESCENT_NORMALIZE_STANDARD, 3, false);
        network->layers[0].activation = DESCENT_ACTIVATION_SILU;
      }
      c.alter(networks[0].get());
      const std::string path = Path("altered" + std::to_string(number++) + ".c");
      ASSERT_EQ(descent_network_export(networks[0].get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK);
      std::vector<float> X;
      const Dataset rows = DrawRows(networks[1].get(), &X);
      EXPECT_GT(WorstShare(path, networks[1].get(), device.get(), rows.get()), 1);
    }
}

// A change in the third digit of any one number exceeds the rounding bound.
TEST_F(Export, CSourceThatSaysSomethingElseIsFound) {
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
  int number = 0;
  for (descent_loss loss : kLosses)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(c.name) + ", " + descent_loss_name(loss));
      const Network altered = Make(DESCENT_ACTIVATION_TANH, loss, DESCENT_NORMALIZE_STANDARD);
      altered->layers[0].activation = DESCENT_ACTIVATION_SILU;
      c.alter(altered.get());
      const std::string path = Path("altered" + std::to_string(number++) + ".c");
      ASSERT_EQ(descent_network_export(altered.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK);
      const Network original = Make(DESCENT_ACTIVATION_TANH, loss, DESCENT_NORMALIZE_STANDARD);
      original->layers[0].activation = DESCENT_ACTIVATION_SILU;
      std::vector<float> X;
      const Dataset rows = DrawRows(original.get(), &X);
      EXPECT_GT(WorstShare(path, original.get(), device.get(), rows.get()), 1);
    }
}

// Differences of inputs are as the library takes them; a target is the nearest float32, or one of its neighbours.
TEST_F(Export, OffsetsGoIntoCSource) {
  const Device device = OpenCpu();
  for (const auto &[target, members] :
       {std::pair(false, 1), std::pair(true, 1), std::pair(false, 3), std::pair(true, 3)}) {
    const Network network = MakeEnsemble(DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR,
                                         DESCENT_NORMALIZE_STANDARD, members, false);
    const double offsets[] = {1.7e9, 0, -1e6 - 0.0625, 4e4 + 0.1, 0};
    network->schema.offsets = static_cast<double *>(memory_allocate(5, sizeof *offsets, "offsets"));
    network->schema.n_offsets = 5;
    std::copy(offsets, offsets + 5, network->schema.offsets);
    if (target) {
      network->schema.target_offsets = static_cast<double *>(memory_allocate(3, sizeof *offsets, "offsets"));
      network->schema.n_target_offsets = 3;
      for (int k = 0; k < 3; k++) network->schema.target_offsets[k] = 1e6 * k + 0.1;
    }
    const std::string path = Path((target ? "targets" : "inputs") + std::to_string(members) + ".c");
    ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK);
    std::vector<float> X, expected(3 * kRows), y(3);
    const Dataset drawn = DrawRows(network.get(), &X);
    for (size_t i = 0; i < X.size(); i++) X[i] = static_cast<float>(static_cast<double>(X[i]) + offsets[i % 5]);
    ASSERT_EQ(descent_predict(network.get(), device.get(), drawn.get(), expected.data()), DESCENT_OK);
    const Compiled compiled(path);
    ASSERT_NE(compiled.predict(), nullptr);
    for (size_t r = 0; r < kRows; r++) {
      compiled.predict()(&X[5 * r], y.data());
      for (size_t k = 0; k < 3; k++) {
        const double near = static_cast<double>(std::fabs(expected[3 * r + k])) * 0x1p-22;
        EXPECT_NEAR(y[k], expected[3 * r + k], near + 1e-4) << r << " " << k;  // the outputs are within 100 +- 10
      }
    }
  }
}

// Some are missing, some unknown to the network.
TEST_F(Export, CategoriesGoIntoCSourceAsNumbers) {
  const Device device = OpenCpu();
  for (descent_loss loss : kLosses)
    for (descent_normalize normalize : kNormalizes) {
      SCOPED_TRACE(std::string(descent_loss_name(loss)) + ", " + descent_normalize_name(normalize));
      const Dataset known = ReadTable(Write("known.csv", TableText(loss, "green")), nullptr);
      const Network network = MakeForTable(known.get(), loss, normalize);
      const Dataset unseen = ReadTable(Write("unseen.csv", TableText(loss, "pink")), network.get());
      EXPECT_EQ(descent_dataset_unseen(unseen.get()), 20);
      const std::string path =
          Path(std::string("table_") + descent_loss_name(loss) + descent_normalize_name(normalize));
      ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, (path + ".c").c_str()), DESCENT_OK);
      for (const descent_dataset *rows : {known.get(), unseen.get()})
        EXPECT_LE(WorstShare(path + ".c", network.get(), device.get(), rows), 1);
    }
}

// Every float32 comes back with all its bits, the smallest and both zeros among them.
TEST_F(Export, CSourceKeepsEveryBit) {
  const float values[] = {0.0f, -0.0f, 1.0f, -1.5f, 0x1.fffffep127f, -0x1p-126f, 0x1p-149f, 0x1.fffffcp-127f, 0.1f};
  const int64_t n = sizeof values / sizeof *values, widths[] = {n};
  descent_network_options options = descent_network_options_default();
  options.inputs = 1;
  options.layers = 1;
  options.widths = widths;
  options.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  descent_network *made = nullptr;
  ASSERT_EQ(descent_network_create(&options, &made), DESCENT_OK);
  const Network network(made);
  for (int64_t k = 0; k < n; k++) made->parameters[made->layers[0].at.b + k] = values[k];
  ASSERT_EQ(descent_network_export(made, DESCENT_EXPORT_FORMAT_C, Path("bits.c").c_str()), DESCENT_OK);
  std::string text = ReadText("bits.c");
  const size_t start = text.find('{', text.find("b1[")) + 1;
  const char *at = &text[start];
  for (int64_t k = 0; k < n; k++) {
    char *end;
    const float read = std::strtof(at, &end);
    EXPECT_EQ(std::memcmp(&read, &values[k], sizeof read), 0) << read << ", not " << values[k];
    at = end + 2;  // "f,"
  }
}

// The content of a name cannot leave its comment.
TEST_F(Export, HostileNamesStayInTheirComment) {
  std::string csv = "a*/ int x; /*,\"b?\?/\nc\",d\xe2\x80\xae,\"e\\\",/,target\n";
  for (int i = 0; i < 12; i++) csv += "1,2,3,4," + std::to_string(i) + (i % 2 ? ",\"*/\n#error\"\n" : ",\"/*?\?/\"\n");
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "target";
  descent_dataset *dataset = nullptr;
  ASSERT_EQ(descent_dataset_read(Write("t.csv", csv).c_str(), &options, &dataset), DESCENT_OK) << descent_last_error();
  const Dataset read(dataset);
  const Network network = Make(DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_NORMALIZE_NONE);
  ASSERT_EQ(
      descent_network_fit_preprocessing(network.get(), dataset, DESCENT_NORMALIZE_NONE, DESCENT_IMPUTE_MEAN, false),
      DESCENT_OK)
      << descent_last_error();
  ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, Path("names.c").c_str()), DESCENT_OK);
  const Compiled compiled(Path("names.c"));
  EXPECT_NE(compiled.predict(), nullptr);
  EXPECT_EQ(ReadText("names.c").find("\xe2\x80\xae"), std::string::npos);
}

}  // namespace
