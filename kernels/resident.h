/* Copies on the device of bound data that does not change, kept from one bind to the next and shared by the programs of
 * the device. Where the plan stores X in bf16, the copy of X has the values that the gather would write: filled,
 * normalised and rounded. */
#ifndef DESCENT_KERNELS_RESIDENT_H
#define DESCENT_KERNELS_RESIDENT_H

#include "device.h"
#include "layout.h"

struct resident {
  struct resident *next; /* of the device's list */
  int users;             /* programs that have it */
  const void *host;
  int64_t host_bytes, bytes; /* of the data, of the copy */
  void *device;
  bool normalised, made; /* made: it has its rows */
  int64_t n_x, ld;       /* normalised: inputs, elements from row to row */
  float *constants;      /* normalised: (3, n_x) the fill, shift and scale that its rows have, or are to be made with */
};
enum { MOST_RESIDENTS = 16 };

/* A copy that a program has. */
struct resident_use {
  struct resident *resident;
  int64_t constants; /* normalised: the generation of the constants for which its rows were checked last; 0: none */
};

struct resident_set {
  const struct backend_device *device;
  struct device_memory *memory;
  struct resident_use at[MOST_RESIDENTS];
  int n;
  /* Normalised rows are made by the gather's kernel, from pieces of float32 rows. */
  struct gather_launch launch; /* X.element is F32 where the plan has no use for them */
  struct plan_gather gather;   /* the plan's, for its buffers */
  int64_t constants;           /* generation of fill, shift and scale, from 1 */
  void *piece;                 /* on the device; NULL: none */
  int64_t piece_bytes;
  struct resident_input *input; /* on the device: what the launch reads the piece by */
};

/* The plan's buffers have their memory. */
void resident_prepare(struct resident_set *set, const struct backend_device *device, const struct plan *plan,
                      const struct device_buffers *buffers, struct device_memory *memory);
void resident_release(struct resident_set *set);
/* Free bytes of device memory minus a reserve; what of them resident data may still take, which DESCENT_GPU_DATA_MB
 * limits on a shared GPU. */
descent_status resident_free(int64_t *bytes);
descent_status resident_room(const struct resident_set *set, int64_t *bytes);
/* Is X of `dtype` kept as normalised rows? */
bool resident_normalises(const struct resident_set *set, descent_dtype dtype);
/* Elements from row to row of normalised rows. */
int64_t resident_ld(const struct resident_set *set);
/* Of the copies that the program has, those that others share included; its memory does not count them. */
int64_t resident_bytes(const struct resident_set *set);
/* The copy of so many rows of host memory, that of another program where there is one, made now unless it is of normalised
 * rows; *resident is NULL if it does not fit. */
descent_status resident_take(struct resident_set *set, const void *host, int64_t rows, int64_t row_bytes,
                             bool normalised, struct resident **resident);
/* Makes normalised rows from those of the host, unless the constants are still those that they were made with. Where other
 * programs use these rows with other constants, *resident becomes another copy, or NULL where that does not fit. */
descent_status resident_renew(struct resident_set *set, struct resident **resident, int64_t rows);
/* A buffer of the plan has been written. True if it is a constant of normalised rows, which must then be renewed. */
bool resident_written(struct resident_set *set, int buffer);

#endif
