// Files of numbers opened as matrices, for the tests of their readers.
#ifndef DESCENT_TESTS_MATRIX_FILES_H
#define DESCENT_TESTS_MATRIX_FILES_H

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "internal.h"
#include "scratch.h"

inline std::string Fixture(const std::string &name) {
  return std::string(DESCENT_SOURCE_DIR "/tests/fixtures/data/") + name;
}

// Builds without the library refuse HDF5 with this message.
inline bool ReadsHdf5() { return std::string(descent_version()).find("HDF5: not built") == std::string::npos; }
inline std::string WithoutHdf5(const std::string &file) {
  return "not supported: " + file +
         ": this build does not read HDF5 (install libhdf5-dev and build with -DDESCENT_HDF5=ON)";
}

inline descent_status OpenMatrix(const file_choice &choice, int64_t features, matrix *m) {
  switch (choice.format) {
    case FORMAT_NPY: return npy_open(choice.path, m);
    case FORMAT_NPZ: return npz_open(choice.path, choice.part, m);
    case FORMAT_IDX: return idx_open(choice.path, m);
    case FORMAT_SVMLIGHT: return svmlight_open(choice.path, choice.base, -1, features, m);
    case FORMAT_HDF5: return hdf5_open(choice.path, choice.part, m);
    case FORMAT_CSV:
    case FORMAT_SAFETENSORS: break;
  }
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: no matrix", choice.path);
}

// A file as it was read, or why it was not.
struct MatrixRead {
  descent_status status = DESCENT_ERROR_INTERNAL;
  std::string error, note;
  int64_t rows = 0, columns = 0, targets = 0, weights = 0, inexact = 0;
  std::vector<double> cells;

  // "2 x 3: 1 2 3 | 4 5 6", with "(1 target, 1 weight)" behind the size and the note in brackets at the end.
  std::string Describe() const {
    if (status != DESCENT_OK) return std::string(descent_status_text(status)) + ": " + error;
    std::ostringstream out;
    out.precision(17);
    out << rows << " x " << columns;
    if (targets) out << ", " << targets << " targets";
    if (weights) out << ", a weight";
    if (inexact) out << ", " << inexact << " inexact";
    out << ":";
    for (size_t i = 0; i < cells.size(); i++)
      out << (i && i % static_cast<size_t>(columns) == 0 ? " | " : " ") << cells[i];
    if (!note.empty()) out << " [" << note << "]";
    return out.str();
  }
};

// Reads `at_a_time` rows at a time, at most `most` rows.
inline MatrixRead ReadMatrix(const std::string &path, const char *format = nullptr, int64_t features = 0,
                             int64_t at_a_time = 2, int64_t most = INT64_MAX) {
  MatrixRead read;
  file_choice choice{};
  matrix m{};
  read.status = format_choose(path.c_str(), format, &choice);
  if (read.status == DESCENT_OK) read.status = OpenMatrix(choice, features, &m);
  if (read.status == DESCENT_OK) {
    read.rows = m.rows;
    read.columns = m.columns;
    read.targets = m.targets;
    read.weights = m.weights;
    read.note = m.note;
    std::vector<double> cells(static_cast<size_t>(at_a_time * m.columns));
    for (int64_t row = 0; read.status == DESCENT_OK && row < m.rows && row < most;) {
      const int64_t rows = std::min(at_a_time, m.rows - row);
      std::fill(cells.begin(), cells.end(), 777.0);
      read.status = m.read(&m, rows, cells.data());
      row += rows;
      read.cells.insert(read.cells.end(), cells.begin(), cells.begin() + rows * m.columns);
    }
    read.inexact = m.inexact;
  }
  if (read.status != DESCENT_OK) read.error = descent_last_error();
  matrix_close(&m);
  format_clear(&choice);
  return read;
}

#endif
