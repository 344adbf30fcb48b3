/* Finding, describing and opening GPUs. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cublas.h"
#include "nvml.h"

enum { LEAST_CAPABILITY = 80 };

/* "13.0" of 13000. */
static void version_text(int version, char *text, size_t size) {
  snprintf(text, size, "%d.%d", version / 1000, version % 1000 / 10);
}

/* The number of devices, at least one, and the CUDA version that the driver supports. An error says what to change. */
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
                         "no CUDA: the NVIDIA driver is too old: it supports CUDA %s, this build uses CUDA %d.%d and "
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

/* Checks that device `ordinal` exists, and loads cuBLASLt. */
static descent_status check_presence(int ordinal) {
  int count = 0, driver = 0;
  descent_status status = count_devices(&count, &driver);
  if (status != DESCENT_OK) return status;
  if (ordinal >= count && count == 1)
    return module_status(DESCENT_ERROR_DEVICE, "no device cuda:%d: only cuda:0", ordinal);
  if (ordinal >= count)
    return module_status(DESCENT_ERROR_DEVICE, "no device cuda:%d: only cuda:0 to cuda:%d", ordinal, count - 1);
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
  snprintf(device->arithmetic, sizeof device->arithmetic, "cuBLASLt %s, sm_%d%d, %.100s", cublas, properties->major,
           properties->minor, properties->name);
}

/* "GPU-" or, for a MIG part of a GPU, "MIG-", then 16 bytes in NVIDIA's notation. For a part the runtime reports the
 * part's UUID; only the name shows that it is a part ("NVIDIA H200 MIG 1g.18gb"). */
static void uuid_text(const struct cudaDeviceProp *properties, char *text, size_t size) {
  size_t length = (size_t)snprintf(text, size, "%s", strstr(properties->name, " MIG ") ? "MIG-" : "GPU-");
  for (int i = 0; i < 16; i++)
    length += (size_t)snprintf(text + length, size - length, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               (unsigned)(unsigned char)properties->uuid.bytes[i]);
}

descent_status device_list(struct backend_gpu gpus[BACKEND_MOST_GPUS], int *count) {
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

/* Bytes per second at two transfers a clock; 0 when the driver does not report it. */
static double nominal_bandwidth(int ordinal) {
  int clock = 0, width = 0; /* kHz, bits */
  if (cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, ordinal) != cudaSuccess ||
      cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, ordinal) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  return 2.0 * 1e3 * clock * width / 8;
}

/* Bytes per second between a multiprocessor and the L2 cache: 64 a clock, on every architecture with code here. */
static double nominal_multiprocessor_bandwidth(int ordinal) {
  int clock = 0; /* kHz */
  if (cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, ordinal) == cudaSuccess) return 64 * 1e3 * clock;
  (void)cudaGetLastError();
  return 0;
}

/* Inside the context. */
static void release(struct backend_device *device) {
  arrays_release(device);
  product_library_close(device->products);
  if (device->stream) (void)cudaStreamDestroy(device->stream);
  if (device->copies) (void)cudaStreamDestroy(device->copies);
  if (device->beside) (void)cudaStreamDestroy(device->beside);
  (void)cudaGetLastError();
}

void device_close(struct backend_device *device) {
  if (context_enter(device->context) == DESCENT_OK) {
    release(device);
    context_leave(device->context);
  }
  context_close(device->context);
  free(device->shared);
  free(device);
}

/* Reports why the device cannot be opened, with the free memory, which is unknown if not even a context fits. */
static descent_status no_memory(const char *name, bool has_context) {
  size_t left = 0, total = 0;
  const cudaError_t error = has_context ? cudaMemGetInfo(&left, &total) : cudaErrorMemoryAllocation;
  (void)cudaGetLastError();
  if (error != cudaSuccess)
    return module_status(DESCENT_ERROR_DEVICE, "out of memory on %s: other processes hold its memory", name);
  return module_status(DESCENT_ERROR_DEVICE, "out of memory on %s: %.1f of its %.1f MB are free", name,
                       1e-6 * (double)left, 1e-6 * (double)total);
}

/* Code for one architecture does not run on others. */
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

/* Inside the context. */
static descent_status prepare(struct backend_device *device, const struct cudaDeviceProp *properties) {
  descent_status status;
  TRY(check_code(properties));
  TRY(arrays_prepare(device));
  device->multiprocessors = properties->multiProcessorCount;
  device->bandwidth = nominal_bandwidth(device->ordinal);
  device->multiprocessor_bandwidth = nominal_multiprocessor_bandwidth(device->ordinal);
  describe(device, properties);
  CUDA_TRY(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
  CUDA_TRY(cudaStreamCreateWithFlags(&device->copies, cudaStreamNonBlocking));
  CUDA_TRY(cudaStreamCreateWithFlags(&device->beside, cudaStreamNonBlocking));
  TRY(product_library_open(device->ordinal, &device->products));
done:
  return status;
}

descent_status device_open(int ordinal, int threads, struct backend_device **result) {
  struct backend_device *device = NULL;
  struct cudaDeviceProp properties = {0};
  bool entered = false;
  descent_status status;
  TRY(check_presence(ordinal));
  CUDA_TRY(cudaGetDeviceProperties(&properties, ordinal)); /* before the context is created, which may fail */
  if (10 * properties.major + properties.minor < LEAST_CAPABILITY)
    TRY(module_status(DESCENT_ERROR_DEVICE,
                      "no CUDA: %s has compute capability %d.%d: 8.0 or later is needed (Ampere, 2020)",
                      properties.name, properties.major, properties.minor));
  device = module_allocate(1, sizeof *device, "the cuda device");
  if (!device) return DESCENT_ERROR_MEMORY;
  device->shared = module_allocate(1, sizeof *device->shared, "the cuda device");
  if (!device->shared) TRY(DESCENT_ERROR_MEMORY);
  device->ordinal = ordinal;
  device->threads = threads;
  TRY(context_open(ordinal, &device->context));
  TRY(context_enter(device->context));
  entered = true;
  TRY(prepare(device, &properties));
  *result = device;
done:
  if (status != DESCENT_OK && entered) release(device);
  if (status == DESCENT_ERROR_MEMORY) status = no_memory(properties.name, entered);
  if (entered) context_leave(device->context);
  if (status != DESCENT_OK && device) {
    context_close(device->context);
    free(device->shared);
    free(device);
  }
  return status;
}

const char *device_describe(const struct backend_device *device) { return device->description; }
