/* Running a program's evaluation over a whole dataset. */
#ifndef DESCENT_TRAIN_EVALUATE_H
#define DESCENT_TRAIN_EVALUATE_H

#include "backend/program.h"

/* Binds the dataset to the program (and leaves it bound), runs its evaluate range over all rows and measures. `stop`,
 * where not NULL, is asked between blocks of rows: true ends it there, with the metrics as they were. */
descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, bool (*stop)(void *user), void *user, descent_metrics *metrics);

/* Total loss and total weight that the metrics operation has added up since evaluate_begin, which says what was added
 * up before (0 and 0), and the one over the other. */
descent_status evaluate_begin(struct program *program, double loss, double weight);
descent_status evaluate_mean_loss(const struct program *program, double totals[2], double *loss);

#endif
