// Model files of earlier versions stay readable and predict what they did.
#include <gtest/gtest.h>

#include <cmath>

#include "data_files.h"

namespace {

// tests/fixtures/models/<name>.safetensors, rows in <name>.csv, and in <name>.expected.csv what the version that wrote
// the model predicted for them.
struct OldModel {
  const char *name;
  int64_t first;  // column of the first number in the predictions
};

class OldModels : public testing::TestWithParam<OldModel> {};

std::vector<std::vector<std::string>> Cells(const std::string &path) {
  std::ifstream file(path);
  std::vector<std::vector<std::string>> lines;
  for (std::string line; std::getline(file, line);) {
    std::istringstream cells(line);
    lines.emplace_back();
    for (std::string cell; std::getline(cells, cell, ',');) lines.back().push_back(cell);
  }
  return lines;
}

TEST_P(OldModels, PredictAsTheyDid) {
  const std::string base = std::string(DESCENT_SOURCE_DIR "/tests/fixtures/models/") + GetParam().name;
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load((base + ".safetensors").c_str(), &loaded), DESCENT_OK) << descent_last_error();
  const Network network(loaded);
  descent_dataset_options options = descent_dataset_options_default();
  options.network = loaded;
  options.features_only = true;
  descent_dataset *read = nullptr;
  ASSERT_EQ(descent_dataset_read((base + ".csv").c_str(), &options, &read), DESCENT_OK) << descent_last_error();
  const Dataset dataset(read);
  descent_device *device = nullptr;
  ASSERT_EQ(descent_device_open("reference", 1, &device), DESCENT_OK);
  const int64_t rows = descent_dataset_rows(read), outputs = descent_network_outputs(loaded);
  std::vector<float> predicted(static_cast<size_t>(rows * outputs));
  ASSERT_EQ(descent_predict(loaded, device, read, predicted.data()), DESCENT_OK) << descent_last_error();
  descent_device_close(device);
  const auto lines = Cells(base + ".expected.csv");
  ASSERT_EQ(static_cast<int64_t>(lines.size()), rows + 1);
  const size_t first = static_cast<size_t>(GetParam().first);
  for (size_t r = 0; r < static_cast<size_t>(rows); r++)
    for (size_t k = 0; k < static_cast<size_t>(outputs); k++) {
      const double expected = std::stod(lines[r + 1].at(first + k));
      // Float32 against the reference's double: a few roundings of layers as narrow as these.
      EXPECT_NEAR(static_cast<double>(predicted[r * static_cast<size_t>(outputs) + k]), expected,
                  4e-6 * std::fabs(expected))
          << "row " << r << ", output " << k;
    }
}

INSTANTIATE_TEST_SUITE_P(Versions, OldModels,
                         testing::Values(OldModel{"v1_binary", 2}, OldModel{"v1_classes", 1},
                                         OldModel{"v1_regression", 0}, OldModel{"v2_census", 2},
                                         OldModel{"v3_ensemble", 2}),
                         [](const auto &test) { return std::string(test.param.name); });

TEST(OldModel, KeepsItsNames) {
  descent_network *loaded = nullptr;
  ASSERT_EQ(descent_network_load(DESCENT_SOURCE_DIR "/tests/fixtures/models/v1_binary.safetensors", &loaded),
            DESCENT_OK);
  const Network network(loaded);
  EXPECT_STREQ(descent_network_column_name(loaded, 3), "mean_area");
  EXPECT_STREQ(descent_network_target_name(loaded, 0), "diagnosis");
  EXPECT_STREQ(descent_network_class_name(loaded, 1), "malignant");
  EXPECT_FALSE(descent_network_imputes(loaded));
}

}  // namespace
