/* Devices by name: "cpu" and "reference" are part of the library, "cuda" is a shared object that is searched for when
 * it is requested, so that one build of the library runs on machines with and without a GPU. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/process.h"
#include "core/status.h"
#include "core/system.h"

enum {
  MAX_THREADS = 256,
  /* Bytes: a small training takes 10 MB in blocks that are too small to be checked one by one, among them the packed
   * operands of the products. */
  LEAST_MEMORY = 24 << 20
};

/* ---- the module of the GPU ---- */

static descent_status find_cuda(const struct backend **backend) {
  static const struct backend_host host = {BACKEND_INTERFACE, status_set};
#ifdef DESCENT_CUDA_BUILT
  static const char absent[] = "libdescent_cuda.so is not beside the library (see DESCENT_BACKEND_PATH)";
#else
  static const char absent[] = "this build of descent has no CUDA backend";
#endif
  void *symbol;
  const descent_status status = module_load("CUDA", "libdescent_cuda.so", "descent_backend", absent, &symbol);
  if (status != DESCENT_OK) return status;
  backend_module *module;
  memcpy(&module, &symbol, sizeof module);
  *backend = module(&host);
  return *backend ? DESCENT_OK : module_refuse("CUDA", "libdescent_cuda.so");
}

/* ---- names ---- */

/* "cuda" is 0, "cuda:<i>" is i; false for anything else. */
static bool parse_cuda(const char *name, int *ordinal) {
  enum { MAX_DIGITS = 3 };
  *ordinal = 0;
  if (strcmp(name, "cuda") == 0) return true;
  if (strncmp(name, "cuda:", 5) != 0) return false;
  const char *digits = name + 5;
  size_t length = strlen(digits);
  if (length < 1 || length > MAX_DIGITS || (length > 1 && *digits == '0')) return false;
  for (; *digits; digits++) {
    if (!isdigit((unsigned char)*digits)) return false;
    *ordinal = *ordinal * 10 + (*digits - '0');
  }
  return true;
}

static descent_status open_gpu(struct descent_device *device, int ordinal, int threads) {
  const descent_status status = device->backend->open(ordinal, threads, &device->device);
  if (status == DESCENT_OK) snprintf(device->name, sizeof device->name, "cuda:%d", ordinal);
  return status;
}

static descent_status list_gpus(const struct backend **backend, struct backend_gpu gpus[BACKEND_MOST_GPUS], int *n) {
  descent_status status = find_cuda(backend);
  if (status == DESCENT_OK) status = (*backend)->list(gpus, n);
  return status;
}

/* ERROR_DEVICE, listing the UUIDs that exist. */
static descent_status no_such_uuid(const char *what, const char *uuid, const struct backend_gpu *gpus, int n) {
  enum { SHOWN = 8, TEXT = SHOWN * (sizeof gpus->uuid + 2) + 8 };
  char known[TEXT] = "";
  const bool is_part = strncmp(uuid, "MIG-", 4) == 0;
  for (int i = 0, length = 0; i < n && i <= SHOWN; i++)
    length += snprintf(known + length, sizeof known - (size_t)length, "%s%s", i ? ", " : "",
                       i < SHOWN ? gpus[i].uuid : "...");
  return status_set(
      DESCENT_ERROR_DEVICE, "%s '%s' (there %s %s)%s", what, uuid, n == 1 ? "is" : "are", known,
      is_part ? "; to use a part of a GPU set CUDA_VISIBLE_DEVICES to its whole UUID, which nvidia-smi -L lists" : "");
}

/* Opens a GPU by its UUID or a unique prefix of it. */
static descent_status open_uuid(struct descent_device *device, const char *uuid, int threads) {
  struct backend_gpu gpus[BACKEND_MOST_GPUS];
  int n = 0, found = 0, ordinal = 0;
  const descent_status status = list_gpus(&device->backend, gpus, &n);
  if (status != DESCENT_OK) return status;
  for (int i = 0; i < n; i++) {
    if (strncmp(gpus[i].uuid, uuid, strlen(uuid)) != 0) continue;
    ordinal = i;
    found++;
  }
  if (found == 0) return no_such_uuid("no GPU has the UUID", uuid, gpus, n);
  if (found > 1) return no_such_uuid("more than one GPU's UUID begins with", uuid, gpus, n);
  return open_gpu(device, ordinal, threads);
}

/* Opens the usable GPU with the most free memory, the first of equals. On failure the reason is that of the preferred
 * one. */
static descent_status open_freest(struct descent_device *device, int threads) {
  struct backend_gpu gpus[BACKEND_MOST_GPUS];
  bool tried[BACKEND_MOST_GPUS] = {false};
  char reason[sizeof device->note] = "";
  int n = 0;
  descent_status status = list_gpus(&device->backend, gpus, &n);
  for (int attempts = 0; attempts < n; attempts++) {
    int best = 0;
    while (best < n - 1 && tried[best]) best++;
    for (int i = best + 1; i < n; i++)
      if (!tried[i] && gpus[i].memory_free > gpus[best].memory_free) best = i;
    tried[best] = true;
    status = open_gpu(device, best, threads);
    if (status == DESCENT_OK) return DESCENT_OK;
    if (!*reason) snprintf(reason, sizeof reason, "%s", descent_last_error());
  }
  return *reason ? status_set(status, "%s", reason) : status;
}

static descent_status open_builtin(struct descent_device *device, const struct backend *backend, int threads) {
  device->backend = backend;
  snprintf(device->name, sizeof device->name, "%s", backend->name);
  return backend->open(0, threads, &device->device);
}

static descent_status open_named(struct descent_device *device, const char *name, int threads) {
  int ordinal;
  if (strcmp(name, "cpu") == 0) return open_builtin(device, &backend_cpu, threads);
  if (strcmp(name, "reference") == 0) return open_builtin(device, &backend_reference, threads);
  if (parse_cuda(name, &ordinal)) {
    const descent_status status = find_cuda(&device->backend);
    return status == DESCENT_OK ? open_gpu(device, ordinal, threads) : status;
  }
  if (strncmp(name, "cuda:GPU-", 9) == 0 || strncmp(name, "cuda:MIG-", 9) == 0)
    return open_uuid(device, name + strlen("cuda:"), threads);
  if (strcmp(name, "auto") == 0) {
    const descent_status status = open_freest(device, threads);
    if (status != DESCENT_ERROR_DEVICE) return status; /* a wrong setting must not select another device */
    snprintf(device->note, sizeof device->note, "%s", descent_last_error());
    return open_builtin(device, &backend_cpu, threads);
  }
  return status_set(DESCENT_ERROR_ARGUMENT,
                    "unknown device '%s' (known: auto, cpu, reference, cuda, cuda:<i>, cuda:GPU-<uuid>, "
                    "cuda:MIG-<uuid>)",
                    name);
}

/* ---- public ---- */

static void device_clear(void *object) {
  struct descent_device *device = object;
  if (device->device && device->generation == process_generation()) device->backend->close(device->device);
}

descent_status device_check(const descent_device *device, const char *argument) {
  const descent_status status = handle_check(device, HANDLE_DEVICE, argument);
  if (status != DESCENT_OK || device->generation == process_generation()) return status;
  return status_set(DESCENT_ERROR_DEVICE, "%s %s was opened before fork(): open a device in the child instead",
                    argument, device->name);
}

descent_status descent_device_open(const char *name, int threads, descent_device **device) {
  if (!name) return argument_refuse("name");
  if (!device) return argument_refuse("device");
  if (threads < 0 || threads > MAX_THREADS)
    return status_set(DESCENT_ERROR_ARGUMENT, "threads %d: must be 0 (one per usable core) to %d", threads,
                      MAX_THREADS);
  const descent_status enough = memory_require("", LEAST_MEMORY, "a device");
  if (enough != DESCENT_OK) return enough;
  struct descent_device *opened = handle_create(HANDLE_DEVICE, sizeof *opened, device_clear, "the device");
  if (!opened) return DESCENT_ERROR_MEMORY;
  opened->generation = process_generation();
  const int cores = system_cores_usable();
  opened->threads = threads ? threads : cores < MAX_THREADS ? cores : MAX_THREADS;
  descent_status status = open_named(opened, name, opened->threads);
  if (status != DESCENT_OK) {
    descent_device_close(opened);
    return status;
  }
  *device = opened;
  return DESCENT_OK;
}

void descent_device_close(descent_device *device) { handle_close(device, HANDLE_DEVICE); }

const char *descent_device_description(const descent_device *device) {
  return handle_alive(device, HANDLE_DEVICE) ? device->backend->describe(device->device) : "";
}

const char *descent_device_name(const descent_device *device) {
  return handle_alive(device, HANDLE_DEVICE) ? device->name : "";
}

const char *descent_device_note(const descent_device *device) {
  return handle_alive(device, HANDLE_DEVICE) ? device->note : "";
}

descent_status descent_device_list(void (*on_device)(void *user, const descent_device_info *info), void *user) {
  struct backend_gpu gpus[BACKEND_MOST_GPUS];
  const struct backend *backend;
  int n = 0;
  if (!on_device) return argument_refuse("on_device");
  const descent_status status = list_gpus(&backend, gpus, &n);
  for (int i = 0; status == DESCENT_OK && i < n; i++) {
    const struct backend_gpu *const gpu = &gpus[i];
    char name[16];
    snprintf(name, sizeof name, "cuda:%d", i);
    const descent_device_info info = {.name = name,
                                      .model = gpu->model,
                                      .uuid = gpu->uuid,
                                      .pci = gpu->pci,
                                      .driver = gpu->driver,
                                      .cuda_driver = gpu->cuda_driver,
                                      .cuda_runtime = gpu->cuda_runtime,
                                      .cublas = gpu->cublas,
                                      .compute_major = gpu->compute_major,
                                      .compute_minor = gpu->compute_minor,
                                      .multiprocessors = gpu->multiprocessors,
                                      .memory_free = gpu->memory_free,
                                      .memory_total = gpu->memory_total};
    on_device(user, &info);
  }
  return status;
}
