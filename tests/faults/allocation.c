/* What allocates in our code, replaced at link time (ld --wrap): the k-th allocation fails, once or from then on. */
#include "allocation.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <zlib.h>

static atomic_long count;
static long first, last; /* that fail, from 1; first 0: none */

void allocation_fail(long k, bool persistent) {
  first = k;
  last = persistent ? __LONG_MAX__ : k;
  count = 0;
}

long allocation_count(void) { return count; }

static bool fails(void) {
  const long k = ++count;
  if (!first || k < first || k > last) return false;
  errno = ENOMEM;
  return true;
}

/* WRAP(type, name, (parameters), (arguments), failure) */
#define WRAP(type, name, parameters, arguments, failure) \
  type __real_##name parameters;                         \
  type __wrap_##name parameters;                         \
  type __wrap_##name parameters { return fails() ? (failure) : __real_##name arguments; }

WRAP(void *, malloc, (size_t size), (size), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *memory, size_t size), (memory, size), NULL)
WRAP(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), NULL)
WRAP(char *, strdup, (const char *text), (text), NULL)
WRAP(char *, strndup, (const char *text, size_t n), (text, n), NULL)
WRAP(char *, realpath, (const char *path, char *resolved), (path, resolved), NULL)
WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
WRAP(FILE *, fdopen, (int descriptor, const char *mode), (descriptor, mode), NULL)
WRAP(FILE *, open_memstream, (char **text, size_t *size), (text, size), NULL)
WRAP(DIR *, opendir, (const char *path), (path), NULL)
WRAP(gzFile, gzdopen, (int descriptor, const char *mode), (descriptor, mode), NULL)
WRAP(ssize_t, getline, (char **line, size_t *size, FILE *file), (line, size, file), -1)
WRAP(int, vasprintf, (char **text, const char *format, va_list arguments), (text, format, arguments), -1)
WRAP(void *, mmap, (void *at, size_t length, int protection, int flags, int file, off_t offset),
     (at, length, protection, flags, file, offset), MAP_FAILED)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument),
     (thread, attributes, start, argument), EAGAIN)

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...) {
  va_list arguments;
  if (fails()) return -1;
  va_start(arguments, format);
  const int length = __real_vasprintf(text, format, arguments);
  va_end(arguments);
  return length;
}

void *allocation_malloc(size_t size) { return __wrap_malloc(size); }
