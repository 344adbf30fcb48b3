/* Evaluates an ensemble on a whole dataset. */
#ifndef DESCENT_TRAIN_EVALUATE_ENSEMBLE_H
#define DESCENT_TRAIN_EVALUATE_ENSEMBLE_H

#include "data/dataset.h"
#include "model/network.h"

/* As descent_evaluate_with, of complete options and a dataset with the network's offsets. */
descent_status evaluate_ensemble(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                 const descent_predict_options *options, int64_t top_k, descent_metrics *metrics);

#endif
