// Data files that a test writes into a temporary folder, and datasets described as text for comparison.
#ifndef DESCENT_TESTS_DATA_FILES_H
#define DESCENT_TESTS_DATA_FILES_H

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "internal.h"
#include "scratch.h"

struct FreeDataset {
  void operator()(descent_dataset *dataset) const { descent_dataset_free(dataset); }
};
using Dataset = std::unique_ptr<descent_dataset, FreeDataset>;

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;

// "a,b -> y binary no,yes: 1,2>0 3,4>1": names, target, task, class names, then the rows; "-" if there is none.
inline std::string Describe(const descent_dataset *d) {
  std::ostringstream out;
  const auto name = [](const char *text) { return text ? text : "-"; };
  const int64_t inputs = descent_dataset_inputs(d), targets = descent_dataset_targets(d);
  for (int64_t j = 0; j < inputs; j++) out << (j ? "," : "") << name(descent_dataset_input_name(d, j));
  out << " -> " << name(descent_dataset_target_name(d, 0)) << " " << descent_task_name(descent_dataset_task(d));
  for (int64_t k = 0; k < descent_dataset_classes(d); k++)
    out << (k ? "," : " ") << name(descent_dataset_class_name(d, k));
  out << ":";
  std::vector<float> x(static_cast<size_t>(inputs)), y(static_cast<size_t>(targets));
  out.precision(9);
  for (int64_t r = 0; r < descent_dataset_rows(d); r++) {
    EXPECT_EQ(descent_dataset_row(d, r, x.data()), DESCENT_OK);
    for (size_t j = 0; j < x.size(); j++) out << (j ? "," : " ") << x[j];
    if (!targets) continue;
    EXPECT_EQ(descent_dataset_target(d, r, y.data()), DESCENT_OK);
    for (size_t k = 0; k < y.size(); k++) out << (k ? "&" : ">") << y[k];
  }
  return out.str();
}

class DataFiles : public testing::Test {
 protected:
  std::string Path(const std::string &name) const { return scratch / name; }
  std::string Write(const std::string &name, const std::string &text) const {
    write_file(Path(name), text);
    return Path(name);
  }
  std::string Plain(const std::string &text) const { return scratch.plain(text); }

  // Describes what was read from the file, or gives status and error.
  std::string Read(const std::string &path, const descent_dataset_options &options) const {
    descent_dataset *read = nullptr;
    const descent_status status = descent_dataset_read(path.c_str(), &options, &read);
    const Dataset dataset(read);
    if (status == DESCENT_OK) return Describe(dataset.get());
    EXPECT_EQ(read, nullptr);
    return Plain(std::string(descent_status_text(status)) + ": " + descent_last_error());
  }
  std::string ReadText(const std::string &text, const char *target, descent_task task = DESCENT_TASK_AUTO,
                       int header = -1, char delimiter = 0) const {
    descent_dataset_options options = descent_dataset_options_default();
    options.strict = true;
    options.target = target;
    options.task = task;
    options.header = header;
    options.delimiter = delimiter;
    return Read(Write("t.csv", text), options);
  }

  Scratch scratch;
};

#endif
