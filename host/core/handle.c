/* Objects that callers hold. Released ones wait in a first-in first-out list for each kind; see handle.h. */
#include "core/handle.h"

#include <pthread.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"

static const char *const kind_names[HANDLE_KINDS] = {"device",  "dataset",   "network",
                                                     "trainer", "predictor", "communicator"};

descent_status handle_refuse(const void *object, enum handle_kind kind, const char *argument) {
  if (!object) return argument_refuse(argument);
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: not a %s, or already freed", argument, kind_names[kind]);
}

descent_status argument_refuse(const char *argument) {
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: is NULL", argument);
}

/* ---- released objects ------------------------------------------------------------------------------------------- */

static struct released {
  struct handle *first, *last;
  int64_t count;
} released[HANDLE_KINDS];
static pthread_mutex_t released_lock = PTHREAD_MUTEX_INITIALIZER;

/* A child of fork() must not find the lock held by a thread that it does not have. */
static void lock_released(void) { pthread_mutex_lock(&released_lock); }
static void unlock_released(void) { pthread_mutex_unlock(&released_lock); }
static void keep_lock_from_forks(void) { pthread_atfork(lock_released, unlock_released, unlock_released); }

/* The object that was released first, or NULL if it must rest longer. */
static struct handle *reuse(enum handle_kind kind) {
  struct released *list = &released[kind];
  struct handle *handle = NULL;
  lock_released();
  if (list->count > HANDLE_REST) {
    handle = list->first;
    list->first = handle->next;
    list->count--;
  }
  unlock_released();
  return handle;
}

static void rest(struct handle *handle) {
  struct released *list = &released[handle->kind];
  handle->next = NULL;
  lock_released();
  if (list->count++ == 0)
    list->first = handle;
  else
    list->last->next = handle;
  list->last = handle;
  unlock_released();
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

void *handle_create(enum handle_kind kind, size_t size, void (*clear)(void *object), const char *what) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, keep_lock_from_forks);
  struct handle *handle = reuse(kind);
  if (!handle) handle = memory_allocate(1, size, what);
  if (!handle) return NULL;
  handle->clear = clear;
  handle->size = size;
  handle->kind = kind;
  __atomic_store_n(&handle->references, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&handle->word, handle_word(kind), __ATOMIC_RELEASE);
  return handle;
}

void handle_close(void *object, enum handle_kind kind) {
  struct handle *handle = object;
  uint64_t alive = handle_word(kind);
  if (handle && __atomic_compare_exchange_n(&handle->word, &alive, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
    handle_release(object);
}

void handle_retain(void *object) {
  struct handle *handle = object;
  __atomic_add_fetch(&handle->references, 1, __ATOMIC_RELAXED);
}

void handle_release(void *object) {
  struct handle *handle = object;
  if (__atomic_sub_fetch(&handle->references, 1, __ATOMIC_ACQ_REL) > 0) return;
  handle->clear(object);
  memset((char *)object + sizeof *handle, 0, handle->size - sizeof *handle);
  rest(handle);
}
