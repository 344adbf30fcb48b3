/* Measures and sensitivities of ensembles, on every device: those of the outputs of the members, joined by the oracle. */
#include <cmath>
#include <functional>

#include "ensemble_problem.h"

namespace {

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
