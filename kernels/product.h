/* Matrix products through cuBLASLt: how a row-major product becomes a column-major one (a pure function), which
 * algorithm computes it (asked for, checked, timed once, remembered), and its launch. */
#ifndef DESCENT_KERNELS_PRODUCT_H
#define DESCENT_KERNELS_PRODUCT_H

#include <cublasLt.h>

#include "kernels.h"

/* What is done to C before it is stored. n is C's width. */
enum epilogue {
  EPILOGUE_NONE,
  EPILOGUE_BIAS,               /* C + bias[j] */
  EPILOGUE_RELU_BIAS,          /* max(0, C + bias[j]); NaN becomes 0 */
  EPILOGUE_RELU_MASK_BIAS,     /* the same, and a bit per element: was it positive? */
  EPILOGUE_MASKED,             /* C where the bit is set, else 0 (relu's derivative) */
  EPILOGUE_MASKED_COLUMN_SUMS, /* the same, and bias_gradient[j] = column sums of it */
  EPILOGUE_COLUMN_SUMS_A,      /* with transpose_a: bias_gradient[i] = sums over k of op(A)[i][k], i < m */
};

/* C (m, n) = op(A) (m, k) op(B) (k, n), all row-major; op transposes what is stored as (k, m) or (n, k). */
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

struct product; /* a shape with its descriptors and the algorithm chosen for it */

/* What products of one device share: the library's handle, one workspace in device memory (so that products of one
 * device run one after the other, in one stream), and the choices remembered on disk. */
struct product_library;
/* Makes the device the thread's current one. */
descent_status product_library_open(int ordinal, struct product_library **library);
void product_library_close(struct product_library *library);
int64_t product_library_bytes(const struct product_library *library); /* device memory held */
/* Is there an algorithm in use that was taken by its tests alone, as the flags of all were not as they should be? */
bool product_library_doubts(const struct product_library *library);

/* DESCENT_CUDA_CHOOSE=seed: instead of the fastest, algorithms and what choose.c decides are drawn from seed and shape,
 * and nothing is remembered, so that tests meet choices that no clock would make. */
bool product_library_draws(const struct product_library *library);
bool product_library_draw(const struct product_library *library, const struct product_shape *shape, const char *what);
/* A line of the trace (trace.h) about a choice for the shape. */
void product_library_note(const struct product_library *library, const struct product_shape *shape, const char *format,
                          ...) __attribute__((format(printf, 3, 4)));

/* `tune`: the algorithm remembered for the shape, else the fastest of several, timed and then remembered; false: the
 * heuristic's first. Always one that says it is reproducible and of the precision asked for (or, where all say
 * something else, may be) and that passes its trials (trial.h). Allocates scratch of the operands' sizes and runs
 * candidates on `stream`; the scratch is freed before it returns. ERROR_UNSUPPORTED (with the shape) when the library
 * has no such algorithm for the shape with this epilogue. */
descent_status product_create(struct product_library *library, const struct product_shape *shape, bool tune,
                              cudaStream_t stream, struct product **product);
void product_free(struct product *product);
double product_seconds(const struct product *product); /* as timed when tuned; 0 when it was not */

/* All at multiples of 16 bytes. */
struct product_operands {
  const void *A, *B;
  void *C;
  const void *bias;     /* read; NULL unless the epilogue has one */
  float *bias_gradient; /* written; likewise */
  void *mask;
};
/* Enqueues one product; allocates nothing, may be captured. */
descent_status product_run(const struct product *product, const struct product_operands *operands, cudaStream_t stream);

#endif
