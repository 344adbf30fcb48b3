/* Checks the arguments of training and evaluation. Each error names the argument and its value. */
#ifndef DESCENT_TRAIN_CHECK_H
#define DESCENT_TRAIN_CHECK_H

#include "data/dataset.h"
#include "model/network.h"

/* Each option is within its range and applies to the network's loss: otherwise ERROR_ARGUMENT. The device that trains
 * can do what they ask of it: otherwise ERROR_UNSUPPORTED. */
descent_status check_train_options(const descent_network *network, const descent_device *device,
                                   const descent_train_options *options);

/* ERROR_ARGUMENT unless it is an open communicator or NULL: before anything is asked of the ranks. */
descent_status check_communicator(const descent_train_options *options);

/* ERROR_ARGUMENT for micro-batches and ranks, which steps by hand do not have. */
descent_status check_steps_by_hand(const descent_train_options *options);

/* Completes the options; each is within its range, else ERROR_ARGUMENT, and the device can do what they ask of it, else
 * ERROR_UNSUPPORTED. */
descent_status check_predict_options(const descent_device *device, const descent_predict_options *given,
                                     descent_predict_options *complete);

/* The columns of the dataset match the network's inputs; with `targets`, its targets match the network's loss, outputs
 * and classes too. `role` names the dataset in errors: "the training data". ERROR_ARGUMENT. */
descent_status check_dataset(const descent_network *network, const descent_dataset *dataset, bool targets,
                             const char *role);

#endif
