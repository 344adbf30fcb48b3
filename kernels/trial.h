/* Trials of a product's candidates on the device. An algorithm passes that gives the same bits twice, is exact on whole
 * numbers with a random bias and mask, and on random values as close to float64 as its precision promises. Those that
 * pass are timed as a step runs them: from a captured graph, in turns, on operands that no cache holds. */
#ifndef DESCENT_KERNELS_TRIAL_H
#define DESCENT_KERNELS_TRIAL_H

#include "facts.h"

enum { MOST_CANDIDATES = 32 };

/* The parts of the scratch in device memory on which the candidates for one product are tried. The first OPERAND_PARTS
 * are what one launch reads and writes; the clocks take turns with copies of them. */
enum part { OPERAND_A, OPERAND_B, RESULT, BIAS, SUMS, MASK, RESULT_AGAIN, SUMS_AGAIN, COUNTS, PARTS };
enum { OPERAND_PARTS = RESULT_AGAIN };
struct trial {
  const struct product *product;
  const struct product_shape *shape;
  cudaStream_t stream;
  int64_t cache; /* bytes of the device's L2; 0: unknown */
  /* The rest is trial_open's, zeroed before. */
  char *memory;
  char *part[PARTS];
  size_t bytes[PARTS];
  int64_t A_rows, A_cols, B_rows, B_cols; /* as stored */
};

/* Does nothing when it is open already. */
descent_status trial_open(struct trial *trial);
void trial_close(struct trial *trial);

/* Sets the verdict: "not_launched", "inexact", "mask_differs" (from an exact result), "mask_at_zero" (and only
 * where that is of 0), "unsteady", "imprecise"; or NULL.
 */
descent_status trial_judge(const struct trial *trial, struct candidate *candidate);
/* One product into RESULT and SUMS, or into those AGAIN, of the operands' copy that is `shift` bytes on. */
descent_status trial_launch(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool again,
                            ptrdiff_t shift, bool *ran);

/* race.c: sets the seconds of each and orders them, the fastest first; of one that cannot be captured only the verdict,
 * "not_captured", and it comes last. Takes about 2 ms for each candidate, at most 20 ms or, where one launch takes
 * longer than 2.5 ms, four launches. */
descent_status trial_race(const struct trial *trial, struct candidate candidates[], int n);

/* ---- of product.c ---- */

/* As product_run, with another algorithm. *ran: false when the library refuses it after all. */
descent_status product_try(const struct product *product, const cublasLtMatmulAlgo_t *algorithm,
                           const struct product_operands *operands, cudaStream_t stream, bool *ran);
bool product_has_bias(const struct product_shape *shape);     /* reads one */
bool product_has_mask(const struct product_shape *shape);     /* reads or writes one */
int64_t product_sum_count(const struct product_shape *shape); /* the sums written; 0: none */

#endif
