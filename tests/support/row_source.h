/* A source of rows in memory, for descent_fit_source. */
#ifndef DESCENT_TESTS_ROW_SOURCE_H
#define DESCENT_TESTS_ROW_SOURCE_H

#include <atomic>

#include "training.h"

struct RowSource {
  Rows rows;
  bool shuffled = true;                 /* as descent_fit does */
  int64_t at_a_time = 7;                /* rows that `next` returns at most */
  bool seeks = false;                   /* rewind goes to the row, instead of having the rows before it skipped */
  int64_t fail_epoch = 0, fail_row = 0; /* where next returns -1 */
  int64_t length = -1;                  /* rows of the epochs behind the first; -1: all */

  int64_t epoch = 0, row = 0;
  permutation order{};
  std::vector<std::pair<int64_t, int64_t>> rewinds; /* (epoch, row) */
  std::atomic<int> inside{0}, overlaps{0};          /* calls in progress, and those that met another */

  explicit RowSource(Rows given) : rows(std::move(given)) {}

  int64_t count() const { return length < 0 || epoch <= 1 ? rows.rows : length; }

  descent_source source(bool counted) {
    descent_source s = descent_source_default();
    s.inputs = rows.inputs;
    s.targets = rows.targets;
    s.classes = rows.classes;
    s.task = rows.classes == 0   ? DESCENT_TASK_REGRESSION
             : rows.classes == 2 ? DESCENT_TASK_BINARY
                                 : DESCENT_TASK_CLASSES;
    s.rows_per_epoch = counted ? rows.rows : 0;
    s.user = this;
    s.rewind = [](void *user, int64_t to_epoch, uint64_t seed, int64_t to_row) {
      return static_cast<RowSource *>(user)->rewind(to_epoch, seed, to_row);
    };
    s.next = [](void *user, float *X, float *y, float *weights, int64_t n) {
      return static_cast<RowSource *>(user)->next(X, y, weights, n);
    };
    return s;
  }

  int64_t rewind(int64_t to_epoch, uint64_t seed, int64_t to_row) {
    overlaps += inside++ > 0;
    epoch = to_epoch;
    row = seeks ? to_row : 0;
    rewinds.push_back({epoch, to_row});
    order = permutation_create(seed, RNG_SHUFFLE, static_cast<uint64_t>(epoch), static_cast<uint64_t>(rows.rows));
    inside--;
    return row;
  }

  int64_t next(float *X, float *y, float *weights, int64_t n) {
    overlaps += inside++ > 0;
    int64_t given = 0;
    const int64_t most = std::min(n, at_a_time);
    for (; given < most && row < count(); given++, row++) {
      if (fail_epoch && epoch == fail_epoch && row == fail_row) break;
      const int64_t r =
          shuffled ? static_cast<int64_t>(permutation_index(&order, static_cast<uint64_t>(row))) : row % rows.rows;
      std::copy_n(&rows.X[static_cast<size_t>(r * rows.inputs)], rows.inputs, X + given * rows.inputs);
      std::copy_n(&rows.y[static_cast<size_t>(r * rows.targets)], rows.targets, y + given * rows.targets);
      if (!rows.weights.empty()) weights[given] = rows.weights[static_cast<size_t>(r)];
    }
    inside--;
    if (given == 0 && fail_epoch && epoch == fail_epoch && row == fail_row) return -1;
    return given;
  }
};

#endif
