// Arrays of callers: elements of any type at any stride, converted to and from float32, and searched for values that
// are refused. Not in the inner loop of a training: one thread per element, whose type is found at run time.
#include "common.cuh"

enum { MOST_BLOCKS = 4096 };  // grid stride; blocks of BLOCK

static __device__ inline int64_t element_of(const struct array_view &a, int64_t i) {
  return i / a.columns * a.row_stride + i % a.columns * a.column_stride;
}

// The pointers of callers are aligned to their elements.
static __device__ inline double load_element(const struct array_view &a, int64_t i) {
  const int64_t at = element_of(a, i);
  switch (a.dtype) {
    case DESCENT_DTYPE_F32: return (double)((const float *)a.data)[at];
    case DESCENT_DTYPE_F64: return ((const double *)a.data)[at];
    case DESCENT_DTYPE_F16: return (double)f16_to_float(((const uint16_t *)a.data)[at]);
    case DESCENT_DTYPE_BF16: return (double)bf16_to_float(((const uint16_t *)a.data)[at]);
    case DESCENT_DTYPE_U8: return (double)((const uint8_t *)a.data)[at];
    case DESCENT_DTYPE_I32: return (double)((const int32_t *)a.data)[at];
    default: return (double)((const int64_t *)a.data)[at];
  }
}

// Rounded once, 64-bit integers too.
static __device__ inline float load_float(const struct array_view &a, int64_t i) {
  return a.dtype == DESCENT_DTYPE_I64 ? (float)((const int64_t *)a.data)[element_of(a, i)] : (float)load_element(a, i);
}

static __device__ inline void store_element(const struct array_view &a, int64_t i, float x) {
  const int64_t at = element_of(a, i);
  switch (a.dtype) {
    case DESCENT_DTYPE_F32: ((float *)a.data)[at] = x; break;
    case DESCENT_DTYPE_F64: ((double *)a.data)[at] = (double)x; break;
    case DESCENT_DTYPE_F16: ((uint16_t *)a.data)[at] = f16_from_float(x); break;
    case DESCENT_DTYPE_BF16: ((uint16_t *)a.data)[at] = bf16_from_float(x); break;
    default: break;  // integers hold no results
  }
}

static __global__ void __launch_bounds__(BLOCK)
    copy_array_kernel(struct array_view from, int64_t first_from, struct array_view to, int64_t first_to,
                      int64_t count) {
  GRID_BEGIN();
  for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < count; i += (int64_t)gridDim.x * BLOCK)
    store_element(to, first_to + i, load_float(from, first_from + i));
}

cudaError_t launch_copy_array(const struct array_view *from, int64_t first_from, const struct array_view *to,
                              int64_t first_to, int64_t count, cudaStream_t stream) {
  return LAUNCH(copy_array_kernel, block_count(count, BLOCK, MOST_BLOCKS), BLOCK, stream, *from, first_from, *to,
                first_to, count);
}

static __device__ inline bool breaks(double wide, struct array_rule rule) {
  const float x = (float)wide;
  switch (rule.kind) {
    case ARRAY_FITS: return is_finite(wide) && !is_finite(x);
    case ARRAY_FINITE: return !is_finite(x);
    case ARRAY_PRESENT: return x != x;
    case ARRAY_CLASS: return !(x >= 0 && (double)x < rule.limit && x == truncf(x));
    case ARRAY_WEIGHT: return !(x >= 0 && is_finite(x));
    default: return fabs(wide) > rule.limit;
  }
}

// The smallest of all positions does not depend on the order of the threads.
static __global__ void __launch_bounds__(BLOCK)
    check_array_kernel(struct array_view a, int64_t count, struct array_rule rule, struct array_finding *found) {
  GRID_BEGIN();
  for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < count; i += (int64_t)gridDim.x * BLOCK) {
    if (!breaks(load_element(a, i), rule)) continue;
    atomicMin(&found->element, (unsigned long long)i);
    break;
  }
}

static __global__ void found_value_kernel(struct array_view a, struct array_finding *found) {
  GRID_BEGIN();
  if (found->element != ARRAY_NOTHING) found->value = load_element(a, (int64_t)found->element);
}

cudaError_t launch_check_array(const struct array_view *array, int64_t rows, struct array_rule rule,
                               struct array_finding *found, cudaStream_t stream) {
  const int64_t count = rows * array->columns;
  cudaError_t error = cudaMemsetAsync(found, 0xff, sizeof *found, stream);  // ARRAY_NOTHING
  if (error == cudaSuccess)
    error =
        LAUNCH(check_array_kernel, block_count(count, BLOCK, MOST_BLOCKS), BLOCK, stream, *array, count, rule, found);
  return error == cudaSuccess ? LAUNCH(found_value_kernel, 1, 1, stream, *array, found) : error;
}
