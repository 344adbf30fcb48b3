/* The loops behind struct kernels; included by one file per instruction set, which names its table in KERNELS_TABLE and
 * the set in KERNELS_NAME. */
#include <stddef.h>
#include <string.h>

#include "backend/cpu/kernels.h"
#include "core/rng.h"

enum { CHUNK = 256 };

/* ---- sums: 4 x 8 lanes of double, folded in a fixed order, then the remainder ------------------------------ */

typedef float float8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double double8 __attribute__((vector_size(64)));
typedef double double8_loose __attribute__((vector_size(64), aligned(8), may_alias));

#define LOAD8(p) __builtin_convertvector(*(const float8 *)(p), double8)

/* `lane` gives the summand of 8 elements from j, `single` that of element j. */
#define SUM(n, lane, single)                                                                \
  double8 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};                                           \
  int64_t i = 0;                                                                            \
  for (; i + 32 <= (n); i += 32) {                                                          \
    s0 += lane(i);                                                                          \
    s1 += lane(i + 8);                                                                      \
    s2 += lane(i + 16);                                                                     \
    s3 += lane(i + 24);                                                                     \
  }                                                                                         \
  for (; i + 8 <= (n); i += 8) s0 += lane(i);                                               \
  s0 = (s0 + s1) + (s2 + s3);                                                               \
  double total = ((s0[0] + s0[4]) + (s0[2] + s0[6])) + ((s0[1] + s0[5]) + (s0[3] + s0[7])); \
  for (; i < (n); i++) total += single(i);                                                  \
  return total

static double kernel_sum(const float *x, int64_t n) {
#define LANE(j) LOAD8(x + (j))
#define SINGLE(j) (double)x[j]
  SUM(n, LANE, SINGLE);
#undef LANE
#undef SINGLE
}

static double kernel_sum_squares(const float *x, int64_t n) {
#define LANE(j) (LOAD8(x + (j)) * LOAD8(x + (j)))
#define SINGLE(j) ((double)x[j] * (double)x[j])
  SUM(n, LANE, SINGLE);
#undef LANE
#undef SINGLE
}

static double kernel_sum_squares_about(const float *x, double centre, int64_t n) {
#define LANE(j) ((LOAD8(x + (j)) - centre) * (LOAD8(x + (j)) - centre))
#define SINGLE(j) (((double)x[j] - centre) * ((double)x[j] - centre))
  SUM(n, LANE, SINGLE);
#undef LANE
#undef SINGLE
}

static double kernel_sum_squared_differences(const float *x, const float *y, int64_t n) {
#define LANE(j) ((LOAD8(x + (j)) - LOAD8(y + (j))) * (LOAD8(x + (j)) - LOAD8(y + (j))))
#define SINGLE(j) (((double)x[j] - (double)y[j]) * ((double)x[j] - (double)y[j]))
  SUM(n, LANE, SINGLE);
#undef LANE
#undef SINGLE
}

static void kernel_add(const float *restrict x, float *restrict out, int64_t n) {
  for (int64_t j = 0; j < n; j++) out[j] += x[j];
}

static void kernel_column_sums(const float *restrict dZ, int64_t rows, int64_t stride, float *restrict out, int64_t n) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, dZ += 4 * stride)
    for (int64_t j = 0; j < n; j++) out[j] += (dZ[j] + dZ[stride + j]) + (dZ[2 * stride + j] + dZ[3 * stride + j]);
  for (; r < rows; r++, dZ += stride)
    for (int64_t j = 0; j < n; j++) out[j] += dZ[j];
}

/* ---- activations ------------------------------------------------------------------------------------------------- */

/* One loop per activation, so that it is a constant in the loop. */

static void forward_in_place(descent_activation activation, const float *restrict bias, float *restrict A, int64_t n) {
  switch (activation) {
#define CASE(NAME, text)                                                                                \
  case DESCENT_ACTIVATION_##NAME:                                                                       \
    for (int64_t j = 0; j < n; j++) A[j] = formula_activate(DESCENT_ACTIVATION_##NAME, A[j] + bias[j]); \
    break;
    DESCENT_ACTIVATION_MAP(CASE)
#undef CASE
  }
}

static void forward_keeping(descent_activation activation, const float *restrict bias, float *restrict Z,
                            float *restrict A, int64_t n) {
  switch (activation) {
#define CASE(NAME, text)                                     \
  case DESCENT_ACTIVATION_##NAME:                            \
    for (int64_t j = 0; j < n; j++) {                        \
      const float z = Z[j] + bias[j];                        \
      Z[j] = z;                                              \
      A[j] = formula_activate(DESCENT_ACTIVATION_##NAME, z); \
    }                                                        \
    break;
    DESCENT_ACTIVATION_MAP(CASE)
#undef CASE
  }
}

static void kernel_forward(descent_activation activation, const float *bias, float *Z, float *A, int64_t n) {
  if (Z == A)
    forward_in_place(activation, bias, A, n);
  else
    forward_keeping(activation, bias, Z, A, n);
}

static void kernel_backward(descent_activation activation, const float *restrict A, const float *restrict Z,
                            float keep_probability, float *restrict dZ, int64_t n) {
  if (activation == DESCENT_ACTIVATION_IDENTITY) return;
  switch (activation) {
#define CASE(NAME, text)                                                                                          \
  case DESCENT_ACTIVATION_##NAME:                                                                                 \
    if (slope_is_from_z(DESCENT_ACTIVATION_##NAME))                                                               \
      for (int64_t j = 0; j < n; j++) dZ[j] *= formula_slope(DESCENT_ACTIVATION_##NAME, Z[j]);                    \
    else                                                                                                          \
      for (int64_t j = 0; j < n; j++) dZ[j] *= formula_slope(DESCENT_ACTIVATION_##NAME, A[j] * keep_probability); \
    break;
    DESCENT_ACTIVATION_MAP(CASE)
#undef CASE
  }
}

static void kernel_sigmoid(const float *restrict z, float *restrict a, int64_t n) {
  for (int64_t j = 0; j < n; j++) a[j] = formula_sigmoid(z[j]);
}

/* ---- dropout: Philox 4x32-10 on a block of counters side by side, the same words as rng_word --------------------- */

enum { LANES = 64, WORDS = 4 * LANES };

/* One round on the counter c0 .. c3 with the key advanced `round` times. All ten rounds are unrolled, so that the loop
 * over counters is the innermost one and vectorises. */
#define PHILOX_ROUND(round)                                                          \
  {                                                                                  \
    const uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u; \
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ (k0 + (round)*0x9E3779B9u);                     \
    c1 = (uint32_t)p1;                                                               \
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ (k1 + (round)*0xBB67AE85u);                     \
    c3 = (uint32_t)p0;                                                               \
  }

/* Words 4 block .. 4 (block + LANES) - 1 of the stream of `dropout`. */
static void philox_words(const struct kernel_dropout *dropout, uint64_t block, uint32_t *restrict words) {
  const uint32_t k0 = (uint32_t)dropout->seed, k1 = (uint32_t)(dropout->seed >> 32);
  const uint32_t step0 = (uint32_t)dropout->step, step1 = (uint32_t)(dropout->step >> 32 & 0xffff);
  const uint32_t purpose = (uint32_t)RNG_DROPOUT << 24 | (dropout->layer & 0xffffff);
  for (uint32_t i = 0; i < LANES; i++) {
    const uint32_t low = (uint32_t)block + i;
    const uint32_t high = (uint32_t)(block >> 32) + (low < i); /* the carry */
    uint32_t c0 = low, c1 = step0, c2 = high << 16 | step1, c3 = purpose;
    PHILOX_ROUND(0u)
    PHILOX_ROUND(1u)
    PHILOX_ROUND(2u)
    PHILOX_ROUND(3u)
    PHILOX_ROUND(4u)
    PHILOX_ROUND(5u)
    PHILOX_ROUND(6u)
    PHILOX_ROUND(7u)
    PHILOX_ROUND(8u)
    PHILOX_ROUND(9u)
    words[4 * i] = c0;
    words[4 * i + 1] = c1;
    words[4 * i + 2] = c2;
    words[4 * i + 3] = c3;
  }
}

static void kernel_dropout(const struct kernel_dropout *dropout, int64_t first, float *restrict values, int64_t n) {
  const uint32_t threshold = dropout->threshold;
  const float dropout_scale = dropout->dropout_scale;
  first += dropout->offset;
  for (int64_t j = 0; j < n;) {
    uint32_t words[WORDS];
    const int64_t skipped = (first + j) % 4; /* words of the first block that belong to earlier values */
    philox_words(dropout, (uint64_t)(first + j) / 4, words);
    int64_t count = WORDS - skipped;
    if (count > n - j) count = n - j;
    for (int64_t i = 0; i < count; i++)
      values[j + i] = formula_dropout(values[j + i], words[skipped + i], threshold, dropout_scale);
    j += count;
  }
}

/* ---- the keyed permutation, a block of indices side by side ---- */

/* One pass of the Feistel network over all indices that are still out of range, which are then compacted. */
static void kernel_permute(const struct permutation *order, int64_t first, int64_t *restrict rows, int64_t n) {
  const uint32_t mask = (uint32_t)((UINT64_C(1) << order->half_bits) - 1);
  uint32_t left[LANES], right[LANES];
  int64_t slot[LANES];
  for (int64_t begin = 0; begin < n; begin += LANES) {
    int64_t count = n - begin < LANES ? n - begin : LANES;
    for (int64_t j = 0; j < count; j++) {
      const uint64_t i = (uint64_t)(first + begin + j);
      left[j] = (uint32_t)(i >> order->half_bits);
      right[j] = (uint32_t)i & mask;
      slot[j] = begin + j;
    }
    while (count > 0) {
      for (int round = 0; round < PERMUTATION_ROUNDS; round++)
        for (int64_t j = 0; j < count; j++) {
          const uint32_t next = left[j] ^ (permutation_mix(right[j] ^ order->keys[round]) & mask);
          left[j] = right[j];
          right[j] = next;
        }
      int64_t out_of_range = 0;
      for (int64_t j = 0; j < count; j++) { /* branch-free: branches would be mispredicted */
        const uint64_t i = (uint64_t)left[j] << order->half_bits | right[j];
        rows[slot[j]] = (int64_t)i;
        left[out_of_range] = left[j];
        right[out_of_range] = right[j];
        slot[out_of_range] = slot[j];
        out_of_range += i >= order->n;
      }
      count = out_of_range;
    }
  }
}

/* ---- input and output -------------------------------------------------------------------------------------------- */

static void kernel_normalise(const float *restrict x, const float *restrict shift, const float *restrict scale,
                             float *restrict out, int64_t n) {
  for (int64_t j = 0; j < n; j++) out[j] = formula_normalise(x[j], shift ? shift[j] : 0.0f, scale ? scale[j] : 1.0f);
}

static void kernel_normalise_bytes(const uint8_t *restrict x, const float *restrict shift, const float *restrict scale,
                                   float *restrict out, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    out[j] = formula_normalise((float)x[j], shift ? shift[j] : 0.0f, scale ? scale[j] : 1.0f);
}

static void kernel_impute(const float *restrict x, const float *restrict fill, const float *restrict shift,
                          const float *restrict scale, float *restrict out, int64_t n) {
  for (int64_t j = 0; j < n; j++)
    out[j] = formula_normalise(formula_impute(x[j], fill[j]), shift ? shift[j] : 0.0f, scale ? scale[j] : 1.0f);
}

static void kernel_denormalise(const float *restrict a, const float *restrict shift, const float *restrict scale,
                               float *restrict out, int64_t n) {
  for (int64_t j = 0; j < n; j++) out[j] = formula_denormalise(a[j], shift ? shift[j] : 0.0f, scale ? scale[j] : 1.0f);
}

/* ---- update ------------------------------------------------------------------------------------------------------ */

static void kernel_update(enum update_rule rule, const struct update_coefficients_f32 *coefficients, float *restrict w,
                          const float *restrict gradient, float *restrict moment1, float *restrict moment2, int64_t n) {
  const struct update_coefficients_f32 c = *coefficients; /* a copy, which cannot alias the stores */
#define LOOP(updated) \
  for (int64_t j = 0; j < n; j++) w[j] = updated
  switch (rule) {
    case UPDATE_GD: LOOP(formula_gd_f32(&c, w[j], gradient[j])); break;
    case UPDATE_MOMENTUM: LOOP(formula_momentum_f32(&c, w[j], gradient[j], &moment1[j])); break;
    case UPDATE_NESTEROV: LOOP(formula_nesterov_f32(&c, w[j], gradient[j], &moment1[j])); break;
    case UPDATE_RMSPROP: LOOP(formula_rmsprop_f32(&c, w[j], gradient[j], &moment2[j])); break;
    case UPDATE_RMSPROP_MOMENTUM:
      LOOP(formula_rmsprop_momentum_f32(&c, w[j], gradient[j], &moment1[j], &moment2[j]));
      break;
    case UPDATE_ADAM: LOOP(formula_adam_f32(&c, w[j], gradient[j], &moment1[j], &moment2[j])); break;
    case UPDATE_LARS: LOOP(formula_lars_f32(&c, w[j], gradient[j], &moment1[j])); break;
    case UPDATE_LAMB: LOOP(formula_lamb_f32(&c, w[j], gradient[j], &moment1[j], &moment2[j])); break;
  }
#undef LOOP
}

static void kernel_trust_terms(enum update_rule rule, const struct update_coefficients_f32 *coefficients,
                               const float *restrict w, const float *restrict gradient, const float *restrict moment1,
                               const float *restrict moment2, float *restrict out, int64_t n) {
  const struct update_coefficients_f32 c = *coefficients; /* a copy, which cannot alias the stores */
  if (rule == UPDATE_LAMB)
    for (int64_t j = 0; j < n; j++)
      out[j] = formula_trust_term_f32(UPDATE_LAMB, &c, w[j], gradient[j], moment1[j], moment2[j]);
  else
    for (int64_t j = 0; j < n; j++) out[j] = formula_trust_term_f32(UPDATE_LARS, &c, w[j], gradient[j], 0, 0);
}

#include "backend/cpu/kernels_loss.h"
#include "backend/cpu/kernels_product.h"

const struct kernels KERNELS_TABLE = {
    .name = KERNELS_NAME,
    .product = kernel_product,
    .combine = kernel_combine,
    .combine_rows = COMBINE_ROWS,
    .forward = kernel_forward,
    .backward = kernel_backward,
    .dropout = kernel_dropout,
    .permute = kernel_permute,
    .normalise = kernel_normalise,
    .normalise_bytes = kernel_normalise_bytes,
    .impute = kernel_impute,
    .column_sums = kernel_column_sums,
    .add = kernel_add,
    .sum = kernel_sum,
    .sum_squares = kernel_sum_squares,
    .sum_squares_about = kernel_sum_squares_about,
    .sum_squared_differences = kernel_sum_squared_differences,
    .update = kernel_update,
    .trust_terms = kernel_trust_terms,
    .loss_binary = kernel_loss_binary,
    .loss_softmax = kernel_loss_softmax,
    .loss_squared = kernel_loss_squared,
    .sigmoid = kernel_sigmoid,
    .softmax = kernel_softmax,
    .denormalise = kernel_denormalise,
};
