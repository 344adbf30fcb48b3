/* Trials of a product's candidates on the device. An algorithm passes if it gives the same bits twice, is exact on
 * whole numbers with a random bias and mask, and on random values as close to float64 as its precision promises. */
#ifndef DESCENT_KERNELS_TRIAL_H
#define DESCENT_KERNELS_TRIAL_H

#include "facts.h"
#include "matmul.h"

/* The parts of the device memory on which the candidates for one product are tried. A launch reads and writes the first
 * OPERAND_PARTS; timed launches cycle through copies of them. */
enum part { OPERAND_A, OPERAND_B, RESULT, BIAS, SUMS, MASK, RESULT_AGAIN, SUMS_AGAIN, COUNTS, PARTS };
enum { OPERAND_PARTS = RESULT_AGAIN };
struct trial {
  const struct matmul *matmul;
  cudaStream_t stream;
  int64_t cache; /* bytes of the device's L2; 0: unknown */
  /* Set by trial_open, zero before it. */
  char *memory;
  char *part[PARTS];
  size_t bytes[PARTS];
  int64_t A_rows, A_cols, B_rows, B_cols; /* as stored */
};

/* Does nothing if the trial is already open. */
descent_status trial_open(struct trial *trial);
void trial_close(struct trial *trial);

/* Sets the verdict: "not_launched", "inexact", "mask_differs" (from an exact result), "mask_at_zero" (only where the
 * value is 0), "unsteady", "imprecise"; or NULL. */
descent_status trial_run(const struct trial *trial, struct candidate *candidate);
/* Computes one product into RESULT and SUMS, or into their AGAIN parts, from the copy of the operands that is `shift`
 * bytes away. *ran is false if the library rejects the algorithm. */
descent_status trial_launch(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool again,
                            ptrdiff_t shift, bool *ran);

#endif
