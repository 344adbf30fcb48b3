// Folds of a cross-validation: every row in one fold, equal sizes, equal shares of each class, drawn from the seed.
#include <algorithm>
#include <cmath>
#include <set>

#include "data_files.h"

namespace {

struct Fold {
  Dataset kept, held_out;
};

Fold FoldOf(const descent_dataset *dataset, int64_t folds, int64_t fold, uint64_t seed) {
  descent_dataset *kept = nullptr, *held_out = nullptr;
  EXPECT_EQ(descent_dataset_fold(dataset, folds, fold, seed, &kept, &held_out), DESCENT_OK) << descent_last_error();
  return {Dataset(kept), Dataset(held_out)};
}

Dataset Create(const std::vector<float> &X, const std::vector<float> &y, descent_task task, int64_t classes) {
  descent_dataset *made = nullptr;
  EXPECT_EQ(descent_dataset_create(X.data(), y.empty() ? nullptr : y.data(), nullptr, static_cast<int64_t>(X.size()), 1,
                                   1, task, classes, &made),
            DESCENT_OK)
      << descent_last_error();
  return Dataset(made);
}

std::vector<int64_t> RowsOf(const Dataset &view) {
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < descent_dataset_rows(view.get()); r++) rows.push_back(dataset_source_row(view.get(), r));
  return rows;
}

// Every row of `all` is held out once, each view is in ascending order, and kept and held_out are complements.
void ExpectPartition(const descent_dataset *all, int64_t folds, uint64_t seed) {
  std::set<int64_t> rows;
  for (int64_t r = 0; r < descent_dataset_rows(all); r++) rows.insert(dataset_source_row(all, r));
  std::set<int64_t> seen;
  for (int64_t f = 0; f < folds; f++) {
    const Fold fold = FoldOf(all, folds, f, seed);
    const std::vector<int64_t> kept = RowsOf(fold.kept), held = RowsOf(fold.held_out);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    EXPECT_TRUE(std::is_sorted(held.begin(), held.end()));
    for (const int64_t row : held) EXPECT_TRUE(seen.insert(row).second) << row;
    std::set<int64_t> both(kept.begin(), kept.end());
    both.insert(held.begin(), held.end());
    EXPECT_EQ(both, rows);
    EXPECT_EQ(kept.size() + held.size(), rows.size());
    const auto share = static_cast<int64_t>(rows.size()) / folds;
    EXPECT_GE(static_cast<int64_t>(held.size()), share);
    EXPECT_LE(static_cast<int64_t>(held.size()), share + 1);
  }
  EXPECT_EQ(seen, rows);
}

TEST(DatasetFold, DealsEachClassOutEvenly) {
  const std::vector<std::vector<int64_t>> compositions = {{50, 50},    {90, 10},        {997, 3},
                                                          {7, 11, 13}, {1000, 2, 2, 2}, {0, 10, 20},
                                                          {212, 357},  {9, 9, 9},       {1, 1, 1, 1, 1, 1, 5}};
  for (const auto &counts : compositions)
    for (const int64_t folds : {2, 3, 5, 10}) {
      SCOPED_TRACE(testing::PrintToString(counts) + " " + std::to_string(folds));
      std::vector<float> y;
      for (size_t k = 0; k < counts.size(); k++)
        y.insert(y.end(), static_cast<size_t>(counts[k]), static_cast<float>(k));
      for (size_t i = 0; i < y.size(); i++) std::swap(y[i], y[i * 7919 % y.size()]);
      const std::vector<float> X(y.size(), 1);
      const Dataset all = Create(X, y, DESCENT_TASK_CLASSES, static_cast<int64_t>(counts.size()));
      ExpectPartition(all.get(), folds, 5);
      for (int64_t f = 0; f < folds; f++) {
        const Fold fold = FoldOf(all.get(), folds, f, 5);
        for (size_t k = 0; k < counts.size(); k++) {
          const int64_t held = descent_dataset_class_count(fold.held_out.get(), static_cast<int64_t>(k));
          EXPECT_GE(held, counts[k] / folds) << k;
          EXPECT_LE(held, (counts[k] + folds - 1) / folds) << k;
        }
      }
    }
}

TEST(DatasetFold, PartitionsValuesAndRowsWithoutTargets) {
  const std::vector<float> X(103, 1), y(103, 0.5f);
  for (const bool values : {true, false}) {
    const Dataset all =
        Create(X, values ? y : std::vector<float>(), values ? DESCENT_TASK_REGRESSION : DESCENT_TASK_AUTO, 0);
    for (const int64_t folds : {2, 7, 10, 103}) ExpectPartition(all.get(), folds, 1);
  }
}

TEST(DatasetFold, TakesViewsOfViews) {
  const std::vector<float> X(200, 1);
  std::vector<float> y(200);
  for (size_t i = 0; i < y.size(); i++) y[i] = static_cast<float>(i % 3 == 0);
  Dataset all = Create(X, y, DESCENT_TASK_BINARY, 2);
  Fold outer = FoldOf(all.get(), 4, 1, 9);
  all.reset();
  ExpectPartition(outer.kept.get(), 5, 2);
  Fold inner = FoldOf(outer.kept.get(), 5, 3, 2);
  outer.kept.reset();
  outer.held_out.reset();
  EXPECT_EQ(descent_dataset_rows(inner.held_out.get()), 30);
  EXPECT_EQ(descent_dataset_class_count(inner.held_out.get(), 1), 10);
}

TEST(DatasetFold, IsDrawnFromTheSeed) {
  const std::vector<float> X(400, 1);
  std::vector<float> y(400);
  for (size_t i = 0; i < y.size(); i++) y[i] = static_cast<float>(i % 2);
  const Dataset all = Create(X, y, DESCENT_TASK_BINARY, 2);
  EXPECT_EQ(RowsOf(FoldOf(all.get(), 4, 2, 3).held_out), RowsOf(FoldOf(all.get(), 4, 2, 3).held_out));
  EXPECT_NE(RowsOf(FoldOf(all.get(), 4, 2, 3).held_out), RowsOf(FoldOf(all.get(), 4, 2, 4).held_out));
  // Each row is in this fold for a quarter of the seeds: over 1000 seeds 250 times, with a standard deviation of 13.7
  // if the draws are independent. None of 400 rows deviates by 5.5 standard deviations (chance 2e-5).
  std::vector<int> times(400, 0);
  for (uint64_t seed = 0; seed < 1000; seed++)
    for (const int64_t row : RowsOf(FoldOf(all.get(), 4, 2, seed).held_out)) times[static_cast<size_t>(row)]++;
  EXPECT_GE(*std::min_element(times.begin(), times.end()), 250 - 75);
  EXPECT_LE(*std::max_element(times.begin(), times.end()), 250 + 75);
}

TEST(DatasetFold, RefusesNumbersOutOfRange) {
  const std::vector<float> X(4, 1);
  const Dataset all = Create(X, {}, DESCENT_TASK_AUTO, 0), one = Create({1}, {}, DESCENT_TASK_AUTO, 0);
  const struct {
    const descent_dataset *dataset;
    int64_t folds, fold;
    descent_status status;
    const char *says;
  } cases[] = {
      {all.get(), 1, 0, DESCENT_ERROR_ARGUMENT, "folds 1: must be at least 2"},
      {all.get(), -3, 0, DESCENT_ERROR_ARGUMENT, "folds -3: must be at least 2"},
      {all.get(), 4, 4, DESCENT_ERROR_ARGUMENT, "fold 4: must be 0 to 3"},
      {all.get(), 4, -1, DESCENT_ERROR_ARGUMENT, "fold -1: must be 0 to 3"},
      {all.get(), 5, 0, DESCENT_ERROR_DATA, "4 rows cannot be cut into 5 folds (use fewer folds)"},
      {one.get(), 2, 0, DESCENT_ERROR_DATA, "1 row cannot be cut into 2 folds (use fewer folds)"},
  };
  for (const auto &c : cases) {
    descent_dataset *kept = nullptr, *held_out = nullptr;
    EXPECT_EQ(descent_dataset_fold(c.dataset, c.folds, c.fold, 1, &kept, &held_out), c.status);
    EXPECT_STREQ(descent_last_error(), c.says);
    EXPECT_EQ(kept, nullptr);
    EXPECT_EQ(held_out, nullptr);
  }
}

}  // namespace
