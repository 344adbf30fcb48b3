/* What to try next, in plain words: only what this network and these options do not have already. */
#ifndef DESCENT_TRAIN_ADVICE_H
#define DESCENT_TRAIN_ADVICE_H

#include "model/network.h"

/* Appends "; try A, B or C" to text; of the items those that are NULL do not apply. Nothing when none does. */
#define ADVISE(text, size, ...)                                            \
  do {                                                                     \
    const char *const items[] = {__VA_ARGS__};                             \
    advice_append(text, size, items, (int)(sizeof items / sizeof *items)); \
  } while (0)
void advice_append(char *text, size_t size, const char *const *items, int n);

/* Each NULL where it would be no news. */
const char *advice_clipping(const descent_train_options *options);
const char *advice_warmup(const descent_train_options *options);
const char *advice_normalisation(const descent_network *network);
/* relu, where a hidden layer saturates. */
const char *advice_activation(const descent_network *network);
/* The initialisation that `auto` picks, where a hidden layer's weights are of another scale: smaller for `sign` < 0,
 * larger for `sign` > 0. norms: the 2-norm of each layer's weights, layer l's at [(l - 1) * stride]. */
const char *advice_initialisation(const descent_network *network, const double *norms, int stride, int sign);

#endif
