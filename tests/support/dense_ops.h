/* One-op plans of the dense layer, with inputs drawn from several laws. */
#ifndef DESCENT_TESTS_DENSE_OPS_H
#define DESCENT_TESTS_DENSE_OPS_H

#include "conformance.h"

namespace conformance {

/* What an input is drawn from. Ones show a lost tail of a sum; tiny values reach below the normal range; edges are
 * where rounding to fewer bits changes most: midway between two bf16, and with all bits set. */
enum Law { UNIFORM, SPREAD, TINY, ONES, EDGES, LAWS };
const char *const law_names[LAWS] = {"uniform", "spread", "tiny", "ones", "edges"};

inline std::vector<double> drawn(Random &random, Law law, int64_t count) {
  switch (law) {
    case UNIFORM: return random.uniform(count, -1, 1);
    case SPREAD: return random.exponents(count, -12, 6);
    case TINY: return random.exponents(count, -80, -60);
    case EDGES:
      return random.draw(count, [](double u, double v) {
        const double significands[] = {1 + 0x1p-8,  1 + 0x3p-8,  1 + 0x1p-8 - 0x1p-23,
                                       1 + 0x1p-11, 2 - 0x1p-23, 2 - 0x1p-8};
        return std::ldexp(significands[static_cast<int>(6 * u)], static_cast<int>(8 * v) - 4);
      });
    default: return std::vector<double>(static_cast<size_t>(count), 1.0);
  }
}

/* rows of a step, batch, inputs, outputs: ones, odd, prime, unaligned, no multiples of tiles, batch tails, long sums.
 */
struct Shape {
  int64_t rows, batch, n_in, n_out;
};
inline std::string shape_name(const Shape &s) {
  return std::to_string(s.rows) + "of" + std::to_string(s.batch) + "x" + std::to_string(s.n_in) + "x" +
         std::to_string(s.n_out);
}

inline int64_t aligned(int64_t n) { return (n + PARAMETER_ALIGN - 1) / PARAMETER_ALIGN * PARAMETER_ALIGN; }

/* A layer's parameters in a flat buffer, sentinels all around. */
inline parameter_segment place(const Shape &s) {
  parameter_segment at{};
  at.W = at.begin = GUARD;
  at.b = at.W + aligned(s.n_out * s.n_in);
  at.end = at.b + aligned(s.n_out);
  return at;
}

inline std::vector<double> flat(const Shape &s, const std::vector<double> &W, const std::vector<double> &b) {
  const parameter_segment at = place(s);
  std::vector<double> content(static_cast<size_t>(at.end + GUARD));
  for (size_t i = 0; i < content.size(); i++) content[i] = sentinel(i);
  std::copy(W.begin(), W.end(), content.begin() + at.W);
  std::copy(b.begin(), b.end(), content.begin() + at.b);
  return content;
}

/* A second operation, not to be run, that makes `f` the output layer's. */
inline void add_loss(OneOp &one, const plan_dense_forward &f) {
  plan_loss l{};
  l.A = f.A, l.Z = f.Z, l.y = one.output("y", f.n_out), l.w = one.output("w", 1), l.scalars = one.scalars({});
  l.dZ = PLAN_NONE, l.n = f.n_out, l.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR, l.activation = f.activation;
  one.op(OP_LOSS, 1).loss = l;
}

inline OneOp dense_forward(const Shape &s, descent_activation g, double dropout, Law law, bool is_output = false) {
  Random random;
  OneOp one(s.rows, s.batch);
  const parameter_segment at = place(s);
  plan_dense_forward f{};
  f.A_in = one.batch("A_in", s.n_in, drawn(random, law, s.rows * s.n_in));
  f.parameters =
      one.state("parameters", PLAN_F32,
                flat(s, drawn(random, law, s.n_out * s.n_in), drawn(random, law == TINY ? SPREAD : law, s.n_out)));
  f.Z = slope_is_from_z(g) ? one.output("Z", s.n_out) : static_cast<int>(PLAN_NONE);
  f.A = one.output("A", s.n_out);
  f.W = at.W, f.b = at.b, f.n_in = s.n_in, f.n_out = s.n_out;
  f.activation = g, f.dropout = dropout;
  one.op(OP_DENSE_FORWARD, 1).forward = f;
  if (is_output) add_loss(one, f);
  one.segment(at);
  return one;
}

inline OneOp dense_backward_weights(const Shape &s, Law law) {
  Random random;
  OneOp one(s.rows, s.batch);
  const parameter_segment at = place(s);
  const std::vector<double> poison(static_cast<size_t>(s.n_out * s.n_in), NAN);
  plan_dense_backward_weights w{};
  w.dZ = one.batch("dZ", s.n_out, drawn(random, law, s.rows * s.n_out));
  w.A_in = one.batch("A_in", s.n_in, drawn(random, law, s.rows * s.n_in));
  w.gradients =
      one.state("gradients", PLAN_F32, flat(s, poison, std::vector<double>(static_cast<size_t>(s.n_out), NAN)));
  w.W = at.W, w.b = at.b, w.n_in = s.n_in, w.n_out = s.n_out;
  one.op(OP_DENSE_BACKWARD_WEIGHTS, 1).weights = w;
  one.segment(at);
  return one;
}

/* A = g(Z), of n columns, times the dropout mask of the step, as a forward pass would leave it; in float32. */
inline std::vector<double> activated(const OneOp &one, descent_activation g, double dropout, int layer, int64_t n,
                                     const std::vector<double> &Z) {
  std::vector<double> A(Z);
  for (size_t i = 0; i < A.size(); i++) {
    const double a = reference_activate(g, Z[i]);
    const uint64_t element = static_cast<uint64_t>(one.step.batch_row * n) + i;
    const bool keep = rng_keep(one.plan.seed, static_cast<uint32_t>(layer), static_cast<uint64_t>(one.step.number),
                               element, rng_drop_threshold(dropout));
    A[i] = keep ? static_cast<float>(a / (1 - dropout)) : 0;
  }
  return A;
}

/* Pre-activations with both tails: most near 0, some where sigmoids saturate. */
inline std::vector<double> pre_activations(Random &random, int64_t count) {
  return random.draw(count, [](double u, double v) { return v < 0.8 ? 8 * u - 4 : 60 * u - 30; });
}

/* `first_row`: of the step, where the rows are a part of one. */
inline OneOp dense_backward_input(const Shape &s, descent_activation g, double dropout, Law law,
                                  int64_t first_row = 0) {
  Random random;
  OneOp one(s.rows, s.batch);
  one.step.batch_row = first_row;
  const parameter_segment at = place(s);
  const std::vector<double> Z = pre_activations(random, s.rows * s.n_in);
  plan_dense_backward_input d{};
  d.dZ = one.batch("dZ", s.n_out, drawn(random, law, s.rows * s.n_out));
  d.parameters = one.state("parameters", PLAN_F32, flat(s, drawn(random, law, s.n_out * s.n_in), {}));
  d.A = one.batch("A", s.n_in, activated(one, g, dropout, 1, s.n_in, Z));
  d.Z = slope_is_from_z(g) ? one.batch("Z", s.n_in, Z) : static_cast<int>(PLAN_NONE);
  d.dZ_below = one.output("dZ_below", s.n_in);
  d.W = at.W, d.n_in = s.n_in, d.n_out = s.n_out;
  d.activation = g, d.dropout = dropout;
  one.op(OP_DENSE_BACKWARD_INPUT, 2).input = d;
  one.segment(parameter_segment{0, 0, 0, 0});
  one.segment(at);
  return one;
}

}  // namespace conformance

#endif
