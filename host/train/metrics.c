/* Accuracy, AUC, top-k accuracy, F1, confusion matrix, RMSE and R2 of predictions, computed in integers and double. */
#include "train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"

/* Of one regression target: running mean and sum of squared deviations (Welford 1962), sum of squared residuals. */
struct target_sums {
  double mean, deviation, residual;
};

/* Row counts of one class: labelled with it, predicted as it, and both. */
struct class_sums {
  int64_t labelled, predicted, correct;
};

struct metrics_sums {
  descent_loss loss;
  int64_t outputs, classes, top_k;
  int64_t rows, correct, in_top_k;
  /* Binary classifiers: score_key of every logit. Rows of class 0 fill it from the front, those of class 1 from the
   * back. */
  uint32_t *scores; /* (capacity) */
  int64_t capacity, negatives, positives;
  bool scores_nan;
  struct class_sums *per_class; /* (classes), classifiers */
  int64_t *confusion;           /* (classes, classes); NULL above DESCENT_CONFUSION_CLASSES */
  struct target_sums *targets;  /* (outputs), regression */
};

descent_status metrics_create(const descent_network *network, int64_t rows, int64_t top_k, struct metrics_sums **sums) {
  const int64_t classes = network->classes;
  if (top_k < 0 || (network->loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY && top_k > classes))
    return status_set(DESCENT_ERROR_ARGUMENT, "top_k %lld: must be in 0 .. %lld, the number of classes (0: automatic)",
                      (long long)top_k, (long long)classes);
  struct metrics_sums *made = memory_allocate(1, sizeof *made, "metrics");
  if (!made) return DESCENT_ERROR_MEMORY;
  made->loss = network->loss;
  made->outputs = network->layers[network->n_layers - 1].n_out;
  made->classes = classes;
  made->top_k = top_k ? top_k : classes < 5 ? classes : 5;
  bool failed = false;
  if (loss_is_regression(network->loss)) {
    made->targets = memory_allocate(made->outputs, sizeof *made->targets, "metrics of the targets");
    failed = !made->targets;
  } else {
    const bool has_confusion = classes <= DESCENT_CONFUSION_CLASSES;
    made->per_class = memory_allocate(classes, sizeof *made->per_class, "metrics of the classes");
    if (has_confusion)
      made->confusion = memory_allocate(classes * classes, sizeof *made->confusion, "the confusion matrix");
    failed = !made->per_class || (has_confusion && !made->confusion);
  }
  if (!failed && network->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) {
    made->scores = memory_allocate(rows, sizeof *made->scores, "the scores of the ROC curve");
    made->capacity = rows;
    failed = !made->scores;
  }
  if (failed) {
    metrics_free(made);
    return DESCENT_ERROR_MEMORY;
  }
  *sums = made;
  return DESCENT_OK;
}

void metrics_free(struct metrics_sums *sums) {
  if (!sums) return;
  free(sums->scores);
  free(sums->per_class);
  free(sums->confusion);
  free(sums->targets);
  free(sums);
}

/* A number with the order of the floats: their bits, inverted where the sign is set; -0 becomes 0. */
static uint32_t score_key(float logit) {
  const float positive_zero = logit == 0 ? 0 : logit;
  uint32_t bits;
  memcpy(&bits, &positive_zero, sizeof bits);
  return bits & 0x80000000U ? ~bits : bits | 0x80000000U;
}

static void add_class(struct metrics_sums *sums, int64_t truth, int64_t predicted) {
  sums->correct += predicted == truth;
  sums->per_class[truth].labelled++;
  sums->per_class[predicted].predicted++;
  if (predicted == truth) sums->per_class[truth].correct++;
  if (sums->confusion) sums->confusion[truth * sums->classes + predicted]++;
}

static void add_binary(struct metrics_sums *sums, float logit, int64_t truth) {
  const int64_t place = truth == 1 ? sums->capacity - ++sums->positives : sums->negatives++;
  if (isnan(logit)) sums->scores_nan = true;
  sums->scores[place] = score_key(logit);
  add_class(sums, truth, logit >= 0);
}

static void add_classes(struct metrics_sums *sums, const float *z, int64_t truth) {
  int64_t predicted = 0, better = 0; /* better: classes ranked before the true one */
  for (int64_t k = 0; k < sums->outputs; k++) {
    if (z[k] > z[predicted]) predicted = k;
    better += z[k] > z[truth] || (z[k] == z[truth] && k < truth);
  }
  sums->in_top_k += better < sums->top_k && !isnan(z[truth]);
  add_class(sums, truth, predicted);
}

static void add_targets(struct metrics_sums *sums, const float *P, const float *y) {
  for (int64_t k = 0; k < sums->outputs; k++) {
    struct target_sums *target = &sums->targets[k];
    double error = (double)P[k] - (double)y[k], distance = (double)y[k] - target->mean;
    target->residual += error * error;
    target->mean += distance / (double)(sums->rows + 1);
    target->deviation += distance * ((double)y[k] - target->mean);
  }
}

void metrics_add(struct metrics_sums *sums, const float *values, const float *y) {
  switch (sums->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: add_binary(sums, *values, (int64_t)*y); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: add_classes(sums, values, (int64_t)*y); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: add_targets(sums, values, y); break;
  }
  sums->rows++;
}

/* Radix sort, ascending, in three passes of 11 bits. */
static descent_status sort_keys(uint32_t *keys, int64_t n) {
  enum { BITS = 11, BUCKETS = 1 << BITS, PASSES = 3 };
  if (n == 0) return DESCENT_OK;
  uint32_t *other = memory_allocate(n, sizeof *other, "sorting the scores");
  if (!other) return DESCENT_ERROR_MEMORY;
  uint32_t *from = keys, *to = other;
  for (int pass = 0; pass < PASSES; pass++) {
    int64_t starts[BUCKETS + 1] = {0};
    const int shift = pass * BITS;
    for (int64_t i = 0; i < n; i++) starts[(from[i] >> shift & (BUCKETS - 1)) + 1]++;
    for (int b = 0; b < BUCKETS; b++) starts[b + 1] += starts[b];
    for (int64_t i = 0; i < n; i++) to[starts[from[i] >> shift & (BUCKETS - 1)]++] = from[i];
    uint32_t *swap = from;
    from = to;
    to = swap;
  }
  memcpy(keys, from, (size_t)n * sizeof *keys); /* after an odd number of passes the result is in `other` */
  free(other);
  return DESCENT_OK;
}

/* The fraction of (positive, negative) pairs in the right order, ties counted half (Mann and Whitney 1947). */
static descent_status area_under_curve(struct metrics_sums *sums, double *area) {
  *area = NAN;
  if (sums->scores_nan) return DESCENT_OK;
  uint32_t *negative = sums->scores, *positive = sums->scores + sums->capacity - sums->positives;
  descent_status status = sort_keys(negative, sums->negatives);
  if (status == DESCENT_OK) status = sort_keys(positive, sums->positives);
  if (status != DESCENT_OK) return status;
  double half_wins = 0;
  int64_t below = 0; /* negatives below the score */
  for (int64_t i = 0; i < sums->positives;) {
    const uint32_t score = positive[i];
    int64_t tied[2] = {0, 0};
    while (below < sums->negatives && negative[below] < score) below++;
    while (below + tied[0] < sums->negatives && negative[below + tied[0]] == score) tied[0]++;
    for (; i < sums->positives && positive[i] == score; i++) tied[1]++;
    half_wins += (double)tied[1] * (double)(2 * below + tied[0]);
  }
  if (sums->positives && sums->negatives) *area = half_wins / (2 * (double)sums->positives * (double)sums->negatives);
  return DESCENT_OK;
}

/* 2 tp / (2 tp + fp + fn). */
static void f1_scores(const struct class_sums *counts, int64_t classes, double *f1) {
  for (int64_t k = 0; k < classes; k++) {
    const int64_t sum = counts[k].labelled + counts[k].predicted;
    f1[k] = sum ? 2 * (double)counts[k].correct / (double)sum : 0;
  }
}

static void finish_regression(const struct metrics_sums *sums, descent_metrics *metrics) {
  double residual = 0, r2 = 0;
  for (int64_t k = 0; k < sums->outputs; k++) {
    const struct target_sums *target = &sums->targets[k];
    residual += target->residual;
    r2 += target->deviation > 0 ? 1 - target->residual / target->deviation : NAN;
  }
  metrics->rmse = sqrt(residual / ((double)sums->rows * (double)sums->outputs));
  metrics->r2 = r2 / (double)sums->outputs;
}

descent_status metrics_finish(struct metrics_sums *sums, double loss, descent_metrics *metrics) {
  descent_metrics made = {
      .rows = sums->rows, .loss = loss, .accuracy = NAN, .auc = NAN, .top_k_accuracy = NAN, .rmse = NAN, .r2 = NAN};
  if (loss_is_regression(sums->loss)) {
    finish_regression(sums, &made);
    *metrics = made;
    return DESCENT_OK;
  }
  const double rows = (double)sums->rows;
  descent_status status = DESCENT_OK;
  if (sums->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY) status = area_under_curve(sums, &made.auc);
  if (status != DESCENT_OK) return status;
  made.accuracy = (double)sums->correct / rows;
  if (sums->loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) {
    made.top_k = sums->top_k;
    made.top_k_accuracy = (double)sums->in_top_k / rows;
  }
  made.classes = sums->classes;
  made.f1 = memory_allocate(sums->classes, sizeof *made.f1, "F1 scores");
  if (!made.f1) return DESCENT_ERROR_MEMORY;
  f1_scores(sums->per_class, sums->classes, made.f1);
  made.confusion = sums->confusion;
  sums->confusion = NULL;
  *metrics = made;
  return DESCENT_OK;
}

void descent_metrics_clear(descent_metrics *metrics) {
  if (!metrics) return;
  free(metrics->f1);
  free(metrics->confusion);
  *metrics = (descent_metrics){0};
}
