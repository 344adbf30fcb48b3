/* The shape of a matrix product, and the same product for a column-major library. Pure functions. */
#ifndef DESCENT_KERNELS_PRODUCT_SHAPE_H
#define DESCENT_KERNELS_PRODUCT_SHAPE_H

#include <cublasLt.h>

#include "kernels.h"

/* The function applied to C before it is stored. n is C's width. */
enum epilogue {
  EPILOGUE_NONE,
  EPILOGUE_BIAS,               /* C + bias[j] */
  EPILOGUE_RELU_BIAS,          /* max(0, C + bias[j]); NaN becomes 0 */
  EPILOGUE_RELU_MASK_BIAS,     /* the same, and writes a bit per element: 1 if it was positive */
  EPILOGUE_MASKED,             /* C where the bit is set, else 0 (relu's derivative) */
  EPILOGUE_MASKED_COLUMN_SUMS, /* the same, and bias_gradient[j] = column sums of it */
  EPILOGUE_COLUMN_SUMS_A,      /* with transpose_a: bias_gradient[i] = sums over k of op(A)[i][k], i < m */
};

/* C (m, n) = op(A) (m, k) op(B) (k, n), all row-major; op transposes a matrix stored as (k, m) or (n, k). */
struct product_shape {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  int64_t lda, ldb, ldc; /* elements from row to row as stored */
  enum element operands; /* of A and B */
  enum element result;   /* of C */
  bool tf32;             /* operands F32: round them to tf32; false: IEEE float32 products */
  enum epilogue epilogue;
  enum element bias_element; /* of the bias read; bias gradients are float32 */
  int64_t mask_ld;           /* bits from row to row of the mask, a multiple of 128; 0 without one */
};
bool product_is_valid(const struct product_shape *shape);
bool product_has_bias(const struct product_shape *shape);     /* reads one */
bool product_has_mask(const struct product_shape *shape);     /* reads or writes one */
int64_t product_sum_count(const struct product_shape *shape); /* the sums written; 0: none */

/* The same product for a column-major library: a row-major matrix is the column-major transpose, so C^T = op(B)^T
 * op(A)^T and the operands change places. `x`, `y` and `d` are the library's A, B and D: x is the caller's B, y its A.
 */
struct product_mapping {
  int64_t m, n, k; /* D is (m, n) column-major */
  bool transpose_x, transpose_y;
  int64_t x_rows, x_cols, x_ld, y_rows, y_cols, y_ld, d_ld; /* as stored, column-major */
  cublasLtEpilogue_t epilogue;
};
struct product_mapping product_map(const struct product_shape *shape);

#endif
