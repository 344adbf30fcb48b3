/* The outputs of an ensemble from those of its K members, in double and in the order of the members, so that they do not
 * depend on the device's timing. u = 2^-24. */
#ifndef DESCENT_TRAIN_MEMBER_OUTPUTS_H
#define DESCENT_TRAIN_MEMBER_OUTPUTS_H

#include <descent/descent.h>

struct member_outputs {
  const float *values; /* (members, rows, n) */
  int64_t members, rows, n;
};

/* mean (rows, n): within u |mean| of the exact one and, where values cancel, 2^-53 K times the mean of their sizes. */
void member_outputs_mean(const struct member_outputs *outputs, float *mean);

/* spread (rows, n): sqrt(mean_k (value_k - mean)^2), the mean in double. Within u of it, relatively, and 2^-52 K times
 * the largest value. */
void member_outputs_spread(const struct member_outputs *outputs, float *spread);

/* Doubles that the functions below work with. */
int64_t member_outputs_scratch(int64_t members, int64_t n);

/* The raw outputs of one row from the members' ones, z: raw (n). For regression mean_k z_k; for one logit that of the mean
 * probability, log sum_k sigmoid(z_k) - log sum_k sigmoid(-z_k); for the logits of classes log mean_k softmax(z_k). Within
 * 2^-53 (2 D + n + K + 8), D the largest distance of two logits of a member, or the size of a binary one. NaN
 * where a member's row is not finite. */
void member_outputs_raw(descent_loss loss, const struct member_outputs *outputs, int64_t row, double *scratch,
                        double *raw);

/* The same of all rows, raw (rows, n), rounded to float32. The logarithm of a probability can be below its range: then the
 * lowest number. */
void member_outputs_raw_rows(descent_loss loss, const struct member_outputs *outputs, double *scratch, float *raw);
float member_outputs_round(double raw);

/* dz (members, rows, n), row `row` alone: sum_c dOutputs_c d raw_c / d z_k, with raw as above and dOutputs (n) of this
 * row. */
void member_outputs_backward(descent_loss loss, const struct member_outputs *outputs, int64_t row,
                             const float *dOutputs, double *scratch, float *dz);

#endif
