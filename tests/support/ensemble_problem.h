/* Shared by the tests of ensembles: networks of equal preprocessing and their ensemble, and the cases of every device, loss
 * and number of members. */
#ifndef DESCENT_TESTS_ENSEMBLE_PROBLEM_H
#define DESCENT_TESTS_ENSEMBLE_PROBLEM_H

#include "member_oracle.h"
#include "training.h"

extern "C" {
#include "train/predictor.h"
}

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

using member_oracle::Row;
using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;

const char *const devices[] = {"reference", "cpu", "cuda"};
const descent_loss losses[] = {DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                               DESCENT_LOSS_MEAN_SQUARED_ERROR};
const int64_t inputs = 7;

const descent_predict_options by_default = descent_predict_options_default();

inline bool says(const std::string &part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

inline Network join(const std::vector<Network> &members) {
  std::vector<const descent_network *> list;
  for (const Network &member : members) list.push_back(member.get());
  descent_network *joined = nullptr;
  EXPECT_EQ(descent_network_join(list.data(), static_cast<int64_t>(list.size()), &joined), DESCENT_OK)
      << descent_last_error();
  return {joined, descent_network_free};
}

inline Predictor create_predictor(const Network &network, const Device &device, int64_t max_rows) {
  descent_predictor *made = nullptr;
  EXPECT_EQ(descent_predictor_create(network.get(), device.get(), max_rows, &made), DESCENT_OK) << descent_last_error();
  return {made, descent_predictor_free};
}

/* K networks of equal preprocessing, their ensemble, and rows of which some cells are missing. */
struct Problem {
  descent_loss loss;
  int64_t outputs;
  std::vector<Network> members;
  Network ensemble;
  Rows rows;

  Problem(descent_loss of, int64_t K, int64_t n_rows = 70, uint64_t seed = 1)
      : loss(of),
        outputs(of == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3),
        ensemble(nullptr, descent_network_free),
        rows(make_rows(n_rows, inputs, regression() ? 3 : 1, regression() ? 0 : outputs + (outputs == 1), 5)) {
    for (float &x : rows.X) x = 3 + 2 * x;
    for (float &y : rows.y)
      if (regression()) y = 50 + 4 * y;
    const Dataset complete = rows.dataset();
    for (int64_t k = 0; k < K; k++) {
      members.push_back(
          make_network({inputs, 12, 6, outputs}, DESCENT_ACTIVATION_GELU, loss, seed + static_cast<uint64_t>(100 * k)));
      EXPECT_EQ(descent_network_fit_preprocessing(members.back().get(), complete.get(), DESCENT_NORMALIZE_STANDARD,
                                                  DESCENT_IMPUTE_MEAN, regression()),
                DESCENT_OK)
          << descent_last_error();
    }
    for (size_t i = 0; i < rows.X.size(); i += 13) rows.X[i] = NAN;
    ensemble = join(members);
  }

  bool regression() const { return loss == DESCENT_LOSS_MEAN_SQUARED_ERROR; }
  size_t count() const { return static_cast<size_t>(rows.rows * outputs); }

  /* Of each member alone. */
  std::vector<std::vector<float>> predict_members(const Device &device, const Dataset &data, bool raw) const {
    std::vector<std::vector<float>> all;
    for (const Network &member : members) {
      all.emplace_back(static_cast<size_t>(descent_dataset_rows(data.get()) * outputs));
      EXPECT_EQ(
          (raw ? descent_predict_raw : descent_predict)(member.get(), device.get(), data.get(), all.back().data()),
          DESCENT_OK)
          << descent_last_error();
    }
    return all;
  }
};

/* Value i of all members. */
inline Row across(const std::vector<std::vector<float>> &members, size_t i) {
  Row values;
  for (const std::vector<float> &member : members) values.push_back(static_cast<long double>(member[i]));
  return values;
}

/* The raw outputs of a row of the ensemble, from those of the members. */
inline Row joined_row(const Problem &p, const std::vector<std::vector<float>> &raw, int64_t r) {
  std::vector<Row> rows;
  for (const std::vector<float> &member : raw)
    rows.emplace_back(member.begin() + r * p.outputs, member.begin() + (r + 1) * p.outputs);
  return member_oracle::raw(p.loss, rows);
}

inline double largest(const Row &values) {
  double most = 0;
  for (long double value : values) most = std::max(most, static_cast<double>(fabsl(value)));
  return most;
}

struct Case {
  const char *device;
  descent_loss loss;
  int64_t members;
};
class Ensemble : public testing::TestWithParam<Case> {};

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char *device : devices)
    for (descent_loss loss : losses)
      for (int64_t members : {1, 2, 3, 17})
        if (members < 17 || device != std::string("cuda") || loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) /* slow */
          cases.push_back({device, loss, members});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Cases, Ensemble, testing::ValuesIn(all_cases()), [](const testing::TestParamInfo<Case> &row) {
  return std::string(row.param.device) + "_" + descent_loss_name(row.param.loss) + "_" +
         std::to_string(row.param.members);
});

#endif
