// Networks without files: model files in memory, copies, and preprocessing and names from arrays.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "cuda_module.h"
#include "data_files.h"

namespace {

struct CloseDevice {
  void operator()(descent_device *device) const { descent_device_close(device); }
};
using Device = std::unique_ptr<descent_device, CloseDevice>;

const char *const kDevices[] = {"reference", "cpu", "cuda"};

Device Open(const std::string &name) {
  descent_device *device = nullptr;
  EXPECT_EQ(descent_device_open(name.c_str(), 1, &device), DESCENT_OK) << descent_last_error();
  return Device(device);
}

struct Task {
  const char *name;
  descent_loss loss;
  descent_task task;
  int64_t outputs, targets, classes;
};
constexpr Task kTasks[] = {
    {"binary", DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_TASK_BINARY, 1, 1, 2},
    {"classes", DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_TASK_CLASSES, 3, 1, 3},
    {"regression", DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_TASK_REGRESSION, 2, 2, 0},
};
constexpr Task kRegression = kTasks[2], kBinary = kTasks[0];

Network Make(const Task &task, int64_t inputs = 4) {
  const int64_t widths[] = {5, task.outputs};
  const descent_activation activations[] = {DESCENT_ACTIVATION_GELU, DESCENT_ACTIVATION_IDENTITY};
  descent_network_options options = descent_network_options_default();
  descent_network *made = nullptr;
  options.inputs = inputs, options.layers = 2, options.widths = widths, options.activations = activations;
  options.loss = task.loss;
  EXPECT_EQ(descent_network_create(&options, &made), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(descent_network_initialise(made, DESCENT_INIT_AUTO, 3), DESCENT_OK);
  return Network(made);
}

// Rows of a range of sizes, a missing cell in every third.
struct Rows {
  explicit Rows(const Task &task, size_t n = 24, size_t inputs = 4)
      : X(n * inputs), y(n * static_cast<size_t>(task.targets)) {
    for (size_t i = 0; i < X.size(); i++)
      X[i] = i % 3 == 1 ? NAN : 100.0f * static_cast<float>(i % inputs) + static_cast<float>(i * 7 % 11);
    for (size_t i = 0; i < y.size(); i++)
      y[i] =
          task.classes ? static_cast<float>(static_cast<int64_t>(i) % task.classes) : 5.0f + static_cast<float>(i % 9);
    descent_dataset *made = nullptr;
    EXPECT_EQ(descent_dataset_create(X.data(), y.data(), nullptr, static_cast<int64_t>(n), static_cast<int64_t>(inputs),
                                     task.targets, task.task, task.classes, &made),
              DESCENT_OK)
        << descent_last_error();
    data.reset(made);
  }
  std::vector<float> X, y;
  Dataset data;
};

std::vector<float> Predict(const Network &network, const Rows &rows, const Device &device) {
  std::vector<float> outputs(
      static_cast<size_t>(descent_dataset_rows(rows.data.get()) * descent_network_outputs(network.get())));
  EXPECT_EQ(descent_predict(network.get(), device.get(), rows.data.get(), outputs.data()), DESCENT_OK)
      << descent_last_error();
  return outputs;
}

std::string InMemory(const descent_network *network) {
  size_t size = 0;
  EXPECT_EQ(descent_network_save_memory(network, nullptr, 0, &size), DESCENT_OK) << descent_last_error();
  std::string bytes(size, '\0');
  EXPECT_EQ(descent_network_save_memory(network, bytes.data(), bytes.size(), &size), DESCENT_OK)
      << descent_last_error();
  EXPECT_EQ(size, bytes.size());
  return bytes;
}

Network FromMemory(const std::string &bytes) {
  descent_network *loaded = nullptr;
  EXPECT_EQ(descent_network_load_memory(bytes.data(), bytes.size(), &loaded), DESCENT_OK) << descent_last_error();
  return Network(loaded);
}

Network Clone(const descent_network *network) {
  descent_network *copy = nullptr;
  EXPECT_EQ(descent_network_clone(network, &copy), DESCENT_OK) << descent_last_error();
  return Network(copy);
}

void ExpectRefused(descent_status status, const std::string &says) {
  EXPECT_EQ(status, DESCENT_ERROR_ARGUMENT) << says;
  EXPECT_NE(std::string(descent_last_error()).find(says), std::string::npos)
      << descent_last_error() << "\nnot: " << says;
}

class NetworkArrays : public DataFiles {
 protected:
  std::string File(const descent_network *network) const {
    EXPECT_EQ(descent_network_save(network, Path("m.safetensors").c_str()), DESCENT_OK) << descent_last_error();
    return read_file(Path("m.safetensors"));
  }
  // Everything that a file keeps: categories, missing cells, offsets, names, provenance.
  Network FromColumns() const {
    std::string text = "when,colour,size,price\n";
    for (int i = 0; i < 40; i++)
      text += std::to_string(1600000000 + 60 * i) + (i % 3 ? ",red," : ",blue,") + (i % 4 ? std::to_string(i) : "") +
              "," + std::to_string(1000 + i % 7) + ".5\n";
    descent_dataset_options options = descent_dataset_options_default();
    descent_dataset *data = nullptr;
    options.target = "price", options.task = DESCENT_TASK_REGRESSION, options.indicators = true;
    EXPECT_EQ(descent_dataset_read(Write("a.csv", text).c_str(), &options, &data), DESCENT_OK) << descent_last_error();
    Network network =
        Make({"", DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_TASK_REGRESSION, 1, 1, 0}, descent_dataset_inputs(data));
    EXPECT_EQ(
        descent_network_fit_preprocessing(network.get(), data, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEDIAN, true),
        DESCENT_OK)
        << descent_last_error();
    EXPECT_EQ(descent_network_set_provenance(network.get(), "{\"from\":\"a test\"}"), DESCENT_OK);
    EXPECT_NE(descent_network_input_offset(network.get(), 0), 0);
    descent_dataset_free(data);
    return network;
  }
};

// ---- in memory ----

TEST_F(NetworkArrays, MemoryHoldsTheBytesOfTheFile) {
  for (const Task &task : kTasks) {
    const Network network = Make(task);
    EXPECT_EQ(InMemory(network.get()), File(network.get())) << task.name;
  }
  const Network columns = FromColumns();
  const std::string bytes = File(columns.get());
  EXPECT_EQ(InMemory(columns.get()), bytes);
  EXPECT_EQ(File(FromMemory(bytes).get()), bytes);
}

TEST_F(NetworkArrays, TooSmallAMemoryIsLeftAlone) {
  const Network network = Make(kBinary);
  const size_t needed = InMemory(network.get()).size();
  std::string bytes(needed, 'x');
  for (const size_t capacity : {size_t{0}, size_t{1}, needed - 1}) {
    size_t size = 0;
    ExpectRefused(descent_network_save_memory(network.get(), bytes.data(), capacity, &size),
                  "capacity " + std::to_string(capacity) + ": the model in memory needs " + std::to_string(needed));
    EXPECT_EQ(size, needed);
    EXPECT_EQ(bytes, std::string(needed, 'x'));
  }
}

TEST_F(NetworkArrays, EveryTruncationOfMemoryIsRefused) {
  const std::string bytes = InMemory(FromColumns().get());
  for (size_t length = 0; length < bytes.size(); length++) {
    const std::string part = bytes.substr(0, length); /* a copy, so that a sanitizer sees its end */
    descent_network *loaded = nullptr;
    ASSERT_EQ(descent_network_load_memory(part.data(), part.size(), &loaded), DESCENT_ERROR_MODEL) << length;
    ASSERT_EQ(loaded, nullptr);
    ASSERT_EQ(std::string(descent_last_error()).find("the model in memory: "), 0u) << descent_last_error();
  }
}

TEST_F(NetworkArrays, PointersAreChecked) {
  const Network network = Make(kBinary);
  const std::string bytes = InMemory(network.get());
  descent_network *made = nullptr;
  descent_preprocessing p = descent_preprocessing_default();
  size_t size = 0;
  ExpectRefused(descent_network_save_memory(nullptr, nullptr, 0, &size), "network: is NULL");
  ExpectRefused(descent_network_save_memory(network.get(), nullptr, 0, nullptr), "size: is NULL");
  ExpectRefused(descent_network_load_memory(nullptr, 8, &made), "data: is NULL");
  ExpectRefused(descent_network_load_memory(bytes.data(), bytes.size(), nullptr), "network: is NULL");
  ExpectRefused(descent_network_clone(nullptr, &made), "network: is NULL");
  ExpectRefused(descent_network_clone(network.get(), nullptr), "clone: is NULL");
  ExpectRefused(descent_network_set_preprocessing(nullptr, &p), "network: is NULL");
  ExpectRefused(descent_network_set_preprocessing(network.get(), nullptr), "preprocessing: is NULL");
  ExpectRefused(descent_network_get_preprocessing(nullptr, &p), "network: is NULL");
  ExpectRefused(descent_network_get_preprocessing(network.get(), nullptr), "preprocessing: is NULL");
  ExpectRefused(descent_network_set_names(nullptr, nullptr, nullptr, nullptr), "network: is NULL");
  EXPECT_EQ(made, nullptr);
}

// ---- copies ----

TEST_F(NetworkArrays, ACloneIsEqualAndIndependent) {
  Network network = FromColumns();
  const std::string bytes = InMemory(network.get());
  const Network copy = Clone(network.get());
  EXPECT_EQ(InMemory(copy.get()), bytes);
  EXPECT_EQ(descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 9), DESCENT_OK);
  EXPECT_EQ(descent_network_set_provenance(network.get(), nullptr), DESCENT_OK);
  network.reset();
  EXPECT_EQ(InMemory(copy.get()), bytes);
}

TEST_F(NetworkArrays, ACloneKeepsWhatTheFileSaidOfItself) {
  const std::string path = DESCENT_SOURCE_DIR "/tests/fixtures/checkpoints/v2_step6.safetensors";
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(path.c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network network(loaded), copy = Clone(loaded), memory = FromMemory(read_file(path));
  for (const Network *other : {&copy, &memory}) {
    EXPECT_EQ(descent_network_checkpoint_step(other->get()), 6);
    EXPECT_STREQ(descent_network_library(other->get()), descent_network_library(loaded));
    EXPECT_EQ(InMemory(other->get()), InMemory(loaded));
  }
}

TEST_F(NetworkArrays, CopiesPredictTheSameBits) {
  for (const char *name : kDevices)
    for (const Task &task : kTasks) {
      SCOPED_TRACE(std::string(name) + " " + task.name);
      const Device device = Open(name);
      const Rows rows(task);
      Network network = Make(task);
      ASSERT_EQ(descent_network_fit_preprocessing(network.get(), rows.data.get(), DESCENT_NORMALIZE_MINMAX,
                                                  DESCENT_IMPUTE_MEAN, true),
                DESCENT_OK);
      const std::vector<float> expected = Predict(network, rows, device);
      EXPECT_EQ(Predict(Clone(network.get()), rows, device), expected);
      EXPECT_EQ(Predict(FromMemory(InMemory(network.get())), rows, device), expected);
    }
}

// ---- preprocessing ----

// What one network was fitted to, another predicts by when it is set.
TEST_F(NetworkArrays, PreprocessingMovesByArrays) {
  for (const char *name : kDevices)
    for (const Task &task : kTasks)
      for (const descent_normalize normalize : {DESCENT_NORMALIZE_NONE, DESCENT_NORMALIZE_STANDARD}) {
        SCOPED_TRACE(std::string(name) + " " + task.name + " " + descent_normalize_name(normalize));
        const Device device = Open(name);
        const Rows rows(task);
        const Network fitted = Make(task), set = Make(task);
        ASSERT_EQ(
            descent_network_fit_preprocessing(fitted.get(), rows.data.get(), normalize, DESCENT_IMPUTE_MEDIAN, true),
            DESCENT_OK)
            << descent_last_error();
        descent_preprocessing p = descent_preprocessing_default();
        ASSERT_EQ(descent_network_get_preprocessing(fitted.get(), &p), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(p.size, sizeof p);
        EXPECT_EQ(p.shift != nullptr, normalize != DESCENT_NORMALIZE_NONE);
        EXPECT_EQ(p.y_scale != nullptr, task.classes == 0);
        ASSERT_NE(p.fill, nullptr);
        ASSERT_EQ(descent_network_set_preprocessing(set.get(), &p), DESCENT_OK) << descent_last_error();
        EXPECT_EQ(descent_network_normalize(set.get()), normalize);
        EXPECT_EQ(descent_network_impute(set.get()), DESCENT_IMPUTE_MEDIAN);
        EXPECT_EQ(InMemory(set.get()), InMemory(fitted.get()));
        EXPECT_EQ(Predict(set, rows, device), Predict(fitted, rows, device));
      }
}

// In double, by the formulas of the header.
TEST_F(NetworkArrays, PreprocessingDoesWhatTheHeaderSays) {
  const float shift[] = {1, -2}, scale[] = {0.5f, 4}, fill[] = {3, 7}, y_shift[] = {10, -10}, y_scale[] = {2, 0.25f};
  const float W[] = {1, 2, -1, 0.5f}, b[] = {0.25f, -0.5f}, X[] = {2, 5, NAN, 1, -4, NAN};
  const int64_t widths[] = {2};
  descent_network_options options = descent_network_options_default();
  options.inputs = 2, options.layers = 1, options.widths = widths, options.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  descent_network *made = nullptr;
  ASSERT_EQ(descent_network_create(&options, &made), DESCENT_OK);
  const Network network(made);
  ASSERT_EQ(descent_network_set_layer(made, 1, W, b), DESCENT_OK);
  descent_preprocessing p = descent_preprocessing_default();
  p.normalize = DESCENT_NORMALIZE_STANDARD, p.shift = shift, p.scale = scale, p.fill = fill;
  p.y_shift = y_shift, p.y_scale = y_scale;
  ASSERT_EQ(descent_network_set_preprocessing(made, &p), DESCENT_OK) << descent_last_error();
  descent_dataset *data = nullptr;
  ASSERT_EQ(descent_dataset_create(X, nullptr, nullptr, 3, 2, 0, DESCENT_TASK_AUTO, 0, &data), DESCENT_OK);
  const Dataset rows(data);
  for (const char *name : kDevices) {
    float outputs[6];
    ASSERT_EQ(descent_predict(made, Open(name).get(), data, outputs), DESCENT_OK) << descent_last_error();
    for (int r = 0; r < 3; r++)
      for (int k = 0; k < 2; k++) {
        double a = static_cast<double>(b[k]);
        for (int j = 0; j < 2; j++) {
          const double x = static_cast<double>(std::isnan(X[2 * r + j]) ? fill[j] : X[2 * r + j]);
          a += static_cast<double>(W[2 * k + j]) * (x - static_cast<double>(shift[j])) * static_cast<double>(scale[j]);
        }
        /* every number here is exact in float32 */
        EXPECT_EQ(static_cast<double>(outputs[2 * r + k]),
                  a / static_cast<double>(y_scale[k]) + static_cast<double>(y_shift[k]))
            << name << " " << r << " " << k;
      }
  }
}

TEST_F(NetworkArrays, SettingPreprocessingReplacesAllOfIt) {
  const Rows rows(kRegression);
  const Network network = Make(kRegression);
  ASSERT_EQ(descent_network_fit_preprocessing(network.get(), rows.data.get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, true),
            DESCENT_OK);
  descent_preprocessing p = descent_preprocessing_default();
  ASSERT_EQ(descent_network_set_preprocessing(network.get(), &p), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(InMemory(network.get()), InMemory(Make(kRegression).get()));
  EXPECT_FALSE(descent_network_imputes(network.get()));
}

TEST_F(NetworkArrays, PreprocessingIsCheckedByName) {
  const float good[] = {1, 1, 1, 1}, nan[] = {1, 1, NAN, 1}, zero[] = {1, 0, 1, 1}, infinite[] = {1, INFINITY, 1, 1},
              negative[] = {-1, 1, 1, 1};
  using Change = std::function<void(descent_preprocessing *)>;
  const struct {
    Task task;
    Change change;
    const char *says;
  } cases[] = {
      {kRegression, [&](auto *p) { p->shift = nan; }, "shift[2] is nan: must be finite"},
      {kRegression, [&](auto *p) { p->scale = infinite; }, "scale[1] is inf: must be finite"},
      {kRegression, [&](auto *p) { p->scale = zero; }, "scale[1] is 0: must be above 0"},
      {kRegression, [&](auto *p) { p->scale = negative; }, "scale[0] is -1: must be above 0"},
      {kRegression, [&](auto *p) { p->fill = nan; }, "fill[2] is nan"},
      {kRegression, [&](auto *p) { p->y_shift = infinite; }, "y_shift[1] is inf"},
      {kRegression, [&](auto *p) { p->y_scale = zero; }, "y_scale[1] is 0: must be above 0"},
      {kBinary, [&](auto *p) { p->y_shift = good; }, "y_shift: must be NULL, since targets of binary_cross_entropy"},
      {kBinary, [&](auto *p) { p->y_scale = good; }, "y_scale: must be NULL"},
      {kBinary, [&](auto *p) { p->normalize = DESCENT_NORMALIZE_NONE, p->shift = good; },
       "normalize none: shift must be"},
      {kBinary, [&](auto *p) { p->normalize = DESCENT_NORMALIZE_NONE, p->scale = good; },
       "normalize none: scale must be"},
      {kBinary, [&](auto *p) { p->normalize = static_cast<descent_normalize>(3); }, "normalize 3: must be"},
      {kBinary, [&](auto *p) { p->impute = static_cast<descent_impute>(-1); }, "impute -1: must be"},
      {kBinary, [&](auto *p) { p->size = 4; }, "preprocessing must start from descent_preprocessing_default()"},
      {kBinary, [&](auto *p) { p->size = 0; }, "preprocessing must start from"},
  };
  for (const auto &c : cases) {
    const Network network = Make(c.task);
    const std::string before = InMemory(network.get());
    descent_preprocessing p = descent_preprocessing_default();
    p.normalize = DESCENT_NORMALIZE_STANDARD;
    c.change(&p);
    ExpectRefused(descent_network_set_preprocessing(network.get(), &p), c.says);
    EXPECT_EQ(InMemory(network.get()), before);
  }
}

TEST_F(NetworkArrays, PreprocessingOfOtherHeadersKeepsToTheirSize) {
  const float fill[] = {1, 2, 3, 4}, y_shift[] = {5, 6};
  struct Newer {
    descent_preprocessing known;
    int64_t future;
  } newer = {};
  descent_preprocessing_init(&newer.known, sizeof newer);
  newer.known.fill = fill, newer.known.y_shift = y_shift;
  const Network network = Make(kRegression);
  ASSERT_EQ(descent_network_set_preprocessing(network.get(), &newer.known), DESCENT_OK) << descent_last_error();
  newer.future = 1;
  ExpectRefused(descent_network_set_preprocessing(network.get(), &newer.known), "does not know");
  ASSERT_EQ(descent_network_get_preprocessing(network.get(), &newer.known), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(newer.future, 0);
  EXPECT_EQ(newer.known.size, sizeof newer);

  descent_preprocessing older = descent_preprocessing_default();
  older.size = offsetof(descent_preprocessing, y_shift);
  older.y_shift = y_shift;
  ASSERT_EQ(descent_network_get_preprocessing(network.get(), &older), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(older.y_shift, y_shift); /* beyond its size */
  EXPECT_EQ(older.fill[3], 4);
  older.y_shift = reinterpret_cast<const float *>(1); /* never read */
  ASSERT_EQ(descent_network_set_preprocessing(network.get(), &older), DESCENT_OK) << descent_last_error();
}

// ---- names ----

TEST_F(NetworkArrays, NamesGoIntoTheFileAndMatchColumns) {
  const char *inputs[] = {"a", "b b", "\xc3\xa4", "d"}, *targets[] = {"kind"}, *classes[] = {"low", "middle", "high"};
  const Network network = Make(kTasks[1]);
  ASSERT_EQ(descent_network_set_names(network.get(), inputs, targets, classes), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(descent_network_set_names(network.get(), nullptr, nullptr, nullptr), DESCENT_OK); /* stays */
  const Network loaded = FromMemory(InMemory(network.get()));
  for (const Network *n : {&network, &loaded}) {
    for (int i = 0; i < 4; i++) {
      EXPECT_STREQ(descent_network_input_name(n->get(), i), inputs[i]);
      EXPECT_STREQ(descent_network_column_name(n->get(), i), inputs[i]);
    }
    EXPECT_STREQ(descent_network_target_name(n->get(), 0), "kind");
    for (int k = 0; k < 3; k++) EXPECT_STREQ(descent_network_class_name(n->get(), k), classes[k]);
  }
  descent_dataset_options options = descent_dataset_options_default();
  options.network = network.get();
  EXPECT_EQ(Read(Write("shuffled.csv", "d,kind,\xc3\xa4,b b,a\n4,high,3,2,1\n8,low,7,6,5\n"), options),
            "a,b b,\xc3\xa4,d -> kind classes low,middle,high: 1,2,3,4>2 5,6,7,8>0");
  const char *renamed[] = {"p", "q", "r", "s"};
  ASSERT_EQ(descent_network_set_names(network.get(), renamed, nullptr, nullptr), DESCENT_OK);
  EXPECT_STREQ(descent_network_input_name(network.get(), 3), "s");
  EXPECT_STREQ(descent_network_class_name(network.get(), 2), "high");
}

TEST_F(NetworkArrays, NamesAreChecked) {
  const char *good[] = {"a", "b", "c", "d"}, *twice[] = {"a", "b", "c", "a"}, *missing[] = {"a", "b", nullptr, "d"},
             *empty[] = {"", "b", "c", "d"}, *bytes[] = {"a", "b\xff", "c", "d"};
  const struct {
    Task task;
    const char *const *inputs, *const *targets, *const *classes;
    const char *says;
  } cases[] = {
      {kBinary, twice, nullptr, nullptr, "inputs: two are called 'a'"},
      {kBinary, missing, nullptr, nullptr, "inputs[2]: is NULL"},
      {kBinary, empty, nullptr, nullptr, "inputs[0]: is empty"},
      {kBinary, bytes, nullptr, nullptr, "inputs[1]: byte 1 is not UTF-8"},
      {kBinary, good, empty, nullptr, "targets[0]: is empty"},
      {kBinary, good, nullptr, empty, "classes[0]: is empty"},
      {kRegression, good, bytes, nullptr, "targets[1]: byte 1 is not UTF-8"},
      {kRegression, good, good, good, "classes: must be NULL, since mean_squared_error has none"},
  };
  for (const auto &c : cases) {
    const Network network = Make(c.task);
    const std::string before = InMemory(network.get());
    ExpectRefused(descent_network_set_names(network.get(), c.inputs, c.targets, c.classes), c.says);
    EXPECT_EQ(InMemory(network.get()), before);
  }
  const Network columns = FromColumns();
  const char *six[] = {"a", "b", "c", "d", "e", "f"}, *target[] = {"cost"};
  ExpectRefused(descent_network_set_names(columns.get(), six, nullptr, nullptr), "(from 0) holds categories");
  ASSERT_EQ(descent_network_set_names(columns.get(), nullptr, target, nullptr), DESCENT_OK) << descent_last_error();
  EXPECT_STREQ(descent_network_target_name(columns.get(), 0), "cost");
}

TEST_F(NetworkArrays, ANetworkInTrainingIsNotChanged) {
  const Network network = Make(kBinary);
  const Device device = Open("cpu");
  const char *names[] = {"a", "b", "c", "d"};
  const descent_train_options options = descent_train_options_default();
  descent_preprocessing p = descent_preprocessing_default();
  descent_trainer *trainer = nullptr;
  ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, 4, &trainer), DESCENT_OK);
  ExpectRefused(descent_network_set_preprocessing(network.get(), &p), "in use by a trainer");
  ExpectRefused(descent_network_set_names(network.get(), names, nullptr, nullptr), "in use by a trainer");
  InMemory(Clone(network.get()).get());
  descent_trainer_free(trainer);
  EXPECT_EQ(descent_network_set_preprocessing(network.get(), &p), DESCENT_OK) << descent_last_error();
}

}  // namespace
