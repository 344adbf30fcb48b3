/* Trials: scratch memory, operands, and the tests of one candidate. */
#include "trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"

enum { SCRATCH_ALIGNMENT = 256 }; /* bytes */

/* Bytes of a matrix (rows, ld), rounded up so that the next part is aligned; false on overflow. */
static bool part_bytes(int64_t rows, int64_t ld, int64_t size, size_t *bytes) {
  int64_t product;
  if (__builtin_mul_overflow(rows, ld, &product) || __builtin_mul_overflow(product, size, &product) ||
      product > INT64_MAX / PARTS - SCRATCH_ALIGNMENT)
    return false;
  *bytes = (size_t)(product + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
  return true;
}

descent_status trial_open(struct trial *trial) {
  const struct product_shape *const shape = &trial->matmul->shape;
  const int64_t C_size = element_bytes(shape->result), size = element_bytes(shape->operands);
  size_t *const bytes = trial->bytes;
  size_t total = 0;
  descent_status status = DESCENT_OK;
  if (trial->memory) return DESCENT_OK;
  trial->A_rows = shape->transpose_a ? shape->k : shape->m;
  trial->A_cols = shape->transpose_a ? shape->m : shape->k;
  trial->B_rows = shape->transpose_b ? shape->n : shape->k;
  trial->B_cols = shape->transpose_b ? shape->k : shape->n;
  if (!part_bytes(trial->A_rows, shape->lda, size, &bytes[OPERAND_A]) ||
      !part_bytes(trial->B_rows, shape->ldb, size, &bytes[OPERAND_B]) ||
      !part_bytes(shape->m, shape->ldc, C_size, &bytes[RESULT]) ||
      !part_bytes(shape->m, shape->ldc, C_size, &bytes[RESULT_AGAIN]) ||
      !part_bytes(shape->n, 1, element_bytes(shape->bias_element), &bytes[BIAS]) ||
      !part_bytes(product_sum_count(shape), 1, 4, &bytes[SUMS]) ||
      !part_bytes(product_sum_count(shape), 1, 4, &bytes[SUMS_AGAIN]) ||
      !part_bytes(shape->m, shape->mask_ld / 8, 1, &bytes[MASK]) || !part_bytes(2, 1, 8, &bytes[COUNTS]))
    return module_status(DESCENT_ERROR_MEMORY, "a product of (%lld, %lld) (%lld, %lld) is too large to try",
                         (long long)shape->m, (long long)shape->k, (long long)shape->k, (long long)shape->n);
  for (int i = 0; i < PARTS; i++) total += bytes[i];
  CUDA_TRY(cudaMalloc((void **)&trial->memory, total));
  trial->part[0] = trial->memory;
  for (int i = 1; i < PARTS; i++) trial->part[i] = trial->part[i - 1] + bytes[i - 1];
done:
  return status;
}

void trial_close(struct trial *trial) {
  if (trial->memory) (void)cudaFree(trial->memory);
}

/* ---- operands ---- */

static struct device_matrix part_matrix(const struct trial *trial, enum part part, int64_t ld, enum element element) {
  return (struct device_matrix){trial->part[part], ld, element};
}

/* The mask has random bits if the operands are ones; with random values all bits are set, so that no value is
 * hidden. */
static descent_status fill_mask(const struct trial *trial, bool random) {
  const int64_t words = trial->matmul->shape.mask_ld / 32;
  descent_status status = DESCENT_OK;
  if (words == 0) return DESCENT_OK;
  if (!random)
    CUDA_TRY(cudaMemsetAsync(trial->part[MASK], 0xff, trial->bytes[MASK], trial->stream));
  else
    CUDA_TRY(launch_fill_bits(part_matrix(trial, MASK, words, ELEMENT_F32), trial->matmul->shape.m, words, 4,
                              trial->stream));
done:
  return status;
}

static descent_status fill_B(const struct trial *trial, bool ones) {
  const struct device_matrix B = part_matrix(trial, OPERAND_B, trial->matmul->shape.ldb, trial->matmul->shape.operands);
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_fill(B, trial->B_rows, trial->B_cols, ones, 2, trial->stream));
done:
  return status;
}

/* A: zeros before `from` along K, then random values or ones. Fills the mask too. */
static descent_status fill_A(const struct trial *trial, int64_t from, bool ones) {
  const struct product_shape *const shape = &trial->matmul->shape;
  struct device_matrix A = part_matrix(trial, OPERAND_A, shape->lda, shape->operands);
  const int64_t rows = trial->A_rows - (shape->transpose_a ? from : 0);
  const int64_t cols = trial->A_cols - (shape->transpose_a ? 0 : from);
  descent_status status = DESCENT_OK;
  A.data = (char *)A.data + from * (shape->transpose_a ? shape->lda : 1) * element_bytes(shape->operands);
  if (from > 0) CUDA_TRY(cudaMemsetAsync(trial->part[OPERAND_A], 0, trial->bytes[OPERAND_A], trial->stream));
  CUDA_TRY(launch_fill(A, rows, cols, ones, 1, trial->stream));
  TRY(fill_mask(trial, ones));
done:
  return status;
}

/* Each element is one of the choices, at random. */
static descent_status fill_bias(const struct trial *trial, const float choices[4]) {
  const size_t size = (size_t)element_bytes(trial->matmul->shape.bias_element), n = (size_t)trial->matmul->shape.n;
  descent_status status = DESCENT_OK;
  char *bias = NULL;
  if (!product_has_bias(&trial->matmul->shape)) return DESCENT_OK;
  bias = module_allocate((int64_t)n, size, "a bias");
  if (!bias) return DESCENT_ERROR_MEMORY;
  uint32_t random = 1;
  for (size_t j = 0; j < n; j++) {
    random = random * 1664525u + 1013904223u; /* Knuth and Lewis; the upper bits are used */
    const char *const value = (const char *)&choices[random >> 30];
    memcpy(bias + j * size, value + sizeof *choices - size, size); /* bf16: the upper half */
  }
  CUDA_TRY(cudaMemcpyAsync(trial->part[BIAS], bias, n * size, cudaMemcpyHostToDevice, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
done:
  free(bias);
  return status;
}

/* Fills all results with NaN, so that an element that is not written is wrong, and those of the second run (AGAIN) with
 * another NaN. */
static descent_status fill_with_nan(const struct trial *trial) {
  static const struct {
    enum part part;
    int byte;
  } written[] = {{RESULT, 0xff}, {SUMS, 0xff}, {RESULT_AGAIN, 0xfe}, {SUMS_AGAIN, 0xfe}};
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
    const enum part part = written[i].part;
    CUDA_TRY(cudaMemsetAsync(trial->part[part], written[i].byte, trial->bytes[part], trial->stream));
  }
done:
  return status;
}

descent_status trial_launch(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool again,
                            ptrdiff_t shift, bool *ran) {
  const bool bias = product_has_bias(&trial->matmul->shape);
  char *const *const part = trial->part;
  const struct product_operands operands = {
      .A = part[OPERAND_A] + shift,
      .B = part[OPERAND_B] + shift,
      .C = part[again ? RESULT_AGAIN : RESULT] + shift,
      .bias = bias ? part[BIAS] + shift : NULL,
      .bias_gradient = bias ? NULL : (float *)(void *)(part[again ? SUMS_AGAIN : SUMS] + shift),
      .mask = part[MASK] + shift};
  return matmul_try(trial->matmul, algorithm, &operands, trial->stream, ran);
}

/* ---- results ---- */

static unsigned long long *counts_of(const struct trial *trial) {
  return (unsigned long long *)(void *)trial->part[COUNTS];
}

static descent_status fetch(const struct trial *trial, unsigned long long found[2]) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(found, counts_of(trial), 2 * sizeof *found, cudaMemcpyDeviceToHost, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
done:
  return status;
}

/* found: the number of elements whose bits differ; the number of elements of `a` that are not `expected`. */
static descent_status compare(const struct trial *trial, struct device_matrix a, struct device_matrix b, int64_t rows,
                              int64_t n, float expected, unsigned long long found[2]) {
  unsigned long long *const counts = counts_of(trial);
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_compare(a, b, rows, n, expected, counts, counts + 1, trial->stream));
  TRY(fetch(trial, found));
done:
  return status;
}

static struct trial_result result_of(const struct trial *trial) {
  const struct product_shape *const shape = &trial->matmul->shape;
  return (struct trial_result){
      .C = part_matrix(trial, RESULT, shape->ldc, shape->result),
      .rows = shape->m,
      .n = shape->n,
      .bias = product_has_bias(shape) ? trial->part[BIAS] : NULL,
      .bias_element = shape->bias_element,
      .relu = shape->epilogue == EPILOGUE_RELU_BIAS || shape->epilogue == EPILOGUE_RELU_MASK_BIAS,
      .mask_written = shape->epilogue == EPILOGUE_RELU_MASK_BIAS,
      .mask = product_has_mask(shape) ? (const unsigned char *)trial->part[MASK] : NULL,
      .mask_ld = shape->mask_ld,
  };
}

/* Sets the verdict if the results are not those of a product that is `value` everywhere (NaN: of any product) or if the
 * mask contradicts them; else NULL. */
static descent_status check(const struct trial *trial, float value, const char **verdict) {
  struct trial_result result = result_of(trial);
  unsigned long long found[2];
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_check(&result, value, counts_of(trial), trial->stream));
  TRY(fetch(trial, found));
  *verdict = found[0] ? "inexact" : found[1] ? "mask_differs" : NULL;
  if (found[0] || !found[1] || !result.mask_written) goto done;
  result.zero_may_be_marked = true; /* a separate verdict, for the trace; the derivative at 0 is 0 here */
  CUDA_TRY(launch_check(&result, value, counts_of(trial), trial->stream));
  TRY(fetch(trial, found));
  if (!found[1]) *verdict = "mask_at_zero";
done:
  return status;
}

/* ---- whole numbers: exact ---- */

enum { EXACT_INTEGERS = 1 << 24, WINDOW = 128 }; /* float32 holds all integers up to here; bf16 up to 256 */

/* A whole number as it is stored. */
static float stored(int64_t number, enum element element) {
  float value = (float)number;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (element == ELEMENT_BF16) bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Gives relu values above zero, below zero and, if the element type holds `count` exactly, zero. */
static descent_status fill_whole_bias(const struct trial *trial, int64_t count) {
  const float near = stored(count, trial->matmul->shape.bias_element), choices[] = {1, -1, -near, -2 * near};
  return fill_bias(trial, choices);
}

/* Checks the sums that the epilogue writes for products of `count`, if every order of summation gives them exactly. */
static descent_status check_sums(const struct trial *trial, int64_t count, bool *right) {
  const struct product_shape *const shape = &trial->matmul->shape;
  const int64_t n = product_sum_count(shape);
  const struct device_matrix sums = part_matrix(trial, SUMS, n, ELEMENT_F32);
  const int64_t odd = count / (count & -count); /* multiples of a power of 2 are as exact as those of 1 */
  unsigned long long found[2] = {0};
  descent_status status = DESCENT_OK;
  if (shape->epilogue == EPILOGUE_COLUMN_SUMS_A) TRY(compare(trial, sums, sums, 1, n, (float)count, found));
  *right = found[1] == 0;
  if (shape->epilogue != EPILOGUE_MASKED_COLUMN_SUMS || stored(count, shape->result) != (float)count ||
      shape->m > EXACT_INTEGERS / odd)
    goto done;
  CUDA_TRY(launch_check_sums(part_matrix(trial, RESULT, shape->ldc, shape->result), shape->m, n, sums.data,
                             counts_of(trial), trial->stream));
  TRY(fetch(trial, found));
  *right = found[0] == 0;
done:
  return status;
}

/* Zeros before `from` along K and ones after it must give exactly the number of ones, with the epilogue applied. */
static descent_status count_ones(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, int64_t from,
                                 const char **verdict) {
  const int64_t count = trial->matmul->shape.k - from;
  bool ran, right = true;
  descent_status status;
  TRY(fill_A(trial, from, true));
  TRY(fill_whole_bias(trial, count));
  TRY(fill_with_nan(trial));
  TRY(trial_launch(trial, algorithm, false, 0, &ran));
  *verdict = "not_launched";
  if (!ran) goto done;
  TRY(check(trial, (float)count, verdict));
  TRY(check_sums(trial, count, &right));
  if (!right) *verdict = "inexact";
done:
  return status;
}

/* Where the last elements of K begin. They include whatever a kernel omits if K is not a multiple of its tile. */
static int64_t window_of(const struct product_shape *shape) { return (shape->k - 1) / WINDOW * WINDOW; }

/* Products of ones: all of K, if K is exact in float32, and the last elements of K, whose number is exact in bf16
 * too. */
static descent_status try_whole(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm,
                                const char **verdict) {
  const int64_t k = trial->matmul->shape.k, window = window_of(&trial->matmul->shape);
  descent_status status;
  TRY(fill_B(trial, true));
  if (k < EXACT_INTEGERS) TRY(count_ones(trial, algorithm, 0, verdict));
  if (!*verdict && window > 0) TRY(count_ones(trial, algorithm, window, verdict));
done:
  return status;
}

/* ---- the same bits twice ---- */

static descent_status try_twice(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm,
                                const char **verdict) {
  const struct product_shape *const shape = &trial->matmul->shape;
  const int64_t sums = product_sum_count(shape);
  unsigned long long found[2] = {0}, found_sums[2] = {0};
  const float bias[] = {7.625f, 8.375f, 9.125f, 6.875f}; /* so large that relu keeps most values; exact in bf16 */
  bool ran = true;
  descent_status status;
  TRY(fill_A(trial, 0, false));
  TRY(fill_B(trial, false));
  TRY(fill_bias(trial, bias));
  TRY(fill_with_nan(trial));
  for (int again = 0; again < 2 && ran; again++) TRY(trial_launch(trial, algorithm, again == 1, 0, &ran));
  TRY(compare(trial, part_matrix(trial, RESULT, shape->ldc, shape->result),
              part_matrix(trial, RESULT_AGAIN, shape->ldc, shape->result), shape->m, shape->n, 0, found));
  if (sums)
    TRY(compare(trial, part_matrix(trial, SUMS, sums, ELEMENT_F32), part_matrix(trial, SUMS_AGAIN, sums, ELEMENT_F32),
                1, sums, 0, found_sums));
  if (!ran || found[0] || found_sums[0]) *verdict = "unsteady";
done:
  return status;
}

/* ---- random values: within the bound ---- */

/* On the operands of try_twice. Float32 sums on tensor cores may truncate (their unit is 2^-23); tf32 may truncate
 * either factor to 11 bits. Only the last elements of K are nonzero, so that the bound is small enough to expose
 * coarser arithmetic. */
static descent_status try_random(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm,
                                 const char **verdict) {
  const struct product_shape *const shape = &trial->matmul->shape;
  const int64_t window = window_of(shape);
  const bool tf32 = shape->operands == ELEMENT_F32 && shape->tf32;
  const struct trial_result result = result_of(trial);
  const struct trial_factors factors = {
      .A = part_matrix(trial, OPERAND_A, shape->lda, shape->operands),
      .B = part_matrix(trial, OPERAND_B, shape->ldb, shape->operands),
      .transpose_a = shape->transpose_a,
      .transpose_b = shape->transpose_b,
      .k_begin = window,
      .k_end = shape->k,
      .A_sums = shape->epilogue == EPILOGUE_COLUMN_SUMS_A ? (const float *)(void *)trial->part[SUMS] : NULL,
      .unit = shape->operands == ELEMENT_F32 && !tf32 ? 0x1p-24 : 0x1p-23,
      .cut = tf32 ? 0x1p-9 + 0x1p-20 : 0, /* (1 + 2^-10)^2 - 1 */
  };
  unsigned long long found[2];
  bool ran;
  descent_status status = DESCENT_OK;
  if (window > 0) TRY(fill_A(trial, window, false));
  TRY(fill_with_nan(trial));
  TRY(trial_launch(trial, algorithm, false, 0, &ran));
  if (product_has_mask(shape)) TRY(check(trial, NAN, verdict));
  if (*verdict) goto done;
  CUDA_TRY(launch_check_errors(&result, &factors, counts_of(trial), trial->stream));
  TRY(fetch(trial, found));
  if (!ran || found[0]) *verdict = "imprecise";
done:
  return status;
}

descent_status trial_run(const struct trial *trial, struct candidate *candidate) {
  descent_status status;
  candidate->verdict = NULL;
  TRY(try_whole(trial, &candidate->algorithm, &candidate->verdict));
  if (!candidate->verdict) TRY(try_twice(trial, &candidate->algorithm, &candidate->verdict));
  if (!candidate->verdict) TRY(try_random(trial, &candidate->algorithm, &candidate->verdict));
done:
  return status;
}
