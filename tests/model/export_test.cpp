// Exported networks: the file says what the network says, in every activation, task and normalisation; a file that says
// anything else is found out; what cannot be written leaves nothing behind.
#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "data_files.h"
#include "internal.h"

extern "C" {
#include "train/export_bounds.h"
}

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
  descent_network_options options = descent_network_options_default();
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

class Export : public DataFiles {
 protected:
  std::string ReadText(const std::string &name) const {
    std::ifstream stream(Path(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }
};

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

// Bounds that grow with each layer's width would let anything pass here: one weight of 540,000, doubled.
TEST_F(Export, TheCheckIsNoBlunterForWideNetworks) {
  const Device device = OpenCpu();
  const int64_t widths[] = {512, 512, 512, 3};
  descent_network_options options = descent_network_options_default();
  options.inputs = 20;
  options.layers = 4;
  options.widths = widths;
  options.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  descent_network *made = nullptr;
  ASSERT_EQ(descent_network_create(&options, &made), DESCENT_OK);
  const Network network(made);
  ASSERT_EQ(descent_network_initialise(made, DESCENT_INIT_AUTO, 1), DESCENT_OK);
  const std::string path = Path("wide.onnx");
  for (float factor : {1.0f, 2.0f}) {
    float *weight = made->parameters + made->layers[2].at.W + 1000;
    const float before = *weight;
    *weight *= factor;
    ASSERT_EQ(descent_network_export(made, DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK);
    *weight = before;
    descent_export_difference difference = {};
    ASSERT_EQ(descent_export_check(made, device.get(), path.c_str(), nullptr, &difference), DESCENT_OK);
    EXPECT_EQ(difference.pass, factor == 1) << difference.largest << ", " << difference.ratio << " of the bound";
  }
}

// A table of numbers and categories, some of them missing, named as values inside the graph are.
Dataset ReadTable(const std::string &path) {
  descent_dataset_options options = descent_dataset_options_default();
  options.target = "answer";
  options.indicators = true;
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &dataset), DESCENT_OK) << descent_last_error();
  return Dataset(dataset);
}

std::string TableText() {
  const char *const colours[] = {"red", "green", "\"light, blue\""}, *const sizes[] = {"S", "M", "L", "XL"};
  std::string text = "age,label,layers.0.z,height,answer\n";
  for (int i = 0; i < 60; i++)
    text += (i % 9 ? std::to_string(20 + 7 * i % 41) : "") + "," + colours[i % 3] + "," +
            (i % 11 ? sizes[i % 7 % 4] : "?") + "," + std::to_string(150 + i * 11 % 37) +
            (i % 5 < 2 ? ",no\n" : ",yes\n");
  return text;
}

// Fitted to the table, with drawn weights.
Network MakeForTable(const descent_dataset *dataset) {
  const int64_t widths[] = {6, 1};
  descent_network_options options = descent_network_options_default();
  options.inputs = descent_dataset_inputs(dataset);
  options.layers = 2;
  options.widths = widths;
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 3), DESCENT_OK);
  EXPECT_EQ(descent_network_fit_preprocessing(network, dataset, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
            DESCENT_OK)
      << descent_last_error();
  return Network(network);
}

// Whatever is in the file: an answer or an error, and never less than that.
TEST_F(Export, TheCheckTakesAnyFile) {
  const Device device = OpenCpu();
  const Dataset dataset = ReadTable(Write("t.csv", TableText()));
  const Network network = MakeForTable(dataset.get());
  descent_dataset *kept = nullptr, *few = nullptr;
  ASSERT_EQ(descent_dataset_split(dataset.get(), 0.05, 0, &kept, &few), DESCENT_OK);
  const Dataset most(kept), rows(few);
  const std::string path = Path("table.onnx");
  ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK);
  const std::string good = ReadText("table.onnx");
  int refused = 0, different = 0;
  const auto check = [&](const std::string &bytes) {
    std::filesystem::remove(
        Path("altered.onnx"));  // file systems write a truncated file back at once, which takes long
    Write("altered.onnx", bytes);
    descent_export_difference difference = {};
    const descent_status status =
        descent_export_check(network.get(), device.get(), Path("altered.onnx").c_str(), rows.get(), &difference);
    EXPECT_TRUE(status == DESCENT_OK || status == DESCENT_ERROR_MODEL || status == DESCENT_ERROR_MEMORY)
        << descent_status_text(status) << ": " << descent_last_error();
    refused += status != DESCENT_OK;
    different += status == DESCENT_OK && !difference.pass;
  };
  for (size_t length = 0; length < good.size(); length++) check(good.substr(0, length));
  // Metadata comes last, and without some of it the graph is the same.
  EXPECT_GE(refused, static_cast<int>(good.find("task")));
  for (size_t i = 0; i < good.size(); i++)
    for (int bit : {0, 6}) {
      std::string altered = good;
      altered[i] = static_cast<char>(altered[i] ^ (1 << bit));
      check(altered);
    }
  EXPECT_GT(different, 0);
  EXPECT_EQ(descent_export_check(network.get(), device.get(), Path("none").c_str(), nullptr, nullptr),
            DESCENT_ERROR_READ);
  EXPECT_EQ(descent_export_check(network.get(), device.get(), Path("").c_str(), nullptr, nullptr), DESCENT_ERROR_READ);
}

// ---- C --------------------------------------------------------------------------------------------------------------

// Compiles the exported file as a stranger would, and calls it.
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

// Rows around the middle of what the network normalises.
std::vector<float> DrawRows(const descent_network *network) {
  std::vector<float> X(static_cast<size_t>(kRows * network->inputs));
  for (size_t i = 0; i < X.size(); i++) {
    const size_t j = i % static_cast<size_t>(network->inputs);
    const double u = rng_word(5, RNG_SYNTHETIC, 0, 0, i) * 0x1p-32;
    X[i] = static_cast<float>(network->shift[j] + (6 * u - 3) / network->scale[j]);
  }
  return X;
}

std::vector<float> Predict(const descent_network *network, descent_device *device, const std::vector<float> &X) {
  std::vector<float> outputs(static_cast<size_t>(kRows * descent_network_outputs(network)));
  descent_dataset *dataset = nullptr;
  EXPECT_EQ(descent_dataset_create(X.data(), nullptr, nullptr, kRows, network->inputs, 0, DESCENT_TASK_REGRESSION, 0,
                                   &dataset),
            DESCENT_OK);
  EXPECT_EQ(descent_predict(network, device, dataset, outputs.data()), DESCENT_OK) << descent_last_error();
  descent_dataset_free(dataset);
  return outputs;
}

TEST_F(Export, CSourceCompilesWithoutAWarningAndSaysWhatTheNetworkSays) {
  const Device device = OpenCpu();
  int number = 0;
  for (descent_activation activation : kActivations)
    for (descent_loss loss : kLosses) {
      const descent_normalize normalize = kNormalizes[number++ % 3];
      SCOPED_TRACE(std::string(descent_activation_name(activation)) + ", " + descent_loss_name(loss) + ", " +
                   descent_normalize_name(normalize));
      const Network network = Make(activation, loss, normalize);
      const std::string path = Path("network" + std::to_string(number) + ".c");
      ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK)
          << descent_last_error();
      const Compiled compiled(path);
      ASSERT_NE(compiled.predict(), nullptr);

      const size_t outputs = static_cast<size_t>(descent_network_outputs(network.get()));
      const std::vector<float> X = DrawRows(network.get()), expected = Predict(network.get(), device.get(), X);
      std::vector<export_value> work(static_cast<size_t>(export_values_room(network.get()))), exact(outputs);
      std::vector<float> y(outputs);
      for (size_t r = 0; r < kRows; r++) {
        compiled.predict()(&X[r * 5], y.data());
        export_values(network.get(), &X[r * 5], work.data(), exact.data());
        for (size_t k = 0; k < outputs; k++)
          EXPECT_LE(std::fabs(y[k] - expected[r * outputs + k]), EXPORT_ERRORS * exact[k].error)
              << "row " << r << ": " << y[k] << " and " << expected[r * outputs + k];
      }
    }
}

// ---- columns -------------------------------------------------------------------------------------------------------

TEST_F(Export, CategoriesGoIntoTheGraphAsTexts) {
  const Device device = OpenCpu();
  const Dataset dataset = ReadTable(Write("t.csv", TableText()));
  const Network network = MakeForTable(dataset.get());
  const std::string path = Path("table.onnx");
  for (const auto *rows :
       {static_cast<const descent_dataset *>(dataset.get()), static_cast<const descent_dataset *>(nullptr)}) {
    SCOPED_TRACE(rows ? "the table's rows" : "drawn rows");
    ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK);
    descent_export_difference difference = {};
    ASSERT_EQ(descent_export_check(network.get(), device.get(), path.c_str(), rows, &difference), DESCENT_OK)
        << descent_last_error();
    EXPECT_TRUE(difference.pass) << difference.largest << ", " << difference.ratio << " of the bound";
    EXPECT_EQ(difference.rows, rows ? 60 : 256);
  }
  // Two categories that have changed places are found.
  std::swap(network->schema.features[2].categories[0], network->schema.features[2].categories[1]);
  ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_ONNX, path.c_str()), DESCENT_OK);
  std::swap(network->schema.features[2].categories[0], network->schema.features[2].categories[1]);
  descent_export_difference difference = {};
  ASSERT_EQ(descent_export_check(network.get(), device.get(), path.c_str(), nullptr, &difference), DESCENT_OK);
  EXPECT_FALSE(difference.pass);
}

TEST_F(Export, CategoriesGoIntoCSourceAsNumbers) {
  const Device device = OpenCpu();
  const Dataset dataset = ReadTable(Write("t.csv", TableText()));
  const Network network = MakeForTable(dataset.get());
  const std::string path = Path("table.c");
  ASSERT_EQ(descent_network_export(network.get(), DESCENT_EXPORT_FORMAT_C, path.c_str()), DESCENT_OK);
  const Compiled compiled(path);
  ASSERT_NE(compiled.predict(), nullptr);
  const size_t inputs = static_cast<size_t>(network->inputs);
  std::vector<float> expected(60), X(inputs), x(4);
  ASSERT_EQ(descent_predict(network.get(), device.get(), dataset.get(), expected.data()), DESCENT_OK);
  std::vector<export_value> work(static_cast<size_t>(export_values_room(network.get()))), exact(1);
  for (int64_t r = 0; r < 60; r++) {
    ASSERT_EQ(descent_dataset_row(dataset.get(), r, X.data()), DESCENT_OK);
    for (size_t c = 0, j = 0; c < 4; c++) {
      const struct feature &feature = network->schema.features[c];
      x[c] = feature.categories && !std::isnan(X[j]) ? -1 : X[j];
      for (int64_t k = 0; k < feature.n_categories; k++)
        if (X[j + static_cast<size_t>(k)] == 1) x[c] = static_cast<float>(k);
      j += static_cast<size_t>(feature_inputs(&feature));
    }
    float y = 0;
    compiled.predict()(x.data(), &y);
    export_values(network.get(), X.data(), work.data(), exact.data());
    EXPECT_LE(std::fabs(y - expected[static_cast<size_t>(r)]), EXPORT_ERRORS * exact[0].error) << "row " << r;
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

// What a name holds stays a name.
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
