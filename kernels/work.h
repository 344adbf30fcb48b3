/* Device memory that launches share besides the plan's buffers. */
#ifndef DESCENT_KERNELS_WORK_H
#define DESCENT_KERNELS_WORK_H

#include "layout.h"

struct work_memory {
  struct scratch scratch;
  int64_t scratch_bytes;     /* of its partials */
  int *bad_parameters;       /* set by the update, as norm_launch describes it */
  struct flat_piece *pieces; /* of the flat buffers, one block's work each */
  int n_pieces;
  int64_t *biases; /* (layers): where each layer's b begins in the flat buffers; NULL without trust ratios */
};

/* `scratch`: bytes of it that custom kernels of dense operations need. */
descent_status work_prepare(struct work_memory *work, const struct device_buffers *buffers, size_t scratch,
                            struct device_memory *memory);
/* Scratch of the same size for a second stream. */
descent_status work_take_scratch(const struct work_memory *work, struct device_memory *memory, struct scratch *scratch);
void work_release(struct work_memory *work);
/* Clears bad_parameters, after the parameters have changed. */
descent_status work_clear_flag(const struct work_memory *work, cudaStream_t stream);

#endif
