/* Several layers in one kernel (kernels.h): trials of the variants that take a launch, and the fastest. */
#ifndef DESCENT_KERNELS_NETWORK_H
#define DESCENT_KERNELS_NETWORK_H

#include "variants.h"

const char *network_kind_name(enum network_kind kind); /* "forward", "chain", "step" */

/* The variants of a launch in two parts: those that take a whole step, or the others. Returns how many there are;
 * *first: the number of the first one. */
int network_part(const struct network_launch *launch, bool whole, int *first);

/* `whole` of the following, for the part of the variants that take a whole step: what they do around the layers, without
 * addresses, gather and pieces. NULL: the part of the others. */

/* Everything that the time of a part's variants depends on besides GPU and library version, as one line of text. Data
 * may be NULL, as for network_variants; a Z that is kept has an ld that is not 0. */
void network_key(const struct network_launch *launch, const struct whole_step *whole, char key[TUNE_KEY]);

/* As variants_pass and variants_fastest, in memory of the sizes of the launch's matrices. A forward launch is asked for
 * A and P. A whole step is tried and timed with its norm and update, and must leave the bits of its layers alone and of
 * the norm and the update behind them: gradients, norms, parameters, moments. Its gather finds no rows, so that X, y
 * and w stay. */
descent_status network_passes(const struct product_library *library, const struct network_launch *launch,
                              const struct whole_step *whole, int variant, cudaStream_t stream, bool *passes);
descent_status network_fastest(struct product_library *library, const struct network_launch *launch,
                               const struct whole_step *whole, cudaStream_t stream, int *variant, double *seconds);

#endif
