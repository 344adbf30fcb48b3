/* Predictions and measures of ensembles, on every device: those of the members, joined. What joins them is tested against
 * long double in member_outputs_test; here the members are predicted alone and joined by the oracle. */
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <functional>

#include "device_memory.h"
#include "export_bounds.h"
#include "member_oracle.h"
#include "training.h"

extern "C" {
#include "train/predictor.h"
}

namespace {

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

using member_oracle::Row;
using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;

const char *const devices[] = {"reference", "cpu", "cuda"};
const descent_loss losses[] = {DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                               DESCENT_LOSS_MEAN_SQUARED_ERROR};
const int64_t inputs = 7;

const descent_predict_options by_default = descent_predict_options_default();

bool says(const std::string &part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

Network join(const std::vector<Network> &members) {
  std::vector<const descent_network *> list;
  for (const Network &member : members) list.push_back(member.get());
  descent_network *joined = nullptr;
  EXPECT_EQ(descent_network_join(list.data(), static_cast<int64_t>(list.size()), &joined), DESCENT_OK)
      << descent_last_error();
  return {joined, descent_network_free};
}

Predictor create_predictor(const Network &network, const Device &device, int64_t max_rows) {
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
Row across(const std::vector<std::vector<float>> &members, size_t i) {
  Row values;
  for (const std::vector<float> &member : members) values.push_back(static_cast<long double>(member[i]));
  return values;
}

/* The raw outputs of a row of the ensemble, from those of the members. */
Row joined_row(const Problem &p, const std::vector<std::vector<float>> &raw, int64_t r) {
  std::vector<Row> rows;
  for (const std::vector<float> &member : raw)
    rows.emplace_back(member.begin() + r * p.outputs, member.begin() + (r + 1) * p.outputs);
  return member_oracle::raw(p.loss, rows);
}

double largest(const Row &values) {
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

std::vector<Case> all_cases() {
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

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* One rounding to float32 of a sum of K doubles. */
TEST_P(Ensemble, PredictsTheMeanOfItsMembers) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  const std::vector<std::vector<float>> alone = p.predict_members(device, data, false);
  std::vector<float> P(p.count(), NAN);
  OK(descent_predict(p.ensemble.get(), device.get(), data.get(), P.data()));
  for (size_t i = 0; i < P.size(); i++) {
    const Row values = across(alone, i);
    const auto exact = static_cast<double>(member_oracle::mean(values));
    ASSERT_NEAR(static_cast<double>(P[i]), exact,
                0x1p-24 * std::fabs(exact) + 0x1p-53 * static_cast<double>(p.members.size()) * largest(values))
        << i;
  }
}

/* The mean of exact networks: on average the members are as far from them as one network may be. */
TEST_P(Ensemble, PredictsTheMeanOfExactNetworks) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  std::vector<float> P(p.count(), NAN);
  OK(descent_predict(p.ensemble.get(), device.get(), p.rows.dataset().get(), P.data()));
  for (int64_t r = 0; r < p.rows.rows; r++) {
    std::vector<Estimate> sum(static_cast<size_t>(p.outputs));
    for (const Network &member : p.members) {
      const std::vector<Estimate> exact = EstimateOutputs(member.get(), &p.rows.X[static_cast<size_t>(inputs * r)]);
      for (size_t c = 0; c < sum.size(); c++) sum[c].value += exact[c].value, sum[c].error += exact[c].error;
    }
    const auto K = static_cast<double>(p.members.size());
    for (size_t c = 0; c < sum.size(); c++)
      ASSERT_NEAR(static_cast<double>(P[static_cast<size_t>(r * p.outputs) + c]), sum[c].value / K,
                  kExportErrors * sum[c].error / K + 0x1p-24 * std::fabs(sum[c].value / K))
          << "row " << r;
  }
}

/* In double, and then one rounding. The outputs of a network of this size are below 100. */
TEST_P(Ensemble, RawOutputsAreTheLogarithmsOfTheMean) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  const std::vector<std::vector<float>> alone = p.predict_members(device, data, true);
  std::vector<float> raw(p.count(), NAN);
  OK(descent_predict_raw(p.ensemble.get(), device.get(), data.get(), raw.data()));
  for (int64_t r = 0; r < p.rows.rows; r++) {
    const Row exact = joined_row(p, alone, r);
    for (size_t c = 0; c < exact.size(); c++) {
      const float found = raw[static_cast<size_t>(r * p.outputs) + c];
      if (p.members.size() == 1) {
        ASSERT_EQ(found, alone[0][static_cast<size_t>(r * p.outputs) + c]) << "a join of one is plain";
      } else {
        ASSERT_NEAR(static_cast<double>(found), static_cast<double>(exact[c]),
                    0x1p-24 * std::fabs(static_cast<double>(exact[c])) + 0x1p-53 * 300)
            << "row " << r;
      }
    }
  }
}

/* The output function of the raw outputs is what is predicted: they have one rounding, which the function takes for a
 * relative error of their size, and each probability of a member has a few more. */
TEST_P(Ensemble, TheOutputFunctionOfRawOutputsGivesThePrediction) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  std::vector<float> raw(p.count()), P(raw);
  OK(descent_predict_raw(p.ensemble.get(), device.get(), data.get(), raw.data()));
  OK(descent_predict(p.ensemble.get(), device.get(), data.get(), P.data()));
  for (int64_t r = 0; r < p.rows.rows; r++) {
    const Row z(raw.begin() + r * p.outputs, raw.begin() + (r + 1) * p.outputs);
    for (size_t c = 0; c < z.size(); c++) {
      const auto predicted = static_cast<double>(P[static_cast<size_t>(r * p.outputs) + c]);
      double expected, bound;
      if (p.regression()) {
        const auto shift = static_cast<double>(p.ensemble->y_shift[c]),
                   scale = static_cast<double>(p.ensemble->y_scale[c]);
        expected = static_cast<double>(z[c]) / scale + shift;
        bound = 4 * 0x1p-24 * (largest(z) / scale + std::fabs(shift));
      } else {
        const Row all = member_oracle::probabilities(z);
        expected = static_cast<double>(all[c]); /* of one logit the first is sigmoid(z) */
        bound = (2 * largest(z) + 32) * 0x1p-24 * expected;
      }
      ASSERT_NEAR(predicted, expected, bound) << "row " << r;
    }
  }
}

/* Regression's comes from raw outputs; the values that it is compared with are rounded beside their shift. */
TEST_P(Ensemble, SpreadIsTheStandardDeviationOverTheMembers) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  const std::vector<std::vector<float>> alone = p.predict_members(device, data, false);
  std::vector<float> P(p.count(), NAN), spread(P), expected(P);
  OK(descent_predict_spread(p.ensemble.get(), device.get(), data.get(), &by_default, P.data(), spread.data()));
  OK(descent_predict(p.ensemble.get(), device.get(), data.get(), expected.data()));
  EXPECT_EQ(P, expected);
  for (size_t i = 0; i < P.size(); i++) {
    const Row values = across(alone, i);
    const auto exact = static_cast<double>(member_oracle::spread(values));
    const double rounding = p.regression() ? 4 * 0x1p-24 : 0x1p-52 * static_cast<double>(p.members.size());
    ASSERT_NEAR(static_cast<double>(spread[i]), exact, 2 * 0x1p-24 * exact + rounding * largest(values)) << i;
    if (p.members.size() == 1) {
      ASSERT_EQ(spread[i], 0);
    }
  }
}

TEST(EnsembleSpread, OfTargetsFarFromZeroIsNotRoundedBesideThem) {
  std::vector<Network> members;
  for (const float w : {1.0F, 2.0F, 4.0F}) {
    members.push_back(make_network({1, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR));
    const float b = 0;
    OK(descent_network_set_layer(members.back().get(), 1, &w, &b));
    members.back()->y_shift[0] = 1e6F;
    members.back()->y_scale[0] = 1024;
  }
  const Network ensemble = join(members);
  const Rows rows{2, 1, 1, 0, {1, 0}, {0, 0}, {}};
  for (const char *name : devices) {
    float P[2], spread[2];
    const Device device = open_device(name);
    OK(descent_predict_spread(ensemble.get(), device.get(), rows.dataset().get(), &by_default, P, spread));
    EXPECT_EQ(P[0], 1e6F);
    EXPECT_FLOAT_EQ(spread[0], static_cast<float>(std::sqrt(14.0 / 9) / 1024)) << name;
    EXPECT_EQ(spread[1], 0);
  }
}

/* ---- predictors -------------------------------------------------------------------------------------------------- */

TEST_P(Ensemble, APredictorGivesTheSameForAnyNumberOfRows) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Predictor predictor = create_predictor(p.ensemble, device, 70);
  for (const bool raw : {false, true})
    for (int64_t rows : {1, 2, 7, 70, 1}) {
      std::vector<float> found(static_cast<size_t>(rows * p.outputs), NAN), expected(found);
      const Rows first{rows, inputs, p.rows.targets, p.rows.classes, p.rows.X, p.rows.y, {}};
      OK((raw ? descent_predictor_run_raw : descent_predictor_run)(predictor.get(), p.rows.X.data(), rows,
                                                                   found.data()));
      OK((raw ? descent_predict_raw : descent_predict)(p.ensemble.get(), device.get(), first.dataset().get(),
                                                       expected.data()));
      EXPECT_EQ(found, expected) << rows;
    }
}

/* Blocks of 8 rows of a view, which is not in the order of its data; a device may round another number of rows
 * differently. */
TEST_P(Ensemble, APredictorTakesDatasetsInBlocks) {
  const Problem p(GetParam().loss, GetParam().members);
  const Device device = open_device(GetParam().device);
  const Predictor predictor = create_predictor(p.ensemble, device, 8);
  descent_dataset *kept = nullptr, *held_out = nullptr;
  OK(descent_dataset_split(p.rows.dataset().get(), 0.4, 3, &kept, &held_out));
  const Dataset view(kept, descent_dataset_free), rest(held_out, descent_dataset_free);
  std::vector<float> found(static_cast<size_t>(descent_dataset_rows(kept) * p.outputs), NAN), expected(found);
  OK(descent_predictor_run_dataset(predictor.get(), kept, found.data()));
  OK(descent_predict(p.ensemble.get(), device.get(), kept, expected.data()));
  for (size_t i = 0; i < found.size(); i++)
    ASSERT_NEAR(static_cast<double>(found[i]), static_cast<double>(expected[i]),
                64 * 0x1p-24 * (1 + std::fabs(static_cast<double>(expected[i]))));
}

TEST_P(Ensemble, ARefreshedPredictorHasTheNewMembers) {
  const Problem before(GetParam().loss, GetParam().members, 70, 1), after(GetParam().loss, GetParam().members, 70, 7);
  const Device device = open_device(GetParam().device);
  const Predictor predictor = create_predictor(before.ensemble, device, 70);
  std::vector<float> found(after.count(), NAN), expected(found);
  const std::vector<float> one(after.count(), 1);
  std::vector<float> dX(after.rows.X.size()), dX_expected(dX);
  OK(descent_predictor_input_gradient(predictor.get(), after.rows.X.data(), one.data(), 70, dX.data()));
  OK(descent_predictor_refresh(predictor.get(), after.ensemble.get()));
  OK(descent_predictor_run(predictor.get(), after.rows.X.data(), 70, found.data()));
  OK(descent_predict(after.ensemble.get(), device.get(), after.rows.dataset().get(), expected.data()));
  EXPECT_EQ(found, expected);
  OK(descent_predictor_input_gradient(predictor.get(), after.rows.X.data(), one.data(), 70, dX.data()));
  const Predictor fresh = create_predictor(after.ensemble, device, 70);
  OK(descent_predictor_input_gradient(fresh.get(), after.rows.X.data(), one.data(), 70, dX_expected.data()));
  EXPECT_EQ(dX, dX_expected);
  const Problem other(GetParam().loss, GetParam().members + 1);
  EXPECT_EQ(descent_predictor_refresh(predictor.get(), other.ensemble.get()), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("network: has " + std::to_string(GetParam().members + 1) + " members, the predictor " +
                   std::to_string(GetParam().members)))
      << descent_last_error();
  OK(descent_predictor_run(predictor.get(), after.rows.X.data(), 70, found.data()));
  EXPECT_EQ(found, expected);
}

TEST(EnsemblePredictor, RefreshTakesOverOtherPreprocessing) {
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Problem p(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3);
    std::vector<Network> plain;
    for (uint64_t seed : {1, 2, 3})
      plain.push_back(make_network({inputs, 12, 6, 3}, DESCENT_ACTIVATION_GELU, p.loss, seed));
    const Network without = join(plain);
    const Predictor predictor = create_predictor(without, device, 70);
    std::vector<float> found(p.count(), NAN), expected(found);
    OK(descent_predictor_refresh(predictor.get(), p.ensemble.get()));
    OK(descent_predictor_run(predictor.get(), p.rows.X.data(), 70, found.data()));
    OK(descent_predict(p.ensemble.get(), device.get(), p.rows.dataset().get(), expected.data()));
    EXPECT_EQ(found, expected);
  }
}

/* Arrays on a GPU pass through the host. */
TEST(EnsemblePredictor, TakesArraysInDeviceMemory) {
  const Device device = open_device("cuda");
  for (descent_loss loss : losses) {
    SCOPED_TRACE(descent_loss_name(loss));
    const Problem p(loss, 3, 9);
    const Predictor predictor = create_predictor(p.ensemble, device, 9);
    const std::vector<double> X(p.rows.X.begin(), p.rows.X.end());
    const arrays::Array host(DESCENT_DTYPE_F32, arrays::DENSE, 9, inputs, X);
    const device_memory::Array given(host);
    for (const bool raw : {false, true}) {
      std::vector<float> expected(p.count());
      OK((raw ? descent_predictor_run_raw : descent_predictor_run)(predictor.get(), p.rows.X.data(), 9,
                                                                   expected.data()));
      const arrays::Array wanted(DESCENT_DTYPE_F32, arrays::DENSE, 9, p.outputs, {expected.begin(), expected.end()}),
          empty(DESCENT_DTYPE_F32, arrays::DENSE, 9, p.outputs);
      const device_memory::Array to(empty);
      OK((raw ? descent_predictor_run_raw_arrays : descent_predictor_run_arrays)(predictor.get(), &given, &to));
      EXPECT_EQ(to.bytes(), wanted.bytes);
    }
    const descent_array rows = given.array;
    descent_dataset *made = nullptr;
    OK(descent_dataset_create_arrays(device.get(), &rows, nullptr, nullptr, DESCENT_TASK_AUTO, 0, &made));
    const Dataset there(made, descent_dataset_free);
    std::vector<float> P(p.count()), expected(P);
    OK(descent_predict(p.ensemble.get(), device.get(), there.get(), P.data()));
    OK(descent_predictor_run(predictor.get(), p.rows.X.data(), 9, expected.data()));
    EXPECT_EQ(P, expected);
  }
}

/* ---- what is refused or added, once for all members -------------------------------------------------------------- */

TEST(EnsemblePredictor, NamesARowWithoutAFiniteResultOnceAndPredictsTheOthers) {
  std::vector<Network> lines;
  for (const float w : {1.0F, 3e38F, 2.0F}) {
    lines.push_back(make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR));
    const float W[] = {w, 1}, b[] = {0};
    OK(descent_network_set_layer(lines.back().get(), 1, W, b));
  }
  const Network ensemble = join(lines);
  const struct {
    std::vector<float> X;
    const char *says;
  } cases[] = {{{0, 1, 2e4F, 0, 0, 3}, "row 1 (from 0): the output is not finite: input 0 (from 0) is 20000"},
               {{0, 1, 0, -3e38F, 0, 3}, "row 1 (from 0): input 1 (from 0) is -3e+38, too large for float32"},
               {{0, 1, NAN, 0, 0, 3}, "row 1 (from 0): the output is not finite: input 0 (from 0) is missing"}};
  for (const char *name : devices)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(name) + " " + c.says);
      const Device device = open_device(name);
      const Predictor predictor = create_predictor(ensemble, device, 8);
      const Rows rows{3, 2, 1, 0, c.X, {0, 0, 0}, {}};
      float P[3] = {}, spread[3] = {};
      descent_metrics metrics;
      for (const bool raw : {false, true}) {
        EXPECT_EQ((raw ? descent_predictor_run_raw : descent_predictor_run)(predictor.get(), c.X.data(), 3, P),
                  DESCENT_ERROR_DATA);
        EXPECT_TRUE(says(c.says)) << descent_last_error();
        EXPECT_EQ(P[0], 1);
        EXPECT_EQ(P[2], 3);
      }
      EXPECT_EQ(descent_predict_spread(ensemble.get(), device.get(), rows.dataset().get(), &by_default, P, spread),
                DESCENT_ERROR_DATA);
      EXPECT_TRUE(says(c.says)) << descent_last_error();
      EXPECT_EQ(descent_evaluate(ensemble.get(), device.get(), rows.dataset().get(), 0, &metrics), DESCENT_ERROR_DATA);
      EXPECT_TRUE(says(c.says)) << descent_last_error();
    }
}

TEST(EnsemblePredictor, AddsOffsetsOfTargetsToTheMean) {
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    std::vector<Network> lines;
    for (const float w : {1.0F, 3.0F}) {
      lines.push_back(make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR));
      const float W[] = {w, 100}, b[] = {1};
      OK(descent_network_set_layer(lines.back().get(), 1, W, b));
    }
    const Network ensemble = join(lines);
    ensemble->schema.offsets = static_cast<double *>(memory_allocate(2, sizeof(double), "offsets"));
    ensemble->schema.target_offsets = static_cast<double *>(memory_allocate(1, sizeof(double), "offsets"));
    ensemble->schema.n_offsets = 2, ensemble->schema.n_target_offsets = 1;
    ensemble->schema.offsets[0] = 1 << 20;
    ensemble->schema.target_offsets[0] = 4096;
    const Device device = open_device(name);
    const Rows rows{2, 2, 1, 0, {(1 << 20) + 3.0F, 5, (1 << 20) - 2.0F, 7}, {4096 + 500, 4096 + 700}, {}};
    const Predictor predictor = create_predictor(ensemble, device, 2);
    float P[2], raw[2], spread[2];
    OK(descent_predictor_run(predictor.get(), rows.X.data(), 2, P));
    OK(descent_predictor_run_raw(predictor.get(), rows.X.data(), 2, raw));
    OK(descent_predict_spread(ensemble.get(), device.get(), rows.dataset().get(), &by_default, P, spread));
    for (int r = 0; r < 2; r++) { /* whole numbers: exact */
      EXPECT_EQ(raw[r], r == 0 ? 2 * 3 + 500 + 1 : 2 * -2 + 700 + 1);
      EXPECT_EQ(P[r], raw[r] + 4096);
      EXPECT_EQ(spread[r], r == 0 ? 3 : 2);
    }
    descent_metrics metrics;
    OK(descent_evaluate(ensemble.get(), device.get(), rows.dataset().get(), 0, &metrics));
    EXPECT_EQ(metrics.loss, (7.0 * 7 + 3 * 3) / 2);
    EXPECT_FLOAT_EQ(static_cast<float>(metrics.rmse), static_cast<float>(std::sqrt(29.0)));
  }
}

/* ---- measures ---------------------------------------------------------------------------------------------------- */

/* All of them from the oracle's raw outputs, with weights and by the definitions. The loss of a row is within the error of
 * a raw output, and of its square for regression. */
TEST_P(Ensemble, IsMeasuredByItsJoinedOutputs) {
  Problem p(GetParam().loss, GetParam().members, 200);
  for (int64_t r = 0; r < p.rows.rows; r++) p.rows.weights.push_back(static_cast<float>(r % 4) * 0.5F);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  const std::vector<std::vector<float>> alone = p.predict_members(device, data, true);
  descent_metrics metrics;
  OK(descent_evaluate(p.ensemble.get(), device.get(), data.get(), 2 * !p.regression(), &metrics));
  long double loss = 0, weight = 0, residual = 0, half_wins = 0;
  int64_t correct = 0, in_top = 0, pairs = 0;
  std::vector<float> positive, negative;
  std::vector<int64_t> confusion(9);
  for (int64_t r = 0; r < p.rows.rows; r++) {
    const Row raw = joined_row(p, alone, r);
    Row y(p.rows.y.begin() + r * p.rows.targets, p.rows.y.begin() + (r + 1) * p.rows.targets);
    if (p.regression())
      for (size_t c = 0; c < raw.size(); c++) {
        const auto shift = static_cast<long double>(p.ensemble->y_shift[c]),
                   scale = static_cast<long double>(p.ensemble->y_scale[c]);
        residual += powl(raw[c] / scale + shift - y[c], 2);
        y[c] = (y[c] - shift) * scale;
      }
    const auto w = static_cast<long double>(p.rows.weights[static_cast<size_t>(r)]);
    loss += w * member_oracle::loss(p.loss, raw, y);
    weight += w;
    if (p.regression()) continue;
    const auto truth = static_cast<size_t>(y[0]);
    const auto found = raw.size() == 1 ? static_cast<size_t>(raw[0] >= 0)
                                       : static_cast<size_t>(std::max_element(raw.begin(), raw.end()) - raw.begin());
    correct += found == truth;
    confusion[truth * static_cast<size_t>(metrics.classes) + found]++;
    if (raw.size() == 1) (truth ? positive : negative).push_back(static_cast<float>(raw[0]));
    if (raw.size() > 1)
      in_top += std::count_if(raw.begin(), raw.end(), [&](long double z) { return z > raw[truth]; }) < 2;
  }
  const double unit = GetParam().members == 1 ? 0x1p-24 : 0x1p-53; /* a plain network's loss is the device's */
  EXPECT_NEAR(metrics.loss, static_cast<double>(loss / weight), 1000 * unit * (1 + static_cast<double>(loss / weight)));
  EXPECT_EQ(metrics.rows, 200);
  if (p.regression()) {
    EXPECT_NEAR(metrics.rmse, std::sqrt(static_cast<double>(residual) / 600), 8 * 0x1p-24 * 60);
  } else {
    EXPECT_EQ(metrics.accuracy, static_cast<double>(correct) / 200);
    for (size_t i = 0; i < static_cast<size_t>(metrics.classes * metrics.classes); i++)
      EXPECT_EQ(metrics.confusion[i], confusion[i]) << i;
  }
  if (p.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) {
    EXPECT_EQ(metrics.top_k_accuracy, static_cast<double>(in_top) / 200);
  }
  for (const float a : positive)
    for (const float b : negative) half_wins += a > b ? 2 : a == b, pairs += 2;
  if (pairs) {
    EXPECT_NEAR(metrics.auc, static_cast<double>(half_wins) / static_cast<double>(pairs), 0x1p-50);
  }
  descent_metrics_clear(&metrics);
}

/* By Jensen's inequality: -log and the square are convex. */
TEST_P(Ensemble, IsNotWorseThanItsMembersOnAverage) {
  const Problem p(GetParam().loss, GetParam().members, 200);
  const Device device = open_device(GetParam().device);
  const Dataset data = p.rows.dataset();
  descent_metrics metrics;
  double sum = 0;
  for (const Network &member : p.members) {
    OK(descent_evaluate(member.get(), device.get(), data.get(), 0, &metrics));
    sum += metrics.loss;
    descent_metrics_clear(&metrics);
  }
  OK(descent_evaluate(p.ensemble.get(), device.get(), data.get(), 0, &metrics));
  EXPECT_LE(metrics.loss, sum / static_cast<double>(p.members.size()) * (1 + 100 * 0x1p-24));
  descent_metrics_clear(&metrics);
}

/* Blocks, and the progress between them. */
struct Seen {
  int64_t last, total, cancel_at;
  std::string task;
  bool in_order;
};
int note(void *user, const descent_progress *progress) {
  Seen *seen = static_cast<Seen *>(user);
  descent_set_progress(note, user); /* the next opportunity counts again */
  seen->in_order = seen->in_order && progress->done > seen->last;
  seen->last = progress->done, seen->total = progress->total;
  seen->task = progress->task;
  return seen->cancel_at > 0 && progress->done >= seen->cancel_at;
}

TEST(EnsemblePredictor, WorksInBlocksThatReportAndCanBeCancelled) {
  const int64_t n = 20000;
  const Problem p(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 3, n);
  const Device device = open_device("cpu");
  const Dataset data = p.rows.dataset();
  std::vector<float> whole(p.count()), part(static_cast<size_t>(100));
  OK(descent_predict(p.ensemble.get(), device.get(), data.get(), whole.data()));
  const Predictor predictor = create_predictor(p.ensemble, device, 100);
  for (const int64_t first : {0L, 4050L, 19900L}) {
    OK(descent_predictor_run(predictor.get(), p.rows.X.data() + first * inputs, 100, part.data()));
    for (size_t i = 0; i < part.size(); i++)
      ASSERT_NEAR(static_cast<double>(part[i]), static_cast<double>(whole[static_cast<size_t>(first) + i]), 1e-5);
  }
  const Predictor large = create_predictor(p.ensemble, device, n);
  const std::vector<float> dOutputs = make_rows(n, 1, 1, 2, 4).X;
  std::vector<float> dX(p.rows.X.size(), NAN), dX_part(static_cast<size_t>(100 * inputs));
  OK(descent_predictor_input_gradient(large.get(), p.rows.X.data(), dOutputs.data(), n, dX.data()));
  for (const int64_t first : {0L, 4050L, 19900L}) {
    OK(descent_predictor_input_gradient(predictor.get(), p.rows.X.data() + first * inputs, dOutputs.data() + first, 100,
                                        dX_part.data()));
    for (size_t i = 0; i < dX_part.size(); i++)
      ASSERT_NEAR(static_cast<double>(dX_part[i]), static_cast<double>(dX[static_cast<size_t>(first * inputs) + i]),
                  1e-5);
  }
  descent_metrics metrics{};
  const std::function<descent_status()> calls[] = {
      [&] { return descent_predict(p.ensemble.get(), device.get(), data.get(), whole.data()); },
      [&] { return descent_evaluate(p.ensemble.get(), device.get(), data.get(), 0, &metrics); }};
  for (int i = 0; i < 2; i++)
    for (const int64_t cancel_at : {0L, 8000L}) {
      Seen seen{0, 0, cancel_at, "", true};
      descent_set_progress(note, &seen);
      const descent_status status = calls[i]();
      descent_set_progress(nullptr, nullptr);
      EXPECT_EQ(status, cancel_at ? DESCENT_ERROR_CANCELLED : DESCENT_OK) << descent_last_error();
      EXPECT_EQ(seen.task, i ? "evaluating" : "predicting");
      EXPECT_EQ(seen.total, n);
      EXPECT_TRUE(seen.in_order);
      EXPECT_GT(seen.last, cancel_at ? 7999 : 15000);
      descent_metrics_clear(&metrics);
    }
}

TEST(EnsembleEvaluation, RefusesWhatANetworkDoes) {
  const Problem p(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, 3);
  const Device device = open_device("cpu");
  descent_metrics metrics;
  EXPECT_EQ(descent_evaluate(p.ensemble.get(), device.get(), p.rows.dataset().get(), 4, &metrics),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("top_k 4: must be in 0 .. 3")) << descent_last_error();
}

/* ---- sensitivities ----------------------------------------------------------------------------------------------- */

/* The sum of dOutputs times the raw outputs of rows, on the reference device, whose members compute in double. */
long double weighted(const Problem &p, const Predictor &predictor, const std::vector<float> &X,
                     const std::vector<float> &dOutputs, int64_t rows) {
  std::vector<float> raw(static_cast<size_t>(rows * p.outputs));
  EXPECT_EQ(descent_predictor_run_raw(predictor.get(), X.data(), rows, raw.data()), DESCENT_OK);
  std::vector<std::vector<double>> z(p.members.size(), std::vector<double>(raw.size()));
  for (size_t k = 0; k < z.size(); k++) {
    const program &member = predictor->ensemble.programs[k];
    EXPECT_EQ(program_read(&member, member.at.A, 0, rows * p.outputs, PLAN_F64, z[k].data()), DESCENT_OK);
  }
  long double sum = 0;
  for (int64_t r = 0; r < rows; r++) {
    std::vector<Row> of_row;
    for (const std::vector<double> &member : z)
      of_row.emplace_back(member.begin() + r * p.outputs, member.begin() + (r + 1) * p.outputs);
    const Row joined = of_row.size() == 1 ? of_row[0] : member_oracle::raw(p.loss, of_row);
    for (size_t c = 0; c < joined.size(); c++)
      sum += static_cast<long double>(dOutputs[static_cast<size_t>(r * p.outputs) + c]) * joined[c];
  }
  return sum;
}

/* Multiples of 2^-12, so that a step of 2^-9 is exact in float32. */
std::vector<float> on_a_grid(std::vector<float> values) {
  for (float &value : values) value = std::round(value * 4096) / 4096;
  return values;
}

/* Steps of h and 2 h: their distance is three times the error of the nearer one. The members' outputs have about 100
 * roundings of values near 10 in double, which a step divides; the gradient is a sum of float32 of the members. */
TEST_P(Ensemble, SensitivitiesAreCentralDifferencesOfTheJoinedOutputs) {
  if (GetParam().device != std::string("reference")) return;
  const int64_t rows = 4;
  const Problem p(GetParam().loss, GetParam().members, rows + 20);
  const Device device = open_device("reference");
  const Predictor predictor = create_predictor(p.ensemble, device, rows);
  std::vector<float> X = on_a_grid({p.rows.X.begin(), p.rows.X.begin() + rows * inputs});
  const std::vector<float> dOutputs = make_rows(rows, p.outputs, 1, 2, 4).X;
  std::vector<float> dX(X.size(), NAN);
  OK(descent_predictor_input_gradient(predictor.get(), X.data(), dOutputs.data(), rows, dX.data()));
  const float h = 0x1p-9F;
  int compared = 0;
  for (size_t i = 0; i < X.size(); i++) {
    if (std::isnan(X[i])) {
      EXPECT_EQ(dX[i], 0) << "a missing cell";
      continue;
    }
    const float middle = X[i];
    double J[4];
    const float steps[] = {2 * h, -2 * h, h, -h};
    for (int s = 0; s < 4; s++) {
      X[i] = middle + steps[s];
      J[s] = static_cast<double>(weighted(p, predictor, X, dOutputs, rows));
    }
    X[i] = middle;
    const double near = (J[2] - J[3]) / (2 * static_cast<double>(h)),
                 wide = (J[0] - J[1]) / (4 * static_cast<double>(h));
    const double bound =
        2 * std::fabs(near - wide) + 100 * 0x1p-53 * 10 / static_cast<double>(h) + 8 * 0x1p-24 * (std::fabs(near) + 1);
    EXPECT_NEAR(static_cast<double>(dX[i]), near, bound) << "input " << i;
    compared++;
  }
  EXPECT_GT(compared, 20);
}

double norm_of(const std::vector<float> &values) {
  double squares = 0;
  for (float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

/* A member's sensitivities have three products forward and three backward with what follows them, each with an error of
 * its dot length, at most 12, in units of float32; the shares of the members in the joined outputs feel the error of
 * the forward products once more. Relative to the sum of the members' norms. */
TEST_P(Ensemble, SensitivitiesAreThoseOfTheReference) {
  const Problem p(GetParam().loss, GetParam().members, 20);
  const Device device = open_device(GetParam().device), exact = open_device("reference");
  const std::vector<float> dOutputs = make_rows(20, p.outputs, 1, 2, 4).X;
  std::vector<float> dX(p.rows.X.size(), NAN), expected(dX), of_member(dX);
  const Predictor predictor = create_predictor(p.ensemble, device, 7), oracle = create_predictor(p.ensemble, exact, 20);
  double norms = 0;
  for (int64_t first = 0; first < 20; first += 7) {
    const int64_t rows = std::min<int64_t>(7, 20 - first);
    OK(descent_predictor_input_gradient(predictor.get(), p.rows.X.data() + first * inputs,
                                        dOutputs.data() + first * p.outputs, rows, dX.data() + first * inputs));
  }
  OK(descent_predictor_input_gradient(oracle.get(), p.rows.X.data(), dOutputs.data(), 20, expected.data()));
  for (const Network &member : p.members) {
    const Predictor alone = create_predictor(member, exact, 20);
    OK(descent_predictor_input_gradient(alone.get(), p.rows.X.data(), dOutputs.data(), 20, of_member.data()));
    norms += norm_of(of_member);
  }
  std::vector<float> difference(dX);
  for (size_t i = 0; i < dX.size(); i++) difference[i] -= expected[i];
  EXPECT_LE(norm_of(difference), 2 * 6 * 12 * 0x1p-24 * norms);
  EXPECT_GT(norm_of(expected), 0);
}

}  // namespace
