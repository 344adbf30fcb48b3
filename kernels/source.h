/* The bound data on the device: resident, streamed through windows, or the caller's in the device's memory. */
#ifndef DESCENT_KERNELS_SOURCE_H
#define DESCENT_KERNELS_SOURCE_H

#include "fusion.h"
#include "resident.h"

enum { QUEUE_STEPS = 1024 }; /* the most steps that are queued at a time */

enum source_kind { SOURCE_X, SOURCE_Y, SOURCE_W, SOURCE_INDEX, SOURCES };

struct bound_source {
  int buffer;          /* of the plan; PLAN_NONE */
  descent_dtype dtype; /* of the elements bound now or last */
  const void *data;
  int64_t rows, row_bytes;
  bool constant;
  struct resident *resident; /* the device's copy; NULL: none */
  const void *on_device;     /* the same copy, or the caller's memory on the device; NULL: neither */
  bool in_place;             /* `data` is on the device */
};

/* Two slots of rows, used in turn: while a step computes on one, the other is filled. Slot s begins at row s * rows. */
struct window {
  int64_t rows;             /* of a slot: at least a step of the plan's batch */
  int64_t row_bytes;        /* of all sources together, at most */
  char *host[SOURCES];      /* pinned */
  char *device[SOURCES];    /* NULL: not streamed */
  struct plan_step *placed; /* (QUEUE_STEPS) the steps of the slot that was filled last, addressing it */
  cudaEvent_t copied[2], consumed[2];
  bool used[2];
  int next;
};

struct source_set {
  const struct backend_device *device;
  const struct fusion *fusion;
  const struct plan *plan;
  struct device_memory *memory;
  struct source_table *table; /* on the device */
  struct bound_source at[SOURCES];
  struct resident_set residents;
  struct window window;
  void *staging[SOURCES]; /* on the device, (batch, columns) float32 of arrays that are not used in place; NULL: none */
  struct source_table uploaded; /* the contents of the device's table */
  bool stale;                   /* bound since the table was written */
  bool streaming;
  const char *members;  /* how it runs beside other programs, for people; NULL: alone */
  const char *exchange; /* how ranks exchange gradients, for people; NULL: nothing to say */
  char placement[400];
};

descent_status source_prepare(struct source_set *set, const struct backend_device *device, const struct plan *plan,
                              const struct device_buffers *buffers, const struct fusion *fusion,
                              struct device_memory *memory);
void source_release(struct source_set *set);
/* Of the program's memory: what it has for the data that it was bound to, apart from shared copies. */
int64_t source_bytes(const struct source_set *set);
descent_status source_bind(struct source_set *set, int buffer, descent_dtype dtype, const void *data, int64_t rows,
                           bool constant);
/* As bind_array of struct backend. */
descent_status source_bind_array(struct source_set *set, int buffer, const descent_array *array, bool constant);
/* A buffer of the plan has been written: rows that were normalised with its values are made again. */
void source_written(struct source_set *set, int buffer);
/* Is a source the caller's memory on the device? */
bool source_in_place(const struct source_set *set);
/* Before a run with a gather: updates the device's table. *streaming: the rows must be streamed. */
descent_status source_ready(struct source_set *set, bool *streaming);
/* Fills the next slot with the rows of as many of these steps as fit, at most QUEUE_STEPS, and makes the compute stream
 * wait for the copy. *placed: these *taken steps, addressing the slot, valid until the next call. Call
 * source_consumed() after launching them. */
descent_status source_fill(struct source_set *set, bool shuffle, const struct plan_step *steps, int64_t n,
                           const struct plan_step **placed, int64_t *taken);
descent_status source_consumed(struct source_set *set);
/* How the program runs beside others, a text that stays valid: a part of the placement from now on. */
void source_tell(struct source_set *set, const char *members);

#endif
