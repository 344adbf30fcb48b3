/* Linux grants allocations beyond the available memory and kills the process on first touch, so the available memory is
 * checked before a large allocation. */
#include "core/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "core/system.h"

bool size_product(int64_t a, int64_t b, int64_t *product) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

enum {
  CHECK_ABOVE = 1 << 20, /* bytes: checking takes longer than filling a smaller block */
  RESERVE = 8 << 20      /* for all that is not checked */
};

bool memory_fits(int64_t bytes) { return bytes <= CHECK_ABOVE || bytes <= system_memory_available("") - RESERVE; }

descent_status memory_require(const char *root, int64_t bytes, const char *what) {
  const int64_t available = system_memory_available(root);
  if (available >= bytes) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MEMORY,
                    "only %" PRId64
                    " MB of memory are available (see the limits of this machine and of its control "
                    "groups): %s needs at least %" PRId64 " MB",
                    available >> 20, what, bytes >> 20);
}

static void *allocation_failed(int64_t bytes, const char *what) {
  status_set(DESCENT_ERROR_MEMORY, "cannot allocate %.3g GB for %s", (double)bytes * 1e-9, what);
  return NULL;
}

static bool byte_count(int64_t count, size_t size, const char *what, int64_t *bytes) {
  if (size_product(count, (int64_t)size, bytes) && *bytes <= INT64_MAX - 64) return true;
  status_set(DESCENT_ERROR_MEMORY, "cannot allocate %lld x %zu bytes for %s", (long long)count, size, what);
  return false;
}

void *memory_allocate(int64_t count, size_t size, const char *what) {
  int64_t bytes;
  if (count == 0) count = 1;
  if (!byte_count(count, size, what, &bytes)) return NULL;
  size_t rounded = ((size_t)bytes + 63) / 64 * 64;
  void *memory = memory_fits(bytes) ? aligned_alloc(64, rounded) : NULL;
  if (!memory) return allocation_failed(bytes, what);
  memset(memory, 0, rounded);
  return memory;
}

void *memory_resize(void *memory, int64_t from, int64_t to, size_t size, const char *what) {
  int64_t bytes;
  if (to == 0) to = 1;
  if (!byte_count(to, size, what, &bytes)) return NULL;
  void *resized = to <= from || memory_fits((to - from) * (int64_t)size) ? realloc(memory, (size_t)bytes) : NULL;
  return resized ? resized : allocation_failed(bytes, what);
}

void memory_free_texts(char **texts, int64_t n) {
  for (int64_t i = 0; texts && i < n; i++) free(texts[i]);
  free(texts);
}
