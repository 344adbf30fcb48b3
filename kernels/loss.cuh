// The losses of a row: shared by the pass (loss.cu) and by kernels that compute the logits themselves.
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

// ---- softmax ----

// What the loss of a row is computed from. The threads of a row keep one each, until all have one.
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

#endif
