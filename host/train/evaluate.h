/* Evaluates programs on whole datasets. */
#ifndef DESCENT_TRAIN_EVALUATE_H
#define DESCENT_TRAIN_EVALUATE_H

#include "train/own_loss.h"

struct metrics_sums;

/* The evaluation of one program on one dataset, which is bound to it. */
struct evaluation {
  struct program *program;
  const descent_network *network;
  const descent_dataset *dataset;
  int64_t top_k;
  bool strict;               /* ERROR_DATA for a row with an input or output that is not finite (extremes.h); otherwise
                              * such a row makes measures NaN */
  struct own_loss *own_loss; /* gives the metrics' loss; NULL: the network's does */
  /* Called after each block of rows, also those of the other evaluations; if it returns true and this one has rows left, it
   * ends with DESCENT_OK, `stopped`, and `metrics` is unchanged. NULL: progress is reported between its blocks, and
   * ERROR_CANCELLED is possible. */
  bool (*stop)(void *user);
  void *user;
  descent_metrics *metrics;
  /* Set by the evaluation: */
  descent_status status;
  char error[1024]; /* the text of a failure */
  /* While it runs: */
  struct metrics_sums *sums;
  float *values;         /* (block, outputs) of the rows [first, first + rows) */
  int shown;             /* the buffer that they come from */
  int64_t first, rows;   /* of the block that is computed and not yet counted */
  struct plan_step step; /* of the block that was started last */
  bool stopped;
};

/* Runs the evaluate range over all rows of each dataset, a block at a time. The programs are on one device, and so many of
 * them run together that a block of each takes a short time. Every evaluation has the bits that it has alone. */
void evaluate_together(struct evaluation *const *evaluations, int64_t count);

/* One evaluation, strict and with the network's loss, which reports its progress. */
descent_status evaluate_dataset(struct program *program, const descent_network *network, const descent_dataset *dataset,
                                int64_t top_k, descent_metrics *metrics);

/* evaluate_begin sets the totals to which the metrics operation adds. evaluate_mean_loss reads them: totals[0] is the
 * sum of J times weight, totals[1] the sum of the weights, and `loss` their quotient (NaN if no row has weight). */
descent_status evaluate_begin(struct program *program, double loss, double weight);
descent_status evaluate_mean_loss(const struct program *program, double totals[2], double *loss);

#endif
