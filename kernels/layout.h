/* The plan's buffers on the device: rows of operands, and of W inside the flat buffers, are padded to whole 16-byte
 * units; everything else is as in the plan. The padding is not visible outside the module. */
#ifndef DESCENT_KERNELS_LAYOUT_H
#define DESCENT_KERNELS_LAYOUT_H

#include "device_memory.h"
#include "kernels.h"

/* Rows of `cols` values that are adjacent in the plan's flat buffer and `ld` apart on the device. */
struct flat_region {
  int64_t host, device, rows, cols, ld;
};

/* The positions on the device of the elements of the plan's flat buffers. */
struct flat_map {
  struct flat_region *regions; /* ascending, without gaps on the plan's side */
  int n;
  int64_t host_count, device_count; /* device_count: a multiple of 16 */
};

enum buffer_layout { LAYOUT_LINEAR, LAYOUT_PADDED, LAYOUT_FLAT };

struct device_buffer {
  enum buffer_layout layout;
  enum element element; /* of F32 buffers */
  int64_t ld;           /* padded: elements from row to row */
  int64_t bytes;
  void *data;
  bool owned; /* false: another buffer of the slot owns the memory */
};

struct device_buffers {
  const struct plan *plan;
  struct device_buffer *at; /* (plan->n_buffers) */
  struct flat_map flat;
  void *working;  /* bf16 copy of the parameters, laid out as they are; NULL unless bf16 */
  int parameters; /* the buffer it copies, or PLAN_NONE */
};

/* Sets layouts and sizes; allocates host memory only. */
descent_status layout_plan(struct device_buffers *buffers, const struct plan *plan);
descent_status layout_take(struct device_buffers *buffers, struct device_memory *memory);
descent_status layout_zero(const struct device_buffers *buffers, cudaStream_t stream);
void layout_release(struct device_buffers *buffers);

void *layout_data(const struct device_buffers *buffers, int buffer); /* NULL for PLAN_NONE */
struct device_matrix layout_matrix(const struct device_buffers *buffers, int buffer, int64_t n);
/* W (n_out, n_in) of the parameters as the products read it; no data before layout_take. */
struct device_matrix layout_weights(const struct device_buffers *buffers, int parameters, int64_t W, int64_t n_in);
/* As `view` of struct backend, on device `ordinal`. */
descent_status layout_view(const struct device_buffers *buffers, int ordinal, int buffer, int64_t rows,
                           descent_array *array);
/* Element `host` of a flat buffer of float32. */
float *layout_flat(const struct device_buffers *buffers, int buffer, int64_t host);

/* The position on the device of element `host` of the plan's flat buffers; for host_count, the buffers' end. */
int64_t flat_position(const struct flat_map *map, int64_t host);
/* The row stride on the device of the W that begins at `host` and has `n` columns. */
int64_t flat_ld(const struct flat_map *map, int64_t host, int64_t n);

/* Rows of `cols` adjacent elements that begin at element `device` and are `ld` apart. */
struct device_block {
  int64_t device, rows, cols, ld;
};
/* The first of the elements from `offset` on, at most `count` (> 0), that form one block on the device. */
struct device_block layout_block(const struct device_buffers *buffers, int buffer, int64_t offset, int64_t count);

#endif
