/* What an algorithm of cuBLASLt says of itself, and how far that may be believed. */
#ifndef DESCENT_KERNELS_FACTS_H
#define DESCENT_KERNELS_FACTS_H

#include "product.h"
#include "trace.h"

enum trust {
  TRUST_FLAGS, /* by its flags it adds up in one order and at the precision asked for */
  TRUST_TESTS, /* its flags say something else or cannot be read: only where all others do too, after the same tests */
  TRUST_NONE,  /* adds up in an order that may vary, or may compute IEEE float32 on tensor cores */
};

struct candidate {
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace; /* bytes */
  float waves;      /* of blocks that the launch needs */
  enum trust trust;
  double seconds;      /* of one launch; 0: not timed */
  const char *verdict; /* why it may not be used, as one word; NULL: nothing is known against it */
};

/* Schemes that add up in one order: NONE is 0 and always allowed. */
uint32_t facts_allowed_schemes(const struct product_shape *shape);
/* By the algorithm alone. The environment can make the library answer a request for float32 with tf32 or with sums of
 * bf16 products: such are told apart here. */
enum trust facts_trust(const struct product_shape *shape, const cublasLtMatmulAlgo_t *algorithm);
/* One line: the product's key, the algorithm's attributes, the verdict. */
void facts_trace(const struct trace *trace, const char *key, const struct candidate *candidate, const char *verdict);

#endif
