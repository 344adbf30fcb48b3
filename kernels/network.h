/* Several layers in one kernel (kernels.h): trials of the variants that take a launch, and the fastest. */
#ifndef DESCENT_KERNELS_NETWORK_H
#define DESCENT_KERNELS_NETWORK_H

#include "variants.h"

const char *network_kind_name(enum network_kind kind); /* "forward", "chain", "step" */
/* Everything that the time of its variants depends on besides GPU and library version, as one line of text. Data may be
 * NULL, as for network_variants; a Z that is kept has an ld that is not 0. */
void network_key(const struct network_launch *launch, char key[TUNE_KEY]);

/* As variants_pass and variants_fastest, in memory of the sizes of the launch's matrices. A forward launch is asked for
 * A and P. */
descent_status network_passes(const struct product_library *library, const struct network_launch *launch, int variant,
                              cudaStream_t stream, bool *passes);
descent_status network_fastest(struct product_library *library, const struct network_launch *launch,
                               cudaStream_t stream, int *variant, double *seconds);

#endif
