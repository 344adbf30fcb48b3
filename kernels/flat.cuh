// What the passes over the flat buffers (flat.cu) and the end of a small step (whole.cuh) share: what the norm decides, the
// metrics.
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

// What follows from a step's norm.
struct norm_result {
  double norm, clip;
  double bad_step;  // SCALAR_BAD_STEP from now on
};

// `squares`: of all gradients. `bad_step`: SCALAR_BAD_STEP so far.
static __device__ inline struct norm_result norm_result_of(const struct norm_launch &l, double squares, double loss,
                                                           bool bad_parameters, double bad_step) {
  struct norm_result r;
  r.norm = sqrt(squares);
  r.clip = formula_clip_factor(l.clip_norm, r.norm);
  const bool is_bad = !is_finite(r.norm) || !is_finite(loss) || bad_parameters;
  r.bad_step = is_bad && bad_step == 0 ? (double)l.state->current.number : bad_step;
  return r;
}

// Once per step, by one thread.
static __device__ inline void store_norm(const struct norm_launch &l, const struct norm_result &r) {
  l.scalars[SCALAR_GRADIENT_NORM] = r.norm;
  l.scalars[SCALAR_CLIP] = r.clip;
  l.scalars[SCALAR_BAD_STEP] = r.bad_step;
  if (l.metrics) add_step(l.scalars);
}

#endif
