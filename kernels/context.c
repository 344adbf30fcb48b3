/* Contexts through the driver's stack of current contexts. The runtime's functions work on the context that is current,
 * whichever interface made it so (CUDA Runtime API, "Interactions with the CUDA Driver API"). The driver's functions come
 * from the runtime, so that nothing links libcuda. */
#include "context.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct CUctx_st; /* the driver's context; cuda.h is not part of every installation of the runtime */

struct driver { /* the results of these functions have the numbers of cudaError_t */
  int (*device_get)(int *device, int ordinal);
  int (*primary_retain)(struct CUctx_st **context, int device);
  int (*push)(struct CUctx_st *context);
  int (*pop)(struct CUctx_st **context);
};

struct device_context {
  pthread_mutex_t lock;
  struct CUctx_st *primary;
  struct driver driver;
};

static cudaError_t find(const char *name, void **function) {
  enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  enum { INTERFACE = 12000 }; /* the version of CUDA whose form of the functions is meant */
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, function, INTERFACE, cudaEnableDefault, &found);
#else
  const cudaError_t error = cudaGetDriverEntryPoint(name, function, cudaEnableDefault, &found);
#endif
  return error != cudaSuccess || found == cudaDriverEntryPointSuccess ? error : cudaErrorSymbolNotFound;
}

static descent_status find_driver(struct driver *driver) {
  const struct {
    const char *name;
    void *at;
  } functions[] = {{"cuDeviceGet", &driver->device_get},
                   {"cuDevicePrimaryCtxRetain", &driver->primary_retain},
                   {"cuCtxPushCurrent", &driver->push},
                   {"cuCtxPopCurrent", &driver->pop}};
  descent_status status = DESCENT_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    void *symbol = NULL;
    CUDA_TRY(find(functions[i].name, &symbol));
    memcpy(functions[i].at, &symbol, sizeof symbol);
  }
done:
  return status;
}

/* Each context is retained once and kept: the runtime's state for it would not survive its end. */
static descent_status retain(const struct driver *driver, int ordinal, struct CUctx_st **primary) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static struct CUctx_st *retained[BACKEND_MOST_GPUS];
  struct CUctx_st *context = NULL;
  int device = 0;
  descent_status status = DESCENT_OK;
  (void)pthread_mutex_lock(&lock);
  if (ordinal < BACKEND_MOST_GPUS) context = retained[ordinal];
  if (!context) {
    CUDA_TRY((cudaError_t)driver->device_get(&device, ordinal));
    CUDA_TRY((cudaError_t)driver->primary_retain(&context, device));
    if (ordinal < BACKEND_MOST_GPUS) retained[ordinal] = context;
  }
  *primary = context;
done:
  (void)pthread_mutex_unlock(&lock);
  return status;
}

descent_status context_open(int ordinal, struct device_context **result) {
  struct device_context *context = module_allocate(1, sizeof *context, "the device's context");
  descent_status status;
  if (!context) return DESCENT_ERROR_MEMORY;
  (void)pthread_mutex_init(&context->lock, NULL);
  TRY(find_driver(&context->driver));
  TRY(retain(&context->driver, ordinal, &context->primary));
  *result = context;
  context = NULL;
done:
  context_close(context);
  return status;
}

void context_close(struct device_context *context) {
  if (!context) return;
  (void)pthread_mutex_destroy(&context->lock);
  free(context);
}

descent_status context_enter(struct device_context *context) {
  descent_status status = DESCENT_OK;
  (void)pthread_mutex_lock(&context->lock);
  CUDA_TRY((cudaError_t)context->driver.push(context->primary));
done:
  if (status != DESCENT_OK) (void)pthread_mutex_unlock(&context->lock);
  return status;
}

void context_leave(struct device_context *context) {
  struct CUctx_st *popped;
  (void)context->driver.pop(&popped);
  (void)pthread_mutex_unlock(&context->lock);
}
