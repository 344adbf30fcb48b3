// Sums as exact as float64's without its operations in the loops: consumer GPUs have 1/64 of float32's.
//
// A thread adds in float32 and keeps the rounding error of each addition. Errors below, with u = 2^-24 and S the sum of
// the terms' absolute values; float64's unit is u^2 / 32, and a sum of n terms in float64 is within n u^2 / 32 S. So
// few terms are summed in float64 itself, which costs little then, and so are terms beyond float32's range.
#ifndef DESCENT_KERNELS_SUMS_CUH
#define DESCENT_KERNELS_SUMS_CUH

#include "common.cuh"

// The intrinsics are never contracted to a multiply-add, which would round elsewhere.
//
// a + b = the result + *error, exactly (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B).
static __device__ inline float two_sum(float a, float b, float *error) {
  const float sum = __fadd_rn(a, b), b_part = __fsub_rn(sum, a);
  *error = __fadd_rn(__fsub_rn(a, __fsub_rn(sum, b_part)), __fsub_rn(b, b_part));
  return sum;
}

struct precise_sum {
  float sum, rest, tail;  // together the sum of the chunks
  double outside;         // and of the terms that are outside float32's range
};

static __device__ inline double total(const struct precise_sum &s) {
  return (double)s.sum + (double)s.rest + (double)s.tail + s.outside;
}

// Adds COUNT values high + low, pair by pair; changes both. Where |low| <= l u |high|, each of the log2(COUNT) levels
// adds one u to l, and rounds twice by u of what low is then.
template <int COUNT>
static __device__ inline void add_pairs(float (&high)[COUNT], float (&low)[COUNT]) {
#pragma unroll
  for (int step = 1; step < COUNT; step *= 2) {
#pragma unroll
    for (int i = 0; i + step < COUNT; i += 2 * step) {
      float error;
      high[i] = two_sum(high[i], high[i + step], &error);
      low[i] = __fadd_rn(__fadd_rn(low[i], low[i + step]), error);
    }
  }
}

// Adds one more chunk. Rounds by u (u S + |low|); the rounding errors of the tail's additions are smaller by another
// factor u.
static __device__ inline void add_chunk(struct precise_sum &s, float high, float low) {
  float error, rest;
  s.sum = two_sum(s.sum, high, &error);
  s.rest = two_sum(s.rest, __fadd_rn(error, low), &rest);
  s.tail = __fadd_rn(s.tail, rest);
}

// A thread of T chunks adds with an error of at most (T + 42) u^2 S, see below. So sums of at least that many terms are
// as exact as float64's if no thread has more than 64 chunks, or more chunks than 1/64 of the terms.
enum { PRECISE_TERMS = 4096 };

// Adds the values. With COUNT <= 4, low is off by 5 u^2 S in all, and T chunks by (T + 8) u^2 S.
template <int COUNT>
static __device__ inline void add_values(struct precise_sum &s, const float (&x)[COUNT], bool in_double) {
  static_assert(COUNT <= 4, "the error above");
  float high[COUNT], low[COUNT] = {};
#pragma unroll
  for (int i = 0; i < COUNT; i++) high[i] = x[i];
  add_pairs(high, low);
  if (!in_double && fabsf(high[0]) <= 0x1p96f) {
    add_chunk(s, high[0], low[0]);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++) s.outside += (double)x[i];
  }
}

// Adds COUNT squares high + low; a chunk that may leave float32's range is added in double, from exact(i). Below 2^-80
// low would be too small for a float32; zeros, which are common, are in that range too and are skipped.
template <int COUNT, typename Exact>
static __device__ inline void add_squares_of(struct precise_sum &s, float (&high)[COUNT], float (&low)[COUNT],
                                             bool in_double, Exact exact) {
  static_assert(COUNT <= 8, "the error below");
  add_pairs(high, low);
  if (!in_double && high[0] >= 0x1p-80f && high[0] <= 0x1p96f) {
    add_chunk(s, high[0], low[0]);
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
      if (exact(i) != 0) s.outside += (double)exact(i) * (double)exact(i);
  }
}

// Adds the squares of x.
template <int COUNT>
static __device__ inline void add_squares(struct precise_sum &s, const float (&x)[COUNT], bool in_double) {
  float high[COUNT], low[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    high[i] = __fmul_rn(x[i], x[i]);
    low[i] = fmaf(x[i], x[i], -high[i]);
  }
  add_squares_of(s, high, low, in_double, [&](int i) { return x[i]; });
}

// Adds the squares of a - b. Each loses 4 u^2 by rounding and by omitting the square of the difference's rounding
// error; with COUNT <= 8, low is off by 30 u^2 S more, and T chunks by (T + 42) u^2 S in all.
template <int COUNT>
static __device__ inline void add_squared_distances(struct precise_sum &s, const float (&a)[COUNT],
                                                    const float (&b)[COUNT], bool in_double) {
  float high[COUNT], low[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    float rest;
    const float x = two_sum(a[i], -b[i], &rest);
    high[i] = __fmul_rn(x, x);
    low[i] = fmaf(2.0f * x, rest, fmaf(x, x, -high[i]));
  }
  add_squares_of(s, high, low, in_double, [&](int i) { return (double)a[i] - (double)b[i]; });
}

#endif
