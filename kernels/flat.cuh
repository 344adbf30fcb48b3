// Shared by the passes over the flat buffers (flat.cu) and the end of a small step (whole.cuh): the metrics, what the
// norm decides, the update rules.
#ifndef DESCENT_KERNELS_FLAT_CUH
#define DESCENT_KERNELS_FLAT_CUH

#include "sums.cuh"

static_assert(FLAT_TURN == 8 * BLOCK, "8 floats of each thread");
static_assert(FLAT_PIECE / FLAT_TURN <= 64, "chunks of a thread: see PRECISE_TERMS");

static __device__ inline void add_step(double *scalars) {
  if (scalars[SCALAR_BAD_STEP] != 0) return;
  scalars[SCALAR_TOTAL_LOSS] += scalars[SCALAR_LOSS] * scalars[SCALAR_WEIGHT_SUM];
  scalars[SCALAR_TOTAL_WEIGHT] += scalars[SCALAR_WEIGHT_SUM];
}

// ---- roots and quotients without branches ----
// A correctly rounded square root or quotient branches to a second sequence for operands near the ends of the range, so
// that those of neighbouring elements do not overlap. These have the first sequence alone, as the compiler emits it, and
// NaN instead of the second one.

static __host__ __device__ inline float quick_root(float x) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  const float near = __fmul_rn(x, inverse), half = __fmul_rn(0.5f, inverse);
  const float root = fmaf(fmaf(-near, near, x), half, near);
#else
  const float root = sqrtf(x);
#endif
  const bool inside = float_bits(x) - 0x0d000000u <= 0x727fffffu;  // 2^-101 to the largest float
  return inside ? root : x == 0.0f ? x : NAN;
}

// y > 0. A quotient of these operands, and what remains of x, are normal.
static __host__ __device__ inline float quick_quotient(float x, float y) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(y));
  inverse = fmaf(inverse, fmaf(-y, inverse, 1.0f), inverse);
  const float near = __fmul_rn(x, inverse), quotient = fmaf(inverse, fmaf(-y, near, x), near);
#else
  const float quotient = x / y;
#endif
  const float least_x = 0x1p-100f, most_x = 0x1p60f, least_y = 0x1p-60f, most_y = 0x1p20f, size = fabsf(x);
  const bool inside = (size >= least_x && size <= most_x) || float_bits(x) == 0;
  return inside && y >= least_y && y <= most_y ? quotient : NAN;
}

// The rules with these: formula_update_quick gives the bits of formula_update_f32, or a parameter that is not finite.
#define REAL float
#define REAL_SQRT quick_root
#define REAL_QUOTIENT quick_quotient
#define TYPED(name) name##_quick
#include "backend/formulas_real.h"
#undef REAL
#undef REAL_SQRT
#undef REAL_QUOTIENT
#undef TYPED

// ---- norm ----

// What follows from a step's norm.
struct norm_result {
  double norm, clip_factor;
  double bad_step;  // SCALAR_BAD_STEP from now on
};

// `squares`: of all gradients. `bad_step`: SCALAR_BAD_STEP so far.
static __device__ inline struct norm_result norm_result_of(const struct norm_launch &l, double squares, double loss,
                                                           bool bad_parameters, double bad_step) {
  struct norm_result r;
  r.norm = sqrt(squares);
  r.clip_factor = formula_clip_factor(l.clip_norm, r.norm);
  const bool is_bad = !is_finite(r.norm) || !is_finite(loss) || bad_parameters;
  r.bad_step = is_bad && bad_step == 0 ? (double)l.state->current.number : bad_step;
  return r;
}

// Once per step, by one thread.
static __device__ inline void store_norm(const struct norm_launch &l, const struct norm_result &r) {
  l.scalars[SCALAR_GRADIENT_NORM] = r.norm;
  l.scalars[SCALAR_CLIP] = r.clip_factor;
  l.scalars[SCALAR_BAD_STEP] = r.bad_step;
  if (l.metrics) add_step(l.scalars);
}

#endif
