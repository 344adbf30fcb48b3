/* Predictions and evaluations in every precision, with layers fused and not: within derived bounds of exact arithmetic,
 * the same bits from every function, refused where they cannot be. */
#include <cmath>
#include <functional>
#include <string>

#include "ranges.h"

namespace {

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;

const descent_precision precisions[] = {DESCENT_PRECISION_FP32, DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16};

descent_predict_options options_of(descent_precision precision, descent_fusion fusion = DESCENT_FUSION_AUTO) {
  descent_predict_options options = descent_predict_options_default();
  options.precision = precision;
  options.fusion = fusion;
  return options;
}

/* Narrow enough for every fused kernel, and wider; five hidden layers of 64; odd widths; every loss. */
struct Case {
  std::vector<int64_t> widths;
  descent_activation hidden;
  descent_loss loss;
};
const Case cases[] = {
    {{5, 16, 7, 3}, DESCENT_ACTIVATION_GELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
    {{28, 33, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY},
    {{9, 24, 2}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR},
#ifndef __SANITIZE_ADDRESS__ /* a dozen times as slow */
    {{64, 64, 64, 64, 64, 64, 10}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
    {{17, 100, 4}, DESCENT_ACTIVATION_SILU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY},
#endif
};

std::string name(const Case &c, const descent_predict_options &options) {
  std::string text = std::string(descent_precision_name(options.precision)) + ", fusion " +
                     descent_fusion_name(options.fusion) + ", " + descent_activation_name(c.hidden);
  for (const int64_t width : c.widths) text += " " + std::to_string(width);
  return text;
}

/* A network with its rows: normalised inputs, some missing, biases that are not 0, row weights. */
struct Problem {
  Network network;
  Rows rows;
  Dataset data;
};
Problem make_problem(const Case &c, int64_t rows = 21) {
  const int64_t outputs = c.widths.back();
  const bool regression = loss_is_regression(c.loss);
  Problem p{make_network(c.widths, c.hidden, c.loss, 3),
            make_rows(rows, c.widths[0], regression ? outputs : 1, regression ? 0 : std::max<int64_t>(outputs, 2), 3),
            {nullptr, descent_dataset_free}};
  if (outputs > 2 && !regression) p.rows.classes = outputs;
  std::mt19937 random(5);
  for (int32_t l = 0; l < p.network->n_layers; l++)
    for (int64_t j = 0; j < p.network->layers[l].n_out; j++)
      p.network->parameters[p.network->layers[l].at.b + j] = static_cast<float>(random() % 1000) / 1000 - 0.5F;
  for (int64_t r = 0; r < rows; r++) p.rows.weights.push_back(0.5F + static_cast<float>(r % 3));
  for (size_t i = 0; i < p.rows.X.size(); i += 11) p.rows.X[i] = NAN;
  p.data = p.rows.dataset();
  EXPECT_EQ(descent_network_fit_preprocessing(p.network.get(), p.data.get(), DESCENT_NORMALIZE_STANDARD,
                                              DESCENT_IMPUTE_MEAN, regression),
            DESCENT_OK)
      << descent_last_error();
  return p;
}
int64_t values_of(const Problem &p) { return p.rows.rows * descent_network_outputs(p.network.get()); }

std::vector<float> predict(const Problem &p, const Device &device, const descent_predict_options &options,
                           bool raw = false) {
  std::vector<float> outputs(static_cast<size_t>(values_of(p)));
  const auto function = raw ? descent_predict_raw_with : descent_predict_with;
  EXPECT_EQ(function(p.network.get(), device.get(), p.data.get(), &options, outputs.data()), DESCENT_OK)
      << descent_last_error();
  return outputs;
}

/* ---- bounds ------------------------------------------------------------------------------------------------------ */

/* The plan of the options on the GPU and on the reference. */
class Twins {
 public:
  Twins(const Problem &p, const Device &device, const descent_predict_options &options)
      : reference_(open_device("reference", 1)), rows_(p.rows.rows) {
    struct program *const programs[] = {&tried, &exact};
    descent_device *const devices[] = {device.get(), reference_.get()};
    for (int i = 0; i < 2; i++) {
      EXPECT_EQ(program_create_prediction(p.network.get(), devices[i], &options, 0, p.rows.rows, programs[i]),
                DESCENT_OK)
          << descent_last_error();
      if (testing::Test::HasFailure()) return;
      EXPECT_EQ(program_bind(programs[i], p.data.get()), DESCENT_OK);
    }
  }
  ~Twins() {
    program_clear(&tried);
    program_clear(&exact);
  }
  Twins(const Twins &) = delete;
  Twins &operator=(const Twins &) = delete;

  void run(plan_range range) { EXPECT_EQ(program_run_block(&tried, range, 0, rows_), DESCENT_OK); }

  std::vector<double> read(int buffer) const {
    const plan_buffer &b = tried.plan->buffers[buffer];
    std::vector<double> values(static_cast<size_t>(b.rows * b.cols));
    EXPECT_EQ(program_read(&tried, buffer, 0, b.rows * b.cols, PLAN_F64, values.data()), DESCENT_OK)
        << descent_last_error();
    return values;
  }

  bool is_fused(plan_range range) const {
    for (int i = range.first; i < range.first + range.count; i++)
      if (tried.backend->fused_with(tried.compiled, range, i) != i) return true;
    return false;
  }

  /* What the range has left: each operation's results from what it has read. */
  void expect_operations_within(plan_range range) {
    take_all();
    for (int op = range.first; op < range.first + range.count; op++) {
      bounds within{};
      const plan_step step = this->step();
      if (tried.plan->ops[op].kind == OP_METRICS) continue; /* has added to what it read */
      ASSERT_EQ(bounds_run(exact.compiled, exact.plan, op, &step, &within), DESCENT_OK) << descent_last_error();
      for (int i = 0; i < within.n; i++)
        conformance::expect_within(within.outputs[i], tried.plan->buffers[within.outputs[i].buffer].name,
                                   read(within.outputs[i].buffer));
      bounds_clear(&within);
      take_all(); /* the reference's own results do not go into the next */
    }
  }

  /* What the range has left: its results from the rows that it has gathered. What lies between is not read: that would
   * compute it. */
  ranges::Finding compare_whole(plan_range range) {
    take(tried.at.X), take(tried.at.y), take(tried.at.w), take(tried.at.scalars);
    range_bounds within{};
    const plan_step step = this->step();
    EXPECT_EQ(range_bounds_run(exact.compiled, range, &step, &within), DESCENT_OK) << descent_last_error();
    ranges::Finding found = ranges::compared("P", read(tried.at.P), within.values[tried.at.P]);
    found.take(ranges::compared("A", read(tried.at.A), within.values[tried.at.A]));
    if (within.values[tried.at.scalars])
      found.take(
          ranges::compared("J", {read(tried.at.scalars)[SCALAR_LOSS]}, within.values[tried.at.scalars] + SCALAR_LOSS));
    range_bounds_clear(&within);
    return found;
  }

  struct program tried {
  }, exact{};

 private:
  plan_step step() const {
    plan_step made{};
    made.number = 1;
    made.rows = rows_;
    return made;
  }
  void take(int buffer) {
    const std::vector<double> values = read(buffer);
    EXPECT_EQ(program_write(&exact, buffer, 0, static_cast<int64_t>(values.size()), PLAN_F64, values.data()),
              DESCENT_OK);
  }
  void take_all() {
    for (int b = 0; b < tried.plan->n_buffers; b++)
      if (tried.plan->buffers[b].storage != PLAN_SOURCE && tried.plan->buffers[b].type != PLAN_I64) take(b);
  }

  Device reference_;
  int64_t rows_;
};

void expect_same(const std::vector<float> &values, const std::vector<double> &expected, const char *what) {
  ASSERT_EQ(values.size(), expected.size()) << what;
  for (size_t i = 0; i < values.size(); i++) ASSERT_EQ(static_cast<double>(values[i]), expected[i]) << what << " " << i;
}

/* Of what the functions return, which is what these ranges leave. */
TEST(PredictOptions, ValuesAreWithinTheBoundsOfTheirPrecision) {
  const Device device = open_device("cuda");
  for (const descent_precision precision : precisions) {
    ranges::Finding all;
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON})
      for (const Case &c : cases) {
        const descent_predict_options options = options_of(precision, fusion);
        SCOPED_TRACE(name(c, options));
        const Problem p = make_problem(c);
        Twins twins(p, device, options);
        if (HasFailure()) return;
        const plan_range predicts = twins.tried.plan->predict, evaluates = twins.tried.plan->evaluate;
        for (const plan_range &range : {predicts, evaluates}) {
          ASSERT_EQ(twins.is_fused(range), fusion == DESCENT_FUSION_ON);
          twins.run(range);
          if (fusion == DESCENT_FUSION_OFF) {
            twins.expect_operations_within(range);
          } else {
            const ranges::Finding found = twins.compare_whole(range);
            EXPECT_LE(found.worst, 1) << found.where;
            all.take(found);
          }
          if (HasFailure()) return;
          expect_same(predict(p, device, options), twins.read(twins.tried.at.P), "prediction");
          expect_same(predict(p, device, options, true), twins.read(twins.tried.at.A), "raw output");
        }
        descent_metrics metrics = {};
        OK(descent_evaluate_with(p.network.get(), device.get(), p.data.get(), &options, 0, &metrics));
        const double J = twins.read(twins.tried.at.scalars)[SCALAR_LOSS];
        EXPECT_NEAR(metrics.loss, J, 4 * 0x1p-53 * std::fabs(J)) << "the mean is a product and a quotient of J";
        descent_metrics_clear(&metrics);
      }
    EXPECT_GE(all.tight, all.values * 9 / 10);
  }
}

/* Else the bounds above would hold of any of them. */
TEST(PredictOptions, EachPrecisionComputesOtherValues) {
  const Device device = open_device("cuda");
  const Problem p = make_problem(cases[0]);
  for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
    const std::vector<float> fp32 = predict(p, device, options_of(DESCENT_PRECISION_FP32, fusion)),
                             tf32 = predict(p, device, options_of(DESCENT_PRECISION_TF32, fusion)),
                             bf16 = predict(p, device, options_of(DESCENT_PRECISION_BF16, fusion));
    double distance[2] = {0, 0};
    for (size_t i = 0; i < fp32.size(); i++) {
      distance[0] = std::fmax(distance[0], std::fabs(static_cast<double>(tf32[i]) - static_cast<double>(fp32[i])));
      distance[1] = std::fmax(distance[1], std::fabs(static_cast<double>(bf16[i]) - static_cast<double>(fp32[i])));
    }
    EXPECT_GT(distance[0], 0x1p-20);
    EXPECT_GT(distance[1], 2 * distance[0]);
  }
}

/* docs/gpu.md: 3 L - 1 roundings follow each other. Weights and inputs just above the middle of two bf16 numbers, all of
 * one sign, are all rounded up, so that much of the bound is reached. */
TEST(PredictOptions, LogitsInBf16MoveByAtMostTheRoundingsThatFollowEachOther) {
  const Device device = open_device("cuda");
  const float above = 1 + 0x1.02p-8F;
  for (int layers = 1; layers <= 4; layers++)
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON}) {
      SCOPED_TRACE(std::to_string(layers) + " layers, fusion " + descent_fusion_name(fusion));
      std::vector<int64_t> widths(static_cast<size_t>(layers), 8);
      widths.push_back(1);
      Problem p{make_network(widths, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY),
                make_rows(4, 8, 1, 2, 1),
                {nullptr, descent_dataset_free}};
      for (float &x : p.rows.X) x = above;
      p.data = p.rows.dataset();
      for (int l = 0; l < layers; l++)
        std::fill_n(p.network->parameters + p.network->layers[l].at.W, 8 * widths[static_cast<size_t>(l) + 1], above);
      const double z = predict(p, device, options_of(DESCENT_PRECISION_FP32, fusion), true)[0],
                   rounded = predict(p, device, options_of(DESCENT_PRECISION_BF16, fusion), true)[0];
      const double in_float = layers * 16 * 0x1p-23; /* of both results; M is z, as nothing is negative */
      const double bound = (std::pow(1 + 0x1p-8, 3 * layers - 1) - 1 + in_float) * z;
      EXPECT_LE(std::fabs(rounded - z), bound);
      EXPECT_GE(std::fabs(rounded - z), 0.4 * bound);
    }
}

/* docs/gpu.md: logits that are off by at most d move a binary probability by at most d / 4, those of classes by d / 2. */
TEST(PredictOptions, ProbabilitiesMoveByAShareOfWhatTheLogitsDo) {
  const Device device = open_device("cuda");
  for (const Case &c : cases) {
    if (loss_is_regression(c.loss)) continue;
    const Problem p = make_problem(c);
    const descent_predict_options exact = options_of(DESCENT_PRECISION_FP32),
                                  rounded = options_of(DESCENT_PRECISION_BF16);
    const std::vector<float> z = predict(p, device, exact, true), P = predict(p, device, exact),
                             z_rounded = predict(p, device, rounded, true), P_rounded = predict(p, device, rounded);
    const double share = c.widths.back() == 1 ? 0.25 : 0.5, roundings = 64 * 0x1p-24; /* of exp, sum and quotient */
    const auto n = static_cast<size_t>(c.widths.back());
    for (size_t row = 0; row < z.size(); row += n) {
      double d = 0;
      const auto change = [](float a, float b) { return std::fabs(static_cast<double>(a) - static_cast<double>(b)); };
      for (size_t k = row; k < row + n; k++) d = std::fmax(d, change(z[k], z_rounded[k]));
      for (size_t k = row; k < row + n; k++) EXPECT_LE(change(P[k], P_rounded[k]), share * d + roundings);
    }
  }
}

/* ---- the functions ----------------------------------------------------------------------------------------------- */

TEST(PredictOptions, DefaultsGiveTheBitsOfTheFunctionsWithoutOptions) {
  for (const char *name : {"cpu", "reference", "cuda"}) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const descent_predict_options options = descent_predict_options_default();
    for (const Case &c : cases) {
      const Problem p = make_problem(c);
      std::vector<float> values(static_cast<size_t>(values_of(p))), raw = values;
      OK(descent_predict(p.network.get(), device.get(), p.data.get(), values.data()));
      OK(descent_predict_raw(p.network.get(), device.get(), p.data.get(), raw.data()));
      EXPECT_EQ(predict(p, device, options), values);
      EXPECT_EQ(predict(p, device, options, true), raw);
      EXPECT_EQ(predict(p, device, options_of(DESCENT_PRECISION_FP32, DESCENT_FUSION_AUTO)), values);
      descent_metrics plain = {}, with = {};
      OK(descent_evaluate(p.network.get(), device.get(), p.data.get(), 0, &plain));
      OK(descent_evaluate_with(p.network.get(), device.get(), p.data.get(), &options, 0, &with));
      EXPECT_EQ(plain.loss, with.loss);
      descent_metrics_clear(&plain);
      descent_metrics_clear(&with);
    }
  }
}

TEST(PredictOptions, APredictorHasThemForAllThatItDoes) {
  const Device device = open_device("cuda");
  for (const descent_precision precision : precisions)
    for (const descent_fusion fusion : {DESCENT_FUSION_OFF, DESCENT_FUSION_ON})
      for (const Case &c : {cases[0], cases[2]}) {
        const descent_predict_options options = options_of(precision, fusion);
        SCOPED_TRACE(name(c, options));
        const Problem p = make_problem(c);
        const int64_t rows = p.rows.rows, outputs = c.widths.back();
        const std::vector<float> expected = predict(p, device, options), raw = predict(p, device, options, true);
        descent_predictor *made = nullptr;
        OK(descent_predictor_create_with(p.network.get(), device.get(), &options, rows, &made));
        const Predictor predictor(made, descent_predictor_free);
        std::vector<float> values(expected.size());
        descent_array X = descent_array_default(), to = X;
        X.data = const_cast<float *>(p.rows.X.data()), X.rows = rows, X.columns = c.widths[0];
        to.data = values.data(), to.rows = rows, to.columns = outputs;
        const struct {
          std::function<descent_status()> run;
          const std::vector<float> &expected;
        } runs[] = {
            {[&] { return descent_predictor_run(made, p.rows.X.data(), rows, values.data()); }, expected},
            {[&] { return descent_predictor_run_raw(made, p.rows.X.data(), rows, values.data()); }, raw},
            {[&] { return descent_predictor_run_dataset(made, p.data.get(), values.data()); }, expected},
            {[&] { return descent_predictor_run_raw_arrays(made, &X, &to); }, raw},
        };
        const auto expect_runs = [&] {
          for (size_t i = 0; i < std::size(runs); i++) {
            values.assign(values.size(), -1);
            OK(runs[i].run());
            EXPECT_EQ(values, runs[i].expected) << i;
          }
        };
        expect_runs();
        /* Another preprocessing compiles it again. */
        const Network plain = make_network(c.widths, c.hidden, c.loss, 9);
        OK(descent_predictor_refresh(made, plain.get()));
        OK(descent_predictor_refresh(made, p.network.get()));
        expect_runs();
      }
}

/* The sensitivities of a predictor are dJ/dX of a trainer in the same precision, however its other runs are computed. */
TEST(PredictOptions, SensitivitiesAreInThePrecisionToo) {
  const Device device = open_device("cuda");
  for (const descent_precision precision : precisions)
    for (const int n : {0, 1, 2}) {
      const Case &c = cases[n];
      const descent_fusion fusions[] = {DESCENT_FUSION_ON, DESCENT_FUSION_OFF, DESCENT_FUSION_AUTO};
      const descent_predict_options options = options_of(precision, fusions[n]);
      SCOPED_TRACE(name(c, options));
      Problem p = make_problem(c);
      const int64_t rows = p.rows.rows;
      std::vector<float> dOutputs(static_cast<size_t>(values_of(p)), 0.5F), outputs = dOutputs, dX(p.rows.X.size()),
                                                                            expected = dX;
      descent_predictor *predictor = nullptr;
      OK(descent_predictor_create_with(p.network.get(), device.get(), &options, rows, &predictor));
      OK(descent_predictor_input_gradient(predictor, p.rows.X.data(), dOutputs.data(), rows, dX.data()));
      descent_predictor_free(predictor);
      descent_train_options training = descent_train_options_default();
      training.precision = precision;
      training.autotune = false;
      descent_trainer *trainer = nullptr;
      OK(descent_trainer_create(p.network.get(), device.get(), &training, rows, &trainer));
      OK(descent_trainer_forward(trainer, p.rows.X.data(), rows, outputs.data()));
      OK(descent_trainer_backward(trainer, dOutputs.data(), expected.data(), false));
      descent_trainer_free(trainer);
      EXPECT_EQ(dX, expected);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* Each function that takes the options. */
std::vector<std::function<descent_status()>> calls_of(const Problem &p, const Device &device,
                                                      const descent_predict_options *options) {
  static std::vector<float> outputs;
  static descent_bench_result result;
  outputs.assign(static_cast<size_t>(values_of(p)), -1);
  descent_network *const network = p.network.get();
  const descent_dataset *const data = p.data.get();
  descent_device *const there = device.get();
  return {
      [=] { return descent_predict_with(network, there, data, options, outputs.data()); },
      [=] { return descent_predict_raw_with(network, there, data, options, outputs.data()); },
      [=] {
        descent_metrics metrics = {};
        const descent_status status = descent_evaluate_with(network, there, data, options, 0, &metrics);
        descent_metrics_clear(&metrics);
        return status;
      },
      [=] {
        descent_predictor *predictor = nullptr;
        const descent_status status = descent_predictor_create_with(network, there, options, 4, &predictor);
        EXPECT_EQ(predictor == nullptr, status != DESCENT_OK);
        descent_predictor_free(predictor);
        return status;
      },
      [=] { return descent_bench_predict_with(network, there, options, 4, 1e-3, nullptr, nullptr, &result); },
  };
}

TEST(PredictOptions, WhatADeviceCannotDoIsRefusedAsInATraining) {
  const Problem narrow = make_problem(cases[0]);
  const Problem deep =
      make_problem({std::vector<int64_t>(14, 4), DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY});
  const Problem wide = make_problem({{4, 600, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY});
  const struct {
    const Problem &problem;
    const char *device;
    descent_precision precision;
    descent_fusion fusion;
    descent_status status;
    const char *text, *of_training = nullptr; /* NULL: the same */
  } refusals[] = {
      {narrow, "cpu", DESCENT_PRECISION_TF32, DESCENT_FUSION_AUTO, DESCENT_ERROR_UNSUPPORTED,
       "precision tf32: the cpu computes in fp32 (use precision fp32)"},
      {narrow, "cpu", DESCENT_PRECISION_BF16, DESCENT_FUSION_AUTO, DESCENT_ERROR_UNSUPPORTED,
       "precision bf16: the cpu computes in fp32 (use precision fp32)"},
      {narrow, "cpu", DESCENT_PRECISION_FP32, DESCENT_FUSION_ON, DESCENT_ERROR_UNSUPPORTED,
       "fusion on: the device cpu computes layer by layer; use auto or off"},
      {narrow, "reference", DESCENT_PRECISION_BF16, DESCENT_FUSION_ON, DESCENT_ERROR_UNSUPPORTED,
       "fusion on: the device reference computes layer by layer; use auto or off"},
      {deep, "cuda", DESCENT_PRECISION_BF16, DESCENT_FUSION_ON, DESCENT_ERROR_UNSUPPORTED,
       "fusion on: 13 layers, more than 12; use auto or off"},
      {wide, "cuda", DESCENT_PRECISION_FP32, DESCENT_FUSION_ON, DESCENT_ERROR_UNSUPPORTED,
       "fusion on: layer 1 has 600 outputs, more than 320; use auto or off",
       "fusion on: layer 1 has 600 outputs, more than 320; for a whole step, layer 1 has 600 outputs, more than 512; "
       "use auto or off"},
      {narrow, "cuda", static_cast<descent_precision>(3), DESCENT_FUSION_AUTO, DESCENT_ERROR_ARGUMENT,
       "precision 3: must be a descent_precision"},
      {narrow, "cpu", DESCENT_PRECISION_FP32, static_cast<descent_fusion>(-1), DESCENT_ERROR_ARGUMENT,
       "fusion -1: must be a descent_fusion"},
  };
  for (const auto &r : refusals) {
    const descent_predict_options options = options_of(r.precision, r.fusion);
    SCOPED_TRACE(r.text);
    const Device device = open_device(r.device);
    descent_train_options training = descent_train_options_default();
    training.precision = r.precision, training.gpu.fusion = r.fusion;
    descent_trainer *trainer = nullptr;
    EXPECT_EQ(descent_trainer_create(r.problem.network.get(), device.get(), &training, 4, &trainer), r.status);
    EXPECT_STREQ(descent_last_error(), r.of_training ? r.of_training : r.text);
    const auto calls = calls_of(r.problem, device, &options);
    for (size_t i = 0; i < calls.size(); i++) {
      EXPECT_EQ(calls[i](), r.status) << i;
      EXPECT_STREQ(descent_last_error(), r.text) << i;
    }
  }
}

/* The reference computes in double whatever is asked. */
TEST(PredictOptions, TheReferenceTakesEveryPrecision) {
  const Device device = open_device("reference");
  const Problem p = make_problem(cases[0]);
  const std::vector<float> expected = predict(p, device, options_of(DESCENT_PRECISION_FP32));
  for (const descent_precision precision : precisions)
    EXPECT_EQ(predict(p, device, options_of(precision, DESCENT_FUSION_OFF)), expected);
}

TEST(PredictOptions, OfAnotherHeaderAreCompletedOrRefused) {
  const Device device = open_device("cpu");
  const Problem p = make_problem(cases[0]);
  struct {
    descent_predict_options known;
    int64_t future;
  } newer = {descent_predict_options_default(), 0};
  newer.known.size = sizeof newer;
  for (const auto &call : calls_of(p, device, &newer.known)) OK(call());
  newer.future = 1;
  for (const auto &call : calls_of(p, device, &newer.known)) {
    EXPECT_EQ(call(), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(std::string(descent_last_error()).find("predict options: a member is set that"), 0u);
  }
  newer.known.size = 0;
  for (const auto &call : calls_of(p, device, &newer.known)) {
    EXPECT_EQ(call(), DESCENT_ERROR_ARGUMENT);
    EXPECT_STREQ(descent_last_error(), "predict options must start from descent_predict_options_default()");
  }
}

}  // namespace
