/* The ceilings of a device, measured: a large product and a large copy. */
#include "ceilings.h"

enum { ROUNDS = 5, MOST_SIDE = 8192, LEAST_SIDE = 128, SIDE_PER_MULTIPROCESSOR = 64 };
enum { COPY_BYTES_PER_MULTIPROCESSOR = 8 << 20 };

/* The shortest of ROUNDS timings of `work`, after a warm-up. */
static descent_status shortest(cudaStream_t stream, descent_status (*work)(void *context), void *context,
                               double *seconds) {
  cudaEvent_t begin = NULL, end = NULL;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventCreate(&begin));
  CUDA_TRY(cudaEventCreate(&end));
  *seconds = 0;
  for (int round = 0; round <= ROUNDS; round++) {
    float milliseconds;
    CUDA_TRY(cudaEventRecord(begin, stream));
    TRY(work(context));
    CUDA_TRY(cudaEventRecord(end, stream));
    CUDA_TRY(cudaEventSynchronize(end));
    CUDA_TRY(cudaEventElapsedTime(&milliseconds, begin, end));
    const double now = 1e-3 * (double)milliseconds;
    if (round == 1 || (round > 1 && now < *seconds)) *seconds = now;
  }
done:
  if (begin) (void)cudaEventDestroy(begin);
  if (end) (void)cudaEventDestroy(end);
  return status;
}

struct copy_run {
  void *to;
  const void *from;
  size_t bytes;
  cudaStream_t stream;
};

static descent_status run_copy(void *context) {
  const struct copy_run *copy = context;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(copy->to, copy->from, copy->bytes, cudaMemcpyDeviceToDevice, copy->stream));
done:
  return status;
}

static descent_status measure_copy(struct backend_device *device, double *bandwidth) {
  struct copy_run copy = {.bytes = (size_t)device->multiprocessors * COPY_BYTES_PER_MULTIPROCESSOR,
                          .stream = device->stream};
  char *memory = NULL;
  double seconds = 0;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMalloc((void **)&memory, 2 * copy.bytes));
  CUDA_TRY(cudaMemsetAsync(memory, 1, 2 * copy.bytes, device->stream));
  copy.from = memory;
  copy.to = memory + copy.bytes;
  TRY(shortest(device->stream, run_copy, &copy, &seconds));
  *bandwidth = 2 * (double)copy.bytes / seconds;
done:
  if (memory) (void)cudaFree(memory);
  return status;
}

struct square_product {
  const struct product *product;
  struct product_operands operands;
  cudaStream_t stream;
};

static descent_status run_square(void *context) {
  const struct square_product *square = context;
  return product_run(square->product, &square->operands, square->stream);
}

static descent_status measure_product(struct backend_device *device, descent_precision precision, double *flops) {
  int64_t side = (int64_t)device->multiprocessors * SIDE_PER_MULTIPROCESSOR;
  side = side > MOST_SIDE ? MOST_SIDE : side < LEAST_SIDE ? LEAST_SIDE : side;
  const enum element element = precision == DESCENT_PRECISION_BF16 ? ELEMENT_BF16 : ELEMENT_F32;
  const struct product_shape shape = {.m = side,
                                      .n = side,
                                      .k = side,
                                      .transpose_b = true,
                                      .lda = side,
                                      .ldb = side,
                                      .ldc = side,
                                      .operands = element,
                                      .result = element,
                                      .tf32 = precision == DESCENT_PRECISION_TF32};
  const size_t bytes = (size_t)(side * side) * (element == ELEMENT_F32 ? 4 : 2);
  struct product *product = NULL;
  char *memory = NULL;
  double seconds = 0;
  descent_status status = DESCENT_OK;
  TRY(product_create(device->products, &shape, true, device->stream, &product));
  CUDA_TRY(cudaMalloc((void **)&memory, 3 * bytes));
  for (size_t i = 0; i < 2; i++) /* random: products of constants draw less power and run faster */
    CUDA_TRY(
        launch_fill((struct device_matrix){memory + i * bytes, side, element}, side, side, false, i, device->stream));
  struct square_product square = {product, {.A = memory, .B = memory + bytes, .C = memory + 2 * bytes}, device->stream};
  TRY(shortest(device->stream, run_square, &square, &seconds));
  *flops = 2 * (double)side * (double)side * (double)side / seconds;
done:
  if (memory) (void)cudaFree(memory);
  product_free(product);
  return status;
}

descent_status ceilings_measure(struct backend_device *device, descent_precision precision, double *flops,
                                double *bandwidth) {
  descent_status status = DESCENT_OK;
  TRY(measure_product(device, precision, flops));
  TRY(measure_copy(device, bandwidth));
done:
  return status;
}
