/* Suggestions for a training that diverges or learns badly. Only what the network and the options do not have yet is
 * suggested. */
#ifndef DESCENT_TRAIN_ADVICE_H
#define DESCENT_TRAIN_ADVICE_H

#include "model/network.h"

/* Appends "; try A, B or C" to text. NULL items do not apply and are left out; if all are NULL, text is unchanged. */
#define ADVISE(text, size, ...)                                            \
  do {                                                                     \
    const char *const items[] = {__VA_ARGS__};                             \
    advice_append(text, size, items, (int)(sizeof items / sizeof *items)); \
  } while (0)
void advice_append(char *text, size_t size, const char *const *items, int n);

/* Each returns NULL if the network or the options already have it. */
const char *advice_clipping(const descent_train_options *options);
const char *advice_warmup(const descent_train_options *options);
const char *advice_normalisation(const descent_network *network);
/* relu, if a hidden layer has a saturating activation. */
const char *advice_activation(const descent_network *network);
/* The initialisation that `auto` chooses, if the weights of a hidden layer are more than 2 times smaller (`sign` < 0)
 * or larger (`sign` > 0) than it would make them. norms: 2-norms of the weights, that of layer l at [(l - 1) *
 * stride]. */
const char *advice_initialisation(const descent_network *network, const double *norms, int stride, int sign);

#endif
