/* The element-wise formulas, once for every backend that computes in float32: activations and their derivatives,
 * dropout, normalisation, the terms of the losses, the update rules. Branch-free over one float so that compilers
 * vectorise loops over them; plain C that CUDA compiles too.
 *
 * Every formula keeps NaN, has the right limits at infinity and overflows for no finite argument. They need no fused
 * multiply-add but gain from it. Errors below are the largest found over a stride through all floats
 * (cpu_formulas_test), in units of u = 2^-24 relative to the result (beside the rounding of subnormals). The
 * polynomials are minimax fits made for this file (linear programming over Chebyshev nodes, coefficients rounded to
 * float one after another and the rest refitted). */
#ifndef DESCENT_BACKEND_FORMULAS_H
#define DESCENT_BACKEND_FORMULAS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/half.h"
#include "core/terms.h"
#include "plan/plan.h"

#ifdef __CUDACC__
#define FORMULA static inline __host__ __device__
#else
#define FORMULA static inline __attribute__((always_inline))
#endif

/* x / y for 1 <= y <= 32. A target where division is slow may define a faster form. */
#ifndef FORMULA_QUOTIENT
#define FORMULA_QUOTIENT(x, y) ((x) / (y))
#endif

/* a b - c d and a b + c d, where the first product, or the second, may be fused with the other operation. A compiler
 * for GPUs fuses either, depending on what surrounds it; such a target defines them, so that all kernels give the same
 * bits. */
#ifndef FORMULA_FUSED_FIRST
#define FORMULA_FUSED_FIRST(a, b, c, d) ((a) * (b) - (c) * (d))
#define FORMULA_FUSED_SECOND(a, b, c, d) ((a) * (b) - (c) * (d))
#define FORMULA_FUSED_SUM_FIRST(a, b, c, d) ((a) * (b) + (c) * (d))
#define FORMULA_FUSED_SUM_SECOND(a, b, c, d) ((a) * (b) + (c) * (d))
#endif

/* 2^n for -126 <= n <= 127, n as two's complement. */
FORMULA float formula_power(uint32_t n) { return float_from_bits((n + 127) << 23); }

/* x = n ln 2 + r with |r| <= ln 2 / 2, for |x| < 2^21 ln 2; gives r and n. ln 2 is split so that n times the high part
 * is exact. */
FORMULA float formula_reduced(float x, uint32_t *n) {
  const float shifter = 0x1.8p23f; /* adding it rounds to an integer in the low mantissa bits */
  const float shifted = x * 0x1.715476p0f + shifter;
  const float rounded = shifted - shifter;
  *n = float_bits(shifted) - float_bits(shifter);
  return (x - rounded * 0x1.62e4p-1f) - rounded * 0x1.7f7d1cp-20f;
}

/* The same; gives expm1(r) and n. The fit, (expm1(r) - r) / r^2 in degree 4, is within 0.23 u of expm1(r) on
 * [-0.347, 0.347]. */
FORMULA float formula_reduced_expm1(float x, uint32_t *n) {
  const float r = formula_reduced(x, n);
  float p = 0x1.6b9ca4p-10f;
  p = p * r + 0x1.122560p-7f;
  p = p * r + 0x1.5556f2p-5f;
  p = p * r + 0x1.5554b4p-3f;
  p = p * r + 0x1.fffffep-2f;
  return p * (r * r) + r;
}

/* exp(x) within 1.4 u, through the subnormals down to 0 and up to infinity. */
FORMULA float formula_exp(float x) {
  x = x < -104.0f ? -104.0f : x;
  x = x > 89.0f ? 89.0f : x;
  uint32_t n;
  const float e = 1.0f + formula_reduced_expm1(x, &n);
  const uint32_t half = (uint32_t)((int32_t)n >> 1); /* 2^n itself need not be a normal float */
  return e * formula_power(half) * formula_power(n - half);
}

/* exp(x) 2^32 for x <= 0, within 1.7 u: a normal float even where exp(x) is none, so that one power of two suffices. For
 * x < -104, where exp(x) rounds to 0, and for NaN it is that of -104. The fit is that of formula_reduced_expm1. */
#define FORMULA_EXP_SCALE 0x1p32f
FORMULA float formula_scaled_exp(float x) {
  uint32_t n;
  const float r = formula_reduced(fmaxf(x, -104.0f), &n);
  float e = 0x1.6b9ca4p22f;
  e = e * r + 0x1.122560p25f;
  e = e * r + 0x1.5556f2p27f;
  e = e * r + 0x1.5554b4p29f;
  e = e * r + 0x1.fffffep30f;
  e = e * r + FORMULA_EXP_SCALE;
  e = e * r + FORMULA_EXP_SCALE;
  return float_from_bits(float_bits(e) + (n << 23));
}

/* 1 / (1 + exp(-z)), within 3 u. */
FORMULA float formula_sigmoid(float z) {
  const float e = formula_exp(-fabsf(z));
  return FORMULA_QUOTIENT(z < 0.0f ? e : 1.0f, 1.0f + e);
}

/* tanh |z| = -t / (2 + t) with t = expm1(-2 |z|), which keeps small arguments accurate: within 3 u. */
FORMULA float formula_tanh(float z) {
  float x = -2.0f * fabsf(z);
  x = x < -40.0f ? -40.0f : x;
  uint32_t n;
  const float q = formula_reduced_expm1(x, &n);
  const float scale = formula_power(n);
  const float t = scale * q + (scale - 1.0f);
  const float a = FORMULA_QUOTIENT(-t, 2.0f + t);
  return float_from_bits((float_bits(a) & 0x7fffffffu) | (float_bits(z) & 0x80000000u));
}

FORMULA float formula_relu(float z) { return z < 0.0f ? 0.0f : z; }
FORMULA float formula_leaky_relu(float z) { return z < 0.0f ? 0.01f * z : z; }

/* Phi(z) and phi(z) of the standard normal distribution: Phi(-t) = exp(-t^2/2) R(t) for t >= 0, where Mills' ratio R
 * (over sqrt(2 pi)) is a polynomial of degree 9 in (t - 3) / (t + 3) on [0, 14.5], within 0.04 u of Phi. */
FORMULA float formula_normal(float z, float *density) {
  float t = fabsf(z);
  t = t > 14.5f ? 14.5f : t;
  const float e = formula_exp(-0.5f * (t * t));
  const float v = FORMULA_QUOTIENT(t - 3.0f, t + 3.0f);
  float p = 4.97397387e-05f;
  p = p * v + 0.000108861972f;
  p = p * v + -0.000337995859f;
  p = p * v + -0.000977249111f;
  p = p * v + 0.00290523977f;
  p = p * v + 0.00612995139f;
  p = p * v + -0.0462136039f;
  p = p * v + 0.123225279f;
  p = p * v + -0.206402594f;
  p = p * v + 0.121513941f;
  const float tail = e * p;
  *density = 0.398942280f * e;
  return z < 0.0f ? tail : 1.0f - tail;
}

/* z Phi(z), within 2.8 u of |z|; the limit at minus infinity is 0. */
FORMULA float formula_gelu(float z) {
  float density;
  const float distribution = formula_normal(z, &density);
  return (z < -30.0f ? -30.0f : z) * distribution;
}

/* z sigmoid(z), within 3.5 u; the limit at minus infinity is 0. */
FORMULA float formula_silu(float z) { return (z < -120.0f ? -120.0f : z) * formula_sigmoid(z); }

/* log(1 + e) for 0 <= e <= 1 as 2 atanh(s), s = e / (2 + e): the fit in s^2 is within 0.08 u. */
FORMULA float formula_log1p(float e) {
  const float s = FORMULA_QUOTIENT(e, 2.0f + e), s2 = s * s;
  float p = 0x1.1ea030p-2f;
  p = p * s2 + 0x1.1ec9f2p-2f;
  p = p * s2 + 0x1.99d118p-2f;
  p = p * s2 + 0x1.555504p-1f;
  return p * (s2 * s) + 2.0f * s;
}

/* log(x) for normal x > 0, within 1.8 u of max(|log x|, 1/2): x = 2^n m with 2/3 <= m < 4/3, log m as above. */
FORMULA float formula_log(float x) {
  const uint32_t scale = (float_bits(x) - 0x3f2aaaabu) & 0xff800000u;
  const float m = float_from_bits(float_bits(x) - scale), n = (float)((int32_t)scale / (1 << 23));
  const float s = FORMULA_QUOTIENT(m - 1.0f, m + 1.0f), s2 = s * s;
  float p = 0x1.1ea030p-2f;
  p = p * s2 + 0x1.1ec9f2p-2f;
  p = p * s2 + 0x1.99d118p-2f;
  p = p * s2 + 0x1.555504p-1f;
  const float not_finite = x - x; /* 0, or NaN where x is not finite */
  return n * 0x1.62e4p-1f + (2.0f * s + (n * 0x1.7f7d1cp-20f + (p * (s2 * s) + not_finite)));
}

/* log(1 + exp(z)) - max(z, 0), in (0, log 2], within 3.5 u. */
FORMULA float formula_softplus_tail(float z) { return formula_log1p(formula_exp(-fabsf(z))); }

/* g' from a = g(z). */
FORMULA float formula_sigmoid_slope(float a) { return a * (1.0f - a); }
FORMULA float formula_tanh_slope(float a) { return (1.0f - a) * (1.0f + a); }
FORMULA float formula_relu_slope(float a) { return a > 0.0f ? 1.0f : 0.0f; }
FORMULA float formula_leaky_relu_slope(float a) { return a > 0.0f ? 1.0f : 0.01f; }

/* g' from z, within 3 u and 3.5 u of 1. Beyond the clamps the slope is exactly 0 or 1. */
FORMULA float formula_gelu_slope(float z) {
  float density;
  const float distribution = formula_normal(z, &density);
  z = z < -30.0f ? -30.0f : z;
  z = z > 30.0f ? 30.0f : z;
  return distribution + z * density;
}

/* a (1 + z (1 - a)), with 1 - a = sigmoid(-z) so that nothing cancels. */
FORMULA float formula_silu_slope(float z) {
  const float e = formula_exp(-fabsf(z)), inverse = FORMULA_QUOTIENT(1.0f, 1.0f + e);
  const float a = (z < 0.0f ? e : 1.0f) * inverse, rest = (z < 0.0f ? 1.0f : e) * inverse;
  z = z < -120.0f ? -120.0f : z;
  z = z > 120.0f ? 120.0f : z;
  return a * (1.0f + z * rest);
}

/* g(z). `activation` is a constant in every loop that calls this. */
FORMULA float formula_activate(descent_activation activation, float z) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: break;
    case DESCENT_ACTIVATION_SIGMOID: return formula_sigmoid(z);
    case DESCENT_ACTIVATION_TANH: return formula_tanh(z);
    case DESCENT_ACTIVATION_RELU: return formula_relu(z);
    case DESCENT_ACTIVATION_LEAKY_RELU: return formula_leaky_relu(z);
    case DESCENT_ACTIVATION_GELU: return formula_gelu(z);
    case DESCENT_ACTIVATION_SILU: return formula_silu(z);
  }
  return z;
}

/* g' from x, which is z where slope_is_from_z, else a = g(z). */
FORMULA float formula_slope(descent_activation activation, float x) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: break;
    case DESCENT_ACTIVATION_SIGMOID: return formula_sigmoid_slope(x);
    case DESCENT_ACTIVATION_TANH: return formula_tanh_slope(x);
    case DESCENT_ACTIVATION_RELU: return formula_relu_slope(x);
    case DESCENT_ACTIVATION_LEAKY_RELU: return formula_leaky_relu_slope(x);
    case DESCENT_ACTIVATION_GELU: return formula_gelu_slope(x);
    case DESCENT_ACTIVATION_SILU: return formula_silu_slope(x);
  }
  return 1.0f;
}

/* ---- dropout: Srivastava et al. (2014), with the scaling in training instead of in prediction ---- */

/* 1 - p: the probability that a unit is kept. A * keep_probability is g(z) again. */
static inline double formula_keep_probability(double dropout) { return 1 - dropout; }

/* The factor of the kept values. */
static inline double formula_dropout_scale(double dropout) { return 1 / (1 - dropout); }

/* x after dropout: `word` is the element's random word (rng.h), `threshold` is rng_drop_threshold(p). */
FORMULA float formula_dropout(float x, uint32_t word, uint32_t threshold, float dropout_scale) {
  return word >= threshold ? x * dropout_scale : 0.0f;
}

/* ---- inputs and targets ---- */

/* A missing cell is NaN and becomes `fill`. */
FORMULA float formula_impute(float x, float fill) { return x == x ? x : fill; }
FORMULA float formula_normalise(float x, float shift, float scale) { return (x - shift) * scale; }
FORMULA float formula_denormalise(float a, float shift, float scale) { return a / scale + shift; }

/* An example's weight times that of its class y. A class outside the table cannot come from a checked dataset; its
 * weight is NaN, so that nothing outside the table is read. */
FORMULA float formula_class_weighted(float w, const float *class_weight, int64_t classes, float y) {
  return w * (y >= 0.0f && y < (float)classes ? class_weight[(int64_t)y] : float_from_bits(0x7fc00000u));
}

/* ---- clipping: Pascanu et al. (2013), with PyTorch's 1e-6 ---- */

/* The factor of gradients that have this global norm; clip_norm 0: no clipping. */
FORMULA double formula_clip_factor(double clip_norm, double norm) {
  return clip_norm > 0 && clip_norm < norm + 1e-6 ? clip_norm / (norm + 1e-6) : 1;
}

/* ---- trust ratios ---- */

/* LAYER_TRUST from the norms of a layer's W and of its terms (formula_trust_term): LARS, You, Gitman and Ginsburg
 * (2017), equation 6; LAMB, You et al. (2020), algorithm 2. A ratio beyond float32 is its largest value: infinity times
 * a term that is 0 would be NaN. */
FORMULA double formula_trust_ratio(enum update_rule rule, double trust_coefficient, double weight_decay, double w_norm,
                                   double term_norm) {
  const double most = 0x1.fffffep127;
  const bool is_lars = rule == UPDATE_LARS;
  const double divisor = is_lars ? term_norm + weight_decay * w_norm : term_norm;
  if (w_norm == 0 || divisor == 0) return 1;
  const double ratio = (is_lars ? trust_coefficient : 1) * w_norm / divisor;
  return ratio > most ? most : ratio;
}

/* ---- gradients of the losses, dL/dz times f = w / sum w ---- */

/* (p - q) f: of the probability p and the target q, for sigmoid and softmax. */
FORMULA float formula_cross_entropy_slope(float p, float q, float f) { return (p - q) * f; }

/* ---- what exists in float32 and float64 ---- */

#define REAL float
#define REAL_SQRT sqrtf
#define REAL_QUOTIENT(x, y) ((x) / (y))
#define TYPED(name) name##_f32
#include "backend/formulas_real.h"
#undef REAL
#undef REAL_SQRT
#undef REAL_QUOTIENT
#undef TYPED

#define REAL double
#define REAL_SQRT sqrt
#define REAL_QUOTIENT(x, y) ((x) / (y))
#define TYPED(name) name##_f64
#include "backend/formulas_real.h"
#undef REAL
#undef REAL_SQRT
#undef REAL_QUOTIENT
#undef TYPED

#endif
