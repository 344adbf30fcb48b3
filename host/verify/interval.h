/* Interval arithmetic for float32: an interval contains the exact value and every value that a computation in float32
 * may give. Each operation is exact on the intervals and then widened by its rounding. The roundings to bf16 and tf32
 * are exact to the bit. */
#ifndef DESCENT_VERIFY_INTERVAL_H
#define DESCENT_VERIFY_INTERVAL_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

struct interval {
  double lo, hi;
};

/* The unit round-off of float32. The factor 1 + 2^-20 covers the rounding of the reference and of the bounds, which do
 * the same operations in double, with a unit 2^-29 times as large. */
#define INTERVAL_U (0x1p-24 * (1 + 0x1p-20))
#define INTERVAL_U64 0x1p-53
/* The smallest positive float32: the largest error of a result below the normal range, in any rounding mode. */
#define INTERVAL_ETA 0x1p-149

/* The relative error of k successive roundings; also the error of a sum or dot product of length k, in any order,
 * relative to the sum of absolute terms (Higham 2002, lemma 3.1 and section 3.1). */
static inline double interval_gamma(double k) {
  return k * INTERVAL_U < 1 ? k * INTERVAL_U / (1 - k * INTERVAL_U) : INFINITY;
}
static inline double interval_gamma64(double k) { return k * INTERVAL_U64 / (1 - k * INTERVAL_U64); }

static inline struct interval interval_exact(double x) { return (struct interval){x, x}; }
static inline struct interval interval_around(double x, double error) {
  return (struct interval){x - error, x + error};
}
static inline struct interval interval_negated(struct interval x) { return (struct interval){-x.hi, -x.lo}; }

/* The largest magnitude that a computation with a relative error of `relative` and an absolute error of `etas`
 * INTERVAL_ETA may give. Far below half of the smallest float32 the result is 0; above the largest it is infinite. */
static inline double interval_outward(double magnitude, double relative, double etas) {
  if (magnitude < 0x1p-151) return 0;
  const double outward = magnitude + magnitude * relative + etas * INTERVAL_ETA;
  return outward > (double)FLT_MAX ? INFINITY : outward;
}

/* The smallest such magnitude; rounding does not change a sign. */
static inline double interval_inward(double magnitude, double relative, double etas) {
  const double inward = magnitude - magnitude * relative - etas * INTERVAL_ETA;
  return inward > 0 ? inward : 0;
}

static inline struct interval interval_widened(struct interval x, double relative, double etas) {
  return (struct interval){
      x.lo < 0 ? -interval_outward(-x.lo, relative, etas) : interval_inward(x.lo, relative, etas),
      x.hi > 0 ? interval_outward(x.hi, relative, etas) : -interval_inward(-x.hi, relative, etas),
  };
}

/* After k roundings. */
static inline struct interval interval_rounded(struct interval x, int k) {
  return interval_widened(x, interval_gamma(k), k);
}

/* A constant computed in double and rounded once to float32. */
static inline struct interval interval_constant(double x) {
  return (double)(float)x == x ? interval_exact(x) : interval_rounded(interval_exact(x), 1);
}

static inline struct interval interval_add(struct interval a, struct interval b) {
  return interval_rounded((struct interval){a.lo + b.lo, a.hi + b.hi}, 1);
}

static inline struct interval interval_sub(struct interval a, struct interval b) {
  return interval_add(a, interval_negated(b));
}

/* The product without its rounding. */
static inline struct interval interval_times(struct interval a, struct interval b) {
  const double p = a.lo * b.lo, q = a.lo * b.hi, r = a.hi * b.lo, s = a.hi * b.hi;
  if (isnan(p + q + r + s)) return (struct interval){-INFINITY, INFINITY};
  return (struct interval){fmin(fmin(p, q), fmin(r, s)), fmax(fmax(p, q), fmax(r, s))};
}

static inline struct interval interval_mul(struct interval a, struct interval b) {
  return interval_rounded(interval_times(a, b), 1);
}

/* The quotient without its rounding; unbounded if the divisor may be 0. */
static inline struct interval interval_over(struct interval a, struct interval b) {
  if (b.lo <= 0 && b.hi >= 0) return (struct interval){-INFINITY, INFINITY};
  return interval_times(a, (struct interval){1 / b.hi, 1 / b.lo});
}

static inline struct interval interval_div(struct interval a, struct interval b) {
  return interval_rounded(interval_over(a, b), 1);
}

/* Of a value that is not negative in exact arithmetic. */
static inline struct interval interval_sqrt(struct interval x) {
  return interval_rounded((struct interval){sqrt(fmax(x.lo, 0)), sqrt(fmax(x.hi, 0))}, 1);
}

/* |x|. */
static inline struct interval interval_magnitude(struct interval x) {
  const double a = fabs(x.lo), b = fabs(x.hi);
  return (struct interval){x.lo < 0 && x.hi > 0 ? 0 : fmin(a, b), fmax(a, b)};
}

/* The smallest interval that contains both. */
static inline struct interval interval_hull(struct interval a, struct interval b) {
  return (struct interval){fmin(a.lo, b.lo), fmax(a.hi, b.hi)};
}

/* x with the lowest `bits` bits of its significand set to 0, after adding `more` to the bits of x. */
static inline double interval_cut(double x, int bits, uint64_t more) {
  uint64_t word;
  memcpy(&word, &x, sizeof word);
  word = (word + more) & ~((UINT64_C(1) << bits) - 1);
  memcpy(&x, &word, sizeof x);
  return x;
}

/* The bf16 nearest to x, ties to even: 8 significant bits; below 2^-126, multiples of 2^-133; infinite if x is nearer
 * to 2^128 than to the largest bf16. */
static inline double interval_bf16(double x) {
  enum { CUT = 52 - 7 };
  if (!isfinite(x)) return x;
  if (fabs(x) < 0x1p-126)
    return copysign((x + 0x1.8p-81) - 0x1.8p-81, x); /* doubles near 1.5 * 2^-81 are 2^-133 apart */
  uint64_t word;
  memcpy(&word, &x, sizeof word);
  const double nearest = interval_cut(x, CUT, (UINT64_C(1) << (CUT - 1)) - 1 + (word >> CUT & 1));
  return fabs(nearest) < 0x1p128 ? nearest : copysign(INFINITY, x);
}

/* Rounding and truncation are monotone, so the rounded ends bound the rounded values. */
static inline struct interval interval_to_bf16(struct interval x) {
  return (struct interval){interval_bf16(x.lo), interval_bf16(x.hi)};
}

/* x as an operand in tf32, truncated to 11 significant bits (below 2^-126, to multiples of 2^-136). */
static inline double interval_tf32(double x) {
  enum { CUT = 52 - 10 };
  if (!isfinite(x)) return x;
  return fabs(x) < 0x1p-126 ? trunc(x * 0x1p136) * 0x1p-136 : interval_cut(x, CUT, 0);
}
static inline struct interval interval_to_tf32(struct interval x) {
  return (struct interval){interval_tf32(x.lo), interval_tf32(x.hi)};
}

/* The error of the truncation, which is at least that of rounding to nearest. */
static inline double interval_tf32_error(double x) { return isfinite(x) ? fabs(x - interval_tf32(x)) : 0; }

/* NaN if the interval is unbounded. */
static inline double interval_middle(struct interval x) { return x.lo + (x.hi - x.lo) / 2; }

/* The largest distance of a computed value from `exact`; infinite (no check) if the computation may overflow. */
static inline double interval_bound(struct interval x, double exact) {
  const double bound = fmax(x.hi - exact, exact - x.lo);
  return isnan(x.lo + x.hi) || isnan(exact) ? INFINITY : fmax(bound, 0);
}

#endif
