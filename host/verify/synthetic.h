/* Synthetic rows for a network, on which verify and bench run it. */
#ifndef DESCENT_VERIFY_SYNTHETIC_H
#define DESCENT_VERIFY_SYNTHETIC_H

#include "data/dataset.h"
#include "model/network.h"

struct synthetic {
  float *X;             /* (rows, inputs): mean 0 and variance 1 after the network's normalisation */
  float *y;             /* (rows, targets): uniformly distributed classes, or values distributed like X */
  float *weights;       /* (rows): uniform in (0.5, 1.5) */
  float *class_weights; /* (classes): distinct positive numbers; NULL for regression */
  int64_t *index;       /* (rows): the rows in descending order */
  struct dataset_storage storage;
  descent_dataset dataset; /* of the above; points into this struct, which must not be moved */
};

/* Equal seeds give equal rows. `rows` >= 1. */
descent_status synthetic_create(const descent_network *network, int64_t rows, uint64_t seed, struct synthetic *data);
/* dA (count) of a step: uniform within 1 / rows, as the gradient of a mean over the rows is. */
void synthetic_output_gradient(double *dA, int64_t count, int64_t rows, uint64_t seed, int64_t number);

void synthetic_clear(struct synthetic *data);

#endif
