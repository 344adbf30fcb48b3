/* Descriptors of a product and its launch. */
#include "matmul.h"

#include "module.h"

static cudaDataType_t data_type(enum element element) { return element == ELEMENT_F32 ? CUDA_R_32F : CUDA_R_16BF; }

#define SET(attribute, value) \
  CUBLAS_TRY(cublasLtMatmulDescSetAttribute(m->operation, CUBLASLT_MATMUL_DESC_##attribute, &(value), sizeof(value)))

/* The vector that the epilogue reads or writes and the mask are part of the operation. */
static descent_status set_pointers(const struct matmul *m, const void *vector, const void *mask) {
  descent_status status = DESCENT_OK;
  if (product_has_bias(&m->shape) || product_sum_count(&m->shape)) SET(BIAS_POINTER, vector);
  if (product_has_mask(&m->shape)) SET(EPILOGUE_AUX_POINTER, mask);
done:
  return status;
}

descent_status matmul_promise_alignment(const struct matmul *m) {
  return set_pointers(m, (const void *)MATMUL_ALIGNMENT, (const void *)MATMUL_ALIGNMENT);
}

descent_status matmul_create(struct matmul *m, const struct matmul_context *context,
                             const struct product_shape *shape) {
  m->context = context;
  m->shape = *shape;
  const struct product_mapping map = product_map(shape);
  const bool tf32 = shape->operands == ELEMENT_F32 && shape->tf32;
  const cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  const cublasOperation_t transpose_x = map.transpose_x ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t transpose_y = map.transpose_y ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cudaDataType_t operands = data_type(shape->operands), result = data_type(shape->result);
  const cudaDataType_t vector = product_sum_count(shape) ? CUDA_R_32F : data_type(shape->bias_element);
  descent_status status = DESCENT_OK;
  CUBLAS_TRY(cublasLtMatmulDescCreate(&m->operation, compute, CUDA_R_32F));
  SET(TRANSA, transpose_x);
  SET(TRANSB, transpose_y);
  SET(EPILOGUE, map.epilogue);
  if (product_has_bias(shape) || product_sum_count(shape)) SET(BIAS_DATA_TYPE, vector);
  if (product_has_mask(shape)) SET(EPILOGUE_AUX_LD, shape->mask_ld);
  TRY(matmul_promise_alignment(m));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&m->x, operands, (uint64_t)map.x_rows, (uint64_t)map.x_cols, map.x_ld));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&m->y, operands, (uint64_t)map.y_rows, (uint64_t)map.y_cols, map.y_ld));
  CUBLAS_TRY(cublasLtMatrixLayoutCreate(&m->d, result, (uint64_t)map.m, (uint64_t)map.n, map.d_ld));
done:
  return status;
}

static cublasStatus_t matmul(const struct matmul *m, const cublasLtMatmulAlgo_t *algorithm,
                             const struct product_operands *operands, cudaStream_t stream) {
  static const float one = 1, zero = 0;
  const struct matmul_context *const context = m->context;
  void *const workspace = operands->workspace ? operands->workspace : context->workspace;
  const int64_t bytes = operands->workspace ? operands->workspace_bytes : context->workspace_bytes;
  return cublasLtMatmul(context->handle, m->operation, &one, operands->B, m->x, operands->A, m->y, &zero, operands->C,
                        m->d, operands->C, m->d, algorithm, workspace, (size_t)bytes, stream);
}

descent_status matmul_try(const struct matmul *m, const cublasLtMatmulAlgo_t *algorithm,
                          const struct product_operands *operands, cudaStream_t stream, bool *ran) {
  descent_status status;
  TRY(set_pointers(m, operands->bias ? operands->bias : operands->bias_gradient, operands->mask));
  *ran = matmul(m, algorithm, operands, stream) == CUBLAS_STATUS_SUCCESS;
done:
  return status;
}

descent_status matmul_run(const struct matmul *m, const cublasLtMatmulAlgo_t *algorithm,
                          const struct product_operands *operands, cudaStream_t stream) {
  descent_status status;
  TRY(set_pointers(m, operands->bias ? operands->bias : operands->bias_gradient, operands->mask));
  CUBLAS_TRY(matmul(m, algorithm, operands, stream));
done:
  return status;
}

void matmul_release(struct matmul *m) {
  if (m->operation) (void)cublasLtMatmulDescDestroy(m->operation);
  if (m->x) (void)cublasLtMatrixLayoutDestroy(m->x);
  if (m->y) (void)cublasLtMatrixLayoutDestroy(m->y);
  if (m->d) (void)cublasLtMatrixLayoutDestroy(m->d);
}
