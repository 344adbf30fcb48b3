/* The element-wise and row-wise loops of the cpu backend, compiled once per instruction set; open() picks a table.
 * Everything works on contiguous float32 arrays; every sum has an order fixed by the code, the same in each table but for
 * `product`, whose partial sums are the lanes of the set's vectors. */
#ifndef DESCENT_BACKEND_CPU_KERNELS_H
#define DESCENT_BACKEND_CPU_KERNELS_H

#include "backend/formulas.h"
#include "plan/plan.h"

struct permutation;

/* A dropout mask: rng_keep(seed, layer, step, offset + index, threshold). Kept values are multiplied by dropout_scale. */
struct kernel_dropout {
  uint64_t seed, step;
  int64_t offset; /* of the first row's first element within the step */
  uint32_t layer, threshold;
  float dropout_scale; /* 1 / (1 - p) */
};

/* The arguments of a loss over some rows: A, dZ (rows, n); dZ NULL: the sum only. */
struct kernel_loss {
  const float *A, *Z, *y, *w; /* y (rows, 1) class index or (rows, n) values; w (rows) */
  float *dZ;
  int64_t rows, n;
  double inverse_weight_sum; /* of the step's w; 0 where that is 0 */
  float label_smoothing;
  descent_activation activation;
};

enum { KERNEL_FEW_ROWS = 64 }; /* of a product without packing */

struct kernels {
  const char *name; /* of the instruction set */

  /* C (m, n) = A W^T for A (m, k), W (n, k) and m <= KERNEL_FEW_ROWS; ld*: row strides. */
  void (*product)(int64_t m, int64_t n, int64_t k, const float *A, int64_t lda, const float *W, int64_t ldw, float *C,
                  int64_t ldc);
  /* C (m, n) = S B for B (k, n), element (i, t) of S at S[i * row + t * column]. */
  void (*combine)(int64_t m, int64_t n, int64_t k, const float *S, int64_t row, int64_t column, const float *B,
                  int64_t ldb, float *C, int64_t ldc);
  int64_t combine_rows; /* of a step, up to which combine is faster than the BLAS; <= KERNEL_FEW_ROWS */

  /* z = Z[j] + bias[j], A[j] = g(z); Z keeps z unless it is A itself. */
  void (*forward)(descent_activation activation, const float *bias, float *Z, float *A, int64_t n);
  /* dZ[j] *= g', from Z where slope_is_from_z, else from a = A[j] * keep_probability. */
  void (*backward)(descent_activation activation, const float *A, const float *Z, float keep_probability, float *dZ,
                   int64_t n);
  /* values[j] = keep(first + j) ? values[j] * dropout_scale : 0. */
  void (*dropout)(const struct kernel_dropout *dropout, int64_t first, float *values, int64_t n);

  /* rows[j] = permutation_index(order, first + j). */
  void (*permute)(const struct permutation *order, int64_t first, int64_t *rows, int64_t n);
  /* out[j] = (x[j] - shift[j]) * scale[j]; shift and scale may be NULL, for 0 and 1. */
  void (*normalise)(const float *x, const float *shift, const float *scale, float *out, int64_t n);
  /* The same for bytes. */
  void (*normalise_bytes)(const uint8_t *x, const float *shift, const float *scale, float *out, int64_t n);
  /* As normalise, with fill[j] in place of a NaN in x. */
  void (*impute)(const float *x, const float *fill, const float *shift, const float *scale, float *out, int64_t n);
  /* out[j] += sum over rows of dZ[r * stride + j], j < n. */
  void (*column_sums)(const float *dZ, int64_t rows, int64_t stride, float *out, int64_t n);
  /* out[j] += x[j]. */
  void (*add)(const float *x, float *out, int64_t n);

  double (*sum)(const float *x, int64_t n);
  double (*sum_squares)(const float *x, int64_t n);
  /* Sum of (x[j] - centre)^2. */
  double (*sum_squares_about)(const float *x, double centre, int64_t n);
  double (*sum_squared_differences)(const float *x, const float *y, int64_t n);

  /* One step of the rule; moments that it does not use are NULL. */
  void (*update)(enum update_rule rule, const struct update_coefficients_f32 *coefficients, float *w,
                 const float *gradient, float *moment1, float *moment2, int64_t n);
  /* out[j] = formula_trust_term, of lars or lamb. */
  void (*trust_terms)(enum update_rule rule, const struct update_coefficients_f32 *coefficients, const float *w,
                      const float *gradient, const float *moment1, const float *moment2, float *out, int64_t n);

  /* Each returns sum over rows of w L and writes dZ = dJ/dZ. */
  double (*loss_binary)(const struct kernel_loss *loss);
  double (*loss_softmax)(const struct kernel_loss *loss);
  double (*loss_squared)(const struct kernel_loss *loss);

  void (*sigmoid)(const float *z, float *a, int64_t n);
  void (*softmax)(const float *z, float *a, int64_t rows, int64_t n);
  /* out[j] = a[j] / scale[j] + shift[j]; shift and scale may be NULL, for 0 and 1. */
  void (*denormalise)(const float *a, const float *shift, const float *scale, float *out, int64_t n);
};

extern const struct kernels kernels_baseline;
#ifdef __x86_64__
extern const struct kernels kernels_v3, kernels_v4;
#endif

#endif
