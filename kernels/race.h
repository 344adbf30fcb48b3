/* Timing of the candidates that passed their trials. */
#ifndef DESCENT_KERNELS_RACE_H
#define DESCENT_KERNELS_RACE_H

#include "trial.h"

/* Sets the seconds of each candidate and sorts the candidates, fastest first. A candidate that cannot be captured gets
 * the verdict "not_captured" and comes last. Takes about 2 ms for each candidate, at most 20 ms or, where one launch
 * takes longer than 2.5 ms, four launches. */
descent_status race_run(const struct trial *trial, struct candidate candidates[], int n);

#endif
