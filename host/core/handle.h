/* The objects that callers hold: devices, datasets, networks, trainers, predictors. Each begins with a struct handle,
 * so that every public function can tell a living object from NULL, from one that was freed and from one of another
 * kind. Their memory stays theirs: a released object waits in a list of its kind and is used for a new one only after
 * HANDLE_REST others were released behind it. So reading the first word of a stale handle is defined, and is 0.
 *
 * An object lives as long as it has references. The caller has one, which ends with handle_close, and with it the
 * handle: all checks fail from then on. A trainer holds others, of its network and its device. */
#ifndef DESCENT_CORE_HANDLE_H
#define DESCENT_CORE_HANDLE_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum handle_kind {
  HANDLE_DEVICE,
  HANDLE_DATASET,
  HANDLE_NETWORK,
  HANDLE_TRAINER,
  HANDLE_PREDICTOR,
  HANDLE_COMMUNICATOR,
  HANDLE_KINDS
};

enum { HANDLE_REST = 64 };

/* The first member of an object. */
struct handle {
  uint64_t word;               /* handle_word(kind) until the caller closes it, then 0; atomic */
  void (*clear)(void *object); /* releases what the object holds, also of one that is made in part */
  struct handle *next;         /* in the list of released objects */
  size_t size;                 /* of the whole object, bytes */
  enum handle_kind kind;
  int references; /* atomic */
};

/* What the first word of a living object of this kind is; no pointer, text or number that callers have. */
static inline uint64_t handle_word(enum handle_kind kind) { return 0xd5ce47f0a1b20000U + (uint64_t)kind; }

/* Whether `object` is a living one of this kind; for functions that return no status. Costs a load. */
static inline bool handle_alive(const void *object, enum handle_kind kind) {
  return object && __atomic_load_n(&((const struct handle *)object)->word, __ATOMIC_RELAXED) == handle_word(kind);
}

descent_status handle_refuse(const void *object, enum handle_kind kind, const char *argument);
/* ERROR_ARGUMENT, "network: is NULL" or "network: not a network, or already freed", unless it is alive. `argument` is
 * the name that the public header gives it. */
static inline descent_status handle_check(const void *object, enum handle_kind kind, const char *argument) {
  return handle_alive(object, kind) ? DESCENT_OK : handle_refuse(object, kind, argument);
}

descent_status argument_refuse(const char *argument);
/* ERROR_ARGUMENT, "X: is NULL", for a pointer that must not be. */
static inline descent_status argument_check(const void *pointer, const char *argument) {
  return pointer ? DESCENT_OK : argument_refuse(argument);
}

/* A zeroed object of `size` bytes, 64-byte aligned, alive, with the caller's reference; NULL with the error set. All
 * objects of a kind have one size. `clear` is called when the last reference goes. */
void *handle_create(enum handle_kind kind, size_t size, void (*clear)(void *object), const char *what);

/* Ends the caller's reference; the handle is dead at once. Does nothing for NULL, a handle that is closed already and
 * an object of another kind. */
void handle_close(void *object, enum handle_kind kind);

/* One more reference, and one less: the last one clears the object. */
void handle_retain(void *object);
void handle_release(void *object);

#endif
