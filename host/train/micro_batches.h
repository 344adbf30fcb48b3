/* A step in micro-batches: each rank computes the gradients of its parts, and then all of them update their copies of
 * the parameters in the same way. */
#ifndef DESCENT_TRAIN_MICRO_BATCHES_H
#define DESCENT_TRAIN_MICRO_BATCHES_H

#include "backend/program.h"

struct fit;

/* How steps are cut. */
struct micro_batches {
  int64_t total;                                              /* M */
  int own, first;                                             /* this rank computes parts first .. first + own - 1 */
  int64_t rows;                                               /* of the largest part */
  struct plan_step *steps;                                    /* (own) */
  struct micro_batch_statistics *own_statistics, *statistics; /* (own, layers), (M, layers) */
  float *active, *all_active;                                 /* (widest layer), (ranks, widest layer) */
  float *class_weights;                                       /* (classes) or NULL; owned */
  int64_t classes;                                            /* where there are class weights */
};

/* ERROR_ARGUMENT where a step of `batch` rows has fewer rows than micro-batches. The options are checked. */
descent_status micro_batches_create(const descent_network *network, const descent_train_options *options, int64_t batch,
                                    const float *class_weights, struct micro_batches *cut);
void micro_batches_clear(struct micro_batches *cut);

/* Into cut->steps, this rank's parts of a step whose rows are those of `view`, or of the source where that is NULL; `y` and
 * `weights` of the source, on the host, weights NULL: 1. */
void micro_batches_cut(const struct micro_batches *cut, const struct plan_step *step, const descent_dataset *view,
                       const float *y, const float *weights);

/* Runs n steps of the rows that are bound to f. Where one is not finite, neither it nor those after it change the
 * parameters. */
descent_status micro_batches_run(struct fit *f, const struct plan_step *steps, int64_t n, bool with_statistics);

/* Runs this rank's parts of a step that was not finite again, each as the only one. *step becomes the first with a
 * value that is not finite, and the program's buffers are those of that part; it stays the whole step if each of them is
 * finite. */
descent_status micro_batches_narrow(struct fit *f, struct plan_step *step);

/* Runs the micro-batches f->cut.steps of one step, and leaves the layer statistics of the whole step in the program;
 * micro_batch_statistics.c. */
descent_status micro_batches_run_with_statistics(struct fit *f);

/* Of one layer and part: rows, and mean and variance of A over them. */
struct micro_batch_statistics {
  double rows, mean, variance;
};

#endif
