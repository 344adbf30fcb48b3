/* Made-up rows that fit a network: what verify checks and bench times the engine with. */
#ifndef DESCENT_TRAIN_SYNTHETIC_H
#define DESCENT_TRAIN_SYNTHETIC_H

#include "backend/backend.h"
#include "train/plan.h"

struct synthetic {
  int64_t rows;
  float *X;             /* (rows, inputs): mean 0 and variance 1 after the network's normalisation */
  float *y;             /* (rows, targets): uniform classes, or values as X */
  float *weights;       /* (rows): uniform in (0.5, 1.5) */
  float *class_weights; /* (classes): distinct positive numbers; NULL for regression */
};

/* Equal seeds give equal rows. `rows` >= 1. */
descent_status synthetic_create(const descent_network *network, int64_t rows, uint64_t seed, struct synthetic *data);
void synthetic_clear(struct synthetic *data);

/* Puts the network's parameters and preprocessing into a program and binds X and y, which must outlive it. */
descent_status synthetic_load(const struct synthetic *data, const descent_network *network, const struct plan *plan,
                              const struct plan_handles *handles, const struct backend *backend,
                              struct backend_program *program);

#endif
