// Shared by the tests of writers and of the binary form: datasets saved and read back.
#ifndef DESCENT_TESTS_SAVED_DATA_H
#define DESCENT_TESTS_SAVED_DATA_H

#include <cmath>
#include <cstring>

#include "data_files.h"
#include "matrix_files.h"

const descent_dataset_options kDefaults = descent_dataset_options_default();

class SavedData : public DataFiles {
 protected:
  Dataset Open(const std::string &path, descent_dataset_options options = kDefaults) const {
    descent_dataset *read = nullptr;
    EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &read), DESCENT_OK) << descent_last_error();
    return Dataset(read);
  }
  Dataset OpenTarget(const std::string &path, const char *target, int header = -1) const {
    descent_dataset_options options = kDefaults;
    options.target = target;
    options.header = header;
    return Open(path, options);
  }
  // Without its first line and with classes as numbers: no names, as in the formats that hold none.
  std::string Headless(const std::string &source, const std::string &name) const {
    std::string text = read_file(source);
    text.erase(0, text.find('\n') + 1);
    for (const auto &[word, number] : {std::pair("benign", "0"), std::pair("malignant", "1")})
      for (size_t at; (at = text.find(word)) != std::string::npos;) text.replace(at, strlen(word), number);
    return Write(name, text);
  }
  std::string Save(const descent_dataset *dataset, const std::string &name) const {
    const descent_status status = descent_dataset_save(dataset, Path(name).c_str());
    if (status == DESCENT_OK) return "";
    EXPECT_FALSE(std::filesystem::exists(Path(name))) << name;
    return Plain(std::string(descent_status_text(status)) + ": " + descent_last_error());
  }
  // A network of the dataset's shape with `width` hidden units, drawn weights and its preprocessing.
  Network NetworkFor(const descent_dataset *d, int64_t width) const {
    const descent_task task = descent_dataset_task(d);
    const int64_t outputs = task == DESCENT_TASK_CLASSES ? descent_dataset_classes(d) : descent_dataset_targets(d);
    const int64_t widths[] = {width, outputs};
    descent_network_options shape = descent_network_options_default();
    shape.inputs = descent_dataset_inputs(d);
    shape.layers = 2;
    shape.widths = widths;
    shape.loss = task == DESCENT_TASK_BINARY    ? DESCENT_LOSS_BINARY_CROSS_ENTROPY
                 : task == DESCENT_TASK_CLASSES ? DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY
                                                : DESCENT_LOSS_MEAN_SQUARED_ERROR;
    descent_network *network = nullptr;
    EXPECT_EQ(descent_network_create(&shape, &network), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(descent_network_initialise(network, DESCENT_INIT_AUTO, 3), DESCENT_OK);
    EXPECT_EQ(descent_network_fit_preprocessing(network, d, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, true),
              DESCENT_OK)
        << descent_last_error();
    return Network(network);
  }
  // The bytes of a model trained on the dataset for a few epochs.
  std::string Train(const descent_dataset *d) const {
    const Network network = NetworkFor(d, 9);
    descent_device *device = nullptr;
    EXPECT_EQ(descent_device_open("cpu", 1, &device), DESCENT_OK);
    descent_train_options options = descent_train_options_default();
    options.epochs = 2;
    EXPECT_EQ(descent_fit(network.get(), device, d, nullptr, &options, nullptr), DESCENT_OK) << descent_last_error();
    descent_device_close(device);
    EXPECT_EQ(descent_network_save(network.get(), Path("model.safetensors").c_str()), DESCENT_OK);
    return read_file(Path("model.safetensors"));
  }
};

// Names, task, classes and the bits of every value.
inline void ExpectSame(const descent_dataset *a, const descent_dataset *b, const std::string &what) {
  const dataset_storage *x = a->storage, *y = b->storage;
  ASSERT_EQ(a->rows, b->rows) << what;
  ASSERT_EQ(x->inputs, y->inputs) << what;
  ASSERT_EQ(x->targets, y->targets) << what;
  ASSERT_EQ(x->classes, y->classes) << what;
  ASSERT_EQ(x->weights != nullptr, y->weights != nullptr) << what;
  EXPECT_EQ(x->task, y->task) << what;
  const auto width = [](int64_t n) { return static_cast<size_t>(n) * sizeof(float); };
  for (int64_t r = 0; r < a->rows; r++) {
    const int64_t i = dataset_source_row(a, r), j = dataset_source_row(b, r);
    for (int64_t c = 0; c < x->inputs; c++) {
      const float *p = x->X + i * x->inputs + c, *q = y->X + j * x->inputs + c;
      ASSERT_TRUE((std::isnan(*p) && std::isnan(*q)) || !std::memcmp(p, q, sizeof *p))
          << what << " row " << r << " input " << c << ": " << *p << " and " << *q;
    }
    if (x->targets) {
      ASSERT_EQ(std::memcmp(x->y + i * x->targets, y->y + j * x->targets, width(x->targets)), 0) << what;
    }
    if (x->weights) {
      ASSERT_EQ(x->weights[i], y->weights[j]) << what;
    }
  }
  for (int64_t k = 0; k < x->inputs; k++)
    EXPECT_STREQ(descent_dataset_input_name(a, k), descent_dataset_input_name(b, k)) << what;
  for (int64_t k = 0; k < x->classes; k++)
    EXPECT_STREQ(descent_dataset_class_name(a, k), descent_dataset_class_name(b, k)) << what;
  EXPECT_STREQ(descent_dataset_target_name(a, 0), descent_dataset_target_name(b, 0)) << what;
}

// Categories, missing cells, weights, names that need quotes, classes in words, floats of every size.
constexpr char kMixed[] =
    "size,\"the \"\"colour\"\"\",n,w,kind\n"
    "1e-40,red,1,0.5,bad\n"
    ",\" blue, light\",16777217,1,good\n"
    "-0,,-3.4e38,2,good\n"
    "0.1,red,?,0.25,\"so, so\"\n";

inline Dataset Mixed(const std::string &path, bool indicators) {
  descent_dataset_options options = kDefaults;
  options.target = "kind";
  options.weight_column = "w";
  options.indicators = indicators;
  descent_dataset *read = nullptr;
  EXPECT_EQ(descent_dataset_read(path.c_str(), &options, &read), DESCENT_OK) << descent_last_error();
  return Dataset(read);
}

#endif
