/* Stand-ins for the GPU's module, one per FAKE_...: what descent_device_open makes of each. */
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
  *device = malloc(sizeof **device);
  if (!*device) return library->status_set(DESCENT_ERROR_MEMORY, "out of memory");
  snprintf((*device)->description, sizeof(*device)->description, "fake GPU %d", ordinal);
  return DESCENT_OK;
}

static void fake_close(struct backend_device *device) { free(device); }
static const char *fake_describe(const struct backend_device *device) { return device->description; }

static const struct backend fake = {.name = "cuda", .open = fake_open, .close = fake_close, .describe = fake_describe};

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
