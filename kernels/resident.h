/* Copies on the device of bound data that does not change, kept from one bind to the next. Where the plan stores X in
 * bf16, the copy of X has the values that the gather would write: filled, normalised and rounded. */
#ifndef DESCENT_KERNELS_RESIDENT_H
#define DESCENT_KERNELS_RESIDENT_H

#include "device.h"
#include "layout.h"

struct resident {
  const void *host;
  int64_t host_bytes, bytes; /* of the data, of the copy */
  void *device;
  bool normalised;
  int64_t constants; /* normalised: the generation of the constants that it was made with; 0: not made yet */
};
enum { MOST_RESIDENTS = 16 };

struct resident_set {
  const struct backend_device *device;
  struct device_memory *memory;
  struct resident at[MOST_RESIDENTS];
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
/* The copy of so many rows of host memory, made now unless it is of normalised rows; *resident is NULL if it does not
 * fit. */
descent_status resident_take(struct resident_set *set, const void *host, int64_t rows, int64_t row_bytes,
                             bool normalised, struct resident **resident);
/* Makes normalised rows from those of the host, unless the constants are still those that they were made with. */
descent_status resident_renew(struct resident_set *set, struct resident *resident, int64_t rows);
/* A buffer of the plan has been written. True if it is a constant of normalised rows, which must then be renewed. */
bool resident_written(struct resident_set *set, int buffer);

#endif
