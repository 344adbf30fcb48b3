/* Row-major products in terms of a column-major library: bytes stay where they are, only their reading changes. What is
 * (rows, cols) row-major is (cols, rows) column-major with the same ld, hence transposed without moving anything. */
#include "product.h"

/* C's columns are D's rows: what runs along a row of C (a bias) runs down a column of D, as the library wants it. The
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
