/* The attributes that cuBLASLt reports for an algorithm, and whether they allow its use. */
#ifndef DESCENT_KERNELS_FACTS_H
#define DESCENT_KERNELS_FACTS_H

#include "product_shape.h"
#include "trace.h"

enum trust {
  TRUST_FLAGS, /* by its flags it adds up in one order and at the precision asked for */
  TRUST_TESTS, /* its flags differ or cannot be read: used by its tests, and only where no flags are right */
  TRUST_NONE,  /* its order of summation may vary, or it may compute IEEE float32 on tensor cores */
};

struct candidate {
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace; /* bytes */
  float waves;      /* of blocks that the launch needs */
  enum trust trust;
  double seconds;      /* of one launch; 0: not timed */
  const char *verdict; /* why it is not used, as one word; NULL: no reason so far */
};

/* The reduction schemes that add up in one order; NONE is 0 and always allowed. */
uint32_t facts_allowed_schemes(const struct product_shape *shape);
/* Reads the algorithm alone. The environment can make the library answer a request for float32 with tf32 or with sums
 * of bf16 products: their flags show it. */
enum trust facts_trust(const struct product_shape *shape, const cublasLtMatmulAlgo_t *algorithm);
/* One line: the product's key, the algorithm's attributes, the verdict. */
void facts_trace(const struct trace *trace, const char *key, const struct candidate *candidate, const char *verdict);

#endif
