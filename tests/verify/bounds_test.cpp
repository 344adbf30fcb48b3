/* The bounds of the element-wise functions hold over all of float32, those of reduced precisions for every way of
 * rounding that they allow. They are tight: right results come close to them somewhere, wrong results exceed them. */
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "dense_ops.h"
#include "internal.h"
#include "simulated.h"

extern "C" {
#include "backend/formulas.h"
#include "verify/bounds_internal.h"
}

namespace {

#define LISTED(NAME, text) DESCENT_ACTIVATION_##NAME,
const descent_activation activations[] = {DESCENT_ACTIVATION_MAP(LISTED)};

class Bounds : public testing::TestWithParam<descent_activation> {};

/* Largest |value - exact| / bound seen where a bound is relative, far above the subnormal floats. */
struct Worst {
  double ratio = 0;
  void see(float z, double value, double exact, interval range) {
    const double error = std::fabs(value - exact), bound = interval_bound(range, exact);
    ASSERT_LE(error, bound) << "z = " << z << ": " << value << " instead of " << exact;
    if (bound > 0 && std::fabs(exact) > 0x1p-100) ratio = std::fmax(ratio, error / bound);
  }
};

TEST_P(Bounds, hold_for_every_float_and_are_nearly_reached) {
  const descent_activation g = GetParam();
  Worst value, slope;
  /* A prime stride through all bit patterns visits every exponent and all kinds of mantissas. */
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += 4093) {
    const float z = float_from_bits(static_cast<uint32_t>(bits));
    if (!std::isfinite(z)) continue;
    const double exact = reference_activate(g, static_cast<double>(z));
    value.see(z, static_cast<double>(formula_activate(g, z)), exact, bounds_activation(g, interval_exact(z)));
    const float a = static_cast<float>(exact);
    slope.see(z, static_cast<double>(formula_slope(g, slope_is_from_z(g) ? z : a)),
              reference_slope(g, static_cast<double>(a), z), bounds_slope(g, interval_exact(a), interval_exact(z)));
    if (HasFatalFailure()) return;
  }
  const bool rounds = g != DESCENT_ACTIVATION_IDENTITY && g != DESCENT_ACTIVATION_RELU;
  EXPECT_GE(value.ratio, rounds ? 0.25 : 0);
  EXPECT_GE(slope.ratio, rounds ? 0.25 : 0);
}

INSTANTIATE_TEST_SUITE_P(Formulas, Bounds, testing::ValuesIn(activations),
                         [](const testing::TestParamInfo<descent_activation> &item) {
                           return std::string(descent_activation_name(item.param));
                         });

/* Every rounding of a chain of float operations stays inside the intervals of the same chain. */
TEST(Interval, holds_what_float_arithmetic_gives) {
  double widest = 0;
  for (uint64_t i = 0; i < 200000; i++) {
    const auto draw = [&](uint32_t stream) {
      const double u = rng_uniform(1, RNG_SYNTHETIC, stream, 0, 2 * i),
                   v = rng_uniform(1, RNG_SYNTHETIC, stream, 0, 2 * i + 1);
      return static_cast<float>((v < 0.5 ? -1 : 1) * std::exp2(140 * u - 80));
    };
    const float x = draw(1), y = draw(2), z = draw(3);
    const volatile float product = x * y, sum = product + z, root = std::sqrt(std::fabs(sum)),
                         quotient = z / (root + 1e-30f);
    const interval p = interval_mul(interval_exact(x), interval_exact(y)), s = interval_add(p, interval_exact(z));
    const interval magnitude = s.lo >= 0 ? s : s.hi <= 0 ? interval_negated(s) : interval{0, std::fmax(-s.lo, s.hi)};
    const interval r = interval_sqrt(magnitude);
    const interval q = interval_div(interval_exact(z), interval_add(r, interval_constant(1e-30)));
    ASSERT_TRUE(p.lo <= product && product <= p.hi) << x << " * " << y;
    ASSERT_TRUE(s.lo <= sum && sum <= s.hi) << x << " * " << y << " + " << z;
    ASSERT_TRUE(r.lo <= root && root <= r.hi) << "sqrt " << sum;
    ASSERT_TRUE(q.lo <= quotient && quotient <= q.hi) << z << " / " << root;
    if (std::fabs(product) > 0x1p-100) widest = std::fmax(widest, (p.hi - p.lo) / std::fabs(double(x) * double(y)));
  }
  EXPECT_LT(widest, 2.001 * 0x1p-24); /* one rounding either way, and no more */
}

/* ---- reduced precisions ------------------------------------------------------------------------------------------ */

TEST(Interval, rounds_to_bf16_and_tf32_as_the_bits_say) {
  for (uint64_t bits = 0; bits <= 0xffffffff; bits += 257) { /* prime, so that all low halves come */
    const float x = float_from_bits(static_cast<uint32_t>(bits));
    if (std::isnan(x)) continue;
    ASSERT_TRUE(conformance::same(interval_bf16(x), simulated::to_bf16(x))) << x;
    if (!(std::fabs(x) < 0x1p127F)) continue; /* the nearest may be infinite */
    const double error = std::fabs(static_cast<double>(x) - static_cast<double>(simulated::cut(x, 13)));
    ASSERT_EQ(interval_tf32_error(x), error) << x;
    ASSERT_LE(std::fabs(static_cast<double>(x) - static_cast<double>(simulated::nearest(x, 13))),
              error == 0 ? 0 : std::fmax(error, 0x1p-136 - error))
        << x;
  }
}

using conformance::OneOp;
using conformance::Random;
using simulated::Manner;

OneOp gather() {
  Random random;
  OneOp one(9, 9);
  plan_gather g{};
  g.source_X = one.source("source_X", 4, random.exponents(9 * 4, -10, 10));
  g.fill = g.source_y = g.source_w = g.source_index = g.y_shift = g.y_scale = g.class_weight = PLAN_NONE;
  g.shift = one.state("shift", PLAN_F32, random.uniform(4, -3, 3));
  g.scale = one.state("scale", PLAN_F32, random.exponents(4, -5, 5));
  g.X = one.output("X", 4), g.y = g.w = g.scalars = PLAN_NONE;
  g.n_x = 4, g.n_y = 1;
  one.op(OP_GATHER, 0).gather = g;
  return one;
}

OneOp loss() {
  Random random;
  OneOp one(9, 9);
  plan_loss l{};
  l.A = one.batch("A", 4, random.uniform(9 * 4, -3, 3)), l.Z = PLAN_NONE;
  l.y = one.batch("y", 1, random.integers(9, 4)), l.w = one.batch("w", 1, random.uniform(9, 0, 2));
  l.scalars = one.scalars({{SCALAR_WEIGHT_SUM, 7}}), l.dZ = one.output("dZ", 4);
  l.n = 4, l.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  one.op(OP_LOSS, 1).loss = l;
  one.segment(parameter_segment{0, 0, 0, 0});
  return one;
}

enum Op { FORWARD, OUTPUT, WEIGHTS, INPUT, GATHER, LOSS };
const char *const op_names[] = {
    "dense_forward", "dense_forward of the output layer", "dense_backward_weights", "dense_backward_input", "gather",
    "loss"};

OneOp build(Op op, descent_precision precision, descent_activation g, conformance::Law law) {
  const conformance::Shape shape{29, 32, 23, 5}, transposed{29, 32, 5, 23}; /* sums of 23, of 29 rows */
  OneOp one = op == FORWARD   ? dense_forward(shape, g, 0.25, law)
              : op == OUTPUT  ? dense_forward(shape, g, 0, law, true)
              : op == WEIGHTS ? dense_backward_weights(shape, law)
              : op == INPUT   ? dense_backward_input(transposed, g, 0.25, law)
              : op == GATHER  ? gather()
                              : loss();
  one.plan.precision = precision;
  return one;
}

/* Largest error / bound of what the simulated backend writes in this manner; infinite where a value is NaN. */
double worst_ratio(OneOp &one, const Manner &manner) {
  simulated::manner = manner;
  conformance::Session tried({"simulated", &simulated::table(), 1, {}}, one),
      exact({"reference", &backend_reference, 1, {}}, one);
  one.fill(exact.backend, exact.program, one.read(tried.backend, tried.program));
  bounds within{};
  EXPECT_EQ(bounds_run(exact.program, &one.plan, 0, &one.step, &within), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(tried.backend.run(tried.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK);
  const auto now = one.read(tried.backend, tried.program);
  double worst = 0;
  for (int i = 0; i < within.n; i++) {
    const bounds_output &output = within.outputs[i];
    for (int64_t j = 0; j < output.count; j++) {
      const double value = now[static_cast<size_t>(output.buffer)][static_cast<size_t>(output.offset + j)];
      const double error = std::fabs(value - output.exact[j]);
      EXPECT_TRUE(std::isfinite(output.bound[j]));
      if (!(error <= output.bound[j])) worst = std::fmax(worst, std::isnan(error) ? INFINITY : error / output.bound[j]);
      if (error > 0 && error <= output.bound[j]) worst = std::fmax(worst, error / output.bound[j]);
    }
  }
  bounds_clear(&within);
  simulated::manner = Manner{};
  return worst;
}

std::vector<Manner> right_manners(descent_precision precision) {
  std::vector<Manner> manners;
  const bool bf16 = precision == DESCENT_PRECISION_BF16;
  for (bool truncates : {false, true})
    for (bool backwards : {false, true}) {
      if (!bf16)
        for (bool nearest : {false, true})
          manners.push_back({truncates, backwards, nearest, false, simulated::TOGETHER, 0, simulated::RIGHT});
      for (int way = simulated::TOGETHER; bf16 && way <= simulated::APART; way++)
        for (int tanh = -1; tanh <= 1; tanh++)
          manners.push_back({truncates, backwards, false, (way + tanh) % 2 != 0, static_cast<simulated::Way>(way), tanh,
                             simulated::RIGHT});
    }
  return manners;
}

TEST(ReducedPrecision, every_manner_of_rounding_that_is_allowed_stays_within_the_bounds_and_some_come_near) {
  for (descent_precision precision : {DESCENT_PRECISION_TF32, DESCENT_PRECISION_BF16})
    for (Op op : {FORWARD, OUTPUT, WEIGHTS, INPUT}) {
      double nearest = 0;
      for (int law = 0; law < conformance::LAWS; law++)
        for (descent_activation g : {DESCENT_ACTIVATION_IDENTITY, DESCENT_ACTIVATION_TANH, DESCENT_ACTIVATION_SILU,
                                     DESCENT_ACTIVATION_LEAKY_RELU}) {
          if (op == WEIGHTS && g != DESCENT_ACTIVATION_IDENTITY) continue;
          OneOp one = build(op, precision, g, static_cast<conformance::Law>(law));
          for (const Manner &manner : right_manners(precision)) {
            const double ratio = worst_ratio(one, manner);
            ASSERT_LE(ratio, 1) << op_names[op] << " in " << descent_precision_name(precision) << ", "
                                << descent_activation_name(g) << ", " << conformance::law_names[law] << ", truncates "
                                << manner.truncates << ", backwards " << manner.backwards << ", way " << manner.way
                                << ", tanh " << manner.tanh;
            nearest = std::fmax(nearest, ratio);
          }
        }
      EXPECT_GE(nearest, 0.25) << op_names[op] << " in " << descent_precision_name(precision);
    }
}

TEST(ReducedPrecision, a_wrong_manner_leaves_the_bounds) {
  const descent_precision tf32 = DESCENT_PRECISION_TF32, bf16 = DESCENT_PRECISION_BF16;
  const struct {
    simulated::Fault fault;
    const char *name;
    std::vector<descent_precision> precisions;
    std::vector<Op> ops;
  } faults[] = {
      {simulated::LOSES_THE_TAIL, "loses the tail", {tf32, bf16}, {FORWARD, OUTPUT, WEIGHTS, INPUT}},
      {simulated::SUMS_IN_BF16, "sums in bf16", {tf32, bf16}, {FORWARD, OUTPUT, WEIGHTS, INPUT}},
      {simulated::STORES_7_BITS, "stores 7 bits", {bf16}, {FORWARD, INPUT, GATHER, LOSS}},
      {simulated::STORES_CUT, "stores truncated operands", {bf16}, {FORWARD, INPUT, GATHER, LOSS}},
      {simulated::READS_8_BITS, "reads 8 bits", {tf32}, {FORWARD, OUTPUT, WEIGHTS, INPUT}},
      {simulated::SUMS_STORED_CUT, "stores sums as bf16", {tf32, bf16}, {OUTPUT, WEIGHTS}},
  };
  for (const auto &f : faults)
    for (descent_precision precision : f.precisions)
      for (Op op : f.ops)
        for (descent_activation g : {DESCENT_ACTIVATION_IDENTITY, DESCENT_ACTIVATION_SIGMOID}) {
          OneOp one = build(op, precision, g, conformance::UNIFORM);
          Manner manner{};
          manner.fault = f.fault;
          EXPECT_GT(worst_ratio(one, manner), 1)
              << f.name << ": " << op_names[op] << " in " << descent_precision_name(precision) << ", "
              << descent_activation_name(g);
        }
}

/* ---- the update: backends and reference share its formulas, the bounds do not ------------------------------------ */

OneOp update(descent_optimizer optimizer) {
  Random random;
  OneOp one(1, 1);
  const int64_t n = 16;
  plan_update u{};
  u.parameters = one.state("parameters", PLAN_F32, random.uniform(n, -1, 1));
  u.gradients = one.state("gradients", PLAN_F32, random.uniform(n, -1, 1));
  const update_moments kept = update_moments_of(update_rule_from(optimizer, true, false));
  u.moment1 = kept.moment1 ? one.state("moment1", PLAN_F32, random.uniform(n, -1, 1)) : static_cast<int>(PLAN_NONE);
  u.moment2 = kept.moment2 ? one.state("moment2", PLAN_F32, random.uniform(n, 0, 1)) : static_cast<int>(PLAN_NONE);
  u.scalars = one.scalars({{SCALAR_CLIP, 0.5}, {SCALAR_BAD_STEP, 0}});
  u.layer_statistics = one.layer_statistics(1);
  u.n = n, u.optimizer = optimizer;
  u.momentum = 0.9, u.beta1 = 0.9, u.beta2 = 0.999, u.rho = 0.99, u.epsilon = 1e-8, u.weight_decay = 0.1, u.l2 = 0.01;
  one.op(OP_UPDATE, 0).update = u;
  one.step.number = 3;
  one.segment(parameter_segment{0, n, 0, n});
  return one;
}

TEST(Update, a_reference_that_breaks_the_rule_by_a_few_roundings_is_found) {
  for (int optimizer = 0; optimizer < N_OPTIMIZERS; optimizer++)
    for (double off : {0.0, 0x1p-18, -0x1p-18}) {
      OneOp one = update(static_cast<descent_optimizer>(optimizer));
      conformance::Session exact({"reference", &backend_reference, 1, {}}, one);
      one.fill(exact.backend, exact.program, one.contents());
      const plan_op &op = one.plan.ops[0];
      double *inputs = bounds_update_inputs(exact.program, &op);
      ASSERT_NE(inputs, nullptr);
      ASSERT_EQ(backend_reference.run(exact.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK);
      for (int64_t i = 0; i < op.update.n; i++) reference_values(exact.program, op.update.parameters)[i] *= 1 + off;
      bounds within{};
      EXPECT_EQ(bounds_update(exact.program, &op, &one.step, inputs, &within),
                off == 0 ? DESCENT_OK : DESCENT_ERROR_INTERNAL)
          << descent_optimizer_name(static_cast<descent_optimizer>(optimizer)) << " " << off;
      bounds_clear(&within);
      free(inputs);
    }
}

/* What a wrong implementation of lars or lamb would compute, by other arguments of the right one. */
struct Mistake {
  const char *name;
  void (*make)(plan_update *u, plan_step *step, parameter_segment *at);
};
const Mistake mistakes[] = {
    {"no weight decay", [](plan_update *u, plan_step *, parameter_segment *) { u->weight_decay = 0; }},
    {"no l2", [](plan_update *u, plan_step *, parameter_segment *) { u->l2 = 0; }},
    {"another rule", [](plan_update *u, plan_step *, parameter_segment *) { u->optimizer = DESCENT_OPTIMIZER_ADAM; }},
    {"the bias correction of the next step",
     [](plan_update *, plan_step *step, parameter_segment *) { step->number++; }},
    {"b as a part of W", [](plan_update *, plan_step *, parameter_segment *at) { at->b = at->end; }},
    {"W as a part of b", [](plan_update *, plan_step *, parameter_segment *at) { at->b -= 16; }},
    {"another trust coefficient", [](plan_update *u, plan_step *, parameter_segment *) { u->trust_coefficient *= 2; }},
};

/* A layer of 32 values of W and 16 of b; `resting`: the first weight belongs to a unit that has never been active. */
OneOp trusting(plan_op_kind kind, descent_optimizer optimizer, bool resting) {
  Random random;
  OneOp one(1, 1);
  const int64_t n = 48;
  plan_update u{};
  u.parameters = one.state("parameters", PLAN_F32, random.uniform(n, -1, 1));
  const auto draw = [&](const char *name, double low) {
    std::vector<double> values = random.uniform(n, low, 1);
    if (resting) values[0] = 0;
    return one.state(name, PLAN_F32, values);
  };
  u.gradients = draw("gradients", -1);
  u.moment1 = draw("moment1", -1);
  const bool is_lamb = optimizer == DESCENT_OPTIMIZER_LAMB;
  u.moment2 = is_lamb ? draw("moment2", 0) : static_cast<int>(PLAN_NONE);
  u.scalars = one.scalars({{SCALAR_CLIP, 0.5}, {SCALAR_BAD_STEP, 0}});
  u.layer_statistics = one.layer_statistics(1, {0.37});
  u.n = n, u.optimizer = optimizer, u.trust_coefficient = 0.001;
  u.momentum = 0.9, u.beta1 = 0.9, u.beta2 = 0.999, u.epsilon = 1e-8, u.weight_decay = 0.1;
  u.l2 = resting ? 0 : 0.01;
  one.op(kind, 0).update = u;
  one.step.number = 3;
  one.segment(parameter_segment{0, 32, 0, 48});
  return one;
}

/* The status of the bounds after a reference that makes the mistake. */
descent_status status_after(const Mistake *mistake, plan_op_kind kind, descent_optimizer optimizer,
                            bool resting = false) {
  OneOp one = trusting(kind, optimizer, resting);
  conformance::Session exact({"reference", &backend_reference, 1, {}}, one);
  one.fill(exact.backend, exact.program, one.contents());
  const plan_update right = one.plan.ops[0].update;
  const plan_step step = one.step;
  const parameter_segment at = one.plan.segments[0];
  double *inputs = bounds_update_inputs(exact.program, &one.plan.ops[0]);
  EXPECT_NE(inputs, nullptr);
  if (mistake) mistake->make(&one.plan.ops[0].update, &one.step, &one.plan.segments[0]);
  if (one.plan.ops[0].update.optimizer != optimizer && kind == OP_TRUST_RATIO)
    one.plan.ops[0].update.optimizer = /* which has a ratio */
        optimizer == DESCENT_OPTIMIZER_LARS ? DESCENT_OPTIMIZER_LAMB : DESCENT_OPTIMIZER_LARS;
  EXPECT_EQ(backend_reference.run(exact.program, plan_range{0, 1}, &one.step, 1), DESCENT_OK);
  one.plan.ops[0].update = right, one.plan.segments[0] = at;
  bounds within{};
  const descent_status status = kind == OP_UPDATE
                                    ? bounds_update(exact.program, &one.plan.ops[0], &step, inputs, &within)
                                    : bounds_trust_ratio(exact.program, &one.plan.ops[0], &step, &within);
  bounds_clear(&within);
  free(inputs);
  return status;
}

TEST(Update, mistakes_in_lars_and_lamb_are_found) {
  for (plan_op_kind kind : {OP_UPDATE, OP_TRUST_RATIO})
    for (descent_optimizer optimizer : {DESCENT_OPTIMIZER_LARS, DESCENT_OPTIMIZER_LAMB}) {
      EXPECT_EQ(status_after(nullptr, kind, optimizer), DESCENT_OK) << descent_last_error();
      for (const Mistake &mistake : mistakes) {
        const bool is_lars = optimizer == DESCENT_OPTIMIZER_LARS, is_ratio = kind == OP_TRUST_RATIO;
        const std::string name = mistake.name;
        if (is_lars && name == "the bias correction of the next step") continue; /* it has none */
        if (is_lars && name == "another rule") continue;                         /* others need another moment */
        if (!(is_lars && is_ratio) && name == "another trust coefficient") continue;
        EXPECT_EQ(status_after(&mistake, kind, optimizer), DESCENT_ERROR_INTERNAL)
            << descent_optimizer_name(optimizer) << (is_ratio ? ", trust ratio: " : ", update: ") << name;
      }
    }
}

TEST(Update, mistakes_in_lamb_are_found_in_a_layer_with_a_unit_that_rests) {
  EXPECT_EQ(status_after(nullptr, OP_TRUST_RATIO, DESCENT_OPTIMIZER_LAMB, true), DESCENT_OK) << descent_last_error();
  for (const Mistake &mistake : mistakes) {
    const std::string name = mistake.name;
    if (name == "no l2" || name == "another trust coefficient") continue; /* it has none */
    EXPECT_EQ(status_after(&mistake, OP_TRUST_RATIO, DESCENT_OPTIMIZER_LAMB, true), DESCENT_ERROR_INTERNAL) << name;
  }
}

TEST(Update, trust_ratios_in_numbers) {
  const struct {
    update_rule rule;
    double coefficient, decay, w, term, ratio;
  } cases[] = {
      {UPDATE_LARS, 0.5, 0, 3, 2, 0.75},   {UPDATE_LARS, 0.5, 0.25, 4, 3, 0.5},
      {UPDATE_LARS, 0.5, 0.25, 4, 0, 2}, /* decay alone */
      {UPDATE_LARS, 0.5, 0, 4, 0, 1},      {UPDATE_LARS, 0.5, 0.25, 0, 3, 1},
      {UPDATE_LAMB, 0.5, 0.25, 4, 8, 0.5}, {UPDATE_LAMB, 0.5, 0.25, 4, 0, 1},
      {UPDATE_LAMB, 0.5, 0.25, 0, 8, 1},   {UPDATE_LAMB, 0.5, 0, 1e30, 1e-30, static_cast<double>(FLT_MAX)},
  };
  for (const auto &c : cases)
    EXPECT_EQ(formula_trust_ratio(c.rule, c.coefficient, c.decay, c.w, c.term), c.ratio) << c.w << " " << c.term;
  EXPECT_TRUE(std::isnan(formula_trust_ratio(UPDATE_LAMB, 1, 0, 1, NAN)));
}

}  // namespace
