/* Predictions of ensembles, on every device: those of the members, joined. What joins them is tested against long double in
 * member_outputs_test; here the members are predicted alone and joined by the oracle. */
#include <cfloat>
#include <cmath>

#include "device_memory.h"
#include "ensemble_problem.h"
#include "export_bounds.h"

namespace {

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

}  // namespace
