/* Whether what the caller hands over can be trained or evaluated at all; every refusal names what it refuses. */
#ifndef DESCENT_TRAIN_CHECK_H
#define DESCENT_TRAIN_CHECK_H

#include "data/dataset.h"
#include "model/network.h"

/* Every option within its range and fit for the network's loss. */
descent_status check_train_options(const descent_network *network, const descent_train_options *options);

/* The dataset's columns fit the network; with `targets`, its targets too. `role`: "the training data". */
descent_status check_dataset(const descent_network *network, const descent_dataset *dataset, bool targets,
                             const char *role);

#endif
