/* NVML, loaded for one query and closed again. Its header is not part of every toolkit; the functions and the struct
 * used here have had this form since 2012 (nvml.h: nvmlMemory_t, nvmlDeviceGetMemoryInfo). */
#include "nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum { NVML_SUCCESS = 0 };
typedef struct nvml_device *nvml_device;
struct nvml_memory { /* bytes */
  unsigned long long total, free, used;
};

struct nvml {
  int (*init)(void);
  int (*shutdown)(void);
  int (*driver_version)(char *text, unsigned length);
  int (*device_by_uuid)(const char *uuid, nvml_device *device);
  int (*memory_info)(nvml_device device, struct nvml_memory *memory);
};

static bool find_functions(void *handle, struct nvml *nvml) {
  const struct {
    const char *name;
    void *at;
  } functions[] = {{"nvmlInit_v2", &nvml->init},
                   {"nvmlShutdown", &nvml->shutdown},
                   {"nvmlSystemGetDriverVersion", &nvml->driver_version},
                   {"nvmlDeviceGetHandleByUUID", &nvml->device_by_uuid},
                   {"nvmlDeviceGetMemoryInfo", &nvml->memory_info}};
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *const symbol = dlsym(handle, functions[i].name);
    if (!symbol) return false;
    memcpy(functions[i].at, &symbol, sizeof symbol);
  }
  return true;
}

static void fill(const struct nvml *nvml, struct backend_gpu *gpu, const char *driver) {
  nvml_device device;
  struct nvml_memory memory;
  snprintf(gpu->driver, sizeof gpu->driver, "%s", driver);
  if (nvml->device_by_uuid(gpu->uuid, &device) == NVML_SUCCESS && nvml->memory_info(device, &memory) == NVML_SUCCESS &&
      memory.free <= memory.total)
    gpu->memory_free = (int64_t)memory.free;
}

void nvml_fill(struct backend_gpu *gpus, int count) {
  struct nvml nvml;
  char driver[sizeof gpus->driver] = "";
  void *const handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return;
  if (find_functions(handle, &nvml) && nvml.init() == NVML_SUCCESS) {
    if (nvml.driver_version(driver, sizeof driver) != NVML_SUCCESS) *driver = 0;
    for (int i = 0; i < count; i++) fill(&nvml, &gpus[i], driver);
    (void)nvml.shutdown();
  }
  (void)dlclose(handle);
}
