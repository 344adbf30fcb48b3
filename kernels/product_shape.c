/* Row-major products in terms of a column-major library: a row-major (rows, cols) matrix is a column-major (cols, rows)
 * matrix with the same ld, that is, its transpose without a copy. */
#include "product_shape.h"

bool product_has_bias(const struct product_shape *shape) {
  return shape->epilogue == EPILOGUE_BIAS || shape->epilogue == EPILOGUE_RELU_BIAS ||
         shape->epilogue == EPILOGUE_RELU_MASK_BIAS;
}

bool product_has_mask(const struct product_shape *shape) {
  return shape->epilogue == EPILOGUE_RELU_MASK_BIAS || shape->epilogue == EPILOGUE_MASKED ||
         shape->epilogue == EPILOGUE_MASKED_COLUMN_SUMS;
}

int64_t product_sum_count(const struct product_shape *shape) {
  return shape->epilogue == EPILOGUE_MASKED_COLUMN_SUMS ? shape->n
         : shape->epilogue == EPILOGUE_COLUMN_SUMS_A    ? shape->m
                                                        : 0;
}

bool product_is_valid(const struct product_shape *s) {
  return s->m > 0 && s->n > 0 && s->k > 0 && s->lda >= (s->transpose_a ? s->m : s->k) &&
         s->ldb >= (s->transpose_b ? s->k : s->n) && s->ldc >= s->n &&
         (product_has_mask(s) ? s->mask_ld >= s->n && s->mask_ld % 128 == 0 : s->mask_ld == 0);
}

/* C's columns are D's rows: a vector along a row of C (a bias) runs down a column of D, as the library expects. The
 * caller's A is the library's B, so the sums of A are the library's BGRADB. */
static const cublasLtEpilogue_t EPILOGUES[] = {
    [EPILOGUE_NONE] = CUBLASLT_EPILOGUE_DEFAULT,         [EPILOGUE_BIAS] = CUBLASLT_EPILOGUE_BIAS,
    [EPILOGUE_RELU_BIAS] = CUBLASLT_EPILOGUE_RELU_BIAS,  [EPILOGUE_RELU_MASK_BIAS] = CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
    [EPILOGUE_MASKED] = CUBLASLT_EPILOGUE_DRELU,         [EPILOGUE_MASKED_COLUMN_SUMS] = CUBLASLT_EPILOGUE_DRELU_BGRAD,
    [EPILOGUE_COLUMN_SUMS_A] = CUBLASLT_EPILOGUE_BGRADB,
};

struct product_mapping product_map(const struct product_shape *shape) {
  const int64_t m = shape->m, n = shape->n, k = shape->k;
  return (struct product_mapping){
      .m = n,
      .n = m,
      .k = k,
      .transpose_x = shape->transpose_b,
      .transpose_y = shape->transpose_a,
      .x_rows = shape->transpose_b ? k : n,
      .x_cols = shape->transpose_b ? n : k,
      .x_ld = shape->ldb,
      .y_rows = shape->transpose_a ? m : k,
      .y_cols = shape->transpose_a ? k : m,
      .y_ld = shape->lda,
      .d_ld = shape->ldc,
      .epilogue = EPILOGUES[shape->epilogue],
  };
}
