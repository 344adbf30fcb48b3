/* Probabilities of classes from logits, in double: in float32 a small one is lost beside 1. */
#ifndef DESCENT_REPORT_PROBABILITY_H
#define DESCENT_REPORT_PROBABILITY_H

#include <stdint.h>

/* p: of one logit (n = 1) the probabilities of classes 0 and 1, 1 - sigmoid(z) and sigmoid(z); of more logits those of
 * the n classes, softmax(z). Each is as exact as double allows, however small. */
void probabilities_from_logits(const float *logits, int64_t n, double *p);

/* The class predicted from a row's logits: the one with the largest, the lowest of several. Of one logit, class 1 from
 * the probability `threshold` on; at 0.5 that is the sign of the logit, in which no rounding takes part. */
int64_t predicted_class(const float *logits, int64_t n, double threshold);

#endif
