/* Running a program's evaluation over a whole dataset. */
#ifndef DESCENT_TRAIN_EVALUATE_H
#define DESCENT_TRAIN_EVALUATE_H

#include "train/program.h"

/* Binds the dataset to the program (and leaves it bound), runs its evaluate range over all rows and measures. */
descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, descent_metrics *metrics);

/* Total loss over total weight of what the metrics operation has added up since evaluate_begin, which says what was
 * added up before (0 and 0). */
descent_status evaluate_begin(struct program *program, double loss, double weight);
descent_status evaluate_mean_loss(const struct program *program, double *loss);

#endif
