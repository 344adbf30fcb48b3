/* A predictor: a network compiled for prediction, with the buffers of its runs. */
#ifndef DESCENT_TRAIN_PREDICTOR_H
#define DESCENT_TRAIN_PREDICTOR_H

#include "backend/program.h"
#include "data/dataset.h"
#include "model/network.h"
#include "train/staging.h"

struct descent_predictor {
  struct handle handle;
  descent_device *device;
  descent_network *network; /* its outline, see network_copy_outline */
  struct program program;
  struct program differentiated; /* the same with the ranges of sensitivities; compiled NULL: not needed yet */
  descent_predict_options options;
  int64_t max_rows;
  struct dataset_storage storage; /* of the rows of a run: the caller's, or `aligned` */
  struct staging staging;
  float *aligned; /* (max_rows, inputs) differences to the network's offsets; NULL where it has none */
};

#endif
