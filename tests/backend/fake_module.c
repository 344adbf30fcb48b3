/* Stand-ins for the GPU's module, one per FAKE_..., for the tests of descent_device_open. */
#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>

struct backend_device {
  char description[32];
};

static const struct backend_host *library;

static descent_status fake_open(int ordinal, int threads, struct backend_device **device) {
  (void)threads;
#ifdef FAKE_no_gpu
  return library->status_set(DESCENT_ERROR_DEVICE, "cuda:%d: no such device", ordinal);
#endif
#ifdef FAKE_busy
  if (ordinal != 2) return library->status_set(DESCENT_ERROR_DEVICE, "cuda:%d: others use it", ordinal);
#endif
  *device = malloc(sizeof **device);
  if (!*device) return library->status_set(DESCENT_ERROR_MEMORY, "out of memory");
  snprintf((*device)->description, sizeof(*device)->description, "fake GPU %d", ordinal);
  return DESCENT_OK;
}

/* The second and the third have the most free memory; the silent ones do not say. */
static descent_status fake_list(struct backend_gpu gpus[BACKEND_MOST_GPUS], int *count) {
#ifdef FAKE_no_gpu
  return library->status_set(DESCENT_ERROR_DEVICE, "cuda:0: no such device");
#endif
#ifdef FAKE_silent
  const int64_t memory_free[] = {-1, -1, -1};
#else
  const int64_t memory_free[] = {1, 3, 3};
#endif
  static const char *const uuids[] = {"GPU-aa00", "GPU-aa11", "MIG-bb22"};
  for (*count = 0; *count < 3; ++*count) {
    gpus[*count] = (struct backend_gpu){.model = "fake GPU", .memory_free = memory_free[*count], .memory_total = 4};
    snprintf(gpus[*count].uuid, sizeof gpus->uuid, "%s", uuids[*count]);
  }
  return DESCENT_OK;
}

static void fake_close(struct backend_device *device) { free(device); }
static const char *fake_describe(const struct backend_device *device) { return device->description; }

static const struct backend fake = {
    .name = "cuda", .list = fake_list, .open = fake_open, .close = fake_close, .describe = fake_describe};

#ifdef FAKE_stale
enum { INTERFACE = BACKEND_INTERFACE + 1 };
#else
enum { INTERFACE = BACKEND_INTERFACE };
#endif
#ifdef FAKE_foreign
#define descent_backend something_else
#endif
backend_module descent_backend __attribute__((visibility("default")));
const struct backend *descent_backend(const struct backend_host *host) {
  library = host;
  return host->interface == INTERFACE ? &fake : NULL;
}
