/* --out-of-fold: what each row is predicted by the network that was not trained on it. */
#ifndef DESCENT_CLI_OUT_OF_FOLD_H
#define DESCENT_CLI_OUT_OF_FOLD_H

#include "cli/members.h"

/* Writes the file, with rows in the order of the data: the fold, and columns as from `descent predict`, which are empty
 * for the rows of a fold whose training failed. Says how many rows of the file have no line, since they have no target.
 * `rows` and `networks` have m->count elements. EXIT_DONE or the exit code. */
int out_of_fold_write(const struct members *m, const struct training_rows *rows, descent_network *const *networks);

#endif
