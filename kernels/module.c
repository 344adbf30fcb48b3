/* The module's door: opening a GPU, what it says of itself, its ceilings, and the backend table. */
#include "module.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cublas.h"
#include "nvml.h"
#include "plan/operations.h"
#include "program.h"

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static const struct backend_host *_Atomic library; /* set before anything else is called; by every open, to the same */

const struct backend_host *module_library(void) { return library; }

static const char *file_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

__thread const struct plan_op *module_operation;

/* "dense_forward layer 2: ", or nothing where no operation is launched. */
static const char *operation_prefix(char *text, size_t size) {
  text[0] = 0;
  if (!module_operation) return text;
  plan_op_name(module_operation, text, size);
  snprintf(text + strlen(text), size - strlen(text), ": ");
  return text;
}

descent_status module_cuda_failed(cudaError_t error, const char *call, const char *file, int line) {
  char operation[64];
  (void)cudaGetLastError(); /* clears it, where it can be cleared */
  const int length = (int)strcspn(call, "(");
  return module_status(error == cudaErrorMemoryAllocation ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_DEVICE,
                       "cuda: %s%.*s failed: %s (%s, %s:%d)", operation_prefix(operation, sizeof operation), length,
                       call, cudaGetErrorString(error), cudaGetErrorName(error), file_name(file), line);
}

descent_status module_cublas_failed(cublasStatus_t error, const char *call, const char *file, int line) {
  char operation[64];
  (void)cudaGetLastError();
  const int length = (int)strcspn(call, "(");
  return module_status(error == CUBLAS_STATUS_ALLOC_FAILED ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_DEVICE,
                       "cuda: %s%.*s failed: %s (%s:%d)", operation_prefix(operation, sizeof operation), length, call,
                       cublasLtGetStatusString(error), file_name(file), line);
}

void *module_allocate(int64_t count, size_t size, const char *what) {
  void *memory = count >= 0 && (uint64_t)count <= SIZE_MAX / size ? calloc(count ? (size_t)count : 1, size) : NULL;
  if (!memory)
    module_status(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
  return memory;
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

enum { LEAST_CAPABILITY = 80 };

/* "13.0" of 13000. */
static void version_text(int version, char *text, size_t size) {
  snprintf(text, size, "%d.%d", version / 1000, version % 1000 / 10);
}

/* How many devices there are, at least one, and the CUDA version that the driver knows; or why there is none, in words
 * that say what to do. */
static descent_status count_devices(int *count, int *driver) {
  const char *const visible = getenv("CUDA_VISIBLE_DEVICES");
  char has[16];
  if (cudaDriverGetVersion(driver) != cudaSuccess) *driver = 0;
  (void)cudaGetLastError();
  if (*driver == 0) return module_status(DESCENT_ERROR_DEVICE, "no CUDA: no NVIDIA driver is installed");
  const cudaError_t error = cudaGetDeviceCount(count);
  (void)cudaGetLastError();
  version_text(*driver, has, sizeof has);
  if (error == cudaErrorInsufficientDriver)
    return module_status(DESCENT_ERROR_DEVICE,
                         "no CUDA: the NVIDIA driver is too old: it knows CUDA %s, this build is of CUDA %d.%d and "
                         "needs driver %s or newer (update it, or build with an older toolkit, from 12.4 on)",
                         has, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
                         module_driver_for(CUDART_VERSION / 1000));
  if (error == cudaErrorNoDevice || (error == cudaSuccess && *count == 0))
    return module_status(DESCENT_ERROR_DEVICE, "no CUDA: the driver finds no NVIDIA GPU%s%.100s%s",
                         visible ? " (CUDA_VISIBLE_DEVICES is '" : "", visible ? visible : "", visible ? "')" : "");
  if (error != cudaSuccess)
    return module_status(DESCENT_ERROR_DEVICE, "no CUDA: %s (%s)", cudaGetErrorString(error), cudaGetErrorName(error));
  return DESCENT_OK;
}

/* Whether there is a device `ordinal`, and all that products on it need. */
static descent_status check_presence(int ordinal) {
  int count = 0, driver = 0;
  descent_status status = count_devices(&count, &driver);
  if (status != DESCENT_OK) return status;
  if (ordinal >= count && count == 1)
    return module_status(DESCENT_ERROR_DEVICE, "there is no cuda:%d, only cuda:0", ordinal);
  if (ordinal >= count)
    return module_status(DESCENT_ERROR_DEVICE, "there is no cuda:%d, only cuda:0 to cuda:%d", ordinal, count - 1);
  return cublas_load(driver);
}

static void cublas_text(char *text, size_t size) {
  const size_t version = cublasLtGetVersion();
  snprintf(text, size, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

static void describe(struct backend_device *device, const struct cudaDeviceProp *properties) {
  int driver = 0, runtime = 0;
  char driver_text[16], runtime_text[16], cublas[32];
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  version_text(driver, driver_text, sizeof driver_text);
  version_text(runtime, runtime_text, sizeof runtime_text);
  cublas_text(cublas, sizeof cublas);
  snprintf(device->description, sizeof device->description,
           "cuda:%d: %.100s, sm_%d%d, %d multiprocessors, %.1f GB, driver for CUDA %s, runtime %s, cuBLASLt %s",
           device->ordinal, properties->name, properties->major, properties->minor, properties->multiProcessorCount,
           1e-9 * (double)properties->totalGlobalMem, driver_text, runtime_text, cublas);
}

/* "GPU-" or, for a part of a GPU, "MIG-" and 16 bytes as NVIDIA writes them. For a part the runtime gives the part's
 * own UUID; that it is one shows in its name alone ("NVIDIA H200 MIG 1g.18gb"). */
static void uuid_text(const struct cudaDeviceProp *properties, char *text, size_t size) {
  size_t length = (size_t)snprintf(text, size, "%s", strstr(properties->name, " MIG ") ? "MIG-" : "GPU-");
  for (int i = 0; i < 16; i++)
    length += (size_t)snprintf(text + length, size - length, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               (unsigned)(unsigned char)properties->uuid.bytes[i]);
}

static descent_status device_list(struct backend_gpu gpus[BACKEND_MOST_GPUS], int *count) {
  int n = 0, driver = 0, runtime = 0;
  descent_status status = count_devices(&n, &driver);
  if (status != DESCENT_OK) return status;
  if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
  const bool products = cublas_load(driver) == DESCENT_OK;
  *count = n < BACKEND_MOST_GPUS ? n : BACKEND_MOST_GPUS;
  for (int i = 0; i < *count; i++) {
    struct backend_gpu *const gpu = &gpus[i];
    struct cudaDeviceProp properties = {0};
    *gpu = (struct backend_gpu){.memory_free = -1};
    CUDA_TRY(cudaGetDeviceProperties(&properties, i)); /* makes no context */
    snprintf(gpu->model, sizeof gpu->model, "%.127s", properties.name);
    uuid_text(&properties, gpu->uuid, sizeof gpu->uuid);
    snprintf(gpu->pci, sizeof gpu->pci, "%04x:%02x:%02x.0", (unsigned)properties.pciDomainID,
             (unsigned)properties.pciBusID, (unsigned)properties.pciDeviceID);
    version_text(driver, gpu->cuda_driver, sizeof gpu->cuda_driver);
    version_text(runtime, gpu->cuda_runtime, sizeof gpu->cuda_runtime);
    if (products) cublas_text(gpu->cublas, sizeof gpu->cublas);
    gpu->compute_major = properties.major;
    gpu->compute_minor = properties.minor;
    gpu->multiprocessors = properties.multiProcessorCount;
    gpu->memory_total = (int64_t)properties.totalGlobalMem;
  }
  nvml_fill(gpus, *count);
done:
  return status;
}

/* Bytes per second at two transfers a clock; 0 when the driver does not say. */
static double nominal_bandwidth(int ordinal) {
  int clock = 0, width = 0; /* kHz, bits */
  if (cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, ordinal) != cudaSuccess ||
      cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return 2.0 * 1e3 * clock * width / 8;
}

static void device_close(struct backend_device *device) {
  if (!device) return;
  (void)cudaSetDevice(device->ordinal);
  product_library_close(device->products);
  if (device->stream) (void)cudaStreamDestroy(device->stream);
  if (device->copies) (void)cudaStreamDestroy(device->copies);
  (void)cudaGetLastError();
  free(device);
}

/* As the reason why there is no device, with what is free; which cannot be asked where not even a context has room. */
static descent_status no_memory(const char *name) {
  size_t left = 0, total = 0;
  const cudaError_t error = cudaMemGetInfo(&left, &total);
  (void)cudaGetLastError();
  if (error != cudaSuccess)
    return module_status(DESCENT_ERROR_DEVICE, "out of memory on %s, whose memory others hold", name);
  return module_status(DESCENT_ERROR_DEVICE, "out of memory on %s: %.1f of its %.1f MB are free", name,
                       1e-6 * (double)left, 1e-6 * (double)total);
}

/* A build for one GPU is quick and small, and does not run on others. */
static descent_status check_code(const struct cudaDeviceProp *properties) {
  const cudaError_t error = code_check();
  descent_status status = DESCENT_OK;
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    (void)cudaGetLastError();
    return module_status(DESCENT_ERROR_DEVICE,
                         "no CUDA: this build has no code for %s, of compute capability %d.%d (configure it with "
                         "-DCMAKE_CUDA_ARCHITECTURES=%d%d-real)",
                         properties->name, properties->major, properties->minor, properties->major, properties->minor);
  }
  CUDA_TRY(error);
done:
  return status;
}

static descent_status device_open(int ordinal, int threads, struct backend_device **result) {
  struct backend_device *device = NULL;
  struct cudaDeviceProp properties = {0};
  descent_status status;
  TRY(check_presence(ordinal));
  CUDA_TRY(cudaGetDeviceProperties(&properties, ordinal)); /* before a context is made, which may fail */
  if (10 * properties.major + properties.minor < LEAST_CAPABILITY)
    TRY(module_status(DESCENT_ERROR_DEVICE,
                      "no CUDA: %s has compute capability %d.%d, this needs 8.0 or later (Ampere, 2020)",
                      properties.name, properties.major, properties.minor));
  CUDA_TRY(cudaSetDevice(ordinal));
  TRY(check_code(&properties));
  device = module_allocate(1, sizeof *device, "the cuda device");
  if (!device) return DESCENT_ERROR_MEMORY;
  device->ordinal = ordinal;
  device->threads = threads;
  device->multiprocessors = properties.multiProcessorCount;
  device->bandwidth = nominal_bandwidth(ordinal);
  describe(device, &properties);
  CUDA_TRY(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
  CUDA_TRY(cudaStreamCreateWithFlags(&device->copies, cudaStreamNonBlocking));
  TRY(product_library_open(ordinal, &device->products));
  *result = device;
  device = NULL;
done:
  device_close(device);
  return status == DESCENT_ERROR_MEMORY ? no_memory(properties.name) : status;
}

static const char *device_describe(const struct backend_device *device) { return device->description; }

/* ---- ceilings --------------------------------------------------------------------------------------------------- */

enum { ROUNDS = 5, MOST_SIDE = 8192, LEAST_SIDE = 128, SIDE_PER_MULTIPROCESSOR = 64 };
enum { COPY_BYTES_PER_MULTIPROCESSOR = 8 << 20 };

/* The shortest of a few timings of `work`, after one to warm up. */
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

struct copy {
  void *to;
  const void *from;
  size_t bytes;
  cudaStream_t stream;
};

static descent_status run_copy(void *context) {
  const struct copy *copy = context;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(copy->to, copy->from, copy->bytes, cudaMemcpyDeviceToDevice, copy->stream));
done:
  return status;
}

static descent_status measure_copy(struct backend_device *device, double *bandwidth) {
  struct copy copy = {.bytes = (size_t)device->multiprocessors * COPY_BYTES_PER_MULTIPROCESSOR,
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

struct square {
  const struct product *product;
  struct product_operands operands;
  cudaStream_t stream;
};

static descent_status run_square(void *context) {
  const struct square *square = context;
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
  struct square square = {product, {.A = memory, .B = memory + bytes, .C = memory + 2 * bytes}, device->stream};
  TRY(shortest(device->stream, run_square, &square, &seconds));
  *flops = 2 * (double)side * (double)side * (double)side / seconds;
done:
  if (memory) (void)cudaFree(memory);
  product_free(product);
  return status;
}

static descent_status device_measure(struct backend_device *device, descent_precision precision, double *flops,
                                     double *bandwidth) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaSetDevice(device->ordinal));
  TRY(measure_product(device, precision, flops));
  TRY(measure_copy(device, bandwidth));
done:
  return status;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

extern const struct backend backend_cuda_program; /* program.c: what concerns compiled plans */

static struct backend table;
static pthread_once_t table_made = PTHREAD_ONCE_INIT; /* other threads' devices are used by it already */

static void make_table(void) {
  table = backend_cuda_program;
  table.name = "cuda";
  table.list = device_list;
  table.open = device_open;
  table.close = device_close;
  table.describe = device_describe;
  table.measure = device_measure;
}

backend_module descent_backend __attribute__((visibility("default")));
const struct backend *descent_backend(const struct backend_host *host) {
  if (host->interface != BACKEND_INTERFACE) return NULL;
  library = host;
  (void)pthread_once(&table_made, make_table);
  return &table;
}
