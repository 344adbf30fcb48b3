/* A predictor: a network compiled for prediction, with the buffers of its runs. */
#ifndef DESCENT_TRAIN_PREDICTOR_H
#define DESCENT_TRAIN_PREDICTOR_H

#include "train/ensemble.h"
#include "train/staging.h"

struct descent_predictor {
  struct handle handle;
  descent_device *device;
  descent_network *network; /* its outline, see network_copy_outline */
  struct ensemble ensemble;
  struct ensemble differentiated; /* the same with the ranges of sensitivities; programs NULL: not needed yet */
  descent_predict_options options;
  int64_t max_rows;
  struct dataset_storage storage; /* of the rows of a run: the caller's, or `aligned` */
  struct staging staging;
  float *aligned; /* (max_rows, inputs) differences to the network's offsets; NULL where it has none */
  /* Of an ensemble and a block of rows; NULL for a plain network. The last three: not before they are needed. */
  float *values;   /* (members, block, outputs) read from the device */
  double *scratch; /* of member_outputs.h */
  float *dA;       /* (members, block, outputs) */
  float *dX;       /* (block, inputs) of a member */
  double *dX_sum;  /* (block, inputs) */
};

/* Makes the caller's rows those of a dataset, with the network's offsets, until the next call. ERROR_ARGUMENT for a number
 * out of range. */
descent_status predictor_take_rows(descent_predictor *predictor, const float *X, int64_t rows,
                                   descent_dataset *dataset);

/* The programs of the predictor's members, with `parts` of enum plan_part, for its options, device and rows. */
descent_status predictor_create_ensemble(const descent_predictor *predictor, const descent_network *network,
                                         unsigned parts, struct ensemble *ensemble);

#endif
