#include "core/module.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/status.h"

enum { PATH_SIZE = 4096, PLACES = 3 };

/* The text before the last '/' of `path`, in place; false when there is none. */
static bool cut_directory(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash) return false;
  *slash = 0;
  return true;
}

/* Directory of the object that holds this code: libdescent.so, or the executable when linked statically. */
static bool own_directory(char *path) {
  Dl_info info;
  /* POSIX allows a function's address as an object pointer, ISO C does not: convert through an integer. */
  if (!dladdr((const void *)(uintptr_t)&own_directory, &info) || !info.dli_fname) return false;
  return snprintf(path, PATH_SIZE, "%s", info.dli_fname) < PATH_SIZE && cut_directory(path);
}

static bool executable_directory(char *path) {
  ssize_t length = readlink("/proc/self/exe", path, PATH_SIZE - 1);
  if (length <= 0) return false;
  path[length] = 0;
  return cut_directory(path);
}

/* The places without DESCENT_BACKEND_PATH; how many there are. */
static int usual_places(char directories[PLACES][PATH_SIZE]) {
  int n = 0;
  if (own_directory(directories[n])) n++;
  if (!executable_directory(directories[n])) return n;
  n++;
  if (!executable_directory(directories[n]) || !cut_directory(directories[n])) return n;
  const size_t length = strlen(directories[n]);
  if (snprintf(directories[n] + length, PATH_SIZE - length, "/lib") < (int)(PATH_SIZE - length)) n++;
  return n;
}

/* Opens the module in `directory`; on failure NULL, and *found says whether the file exists. It stays loaded: neither a
 * CUDA runtime nor an MPI survives being unloaded. */
static void *load_from(const char *directory, const char *file, bool *found) {
  char path[PATH_SIZE + 64];
  const int length = snprintf(path, sizeof path, "%s/%s", directory, file);
  *found = length < (int)sizeof path && access(path, F_OK) == 0;
  return *found ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
}

static descent_status find(const char *subject, const char *file, const char *absent, void **handle) {
  char directories[PLACES][PATH_SIZE];
  const char *given = secure_getenv("DESCENT_BACKEND_PATH");
  int n = 1;
  if (!given || !*given)
    n = usual_places(directories);
  else if (snprintf(directories[0], PATH_SIZE, "%s", given) >= PATH_SIZE)
    return status_set(DESCENT_ERROR_DEVICE, "no %s: DESCENT_BACKEND_PATH is longer than %d bytes", subject,
                      PATH_SIZE - 1);
  for (int i = 0; i < n; i++) {
    bool found;
    *handle = load_from(directories[i], file, &found);
    if (*handle) return DESCENT_OK;
    if (found) return status_set(DESCENT_ERROR_DEVICE, "no %s: %s", subject, dlerror());
  }
  if (given && *given)
    return status_set(DESCENT_ERROR_DEVICE, "no %s: DESCENT_BACKEND_PATH %s has no %s", subject, given, file);
  return status_set(DESCENT_ERROR_DEVICE, "no %s: %s", subject, absent);
}

descent_status module_load(const char *subject, const char *file, const char *name, const char *absent, void **symbol) {
  void *handle;
  const descent_status status = find(subject, file, absent, &handle);
  if (status != DESCENT_OK) return status;
  *symbol = dlsym(handle, name);
  dlclose(handle);
  return *symbol ? DESCENT_OK
                 : status_set(DESCENT_ERROR_DEVICE, "no %s: %s is not a descent module (no %s)", subject, file, name);
}

descent_status module_refuse(const char *subject, const char *file) {
  return status_set(DESCENT_ERROR_DEVICE, "no %s: %s was built for another version of descent: rebuild it", subject,
                    file);
}
