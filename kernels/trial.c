/* Trials: scratch, random operands and clocks for the race, ones for the proof. */
#include "trial.h"

#include <string.h>

#include "module.h"

enum { SCRATCH_ALIGNMENT = 256 }; /* bytes */

static int64_t element_size(enum element element) { return element == ELEMENT_F32 ? 4 : 2; }

/* Bytes of (rows, ld), rounded up so that what follows is aligned as well; false when there are too many. */
static bool part_bytes(int64_t rows, int64_t ld, int64_t size, size_t *bytes) {
  int64_t product;
  if (__builtin_mul_overflow(rows, ld, &product) || __builtin_mul_overflow(product, size, &product) ||
      product > INT64_MAX / PARTS - SCRATCH_ALIGNMENT)
    return false;
  *bytes = (size_t)(product + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
  return true;
}

descent_status trial_open(struct trial *trial) {
  const struct product_shape *const shape = trial->shape;
  const int64_t C_size = element_size(shape->result), size = element_size(shape->operands);
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
      !part_bytes(shape->n, 1, element_size(shape->bias_element), &bytes[BIAS]) ||
      !part_bytes(product_sum_count(shape), 1, 4, &bytes[SUMS]) ||
      !part_bytes(product_sum_count(shape), 1, 4, &bytes[SUMS_AGAIN]) ||
      !part_bytes(shape->m, shape->mask_ld / 8, 1, &bytes[MASK]) || !part_bytes(2, 1, 8, &bytes[COUNTS]))
    return module_status(DESCENT_ERROR_MEMORY, "a product of (%lld, %lld) (%lld, %lld) is too large to try",
                         (long long)shape->m, (long long)shape->k, (long long)shape->k, (long long)shape->n);
  for (int i = 0; i < PARTS; i++) total += bytes[i];
  CUDA_TRY(cudaMalloc((void **)&trial->memory, total));
  trial->part[0] = trial->memory;
  for (int i = 1; i < PARTS; i++) trial->part[i] = trial->part[i - 1] + bytes[i - 1];
  CUDA_TRY(cudaMemsetAsync(trial->part[BIAS], 0, bytes[BIAS], trial->stream));
  CUDA_TRY(cudaMemsetAsync(trial->part[MASK], 0xff, bytes[MASK], trial->stream)); /* lets everything through */
  CUDA_TRY(cudaEventCreate(&trial->start));
  CUDA_TRY(cudaEventCreate(&trial->stop));
done:
  return status;
}

void trial_close(struct trial *trial) {
  if (trial->start) (void)cudaEventDestroy(trial->start);
  if (trial->stop) (void)cudaEventDestroy(trial->stop);
  if (trial->memory) (void)cudaFree(trial->memory);
}

static struct matrix trial_matrix(const struct trial *trial, enum part part, int64_t ld, enum element element) {
  return (struct matrix){trial->part[part], ld, element};
}

/* Both operands with random values, or B alone with ones. */
static descent_status fill(const struct trial *trial, bool ones) {
  const struct product_shape *const shape = trial->shape;
  const struct matrix A = trial_matrix(trial, OPERAND_A, shape->lda, shape->operands);
  const struct matrix B = trial_matrix(trial, OPERAND_B, shape->ldb, shape->operands);
  descent_status status = DESCENT_OK;
  if (!ones) CUDA_TRY(launch_fill(A, trial->A_rows, trial->A_cols, false, 1, trial->stream));
  CUDA_TRY(launch_fill(B, trial->B_rows, trial->B_cols, ones, 2, trial->stream));
done:
  return status;
}

/* One product into result and sums number `again`. */
static descent_status try_once(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, int again, bool *ran) {
  const bool bias = product_has_bias(trial->shape);
  const struct product_operands operands = {.A = trial->part[OPERAND_A],
                                            .B = trial->part[OPERAND_B],
                                            .C = trial->part[RESULT + again],
                                            .bias = bias ? trial->part[BIAS] : NULL,
                                            .bias_gradient = bias ? NULL : (float *)(void *)trial->part[SUMS + again],
                                            .mask = trial->part[MASK]};
  return product_try(trial->product, algorithm, &operands, trial->stream, ran);
}

/* found: how many elements differ in their bits; how many of `a` are not `expected`. */
static descent_status compare(const struct trial *trial, struct matrix a, struct matrix b, int64_t rows, int64_t n,
                              float expected, unsigned long long found[2]) {
  unsigned long long *const counts = (unsigned long long *)(void *)trial->part[COUNTS];
  descent_status status = DESCENT_OK;
  CUDA_TRY(launch_compare(a, b, rows, n, expected, counts, counts + 1, trial->stream));
  CUDA_TRY(cudaMemcpyAsync(found, counts, 2 * sizeof *counts, cudaMemcpyDeviceToHost, trial->stream));
  CUDA_TRY(cudaStreamSynchronize(trial->stream));
done:
  return status;
}

/* Whether two runs on the same random values give the same bits. */
static descent_status is_steady(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool *steady) {
  const struct product_shape *const shape = trial->shape;
  const int64_t sums = product_sum_count(shape);
  unsigned long long found[2] = {0}, found_sums[2] = {0};
  descent_status status = DESCENT_OK;
  *steady = true;
  for (int again = 0; again < 2 && *steady; again++) TRY(try_once(trial, algorithm, again, steady));
  if (!*steady) goto done;
  TRY(compare(trial, trial_matrix(trial, RESULT, shape->ldc, shape->result),
              trial_matrix(trial, RESULT_AGAIN, shape->ldc, shape->result), shape->m, shape->n, 0, found));
  if (sums)
    TRY(compare(trial, trial_matrix(trial, SUMS, sums, ELEMENT_F32), trial_matrix(trial, SUMS_AGAIN, sums, ELEMENT_F32),
                1, sums, 0, found_sums));
  *steady = found[0] == 0 && found_sums[0] == 0;
done:
  return status;
}

/* Seconds of one launch: the median of samples that last about half a millisecond each. */
static descent_status measure(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, double *seconds) {
  enum { SAMPLES = 5, MOST = 20 };
  double samples[SAMPLES];
  int launches = 1;
  descent_status status = DESCENT_OK;
  for (int sample = -1; sample < SAMPLES; sample++) { /* -1: to learn how many launches a sample needs */
    float milliseconds;
    CUDA_TRY(cudaEventRecord(trial->start, trial->stream));
    for (int i = 0; i < launches; i++) {
      bool ran;
      TRY(try_once(trial, algorithm, 0, &ran));
    }
    CUDA_TRY(cudaEventRecord(trial->stop, trial->stream));
    CUDA_TRY(cudaEventSynchronize(trial->stop));
    CUDA_TRY(cudaEventElapsedTime(&milliseconds, trial->start, trial->stop));
    if (sample < 0) launches = milliseconds * MOST < 0.5f ? MOST : milliseconds < 0.5f ? (int)(0.5f / milliseconds) : 1;
    int at = sample; /* insert in order */
    for (; at > 0 && samples[at - 1] > (double)milliseconds; at--) samples[at] = samples[at - 1];
    if (sample >= 0) samples[at] = (double)milliseconds;
  }
  *seconds = 1e-3 * samples[SAMPLES / 2] / launches;
done:
  return status;
}

descent_status trial_race(const struct trial *trial, struct candidate candidates[], int *n) {
  int kept = 0;
  descent_status status;
  TRY(fill(trial, false));
  for (int i = 0; i < *n; i++) {
    struct candidate candidate = candidates[i];
    bool steady;
    TRY(is_steady(trial, &candidate.algorithm, &steady));
    if (!steady) continue;
    TRY(measure(trial, &candidate.algorithm, &candidate.seconds));
    int at = kept++; /* before those that are slower */
    for (; at > 0 && candidates[at - 1].seconds > candidate.seconds; at--) candidates[at] = candidates[at - 1];
    candidates[at] = candidate;
  }
  *n = kept;
done:
  return status;
}

/* ---- exactness ---- */

enum { EXACT_INTEGERS = 1 << 24, WINDOW = 128 }; /* float32 holds all integers up to here; bf16 up to 256 */

/* What `count` ones add up to when stored. */
static float stored(int64_t count, enum element element) {
  float value = (float)count;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (element == ELEMENT_BF16) bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Whether the sums that the epilogue writes of `rows` times `count` are exact in any order, and what they are. */
static bool expected_sums(const struct product_shape *shape, int64_t count, float *expected) {
  if (shape->epilogue == EPILOGUE_COLUMN_SUMS_A) *expected = (float)count;
  if (shape->epilogue != EPILOGUE_MASKED_COLUMN_SUMS) return product_sum_count(shape) > 0;
  *expected = (float)count * (float)shape->m;
  const int64_t odd = count / (count & -count); /* multiples of a power of 2 are as exact as those of 1 */
  return stored(count, shape->result) == (float)count && shape->m <= EXACT_INTEGERS / odd;
}

/* Whether ones from `from` on along K, zeros before, give exactly their number. */
static descent_status count_ones(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, int64_t from,
                                 bool *exact) {
  const struct product_shape *const shape = trial->shape;
  const int64_t count = shape->k - from, sums = product_sum_count(shape);
  const struct matrix result = trial_matrix(trial, RESULT, shape->ldc, shape->result);
  const struct matrix sum = trial_matrix(trial, SUMS, sums, ELEMENT_F32);
  struct matrix A = trial_matrix(trial, OPERAND_A, shape->lda, shape->operands);
  unsigned long long found[2] = {0}, found_sums[2] = {0};
  float expected = 0;
  descent_status status = DESCENT_OK;
  A.data = (char *)A.data + from * (shape->transpose_a ? shape->lda : 1) * element_size(shape->operands);
  CUDA_TRY(cudaMemsetAsync(trial->part[OPERAND_A], 0, trial->bytes[OPERAND_A], trial->stream));
  CUDA_TRY(launch_fill(A, trial->A_rows - (shape->transpose_a ? from : 0),
                       trial->A_cols - (shape->transpose_a ? 0 : from), true, 0, trial->stream));
  /* NaN, so that what is not written is not right either */
  CUDA_TRY(cudaMemsetAsync(trial->part[RESULT], 0xff, trial->bytes[RESULT], trial->stream));
  CUDA_TRY(cudaMemsetAsync(trial->part[SUMS], 0xff, trial->bytes[SUMS], trial->stream));
  TRY(try_once(trial, algorithm, 0, exact));
  if (!*exact) goto done;
  TRY(compare(trial, result, result, shape->m, shape->n, stored(count, shape->result), found));
  if (expected_sums(shape, count, &expected)) TRY(compare(trial, sum, sum, 1, sums, expected, found_sums));
  *exact = found[1] == 0 && found_sums[1] == 0;
done:
  return status;
}

/* Products of ones: all of K, where that number is exact in float32, and K's last few, whose number is exact in bf16 as
 * well: what a kernel leaves out when K is no multiple of its tile. */
descent_status trial_exact(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool *exact) {
  const int64_t k = trial->shape->k, tail = (k - 1) / WINDOW * WINDOW;
  descent_status status;
  *exact = true;
  TRY(fill(trial, true));
  if (k <= EXACT_INTEGERS) TRY(count_ones(trial, algorithm, 0, exact));
  if (*exact && tail > 0) TRY(count_ones(trial, algorithm, tail, exact));
done:
  return status;
}
