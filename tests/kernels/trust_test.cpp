/* The trust ratios of LARS and LAMB and the updates that read them, without a plan: where W ends and b begins within a
 * piece, padding, layers of one and of many pieces, a bad step. */
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "passes.h"

namespace {

const long double kUnit = 0x1p-53L; /* of float64 */
const enum update_rule rules[] = {UPDATE_LARS, UPDATE_LAMB};

const char *name_of(enum update_rule rule) { return rule == UPDATE_LARS ? "lars" : "lamb"; }

/* One layer in the flat buffers: rows of W padded to `unit` floats, W and b at multiples of 16. */
struct Layer {
  int64_t n_in, n_out, W, b, end, ld;
};

struct Flat {
  Flat(const std::vector<std::pair<int64_t, int64_t>> &shapes, int64_t unit) {
    const auto round_up = [](int64_t x, int64_t to) { return (x + to - 1) / to * to; };
    for (const auto &[n_in, n_out] : shapes) {
      Layer l{n_in, n_out, n, 0, 0, round_up(n_in, unit)};
      l.b = round_up(l.W + n_out * l.ld, 16);
      n = l.end = round_up(l.b + n_out, 16);
      layers.push_back(l), biases.push_back(l.b);
    }
    const int64_t each = flat_piece_floats(n);
    for (size_t l = 0; l < layers.size(); l++)
      for (int64_t at = layers[l].W; at < layers[l].end; at += each)
        pieces.push_back({at, std::min(layers[l].end, at + each), static_cast<int32_t>(l) + 1,
                          static_cast<int32_t>(layers[l].n_out * (layers[l].n_in + 1))});
  }
  std::vector<Layer> layers;
  std::vector<int64_t> biases;
  std::vector<flat_piece> pieces;
  int64_t n = 0;
};

/* Pieces have 2,048 floats here: layers of a part of one, of exactly one with b in the next, of several. */
const std::vector<std::pair<int64_t, int64_t>> kShapes = {{3, 1},    {5, 7},    {64, 32}, {64, 31},
                                                          {100, 21}, {1, 2001}, {33, 257}};

/* The buffers of an update, as a step has left them. */
struct Trained {
  Trained(const Flat &flat_, enum update_rule rule_, unsigned seed, float gradient_size = 0.01F)
      : flat(flat_),
        rule(rule_),
        random(seed),
        parameters(draw(1)),
        gradients(draw(gradient_size)),
        moment1(draw(0.1F)),
        moment2(squared(draw(0.1F))),
        working(flat.n, 0x1234),
        pieces(flat.pieces),
        biases(flat.biases),
        scalars(SCALAR_SLOTS, 0),
        statistics(static_cast<int64_t>(flat.layers.size()) * LAYER_SLOTS, -77),
        bad(1, 0),
        scratch(static_cast<int64_t>(std::max(trust_scratch(count(), n_layers()), update_scratch(count(), n_layers()))),
                0x77),
        counters(COUNTERS, 0) {
    update_factors_f32 &factors = now.current.update;
    factors.learning_rate = 0.125F, factors.decay_factor = 0.5F; /* which these rules do not use */
    factors.root_bias_correction = 3.5F, factors.bias_correction = 1.75F, factors.corrected_learning_rate = NAN;
    state.host[0] = now, state.store();
    scalars.host[SCALAR_CLIP] = 0.75, scalars.store();
    update_launch &u = launch.update;
    u.state = state.data, u.parameters = parameters.data, u.working = working.data, u.gradients = gradients.data;
    u.moment1 = moment1.data, u.moment2 = rule == UPDATE_LAMB ? moment2.data : nullptr;
    u.pieces = pieces.data, u.biases = biases.data, u.n_pieces = count(), u.layers = n_layers();
    u.scalars = scalars.data, u.layer_statistics = statistics.data, u.rule = rule, u.bad_parameters = bad.data;
    u.scratch = {scratch.data, counters.data};
    update_coefficients_f32 &c = u.coefficients;
    c.clip_factor = NAN, c.l2 = 0.03F, c.momentum = 0.9F, c.beta1 = 0.9F, c.one_minus_beta1 = 0.1F, c.beta2 = 0.99F;
    c.one_minus_beta2 = 0.01F, c.epsilon = 1e-7F, c.weight_decay = 0.02F, c.trust_ratio = NAN;
    c.step.learning_rate = NAN;
    launch.trust_coefficient = 0.001, launch.weight_decay = static_cast<double>(c.weight_decay);
  }
  int count() const { return static_cast<int>(flat.pieces.size()); }
  int n_layers() const { return static_cast<int>(flat.layers.size()); }
  /* Zeros in padding and gaps; b a thousand times W, so that a norm that includes it is far off. */
  std::vector<float> draw(float size) {
    std::vector<float> x(static_cast<size_t>(flat.n), 0);
    const auto next = [&] { return size * (static_cast<float>(random() % 20001) / 10000 - 1); };
    for (const Layer &l : flat.layers) {
      for (int64_t j = 0; j < l.n_out; j++)
        for (int64_t i = 0; i < l.n_in; i++) x[static_cast<size_t>(l.W + j * l.ld + i)] = next();
      for (int64_t j = 0; j < l.n_out; j++) x[static_cast<size_t>(l.b + j)] = 1000 * next();
    }
    return x;
  }
  static std::vector<float> squared(std::vector<float> x) {
    for (float &each : x) each *= each;
    return x;
  }
  /* What the launches take, for formulas on the host. */
  update_coefficients_f32 coefficients() const {
    update_coefficients_f32 c = launch.update.coefficients;
    c.clip_factor = 0.75F, c.step = now.current.update;
    return c;
  }
  double trust(size_t layer) const { return statistics.host[layer * LAYER_SLOTS + LAYER_TRUST]; }
  void run_trust() {
    ASSERT_EQ(launch_trust_ratio(&launch, nullptr), cudaSuccess);
    statistics.fetch();
  }

  const Flat &flat;
  const enum update_rule rule;
  std::mt19937 random;
  Buffer<float> parameters, gradients, moment1, moment2;
  Buffer<uint16_t> working;
  Buffer<flat_piece> pieces;
  Buffer<int64_t> biases;
  Buffer<double> scalars, statistics;
  Buffer<int> bad;
  Buffer<char> scratch;
  Buffer<unsigned> counters;
  Buffer<step_state> state{1, step_state{}};
  step_state now{};
  trust_launch launch{};
};

/* The squares of n terms are off by at most n units in each norm, its root by half of that plus one, and the quotient
 * has 4 roundings more. The terms themselves are the floats of the formula. */
TEST(TrustRatio, IsThatOfEachLayersWeightsAlone) {
  for (const int64_t unit : {4, 8})
    for (const enum update_rule rule : rules) {
      const Flat flat(kShapes, unit);
      Trained t(flat, rule, 1);
      t.run_trust();
      const update_coefficients_f32 c = t.coefficients();
      for (size_t l = 0; l < flat.layers.size(); l++) {
        const Layer &layer = flat.layers[l];
        long double w_squares = 0, squares = 0;
        for (int64_t j = 0; j < layer.n_out; j++)
          for (int64_t i = 0; i < layer.n_in; i++) {
            const size_t at = static_cast<size_t>(layer.W + j * layer.ld + i);
            const float w = t.parameters.host[at];
            const long double term =
                formula_trust_term_f32(rule, &c, w, t.gradients.host[at], t.moment1.host[at], t.moment2.host[at]);
            w_squares += static_cast<long double>(w) * w, squares += term * term;
          }
        const long double w_norm = std::sqrt(w_squares), norm = std::sqrt(squares), decay = t.launch.weight_decay;
        const long double exact =
            rule == UPDATE_LARS ? t.launch.trust_coefficient * w_norm / (norm + decay * w_norm) : w_norm / norm;
        const long double n = static_cast<long double>(layer.n_in * layer.n_out);
        EXPECT_LE(std::fabs(t.trust(l) - exact), (n + 8) * kUnit * exact)
            << name_of(rule) << ", unit " << unit << ", layer " << l + 1 << ": " << t.trust(l);
        for (int slot = 0; slot < LAYER_SLOTS; slot++)
          EXPECT_EQ(t.statistics.host[l * LAYER_SLOTS + static_cast<size_t>(slot)] == -77, slot != LAYER_TRUST);
      }
      EXPECT_EQ(t.counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
    }
}

TEST(TrustRatio, WritesNothingElse) {
  for (const enum update_rule rule : rules) {
    const Flat flat(kShapes, 4);
    Trained t(flat, rule, 2);
    const std::vector<float> w = t.parameters.host, g = t.gradients.host, m = t.moment1.host, s = t.moment2.host;
    t.run_trust();
    EXPECT_EQ(t.parameters.fetch(), w);
    EXPECT_EQ(t.gradients.fetch(), g);
    EXPECT_EQ(t.moment1.fetch(), m);
    EXPECT_EQ(t.moment2.fetch(), s);
    EXPECT_EQ(t.working.fetch(), std::vector<uint16_t>(static_cast<size_t>(flat.n), 0x1234));
  }
}

/* Whatever the scratch and the slots held before. */
TEST(TrustRatio, HasTheSameBitsEachTime) {
  for (const enum update_rule rule : rules) {
    const Flat flat(kShapes, 8);
    Trained first(flat, rule, 3), second(flat, rule, 3);
    std::fill(second.scratch.host.begin(), second.scratch.host.end(), static_cast<char>(0xff)), second.scratch.store();
    std::fill(second.statistics.host.begin(), second.statistics.host.end(), NAN), second.statistics.store();
    first.run_trust(), second.run_trust();
    for (size_t l = 0; l < flat.layers.size(); l++) EXPECT_EQ(first.trust(l), second.trust(l)) << l;
    const std::vector<double> before = first.statistics.host;
    first.run_trust();
    EXPECT_EQ(first.statistics.host, before);
  }
}

TEST(TrustRatio, IsOneWithoutWeightsOrTerms) {
  const Flat flat({{5, 7}, {64, 40}, {9, 3}}, 4);
  for (const enum update_rule rule : rules) {
    Trained t(flat, rule, 4);
    const auto clear = [](Buffer<float> &values, const Layer &l) {
      std::fill(values.host.begin() + l.W, values.host.begin() + l.b, 0.0F), values.store();
    };
    clear(t.parameters, flat.layers[0]);
    for (Buffer<float> *values : {&t.gradients, &t.moment1, &t.moment2}) clear(*values, flat.layers[1]);
    t.launch.weight_decay = 0, t.launch.update.coefficients.weight_decay = 0, t.launch.update.coefficients.l2 = 0;
    t.run_trust();
    EXPECT_EQ(t.trust(0), 1);
    EXPECT_EQ(t.trust(1), 1);
    EXPECT_NE(t.trust(2), 1);
  }
}

/* Squares beyond float32 and below its normal numbers; a ratio beyond float32 is its largest value. */
TEST(TrustRatio, TakesValuesAtTheEndsOfTheRange) {
  const Flat flat({{64, 80}}, 4);
  for (const float size : {1e-30F, 1e30F})
    for (const float gradient : {1e-30F, 1e30F}) {
      Trained t(flat, UPDATE_LARS, 5, gradient);
      for (float &w : t.parameters.host) w *= size;
      t.parameters.store();
      t.launch.weight_decay = 0, t.launch.update.coefficients.l2 = 0, t.launch.trust_coefficient = 1;
      t.run_trust();
      const double ratio = static_cast<double>(size) / static_cast<double>(0.75F * gradient);
      const double expected = std::min(ratio, static_cast<double>(FLT_MAX));
      EXPECT_NEAR(t.trust(0) / expected, 1, ratio > expected ? 0 : 0.05) << gradient; /* of 5,120 random values */
    }
}

TEST(TrustRatio, AndUpdateDoNothingAfterABadStep) {
  for (const enum update_rule rule : rules) {
    const Flat flat(kShapes, 4);
    Trained t(flat, rule, 6);
    t.scalars.host[SCALAR_BAD_STEP] = 3, t.scalars.store();
    const std::vector<float> w = t.parameters.host, m = t.moment1.host, s = t.moment2.host;
    const std::vector<double> statistics = t.statistics.host;
    t.run_trust();
    for (const bool measure : {false, true}) {
      t.launch.update.measure = measure;
      ASSERT_EQ(launch_update(&t.launch.update, nullptr), cudaSuccess);
    }
    EXPECT_EQ(t.statistics.fetch(), statistics);
    EXPECT_EQ(t.parameters.fetch(), w);
    EXPECT_EQ(t.moment1.fetch(), m);
    EXPECT_EQ(t.moment2.fetch(), s);
    EXPECT_EQ(t.working.fetch(), std::vector<uint16_t>(static_cast<size_t>(flat.n), 0x1234));
  }
}

/* Every element has the bits of the formula: of W with its layer's ratio, of b without ratio and decay. */
TEST(UpdateByTrustRatio, AppliesTheRuleOfWeightsOrOfBiases) {
  for (const int64_t unit : {4, 8})
    for (const bool measure : {false, true})
      for (const enum update_rule rule : rules) {
        SCOPED_TRACE(std::string(name_of(rule)) + ", unit " + std::to_string(unit) + (measure ? ", measured" : ""));
        const Flat flat(kShapes, unit);
        Trained t(flat, rule, 7);
        std::vector<float> w = t.parameters.host, m = t.moment1.host, s = t.moment2.host;
        t.launch.update.measure = measure;
        t.run_trust();
        ASSERT_EQ(launch_update(&t.launch.update, nullptr), cudaSuccess);
        for (size_t l = 0; l < flat.layers.size(); l++) {
          const Layer &layer = flat.layers[l];
          const update_coefficients_f32 of_W = update_coefficients_of_W_f32(t.coefficients(), t.trust(l)),
                                        of_b = update_coefficients_of_b_f32(t.coefficients());
          for (int64_t at = layer.W; at < layer.end; at++) {
            const size_t i = static_cast<size_t>(at);
            w[i] = formula_update_f32(rule, at < layer.b ? &of_W : &of_b, w[i], t.gradients.host[i], &m[i], &s[i]);
          }
        }
        EXPECT_EQ(t.parameters.fetch(), w);
        EXPECT_EQ(t.moment1.fetch(), m);
        EXPECT_EQ(t.moment2.fetch(), s);
        t.working.fetch(), t.statistics.fetch();
        for (size_t i = 0; i < w.size(); i++) ASSERT_EQ(t.working.host[i], bf16_from_float(w[i])) << i;
        for (const Layer &layer : flat.layers)
          for (int64_t j = 0; j < layer.n_out; j++)
            for (int64_t i = layer.n_in; i < layer.ld; i++)
              ASSERT_EQ(w[static_cast<size_t>(layer.W + j * layer.ld + i)], 0) << "padding";
        EXPECT_EQ(t.statistics.host[LAYER_UPDATE] != -77, measure);
        EXPECT_EQ(t.bad.fetch()[0], 0);
      }
}

TEST(TrustRatio, IsRefusedForOtherRules) {
  const Flat flat({{5, 7}}, 4);
  Trained t(flat, UPDATE_LAMB, 8);
  t.launch.update.rule = UPDATE_ADAM;
  EXPECT_EQ(launch_trust_ratio(&t.launch, nullptr), cudaErrorInvalidValue);
}

}  // namespace
