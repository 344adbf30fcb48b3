// The losses of one row and their gradients: shared by the passes (loss.cu) and by kernels of several layers.
#ifndef DESCENT_KERNELS_LOSS_CUH
#define DESCENT_KERNELS_LOSS_CUH

#include "softmax.cuh"

// J from the sum of w L over the rows; divisor: the n of a mean over columns, or 1.
static __device__ inline double mean_loss(double sum, double divisor, double weight_sum) {
  return weight_sum == 0 ? 0 : sum / divisor / weight_sum;
}

// 1 / sum w in float32, without the double product per row of kernels_loss.h. w / sum w is rounded three times: the
// sum, its inverse, the product. Powers of two keep all three in float32's range.
struct inverse_weight_sum {
  float scale, inverse;
};

static __device__ inline struct inverse_weight_sum inverse_of(double weight_sum) {
  if (weight_sum == 0) return {0.0f, 0.0f};
  const float size = fabsf((float)weight_sum), scale = size > 0x1p96f ? 0x1p-64f : size < 0x1p-96f ? 0x1p64f : 1.0f;
  return {scale, 1.0f / (float)(weight_sum * (double)scale)};
}
static __device__ inline float weight_share(const struct inverse_weight_sum &inverse_weight_sum, float w) {
  return w * inverse_weight_sum.scale * inverse_weight_sum.inverse;
}

// The end of a loss's kernel: the scalar, from the threads' sums of w L.
static __device__ inline void finish_loss(double *scalars, struct scratch scratch, double divisor, double total,
                                          double weight_sum) {
  double sum;
  if (!grid_sum(total, scratch, &sum) || threadIdx.x != 0) return;
  scalars[SCALAR_LOSS] = mean_loss(sum, divisor, weight_sum);
}

// ---- squared error ----

struct sum_of_squares {
  float inside;
  double outside;  // the squares whose sum may exceed the range of float32
};

// errors = a - y of the columns, of which the first `left` are in the row; adds their squares.
template <int COUNT>
static __device__ inline void add_squared_errors(struct sum_of_squares &sum, const float (&a)[COUNT],
                                                 const float (&y)[COUNT], int left, float (&errors)[COUNT]) {
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    errors[i] = i < left ? a[i] - y[i] : 0.0f;
    squares = fmaf(errors[i], errors[i], squares);
  }
  if (squares <= 0x1p96f) {
    sum.inside += squares;
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++) sum.outside += (double)errors[i] * (double)errors[i];
  }
}

// ---- softmax ----

// What the loss of a row is computed from.
struct softmax_terms {
  float max, z_y, sum, distances, w;
};

static __device__ inline double softmax_loss(const struct softmax_terms &t, float s, float n) {
  const float log_sum = formula_log(t.sum), mean_distance = s > 0.0f ? t.distances / n : 0.0f;
  const float L = formula_softmax_loss_f32(log_sum, t.max - t.z_y, mean_distance, s);
  if (is_finite(L)) return (double)t.w * (double)L;
  const double distance = (double)t.max - (double)t.z_y;  // may exceed the range of float32
  return (double)t.w * formula_softmax_loss_f64((double)log_sum, distance, (double)mean_distance, (double)s);
}

// What the gradient of a row is computed from beside its exponentials.
struct softmax_targets {
  int label;  // its distance from the thread's first column
  float q_label, q_other, inverse, f;
};

// dZ of the columns at `distance` from the thread's first, from their scaled exponentials.
static __device__ inline void set_slopes(float (&e)[CHUNK], int distance, const struct softmax_targets &t) {
#pragma unroll
  for (int i = 0; i < CHUNK; i++)
    e[i] = formula_cross_entropy_slope(e[i] * t.inverse, t.label == distance + i ? t.q_label : t.q_other, t.f);
}

#endif
