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
// that those of neighbouring elements do not overlap. These have the first sequence alone, as the compiler emits it,
// and scale small operands into its range by powers of two. Where that does not suffice they give NaN.
//
// What remains of an operand may be subnormal; with -ftz=true it would be lost (kernels/CMakeLists.txt refuses that).

static __host__ __device__ inline float rounded_product(float x, float y) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(x, y);
#else
  return x * y;
#endif
}

// Both within 2 units in the last place (PTX ISA). A test has others.
struct hardware_approximation {
  static __host__ __device__ inline float inverse(float y) {
#ifdef __CUDA_ARCH__
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(y));
    return inverse;
#else
    return 1.0f / y;
#endif
  }
  static __host__ __device__ inline float inverse_root(float x) {
#ifdef __CUDA_ARCH__
    float inverse;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
    return inverse;
#else
    return 1.0f / sqrtf(x);
#endif
  }
};

// NaN for infinity.
template <class APPROXIMATION = struct hardware_approximation>
static __host__ __device__ inline float quick_root(float x) {
  const bool small = x < 0x1p-101f;
  const float scaled = rounded_product(x, small ? 0x1p64f : 1.0f), inverse = APPROXIMATION::inverse_root(scaled);
  const float near = rounded_product(scaled, inverse), half = rounded_product(0.5f, inverse);
  const float root = fmaf(fmaf(-near, near, scaled), half, near);
  return x == 0.0f ? x : rounded_product(root, small ? 0x1p-32f : 1.0f);
}

// y > 0. NaN for |x| > 2^60, for y outside [2^-60, 2^20], and for a quotient that is subnormal: it would be rounded
// twice.
template <class APPROXIMATION = struct hardware_approximation>
static __host__ __device__ inline float quick_quotient(float x, float y) {
  const float most_x = 0x1p60f, least_y = 0x1p-60f, most_y = 0x1p20f;
  const bool small = fabsf(x) < 0x1p-100f;
  const float scaled = rounded_product(x, small ? 0x1p64f : 1.0f);
  float inverse = APPROXIMATION::inverse(y);
  inverse = fmaf(inverse, fmaf(-y, inverse, 1.0f), inverse);
  const float near = rounded_product(scaled, inverse), exact = fmaf(inverse, fmaf(-y, near, scaled), near);
  const float quotient = rounded_product(exact, small ? 0x1p-64f : 1.0f);
  const bool inside = fabsf(x) <= most_x && y >= least_y && y <= most_y;
  const bool is_normal = !small || fabsf(exact) >= 0x1p-62f;
  return !inside ? NAN : x == 0.0f ? x : is_normal ? quotient : NAN;
}

// The rules with these: formula_update_quick gives the bits of formula_update_f32, or a parameter that is not finite.
#define REAL float
#define REAL_SQRT(x) quick_root<>(x)
#define REAL_QUOTIENT(x, y) quick_quotient<>(x, y)
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
