/* A backend that computes one value after another in the plan's precision, and rounds in any manner that bounds.h
 * allows or in one that it forbids: this shows that the bounds hold and that they are tight enough to catch errors.
 * Buffers are the reference's; operations whose rounding cannot vary (all but the dense layers) give the reference's
 * value, rounded. */
#ifndef DESCENT_TESTS_SIMULATED_H
#define DESCENT_TESTS_SIMULATED_H

#include <cmath>

#include "internal.h"

extern "C" {
#include "backend/formulas.h"
#include "backend/reference/reference.h"
#include "plan/operations.h"
}

namespace simulated {

/* On the way from the product to the activation: b added to the sum; the same, then rounded to bf16; the sum rounded to
 * bf16, then b added. */
enum Way { TOGETHER, TOGETHER_IN_BF16, APART };

enum Fault {
  RIGHT,
  LOSES_THE_TAIL,  /* the last element of a dot product */
  SUMS_IN_BF16,    /* each partial sum */
  STORES_7_BITS,   /* operands, instead of 8 */
  STORES_CUT,      /* operands, instead of the nearest */
  READS_8_BITS,    /* tf32 operands of products, instead of 11 */
  SUMS_STORED_CUT, /* the sums of dW and the logits, as bf16 */
};

struct Manner {
  bool truncates;    /* sums, where the precision allows it */
  bool backwards;    /* sums from the last element to the first */
  bool nearest_tf32; /* operands rounded rather than cut */
  bool bias_in_bf16; /* where the result is */
  Way way;           /* where the result is bf16 */
  int tanh;          /* -1, 1: off by nearly the relative 2^-11 that a bf16 result may be */
  Fault fault;
};

/* The manner in which the table rounds next, since the table cannot hold state. */
inline Manner manner{};

/* ---- rounding, on the bits of a float ---- */

/* `bits` fewer of the 23, cut off or rounded to nearest, ties to even. volatile: where it has spilled x, GCC 12.2 loses
 * a constant mask of the upper half. */
inline float cut(float x, int bits) {
  const volatile uint32_t word = float_bits(x);
  return float_from_bits(word >> bits << bits);
}
inline float nearest(float x, int bits) {
  if (std::isnan(x)) return x;
  const uint32_t word = float_bits(x);
  return cut(float_from_bits(word + (1u << (bits - 1)) - 1 + (word >> bits & 1)), bits);
}
inline float to_bf16(float x) { return nearest(x, 16); }

/* As a bf16 operand is stored. */
inline float stored(float x) {
  if (manner.fault == STORES_7_BITS) return nearest(x, 17);
  return manner.fault == STORES_CUT && !std::isnan(x) ? cut(x, 16) : to_bf16(x);
}

inline float read_operand(const plan &p, float x) {
  if (p.precision == DESCENT_PRECISION_FP32) return x;
  if (p.precision == DESCENT_PRECISION_BF16) return to_bf16(x);
  if (manner.fault == READS_8_BITS) return cut(x, 16);
  return manner.nearest_tf32 ? nearest(x, 13) : cut(x, 13);
}

/* a + b in float32, to nearest or towards 0. */
inline float sum(const plan &p, float a, float b) {
  const double exact = static_cast<double>(a) + static_cast<double>(b);
  float s = static_cast<float>(exact);
  if (manner.fault == SUMS_IN_BF16) return to_bf16(s);
  if (p.precision != DESCENT_PRECISION_FP32 && manner.truncates && std::fabs(static_cast<double>(s)) > std::fabs(exact))
    s = std::nextafterf(s, 0);
  return s;
}

/* ---- the dense layers ---- */

/* start + sum_i x_i y_i, strided, with `start` before the first. */
inline float dot(const plan &p, const double *x, int64_t x_stride, const double *y, int64_t y_stride, int64_t n,
                 float start) {
  if (manner.fault == LOSES_THE_TAIL && n > 1) n--;
  float s = start;
  for (int64_t i = 0; i < n; i++) {
    const int64_t k = manner.backwards ? n - 1 - i : i;
    const float a = read_operand(p, static_cast<float>(x[k * x_stride])),
                b = read_operand(p, static_cast<float>(y[k * y_stride]));
    s = sum(p, s, a * b);
  }
  return s;
}

inline float activated(descent_activation activation, float z, bool reduced) {
  const float a = formula_activate(activation, z);
  if (activation != DESCENT_ACTIVATION_TANH) return a;
  const float off = a * (1 + 0.99F * 0x1p-11F * static_cast<float>(reduced ? manner.tanh : 0));
  return std::fmin(std::fmax(off, -1.0F), 1.0F);
}

inline float slope(descent_activation activation, float a, float z) {
  return formula_slope(activation, slope_is_from_z(activation) ? z : a);
}

inline void dense_forward(backend_program *program, const plan_op &op, const plan_step &step) {
  const plan &p = *program->plan;
  const plan_dense_forward &f = op.forward;
  const double *A_in = reference_values(program, f.A_in), *W = reference_values(program, f.parameters) + f.W;
  const double *bias = reference_values(program, f.parameters) + f.b;
  double *A = reference_values(program, f.A), *Z = reference_values(program, f.Z);
  const bool reduced = plan_is_bf16(&p, f.A);
  for (int64_t r = 0; r < step.rows; r++)
    for (int64_t j = 0; j < f.n_out; j++) {
      float b = static_cast<float>(bias[j]);
      if (reduced && manner.bias_in_bf16) b = to_bf16(b);
      const bool apart = reduced && manner.way == APART;
      float z = dot(p, A_in + r * f.n_in, 1, W + j * f.n_in, 1, f.n_in, apart ? 0 : b);
      if (reduced && manner.way != TOGETHER) z = to_bf16(z);
      if (apart) z += b;
      if (manner.fault == SUMS_STORED_CUT) z = cut(z, 16);
      const int64_t rj = r * f.n_out + j;
      const float factor = static_cast<float>(reference_dropout(&p, &step, op.layer, f.n_out, f.dropout, rj));
      if (Z) Z[rj] = z;
      A[rj] = factor == 0 ? 0 : activated(f.activation, z, reduced) * factor;
    }
}

inline void dense_backward_weights(backend_program *program, const plan_op &op, const plan_step &step) {
  const plan &p = *program->plan;
  const plan_dense_backward_weights &w = op.weights;
  const double *dZ = reference_values(program, w.dZ), *A_in = reference_values(program, w.A_in);
  double *gradients = reference_values(program, w.gradients);
  for (int64_t j = 0; j < w.n_out; j++) {
    float db = 0;
    for (int64_t r = 0; r < step.rows; r++) db += static_cast<float>(dZ[r * w.n_out + j]);
    gradients[w.b + j] = db;
    for (int64_t i = 0; i < w.n_in; i++) {
      const float dW = dot(p, dZ + j, w.n_out, A_in + i, w.n_in, step.rows, 0);
      gradients[w.W + j * w.n_in + i] = manner.fault == SUMS_STORED_CUT ? cut(dW, 16) : dW;
    }
  }
}

inline void dense_backward_input(backend_program *program, const plan_op &op, const plan_step &step) {
  const plan &p = *program->plan;
  const plan_dense_backward_input &d = op.input;
  const double *dZ = reference_values(program, d.dZ), *W = reference_values(program, d.parameters) + d.W;
  const double *A = reference_values(program, d.A), *Z = reference_values(program, d.Z);
  double *dZ_below = reference_values(program, d.dZ_below);
  const float keep_probability = static_cast<float>(1 - d.dropout);
  for (int64_t r = 0; r < step.rows; r++)
    for (int64_t i = 0; i < d.n_in; i++) {
      float product = dot(p, dZ + r * d.n_out, 1, W + i, d.n_in, d.n_out, 0);
      if (p.precision == DESCENT_PRECISION_BF16 && manner.way != TOGETHER) product = to_bf16(product);
      const int64_t ri = r * d.n_in + i;
      const float factor = static_cast<float>(reference_dropout(&p, &step, op.layer - 1, d.n_in, d.dropout, ri));
      const float g =
          slope(d.activation, static_cast<float>(A[ri]) * keep_probability, static_cast<float>(Z ? Z[ri] : 0));
      dZ_below[ri] = factor == 0 ? 0 : product * g * factor;
    }
}

/* ---- the table ---- */

/* Every float32 buffer holds what its type can. */
inline void round_buffers(backend_program *program) {
  const plan &p = *program->plan;
  for (int b = 0; b < p.n_buffers; b++) {
    double *values = reference_values(program, b);
    if (!values || p.buffers[b].type != PLAN_F32) continue;
    const bool reduced = plan_is_bf16(&p, b);
    for (int64_t i = 0; i < p.buffers[b].rows * p.buffers[b].cols; i++) {
      const float x = static_cast<float>(values[i]);
      values[i] = static_cast<double>(reduced ? stored(x) : x);
    }
  }
}

inline descent_status run_op(backend_program *program, int index, const plan_step &step) {
  const plan_op &op = program->plan->ops[index];
  descent_status status = DESCENT_OK;
  switch (op.kind) {
    case OP_DENSE_FORWARD: dense_forward(program, op, step); break;
    case OP_DENSE_BACKWARD_WEIGHTS: dense_backward_weights(program, op, step); break;
    case OP_DENSE_BACKWARD_INPUT: dense_backward_input(program, op, step); break;
    default: status = backend_reference.run(program, plan_range{index, 1}, &step, 1);
  }
  round_buffers(program);
  return status;
}

inline descent_status run(backend_program *program, plan_range range, const plan_step *steps, int64_t n_steps) {
  descent_status status = DESCENT_OK;
  for (int64_t s = 0; s < n_steps; s++)
    for (int i = 0; i < range.count && status == DESCENT_OK; i++) status = run_op(program, range.first + i, steps[s]);
  return status;
}

inline descent_status write(backend_program *program, int buffer, int64_t offset, int64_t count, plan_type type,
                            const void *data) {
  const descent_status status = backend_reference.write(program, buffer, offset, count, type, data);
  if (status == DESCENT_OK) round_buffers(program);
  return status;
}

/* As `fused_with` of a device that computes the layers of a range together: from the first forward operation to the last
 * one before gradients are combined or their norm is taken. */
inline int fused_with(backend_program *program, plan_range range, int op) {
  const plan &p = *program->plan;
  const plan_op_kind kind = p.ops[op].kind;
  if (range.count < 2 || kind == OP_GATHER || kind == OP_COMBINE || kind == OP_GRADIENT_NORM) return op;
  for (int i = range.first; i < op; i++)
    if (p.ops[i].kind == OP_DENSE_FORWARD) return i;
  return op;
}

inline const backend &table() {
  static const backend made = [] {
    backend b = backend_reference;
    b.name = "simulated";
    b.run = run;
    b.write = write;
    return b;
  }();
  return made;
}

}  // namespace simulated

#endif
