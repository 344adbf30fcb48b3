/* Dense operations in one own kernel (kernels.h): which of its variants take an operation, their trials, the fastest. */
#ifndef DESCENT_KERNELS_OWN_H
#define DESCENT_KERNELS_OWN_H

#include "facts.h"
#include "product.h"

/* The launch of a dense operation, but for its variant. Where a Z is kept, Z.ld is not 0. */
struct own_launch {
  enum plan_op_kind kind; /* OP_DENSE_...: the member in use */
  bool sums;              /* input: the column sums of dZ too */
  union {
    struct fused_forward_launch forward;
    struct weights_launch weights;
    struct fused_input_launch input;
  };
};

/* As ..._variants, ..._scratch and launch_... of kernels.h; data is needed by own_run only. */
int own_variants(const struct own_launch *launch);
size_t own_scratch(const struct own_launch *launch);
cudaError_t own_run(const struct own_launch *launch, int variant, cudaStream_t stream);
/* Everything that the time of its variants depends on besides GPU and library version, as one line of text. */
void own_key(const struct own_launch *launch, char key[TUNE_KEY]);

/* True if the variant passes its trial: it is launched, gives the same bits twice, and is exact on ones where its
 * results are whole numbers. The trial has its own memory, of the sizes of the operation's matrices. */
descent_status own_passes(const struct product_library *library, const struct own_launch *launch, int variant,
                          cudaStream_t stream, bool *passes);
/* The variant remembered for this key, else the fastest of those that pass, timed and then remembered, and the seconds
 * of one launch; -1: none passes. */
descent_status own_fastest(struct product_library *library, const struct own_launch *launch, cudaStream_t stream,
                           int *variant, double *seconds);

#endif
