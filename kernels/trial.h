/* Trials of a product's candidates on the device: the same bits twice? how fast? exact on ones? */
#ifndef DESCENT_KERNELS_TRIAL_H
#define DESCENT_KERNELS_TRIAL_H

#include "product.h"

struct candidate {
  cublasLtMatmulAlgo_t algorithm;
  double seconds;
};

/* The parts of the scratch in device memory on which the candidates for one product are tried. */
enum part { OPERAND_A, OPERAND_B, RESULT, RESULT_AGAIN, BIAS, SUMS, SUMS_AGAIN, MASK, COUNTS, PARTS };
struct trial {
  const struct product *product;
  const struct product_shape *shape;
  cudaStream_t stream;
  /* The rest is trial_open's, zeroed before. */
  char *memory;
  char *part[PARTS];
  size_t bytes[PARTS];
  int64_t A_rows, A_cols, B_rows, B_cols; /* as stored */
  cudaEvent_t start, stop;
};

/* Does nothing when it is open already. */
descent_status trial_open(struct trial *trial);
void trial_close(struct trial *trial);

/* Leaves the candidates that run and give the same bits twice on random values, with their seconds, fastest first. */
descent_status trial_race(const struct trial *trial, struct candidate candidates[], int *n);
/* Whether products of ones are exact: all of K, and its last few alone. */
descent_status trial_exact(const struct trial *trial, const cublasLtMatmulAlgo_t *algorithm, bool *exact);

/* ---- of product.c ---- */

/* As product_run, with another algorithm. *ran: false when the library refuses it after all. */
descent_status product_try(const struct product *product, const cublasLtMatmulAlgo_t *algorithm,
                           const struct product_operands *operands, cudaStream_t stream, bool *ran);
bool product_has_bias(const struct product_shape *shape);     /* reads one */
bool product_has_mask(const struct product_shape *shape);     /* reads or writes one */
int64_t product_sum_count(const struct product_shape *shape); /* the sums written; 0: none */

#endif
