/* Dense operations in one custom kernel (kernels.h): which of its variants take an operation, their trials, the fastest. */
#ifndef DESCENT_KERNELS_CUSTOM_H
#define DESCENT_KERNELS_CUSTOM_H

#include "variants.h"

/* The launch of a dense operation, but for its variant. Where a Z is kept, Z.ld is not 0. */
struct custom_launch {
  enum plan_op_kind kind; /* OP_DENSE_...: the member in use */
  bool sums;              /* input: the column sums of dZ too */
  union {
    struct fused_forward_launch forward;
    struct weights_launch weights;
    struct fused_input_launch input;
  };
};

/* As ..._variants, ..._scratch and launch_... of kernels.h; data is needed by custom_run only. */
int custom_variants(const struct custom_launch *launch);
size_t custom_scratch(const struct custom_launch *launch);
cudaError_t custom_run(const struct custom_launch *launch, int variant, cudaStream_t stream);
/* Everything that the time of its variants depends on besides GPU and library version, as one line of text. */
void custom_key(const struct custom_launch *launch, char key[TUNE_KEY]);

/* As variants_pass and variants_fastest, in memory of the sizes of the operation's matrices. */
descent_status custom_passes(const struct product_library *library, const struct custom_launch *launch, int variant,
                             cudaStream_t stream, bool *passes);
descent_status custom_fastest(struct product_library *library, const struct custom_launch *launch, cudaStream_t stream,
                              int *variant, double *seconds);

#endif
