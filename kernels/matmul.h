/* A matrix product as cuBLASLt takes it: its descriptors, and its launch by an algorithm that the caller chooses. */
#ifndef DESCENT_KERNELS_MATMUL_H
#define DESCENT_KERNELS_MATMUL_H

#include "product_shape.h"

enum { MATMUL_ALIGNMENT = 16 /* bytes, of every pointer */ };

/* The state that the products of a device share. Those that use one workspace run one after another. */
struct matmul_context {
  cublasLtHandle_t handle;
  void *workspace; /* device memory */
  int64_t workspace_bytes;
};

struct matmul {
  const struct matmul_context *context;
  struct product_shape shape;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t x, y, d; /* as in product_mapping */
};

struct product_operands {
  const void *A, *B;
  void *C;
  const void *bias;     /* read; NULL unless the epilogue has one */
  float *bias_gradient; /* written; likewise */
  void *mask;
  void *workspace; /* NULL: that of the context */
  int64_t workspace_bytes;
};

/* Of a zeroed struct; a failure leaves what matmul_release frees. */
descent_status matmul_create(struct matmul *m, const struct matmul_context *context, const struct product_shape *shape);
void matmul_release(struct matmul *m);
/* The heuristic takes the alignment of the operands from these pointers; launches replace them. */
descent_status matmul_promise_alignment(const struct matmul *m);
/* Enqueues one product. Allocates nothing and may be captured. */
descent_status matmul_run(const struct matmul *m, const cublasLtMatmulAlgo_t *algorithm,
                          const struct product_operands *operands, cudaStream_t stream);
/* The same; *ran is false if the library rejects the algorithm. */
descent_status matmul_try(const struct matmul *m, const cublasLtMatmulAlgo_t *algorithm,
                          const struct product_operands *operands, cudaStream_t stream, bool *ran);

#endif
