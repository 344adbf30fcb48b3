/* Finds NCCL: by the loader's rules (LD_LIBRARY_PATH, the module's run path, the system's folders), or where
 * DESCENT_NCCL says. */
#include "nccl.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef NCCL_LIBRARY
#define NCCL_LIBRARY "libnccl.so.2"
#endif

/* NCCL_VERSION of nccl.h: since 2.9 major, minor and patch have two digits each, before that minor and patch one. */
void nccl_version_text(int version, char *text, size_t size) {
  const int major = version / (version < 10000 ? 1000 : 10000), minor = version / 100 % (version < 10000 ? 10 : 100);
  snprintf(text, size, "%d.%d.%d", major, minor, version % 100);
}

static bool find_functions(void *handle, const char *name, struct nccl *nccl, char problem[NCCL_PROBLEM]) {
  const struct {
    const char *name;
    void *at;
  } functions[] = {
#define NCCL_FIND(result, function, parameters) {#function, &nccl->function},
      NCCL_FUNCTIONS(NCCL_FIND)
#undef NCCL_FIND
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *const symbol = dlsym(handle, functions[i].name);
    if (!symbol) {
      snprintf(problem, NCCL_PROBLEM, "%.80s has no %s: NCCL 2.7 or newer is needed", name, functions[i].name);
      return false;
    }
    memcpy(functions[i].at, &symbol, sizeof symbol);
  }
  return true;
}

bool nccl_load(struct nccl *nccl, char problem[NCCL_PROBLEM]) {
  const char *const given = getenv("DESCENT_NCCL");
  const char *const name = given && *given ? given : NCCL_LIBRARY;
  char text[32];
  if (strcmp(name, "off") == 0) {
    snprintf(problem, NCCL_PROBLEM, "DESCENT_NCCL is off");
    return false;
  }
  void *const handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *const reason = dlerror();
    snprintf(problem, NCCL_PROBLEM, "NCCL cannot be loaded: %.130s", reason ? reason : name);
    return false;
  }
  if (!find_functions(handle, name, nccl, problem)) return false;
  if (nccl->ncclGetVersion(&nccl->version) != ncclSuccess) {
    snprintf(problem, NCCL_PROBLEM, "%.120s does not report its version", name);
    return false;
  }
  if (nccl->version >= NCCL_LEAST_VERSION) return true;
  nccl_version_text(nccl->version, text, sizeof text);
  snprintf(problem, NCCL_PROBLEM, "%.80s is NCCL %s: 2.7 or newer is needed", name, text);
  return false;
}
