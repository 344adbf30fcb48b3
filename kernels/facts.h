/* The attributes that cuBLASLt reports for an algorithm, and whether they allow its use. */
#ifndef DESCENT_KERNELS_FACTS_H
#define DESCENT_KERNELS_FACTS_H

#include "product_shape.h"
#include "trace.h"

enum trust {
  TRUST_FLAGS, /* its flags promise one order of summation and the requested precision */
  TRUST_TESTS, /* its flags are wrong or unknown: used if it passes its tests and no algorithm has the right flags */
  TRUST_NONE,  /* its order of summation may vary, or it may compute IEEE float32 on tensor cores */
};

enum { MOST_CANDIDATES = 32 };
struct candidate {
  cublasLtMatmulAlgo_t algorithm;
  int variant;      /* of a custom kernel; `algorithm` is then unused */
  size_t workspace; /* bytes */
  float waves;      /* of blocks that the launch needs */
  enum trust trust;
  double seconds;      /* of one launch; 0: not timed */
  const char *verdict; /* why it is not used, as one word; NULL: no reason so far */
};

/* The reduction schemes that add up in one order; NONE is 0 and always allowed. */
uint32_t facts_allowed_schemes(const struct product_shape *shape);
/* Reads only the algorithm's attributes. The environment can make the library answer a request for float32 with tf32 or
 * with sums of bf16 products; the flags of such algorithms show it. */
enum trust facts_trust(const struct product_shape *shape, const cublasLtMatmulAlgo_t *algorithm);
/* One line: the product's key, the algorithm's attributes, the verdict. */
void facts_trace(const struct trace *trace, const char *key, const struct candidate *candidate, const char *verdict);

#endif
