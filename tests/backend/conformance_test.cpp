/* Conformance: one-op plans of every kind, on every backend, against the exact result and its derived bounds. A case's
 * name contains everything that defines it, so the name replays it:
 * --gtest_filter='*cpu_fp32__dense_forward_gelu_17of32x31x33*'. */
#include "conformance.h"

#include "candidates.h"
#include "dense_ops.h"

namespace conformance {
namespace {

struct Case {
  std::string name;
  std::function<OneOp()> build;
  double terms = 0;
  bool both = false; /* with both paddings, see paddings() */
};

std::string text(double value) {
  std::string digits = std::to_string(value);
  while (digits.back() == '0') digits.pop_back();
  for (char &c : digits)
    if (c == '.') c = '_';
  return digits.back() == '_' ? digits + "0" : digits;
}

#define LISTED(NAME, text) DESCENT_ACTIVATION_##NAME,
const std::vector<descent_activation> activations{DESCENT_ACTIVATION_MAP(LISTED)};
#undef LISTED

/* ---- dense layers ------------------------------------------------------------------------------------------------ */

const Shape small_shapes[] = {{1, 1, 1, 1}, {3, 8, 5, 2}, {17, 32, 31, 33}};
const Shape shapes[] = {{1, 4, 1, 7},      {2, 2, 7, 1},      {7, 7, 13, 11},     {16, 16, 16, 16},
                        {64, 64, 30, 16},  {33, 40, 257, 19}, {63, 64, 65, 127},  {130, 130, 100, 1},
                        {1, 130, 300, 70}, {65, 100, 3, 530}, {257, 300, 29, 64}, {2100, 2300, 9, 5}};

void add_forward_and_input(std::vector<Case> &cases, const Shape &s, descent_activation g, double dropout, Law law) {
  const std::string name =
      std::string(descent_activation_name(g)) + "_" + shape_name(s) + "_dropout" + text(dropout) + "_" + law_names[law];
  const bool linear = g == DESCENT_ACTIVATION_IDENTITY && dropout == 0 && law == UNIFORM;
  const bool both = linear || (law == UNIFORM && s.n_in == 31);
  cases.push_back({"dense_forward_" + name, [=] { return dense_forward(s, g, dropout, law); },
                   linear ? static_cast<double>(s.n_in + 1) : 0, both});
  if (dropout == 0) /* the output layer's results stay float32 */
    cases.push_back({"dense_forward_output_" + name, [=] { return dense_forward(s, g, 0, law, true); },
                     linear ? static_cast<double>(s.n_in + 1) : 0, both});
  cases.push_back({"dense_backward_input_" + name, [=] { return dense_backward_input(s, g, dropout, law); },
                   linear ? static_cast<double>(s.n_out) : 0, both});
}

void add_dense(std::vector<Case> &cases) {
  for (const Shape &s : small_shapes)
    for (descent_activation g : activations)
      for (double dropout : {0.0, 0.3}) add_forward_and_input(cases, s, g, dropout, UNIFORM);
  size_t turn = 0; /* the other shapes take the activations in turn */
  for (const Shape &s : shapes) {
    add_forward_and_input(cases, s, DESCENT_ACTIVATION_IDENTITY, 0, UNIFORM);
    for (double dropout : {0.0, 0.5})
      add_forward_and_input(cases, s, activations[1 + turn++ % (activations.size() - 1)], dropout, UNIFORM);
  }
  for (Law law : {SPREAD, TINY, ONES, EDGES})
    for (descent_activation g : activations) add_forward_and_input(cases, {17, 32, 31, 33}, g, 0, law);
  for (Law law : {UNIFORM, SPREAD, TINY, ONES, EDGES}) {
    for (const Shape *s = small_shapes; s < std::end(small_shapes); s++)
      cases.push_back({"dense_backward_weights_" + shape_name(*s) + "_" + law_names[law],
                       [=] { return dense_backward_weights(*s, law); }, 0, law == UNIFORM});
    for (const Shape *s = shapes; s < std::end(shapes); s++)
      cases.push_back({"dense_backward_weights_" + shape_name(*s) + "_" + law_names[law],
                       [=] { return dense_backward_weights(*s, law); },
                       law == UNIFORM ? static_cast<double>(s->rows) : 0, law == UNIFORM});
  }
}

/* ---- gather ------------------------------------------------------------------------------------------------------ */

struct GatherCase {
  const char *name;
  int64_t source_rows, first_row, rows, batch, n_x, n_y;
  bool targets, weights, index, shuffle, normalise, normalise_y, classes, missing;
};
const GatherCase gathers[] = {
    {"one_value", 1, 0, 1, 1, 1, 1, true, false, false, false, false, false, false, false},
    {"plain", 50, 7, 13, 16, 5, 1, true, false, false, false, false, false, false, false},
    {"predict", 50, 37, 13, 16, 5, 1, false, false, false, false, true, false, false, false},
    {"shuffled", 101, 64, 37, 64, 31, 1, true, true, false, true, true, false, false, false},
    {"of_a_view", 101, 11, 33, 64, 17, 1, true, true, true, true, true, false, true, false},
    {"class_weights", 64, 0, 64, 64, 30, 1, true, false, false, true, true, false, true, false},
    {"many_targets", 300, 100, 200, 256, 9, 7, true, true, false, true, true, true, false, false},
    {"wide", 40, 3, 19, 32, 1031, 3, true, false, true, false, true, true, false, false},
    {"many_rows_of_fours", 1500, 100, 1300, 1400, 28, 1, true, true, false, true, true, false, true, false},
    {"many_targets_of_fours", 90, 5, 70, 80, 300, 8, true, false, false, true, false, true, false, false},
    {"missing", 50, 7, 13, 16, 5, 1, true, false, false, true, true, false, false, true},
    {"missing_of_fours", 300, 17, 200, 256, 28, 1, true, false, true, false, true, false, false, true},
    {"missing_raw", 90, 0, 80, 80, 33, 1, false, false, false, false, false, false, false, true},
};

OneOp gather(const GatherCase &c) {
  const int64_t classes = 4;
  Random random;
  OneOp one(c.rows, c.batch);
  plan_gather g{};
  std::vector<double> X = random.exponents(c.source_rows * c.n_x, -10, 10);
  for (size_t i = 0; c.missing && i < X.size(); i += 3) X[i] = NAN;
  g.source_X = one.source("source_X", c.n_x, X);
  g.fill = c.missing ? one.state("fill", PLAN_F32, random.uniform(c.n_x, -9, 9)) : PLAN_NONE;
  const std::vector<double> y =
      c.classes ? random.integers(c.source_rows, classes) : random.uniform(c.source_rows * c.n_y, -5, 5);
  g.source_y = one.source("source_y", c.n_y, c.targets ? y : std::vector<double>());
  g.source_w = one.source("source_w", 1, c.weights ? random.uniform(c.source_rows, 0, 2) : std::vector<double>());
  std::vector<int64_t> index; /* the source's rows, last one first */
  for (int64_t i = 0; c.index && i < c.source_rows; i++) index.push_back(c.source_rows - 1 - i);
  g.source_index = one.source("source_index", index);
  const int none = PLAN_NONE;
  g.shift = c.normalise ? one.state("shift", PLAN_F32, random.uniform(c.n_x, -3, 3)) : none;
  g.scale = c.normalise ? one.state("scale", PLAN_F32, random.exponents(c.n_x, -5, 5)) : none;
  g.y_shift = c.normalise_y ? one.state("y_shift", PLAN_F32, random.uniform(c.n_y, -3, 3)) : none;
  g.y_scale = c.normalise_y ? one.state("y_scale", PLAN_F32, random.exponents(c.n_y, -5, 5)) : none;
  g.class_weight = c.classes ? one.state("class_weight", PLAN_F32, random.uniform(classes, 0.1, 3)) : none;
  g.X = one.output("X", c.n_x);
  g.y = c.targets ? one.output("y", c.n_y) : none;
  g.w = c.targets ? one.output("w", 1) : none;
  g.scalars = c.targets ? one.scalars({{SCALAR_WEIGHT_SUM, NAN}}) : none;
  g.n_x = c.n_x, g.n_y = c.n_y, g.shuffle = c.shuffle;
  one.op(OP_GATHER, 0).gather = g;
  one.step.first_row = c.first_row;
  one.order = permutation_create(seed, RNG_SHUFFLE, 1, static_cast<uint64_t>(c.source_rows));
  return one;
}

/* ---- losses and outputs ------------------------------------------------------------------------------------------ */

struct LossCase {
  descent_loss loss;
  descent_activation activation;
  int64_t rows, batch, n;
  double smoothing, range; /* logits in (-range, range) */
  bool gradient;
  double weight; /* of a row, on average */
};

std::string loss_name(const LossCase &c) {
  return std::string(descent_loss_name(c.loss)) + "_" + descent_activation_name(c.activation) + "_" +
         std::to_string(c.rows) + "of" + std::to_string(c.batch) + "x" + std::to_string(c.n) + "_smoothing" +
         text(c.smoothing) + "_range" + text(c.range) + (c.gradient ? "" : "_without_gradient") +
         (c.weight == 0  ? "_weights_zero"
          : c.weight < 1 ? "_weights_tiny"
          : c.weight > 1 ? "_weights_huge"
                         : "");
}

OneOp loss(const LossCase &c) {
  const bool squared = loss_is_regression(c.loss);
  Random random;
  OneOp one(c.rows, c.batch);
  const std::vector<double> Z =
      c.range == 1 ? pre_activations(random, c.rows * c.n) : random.uniform(c.rows * c.n, -c.range, c.range);
  std::vector<double> w = random.uniform(c.rows, 0, 2);
  for (size_t i = 0; i < w.size(); i += 3) w[i] = i % 2 ? 0 : 1; /* some rows do not count */
  for (double &weight : w) weight = static_cast<float>(weight * c.weight);
  double sum = 0;
  for (double weight : w) sum += weight;
  plan_loss l{};
  l.A = one.batch("A", c.n, activated(one, c.activation, 0, 1, c.n, Z));
  l.Z = slope_is_from_z(c.activation) ? one.batch("Z", c.n, Z) : static_cast<int>(PLAN_NONE);
  const int64_t classes = c.n == 1 ? 2 : c.n;
  l.y = squared ? one.batch("y", c.n, random.uniform(c.rows * c.n, -std::fmin(2, c.range), std::fmin(2, c.range)))
                : one.batch("y", 1, random.integers(c.rows, classes));
  l.w = one.batch("w", 1, w);
  l.scalars = one.scalars({{SCALAR_WEIGHT_SUM, sum}, {SCALAR_LOSS, NAN}});
  l.dZ = c.gradient ? one.output("dZ", c.n) : static_cast<int>(PLAN_NONE);
  l.n = c.n, l.loss = c.loss, l.activation = c.activation, l.label_smoothing = c.smoothing;
  one.op(OP_LOSS, 1).loss = l;
  one.segment(parameter_segment{0, 0, 0, 0});
  return one;
}

void add_losses(std::vector<Case> &cases) {
  std::vector<LossCase> losses;
  const descent_activation none = DESCENT_ACTIVATION_IDENTITY;
  for (double smoothing : {0.0, 0.1})
    for (double range : {1.0, 1000.0, 1e30})
      for (bool gradient : {true, false}) {
        for (int64_t rows : {1, 100, 1000})
          losses.push_back({DESCENT_LOSS_BINARY_CROSS_ENTROPY, none, rows, rows + 5, 1, smoothing, range, gradient, 1});
        for (int64_t n : {2, 3, 10, 64, 65, 301})
          losses.push_back({DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, none, 37, 40, n, smoothing, range, gradient, 1});
      }
  for (int64_t n : {1, 7, 8, 15, 16, 17, 31, 32, 33, 100, 127, 128, 255, 256, 257, 1000, 1024, 1025, 4096, 5000})
    losses.push_back(
        {DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, none, n > 300 ? 3 : 9, n > 300 ? 4 : 11, n, n % 2 ? 0.1 : 0, 1, true, 1});
  for (descent_activation g : activations)
    for (int64_t n : {1, 7, 20, 33, 70})
      losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, g, 61, 64, n, 0, 1, true, 1});
  losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, none, 300, 300, 1, 0, 1e15, false, 1});
  losses.push_back({DESCENT_LOSS_BINARY_CROSS_ENTROPY, none, 19, 19, 1, 0, 1, true, 0});
  losses.push_back({DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, none, 19, 19, 3, 0.1, 1, true, 0});
  losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_TANH, 19, 19, 3, 0, 1, true, 0});
  losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, none, 30, 30, 40, 0, 1e-20, false, 1}); /* subnormal squares */
  for (int64_t n : {7, 40}) /* squares near the largest float32, and sums of them beyond it */
    losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, none, 30, 30, n, 0, 1.8e19, false, 1});
  for (double weight : {0x1p-135, 0x1p122}) { /* whose sum has no inverse */
    losses.push_back({DESCENT_LOSS_BINARY_CROSS_ENTROPY, none, 100, 100, 1, 0.1, 1, true, weight});
    losses.push_back({DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, none, 100, 100, 20, 0.1, 1, true, weight});
    losses.push_back({DESCENT_LOSS_MEAN_SQUARED_ERROR, none, 100, 100, 20, 0, 1, true, weight});
  }
  for (const LossCase &c : losses)
    cases.push_back({"loss_" + loss_name(c), [=] { return loss(c); }, 0, c.gradient && c.range == 1});
}

OneOp backward_output(descent_activation g, const Shape &s) {
  Random random;
  OneOp one(s.rows, s.batch);
  const std::vector<double> Z = pre_activations(random, s.rows * s.n_out);
  plan_backward_output b{};
  b.dA = one.batch("dA", s.n_out, random.exponents(s.rows * s.n_out, -30, 5));
  b.A = one.batch("A", s.n_out, activated(one, g, 0, 1, s.n_out, Z));
  b.Z = slope_is_from_z(g) ? one.batch("Z", s.n_out, Z) : static_cast<int>(PLAN_NONE);
  b.dZ = one.output("dZ", s.n_out);
  b.n = s.n_out, b.activation = g;
  one.op(OP_BACKWARD_OUTPUT, 1).output_slope = b;
  one.segment(parameter_segment{0, 0, 0, 0});
  return one;
}

void add_backward_outputs(std::vector<Case> &cases) {
  for (descent_activation g : activations)
    for (const Shape &s : {Shape{1, 1, 0, 1}, Shape{61, 64, 0, 7}, Shape{300, 333, 0, 64}})
      cases.push_back({std::string("backward_output_") + descent_activation_name(g) + "_" + shape_name(s),
                       [=] { return backward_output(g, s); }, 0, s.n_out == 7});
}

OneOp output(descent_loss loss, int64_t n, double range, bool standardised) {
  Random random;
  OneOp one(29, 32);
  plan_output o{};
  o.A = one.batch("A", n, random.uniform(29 * n, -range, range));
  o.y_shift = standardised ? one.state("y_shift", PLAN_F32, random.uniform(n, -3, 3)) : static_cast<int>(PLAN_NONE);
  o.y_scale = standardised ? one.state("y_scale", PLAN_F32, random.uniform(n, 0.01, 3)) : static_cast<int>(PLAN_NONE);
  o.P = one.output("P", n);
  o.n = n, o.loss = loss;
  one.op(OP_OUTPUT, 0).output = o;
  return one;
}

void add_outputs(std::vector<Case> &cases) {
  for (double range : {4.0, 200.0, 1e30}) {
    cases.push_back({"output_sigmoid_range" + text(range),
                     [=] { return output(DESCENT_LOSS_BINARY_CROSS_ENTROPY, 1, range, false); }, 0});
    for (int64_t n : {2, 10, 64, 65, 301, 1024, 1500, 4100})
      cases.push_back({"output_softmax_" + std::to_string(n) + "_range" + text(range),
                       [=] { return output(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, n, range, false); }, 0, range == 4});
    for (bool standardised : {false, true})
      for (int64_t n : {3, 5, 36, 70})
        cases.push_back({std::string("output_") + (standardised ? "standardised_" : "values_") + std::to_string(n) +
                             "_range" + text(range),
                         [=] { return output(DESCENT_LOSS_MEAN_SQUARED_ERROR, n, range, standardised); }, 0,
                         range == 4});
  }
}

/* ---- gradient norm, update, statistics, metrics ------------------------------------------------------------------ */

/* Three layers' parameters with gaps of zeros: one value, an odd number, several pieces of work. */
struct Flat {
  std::vector<parameter_segment> segments;
  int64_t n = 0;
  explicit Flat(const std::vector<Shape> &layers) {
    for (const Shape &s : layers) {
      parameter_segment at{};
      at.W = at.begin = n;
      at.b = at.W + aligned(s.n_in * s.n_out);
      at.end = n = at.b + aligned(s.n_out);
      segments.push_back(at);
      shapes_.push_back(s);
    }
  }
  /* `values` in the parameters, 0 in the gaps, sentinels beyond the end. */
  std::vector<double> filled(const std::vector<double> &values) const {
    std::vector<double> content(static_cast<size_t>(n + GUARD));
    for (size_t i = static_cast<size_t>(n); i < content.size(); i++) content[i] = sentinel(i);
    for (size_t l = 0; l < segments.size(); l++)
      for (int64_t i = segments[l].begin; i < segments[l].end; i++) {
        const bool in_W = i < segments[l].W + shapes_[l].n_in * shapes_[l].n_out;
        const bool in_b = i >= segments[l].b && i < segments[l].b + shapes_[l].n_out;
        if (in_W || in_b) content[static_cast<size_t>(i)] = values[static_cast<size_t>(i)];
      }
    return content;
  }

 private:
  std::vector<Shape> shapes_;
};

Flat flat_layers() { return Flat({{0, 0, 1, 1}, {0, 0, 7, 5}, {0, 0, 61, 97}, {0, 0, 97, 3}}); }

OneOp gradient_norm(double clip, double low, double high, double J, double bad_step) {
  Random random;
  OneOp one(1, 1);
  const Flat layout = flat_layers();
  plan_gradient_norm g{};
  g.gradients = one.state("gradients", PLAN_F32, layout.filled(random.exponents(layout.n, low, high)));
  g.scalars =
      one.scalars({{SCALAR_LOSS, J}, {SCALAR_GRADIENT_NORM, NAN}, {SCALAR_CLIP, NAN}, {SCALAR_BAD_STEP, bad_step}});
  g.layer_statistics = one.layer_statistics(static_cast<int>(layout.segments.size()));
  g.clip_norm = clip;
  one.op(OP_GRADIENT_NORM, 0).norm = g;
  for (const parameter_segment &at : layout.segments) one.segment(at);
  return one;
}

OneOp accumulate(bool adds, double low, double high) {
  Random random;
  OneOp one(1, 1);
  const Flat layout = flat_layers();
  const std::vector<double> unset(static_cast<size_t>(layout.n), NAN);
  plan_accumulate a{};
  a.gradients = one.state("gradients", PLAN_F32, layout.filled(random.exponents(layout.n, low, high)));
  a.kept_gradients =
      one.state("kept_gradients", PLAN_F32, layout.filled(adds ? random.exponents(layout.n, low, high) : unset));
  a.n = layout.n, a.adds = adds;
  one.op(OP_ACCUMULATE, 0).accumulate = a;
  for (const parameter_segment &at : layout.segments) one.segment(at);
  return one;
}

/* Part k of K. Sums that it does not add are sentinels. */
OneOp combine(int k, int K, double low, double high) {
  Random random;
  OneOp one(1, 1);
  const Flat layout = flat_layers();
  const int levels = plan_combine_levels(K);
  const size_t n = static_cast<size_t>(layout.n);
  std::vector<double> partial, losses;
  for (int level = 0; level < levels; level++) {
    const bool is_trailing_one = (k + 1) % (1 << (level + 1)) == 0;
    const bool is_left = k == K - 1 && (K >> level & 1) && K % (1 << level) != 0;
    std::vector<double> sum = layout.filled(random.exponents(layout.n, low, high));
    sum.resize(n);
    for (size_t i = 0; i < n && !is_trailing_one && !is_left; i++) sum[i] = sentinel(i);
    partial.insert(partial.end(), sum.begin(), sum.end());
    losses.push_back(is_trailing_one || is_left ? random.uniform(1, 0, 3)[0] : sentinel(0));
  }
  plan_combine c{};
  c.gradients = one.state("gradients", PLAN_F32, layout.filled(random.exponents(layout.n, low, high)));
  c.partial_gradients = one.state("partial_gradients", PLAN_F32, levels, partial);
  c.scalars = one.scalars({{SCALAR_LOSS, 0.69314718}});
  c.partial_losses = one.state("partial_losses", PLAN_F64, losses);
  c.n = layout.n, c.levels = levels;
  one.op(OP_COMBINE, 0).combine = c;
  one.cut(0, k, K, 0);
  one.step.rows = 0; /* it reads none */
  for (const parameter_segment &at : layout.segments) one.segment(at);
  return one;
}

/* Of one rank, whose sum it is. */
OneOp allreduce() {
  Random random;
  OneOp one(1, 1);
  const Flat layout = flat_layers();
  plan_allreduce a{};
  a.gradients = one.state("gradients", PLAN_F32, layout.filled(random.exponents(layout.n, -149, 126)));
  a.scalars = one.scalars({{SCALAR_LOSS, 0.69314718}});
  a.n = layout.n;
  one.op(OP_ALLREDUCE, 0).allreduce = a;
  for (const parameter_segment &at : layout.segments) one.segment(at);
  return one;
}

/* Combine for every part of up to 9, which has each shape of tree up to 4 levels; and of thousands of parts. */
void add_combines(std::vector<Case> &cases) {
  const auto add = [&](const char *sizes, int k, int K, double low, double high) {
    cases.push_back({std::string("combine_") + sizes + "_part" + std::to_string(k) + "of" + std::to_string(K),
                     [=] { return combine(k, K, low, high); }, 0});
  };
  for (int K = 1; K <= 9; K++)
    for (int k = 0; k < K; k++) add("usual", k, K, -10, 2);
  for (int k : {7, 14}) {
    add("tiny", k, 15, -149, -120);
    add("of_all_sizes", k, 15, -149, 124);
  }
  for (int k : {0, 1023, 2046, 3000}) add("usual", k, 3001, -10, 2);
  cases.push_back({"allreduce_of_one_rank", [] { return allreduce(); }, 0});
}

struct UpdateCase {
  const char *name;
  descent_optimizer optimizer;
  double momentum, weight_decay, l2;
  bool nesterov, measure;
  int64_t number;
};
const UpdateCase updates[] = {
    {"gd", DESCENT_OPTIMIZER_GD, 0, 0, 0, false, false, 1},
    {"gd_decay_l2_measured", DESCENT_OPTIMIZER_GD, 0, 0.1, 0.01, false, true, 7},
    {"sgd", DESCENT_OPTIMIZER_SGD, 0, 0, 0, false, true, 1},
    {"sgd_momentum", DESCENT_OPTIMIZER_SGD, 0.9, 0, 0, false, false, 1},
    {"sgd_momentum_decay_l2", DESCENT_OPTIMIZER_SGD, 0.9, 0.1, 0.01, false, true, 50},
    {"sgd_nesterov", DESCENT_OPTIMIZER_SGD, 0.9, 0, 0, true, true, 50},
    {"sgd_nesterov_decay_l2", DESCENT_OPTIMIZER_SGD, 0.9, 0.1, 0.01, true, false, 50},
    {"rmsprop", DESCENT_OPTIMIZER_RMSPROP, 0, 0, 0, false, true, 1},
    {"rmsprop_momentum_decay_l2", DESCENT_OPTIMIZER_RMSPROP, 0.9, 0.1, 0.01, false, true, 9},
    {"adam_first_step", DESCENT_OPTIMIZER_ADAM, 0, 0, 0, false, true, 1},
    {"adam", DESCENT_OPTIMIZER_ADAM, 0, 0, 0, false, false, 1000},
    {"adam_l2", DESCENT_OPTIMIZER_ADAM, 0, 0, 0.01, false, true, 20},
    {"adamw", DESCENT_OPTIMIZER_ADAMW, 0, 0.1, 0, false, true, 20},
    {"lars_first_step", DESCENT_OPTIMIZER_LARS, 0, 0, 0, false, false, 1},
    {"lars_momentum", DESCENT_OPTIMIZER_LARS, 0.9, 0, 0, false, true, 30},
    {"lars_momentum_decay_l2", DESCENT_OPTIMIZER_LARS, 0.9, 0.1, 0.01, false, false, 30},
    {"lamb_first_step", DESCENT_OPTIMIZER_LAMB, 0, 0, 0, false, false, 1},
    {"lamb_decay", DESCENT_OPTIMIZER_LAMB, 0, 0.1, 0, false, true, 20},
    {"lamb_l2", DESCENT_OPTIMIZER_LAMB, 0, 0, 0.01, false, false, 1000},
};

/* Exponents of gradient and state: usual, far apart, and so small that squares vanish in float32. */
struct Magnitude {
  const char *name;
  double low, high, epsilon, clip;
};
const Magnitude magnitudes[] = {
    {"usual", -8, 2, 1e-8, 1},
    {"clipped", -8, 2, 1e-8, 0.037},
    {"spread", -40, 20, 1e-8, 1},
    {"tiny", -100, -60, 1.2e-38, 1},
};

/* Of the four layers. */
const std::vector<double> some_trust{1, 0.037, 3.1e4, 2e-6};

/* The update, or the trust ratio before it. W is scaled by `weights`. */
OneOp update(const UpdateCase &c, const Magnitude &m, double bad_step, plan_op_kind kind = OP_UPDATE,
             double weights = 1) {
  Random random;
  OneOp one(1, 1);
  const Flat layout = flat_layers();
  const update_moments kept = update_moments_of(update_rule_from(c.optimizer, c.momentum > 0, c.nesterov));
  std::vector<double> v = random.exponents(layout.n, m.low, m.high), s = random.exponents(layout.n, m.low, m.high);
  for (double &square : s) square = static_cast<float>(square * square); /* may be 0 */
  if (c.number == 1) v.assign(v.size(), 0), s.assign(s.size(), 0);
  plan_update u{};
  u.parameters = one.state("parameters", PLAN_F32, layout.filled(random.uniform(layout.n, -weights, weights)));
  u.gradients = one.state("gradients", PLAN_F32, layout.filled(random.exponents(layout.n, m.low, m.high)));
  u.moment1 = kept.moment1 ? one.state("moment1", PLAN_F32, layout.filled(v)) : static_cast<int>(PLAN_NONE);
  u.moment2 = kept.moment2 ? one.state("moment2", PLAN_F32, layout.filled(s)) : static_cast<int>(PLAN_NONE);
  u.scalars = one.scalars({{SCALAR_CLIP, m.clip}, {SCALAR_BAD_STEP, bad_step}});
  u.layer_statistics = one.layer_statistics(static_cast<int>(layout.segments.size()),
                                            kind == OP_UPDATE ? some_trust : std::vector<double>());
  u.n = layout.n, u.optimizer = c.optimizer, u.trust_coefficient = 0.001;
  u.momentum = c.momentum, u.nesterov = c.nesterov, u.beta1 = 0.9, u.beta2 = 0.999, u.rho = 0.99;
  u.epsilon = m.epsilon, u.weight_decay = c.weight_decay, u.l2 = c.l2, u.measure = c.measure;
  one.op(kind, 0).update = u;
  one.step.number = c.number;
  for (const parameter_segment &at : layout.segments) one.segment(at);
  return one;
}

/* Units whose derivative is 0 everywhere are among them: their Z is far out. With `marks`, the rows are a later part of a
 * step, and an earlier one has found some units active. */
OneOp statistics(descent_activation g, const Shape &s, double dropout, bool marks = false) {
  Random random;
  OneOp one(s.rows, s.batch);
  if (marks) one.cut(1003, 1, 2, 0);
  std::vector<double> Z = pre_activations(random, s.rows * s.n_out), active(static_cast<size_t>(s.n_out));
  for (size_t i = 0; i < Z.size(); i++)
    if (i % static_cast<size_t>(s.n_out) % 3 == 1) Z[i] = -40;
  for (size_t j = 0; j < active.size(); j += 4) active[j] = 1;
  plan_statistics t{};
  t.A = one.batch("A", s.n_out, activated(one, g, dropout, 2, s.n_out, Z));
  t.Z = slope_is_from_z(g) ? one.batch("Z", s.n_out, Z) : static_cast<int>(PLAN_NONE);
  t.layer_statistics = one.layer_statistics(3);
  t.active = marks ? one.state("active", PLAN_F32, active) : static_cast<int>(PLAN_NONE);
  t.n = s.n_out, t.activation = g, t.dropout = dropout;
  one.op(OP_STATISTICS, 2).statistics = t;
  for (int l = 0; l < 3; l++) one.segment(parameter_segment{0, 0, 0, 0});
  return one;
}

OneOp metrics(double bad_step) {
  OneOp one(1, 1);
  plan_metrics m{};
  m.scalars = one.scalars({{SCALAR_WEIGHT_SUM, 31.7},
                           {SCALAR_LOSS, 0.69314718},
                           {SCALAR_TOTAL_LOSS, 1234.5678},
                           {SCALAR_TOTAL_WEIGHT, 4000.25},
                           {SCALAR_BAD_STEP, bad_step}});
  one.op(OP_METRICS, 0).metrics = m;
  return one;
}

void add_trust_ratios(std::vector<Case> &cases) {
  const Magnitude zero{"zero_gradients", -200, -180, 1e-8, 1}, huge{"huge", 90, 120, 1e-8, 1};
  for (const UpdateCase &c : updates) {
    if (!update_has_trust_ratio(update_rule_from(c.optimizer, true, false))) continue;
    const std::string name = std::string("trust_ratio_") + c.name + "_";
    for (const Magnitude &m : magnitudes)
      cases.push_back({name + m.name, [=] { return update(c, m, 0, OP_TRUST_RATIO); }, 0});
    for (const Magnitude &m : {zero, huge})
      cases.push_back({name + m.name, [=] { return update(c, m, 0, OP_TRUST_RATIO); }, 0});
    for (double weights : {0.0, 1e-41, 1e-20, 1e20, 3e38})
      cases.push_back({name + "weights_" +
                           (weights == 0      ? "zero"
                            : weights < 1e-40 ? "subnormal"
                            : weights < 1     ? "tiny"
                            : weights < 1e30  ? "large"
                                              : "huge"),
                       [=] { return update(c, magnitudes[0], 0, OP_TRUST_RATIO, weights); }, 0});
    cases.push_back({name + "after_a_bad_step", [=] { return update(c, magnitudes[0], 2, OP_TRUST_RATIO); }, 0});
  }
}

void add_whole_network_ops(std::vector<Case> &cases) {
  for (double clip : {0.0, 0.5, 1e6})
    cases.push_back({"gradient_norm_clip" + text(clip), [=] { return gradient_norm(clip, -10, 2, 0.7, 0); }, 0});
  cases.push_back({"gradient_norm_tiny", [] { return gradient_norm(1, -149, -120, 0.7, 0); }, 0});
  cases.push_back({"gradient_norm_huge", [] { return gradient_norm(1, 100, 127, 0.7, 0); }, 0});
  cases.push_back({"gradient_norm_of_all_sizes", [] { return gradient_norm(1, -149, 127, 0.7, 0); }, 0});
  cases.push_back({"gradient_norm_of_subnormal_squares", [] { return gradient_norm(1, -74, -66, 0.7, 0); }, 0});
  cases.push_back({"gradient_norm_after_a_bad_step", [] { return gradient_norm(1, -10, 2, 0.7, 2); }, 0});
  for (bool adds : {false, true}) {
    const std::string name = adds ? "accumulate_adds_" : "accumulate_keeps_";
    cases.push_back({name + "usual", [=] { return accumulate(adds, -10, 2); }, 0});
    cases.push_back({name + "tiny", [=] { return accumulate(adds, -149, -120); }, 0});
    cases.push_back({name + "of_all_sizes", [=] { return accumulate(adds, -149, 126); }, 0});
  }
  for (const UpdateCase &c : updates)
    for (const Magnitude &m : magnitudes)
      cases.push_back({std::string("update_") + c.name + "_" + m.name, [=] { return update(c, m, 0); }, 0});
  for (const UpdateCase &c : updates)
    cases.push_back(
        {std::string("update_") + c.name + "_after_a_bad_step", [=] { return update(c, magnitudes[0], 2); }, 0});
  add_trust_ratios(cases);
  for (descent_activation g : activations)
    for (double dropout : {0.0, 0.5})
      for (const Shape &s : {Shape{1, 1, 0, 1}, Shape{5, 8, 0, 37}, Shape{300, 333, 0, 19}, Shape{60, 64, 0, 300}})
        cases.push_back(
            {std::string("statistics_") + descent_activation_name(g) + "_" + shape_name(s) + "_dropout" + text(dropout),
             [=] { return statistics(g, s, dropout); }, 0, dropout == 0});
  for (descent_activation g : activations)
    for (const Shape &s : {Shape{0, 4, 0, 9}, Shape{60, 64, 0, 37}})
      cases.push_back({std::string("statistics_of_a_part_") + descent_activation_name(g) + "_" + shape_name(s),
                       [=] { return statistics(g, s, 0.5, true); }, 0});
  cases.push_back({"metrics", [] { return metrics(0); }, 0});
  cases.push_back({"metrics_after_a_bad_step", [] { return metrics(4); }, 0});
}

OneOp part_of(OneOp one, int64_t row, double weight_sum) {
  one.cut(row, 1, 3, weight_sum);
  return one;
}

/* Rows of a step beyond its first, and no rows, as in a step with fewer rows than micro-batches. */
void add_parts(std::vector<Case> &cases) {
  for (const GatherCase &c : gathers) {
    if (!c.targets) continue;
    GatherCase none = c;
    none.rows = 0;
    cases.push_back(
        {std::string("gather_part_") + c.name, [=] { return part_of(gather(c), 40, 1234.56789); }, 0, true});
    cases.push_back({std::string("gather_part_of_weight_0_") + c.name, [=] { return part_of(gather(c), 40, 0); }, 0});
    cases.push_back(
        {std::string("gather_no_rows_") + c.name, [=] { return part_of(gather(none), 40, 1234.56789); }, 0});
  }
  const Shape part{17, 32, 31, 33}, none{0, 32, 31, 33};
  for (descent_activation g : activations) {
    const std::string name = descent_activation_name(g);
    for (int64_t row : {1, 1003}) {
      const std::string at = name + "_from_row" + std::to_string(row);
      cases.push_back(
          {"dense_forward_part_" + at, [=] { return part_of(dense_forward(part, g, 0.3, UNIFORM), row, 0); }, 0, true});
      cases.push_back({"dense_backward_input_part_" + at,
                       [=] { return part_of(dense_backward_input(part, g, 0.3, UNIFORM, row), row, 0); }, 0, true});
    }
    cases.push_back(
        {"dense_forward_no_rows_" + name, [=] { return part_of(dense_forward(none, g, 0.3, UNIFORM), 40, 0); }, 0});
    cases.push_back({"dense_backward_input_no_rows_" + name,
                     [=] { return part_of(dense_backward_input(none, g, 0.3, UNIFORM, 40), 40, 0); }, 0});
  }
  cases.push_back(
      {"dense_backward_weights_no_rows", [=] { return part_of(dense_backward_weights(none, UNIFORM), 40, 0); }, 0});
  for (const LossCase &c :
       {LossCase{DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_ACTIVATION_IDENTITY, 0, 8, 1, 0, 1, true, 1},
        LossCase{DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_ACTIVATION_IDENTITY, 0, 8, 10, 0.1, 1, true, 1},
        LossCase{DESCENT_LOSS_MEAN_SQUARED_ERROR, DESCENT_ACTIVATION_TANH, 0, 8, 3, 0, 1, true, 1}})
    cases.push_back({std::string("loss_no_rows_") + descent_loss_name(c.loss),
                     [=] { return part_of(loss(c), 40, 1234.56789); }, 0});
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const GatherCase &c : gathers)
    cases.push_back({std::string("gather_") + c.name, [=] { return gather(c); }, 0, true});
  add_dense(cases);
  add_losses(cases);
  add_backward_outputs(cases);
  add_outputs(cases);
  add_whole_network_ops(cases);
  add_combines(cases);
  add_parts(cases);
  return cases;
}

using Judged = std::pair<Candidate, descent_precision>;
std::vector<Judged> all_judged() {
  std::vector<Judged> judged;
  for (const Candidate &candidate : candidates())
    for (descent_precision precision : candidate.precisions) judged.emplace_back(candidate, precision);
  return judged;
}
std::string judged_name(const Judged &judged) {
  return std::string(judged.first.name) + "_" + descent_precision_name(judged.second);
}

/* How many columns the operands' buffers are wider than the operands. On a GPU trainings have 0: rows begin at
 * multiples of 16 bytes. Operands in wider buffers are dense instead, with odd leading dimensions. Elsewhere all
 * operands are dense, and the memory behind them shows whether it is left untouched. */
std::vector<int64_t> paddings(const Candidate &candidate, const Case &c) {
  if (std::string(candidate.name) != "cuda") return {3};
  return c.both ? std::vector<int64_t>{0, 3} : std::vector<int64_t>{0};
}

struct Parameter {
  Judged judged;
  Case c;
  int64_t padding;
};
std::vector<Parameter> all_parameters() {
  std::vector<Parameter> parameters;
  const std::vector<Case> cases = all_cases();
  for (const Judged &judged : all_judged())
    for (const Case &c : cases)
      for (int64_t padding : paddings(judged.first, c)) parameters.push_back({judged, c, padding});
  return parameters;
}
class Conformance : public testing::TestWithParam<Parameter> {};

TEST_P(Conformance, stays_within_the_derived_bounds_and_touches_nothing_else) {
  SCOPED_TRACE("inputs drawn from seed " + std::to_string(seed));
  const Parameter &p = GetParam();
  OneOp one = p.c.build();
  one.widen(p.padding);
  one.plan.precision = p.judged.second;
  if (one.order.n) one.step.order = &one.order;
  judge(p.judged.first, one, p.c.terms);
}

INSTANTIATE_TEST_SUITE_P(Backends, Conformance, testing::ValuesIn(all_parameters()),
                         [](const testing::TestParamInfo<Parameter> &item) {
                           return judged_name(item.param.judged) + "__" + item.param.c.name + "_padding" +
                                  std::to_string(item.param.padding);
                         });

/* ---- values that are not finite ---------------------------------------------------------------------------------- */

class Divergence : public testing::TestWithParam<Judged> {};

/* loss, gradient_norm, update: a bad value in the logits, the targets' weights or the gradients marks the step, and
 * parameters and moments keep their bytes. */
TEST_P(Divergence, marks_the_step_and_leaves_the_parameters_alone) {
  enum { LOGIT, GRADIENT };
  for (double bad : {double(NAN), double(INFINITY), double(-INFINITY)})
    for (int where : {LOGIT, GRADIENT})
      for (descent_loss kind :
           {DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, DESCENT_LOSS_MEAN_SQUARED_ERROR}) {
        SCOPED_TRACE(std::string(descent_loss_name(kind)) + (where == LOGIT ? ", logit " : ", gradient ") +
                     std::to_string(bad));
        const int64_t n = kind == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3;
        OneOp one = update(updates[10], magnitudes[0], 0);
        one.plan.batch = one.step.rows = 6;
        Random random;
        std::vector<double> A = random.uniform(6 * n, -1, 1);
        if (where == LOGIT) A[static_cast<size_t>(2 * n)] = bad;
        std::vector<plan_op> ops(2);
        const plan_update u = one.last_op().update;
        ops[0].kind = OP_LOSS, ops[0].layer = 1;
        plan_loss &l = ops[0].loss;
        l.A = one.batch("A", n, A), l.Z = PLAN_NONE;
        const int64_t n_y = loss_is_regression(kind) ? n : 1;
        l.y = one.batch("y", n_y, std::vector<double>(static_cast<size_t>(6 * n_y), 0));
        l.w = one.batch("w", 1, std::vector<double>(6, 1));
        l.scalars = u.scalars, l.dZ = one.output("dZ", n), l.n = n, l.loss = kind;
        ops[1].kind = OP_GRADIENT_NORM;
        ops[1].norm.gradients = u.gradients, ops[1].norm.scalars = u.scalars;
        ops[1].norm.layer_statistics = u.layer_statistics;
        one.prepend(ops);
        one.set(l.scalars, SCALAR_WEIGHT_SUM, 6);
        if (where == GRADIENT) one.set(u.gradients, 20, bad);

        one.plan.precision = GetParam().second;
        Session session(GetParam().first, one);
        if (HasFatalFailure()) return;
        ASSERT_EQ(session.backend.run(session.program, plan_range{0, 3}, &one.step, 1), DESCENT_OK)
            << descent_last_error();
        const std::vector<std::vector<double>> now = one.read(session.backend, session.program);
        EXPECT_EQ(now[static_cast<size_t>(l.scalars)][SCALAR_BAD_STEP], static_cast<double>(one.step.number));
        for (int buffer : {u.parameters, u.moment1, u.moment2})
          EXPECT_EQ(now[static_cast<size_t>(buffer)], one.contents()[static_cast<size_t>(buffer)])
              << one.buffer(static_cast<size_t>(buffer)).name;
      }
}

INSTANTIATE_TEST_SUITE_P(Backends, Divergence, testing::ValuesIn(all_judged()),
                         [](const testing::TestParamInfo<Judged> &item) { return judged_name(item.param); });

}  // namespace
}  // namespace conformance
