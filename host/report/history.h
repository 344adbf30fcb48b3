/* The history of a training: the numbers of its epochs, from the lines of its run log. Of a long training a part of them
 * is held, so that its memory has a bound: every second epoch, every fourth and so on, and always the first, the best
 * and the last one. */
#ifndef DESCENT_REPORT_HISTORY_H
#define DESCENT_REPORT_HISTORY_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* X(NAME, "key in the run log") */
#define HISTORY_NUMBER_MAP(X)                               \
  X(EPOCH, "epoch")                                         \
  X(TRAIN_LOSS, "train_loss")                               \
  X(VALIDATION_LOSS, "validation_loss")                     \
  X(VALIDATION_ACCURACY, "validation_accuracy")             \
  X(VALIDATION_AUC, "validation_auc")                       \
  X(VALIDATION_TOP_K_ACCURACY, "validation_top_k_accuracy") \
  X(VALIDATION_RMSE, "validation_rmse")                     \
  X(VALIDATION_R2, "validation_r2")                         \
  X(LEARNING_RATE, "learning_rate")                         \
  X(ROWS_PER_SECOND, "rows_per_second")                     \
  X(SECONDS, "seconds")
#define HISTORY_LAYER_MAP(X)            \
  X(GRADIENT_NORM, "gradient_norm")     \
  X(UPDATE_RATIO, "update_ratio")       \
  X(ACTIVATION_MEAN, "activation_mean") \
  X(ACTIVATION_STD, "activation_std")   \
  X(DEAD_FRACTION, "dead_fraction")

#define HISTORY_ENUM_NUMBER(NAME, key) HISTORY_##NAME,
enum history_number { HISTORY_NUMBER_MAP(HISTORY_ENUM_NUMBER) HISTORY_NUMBERS };
#define HISTORY_ENUM_LAYER(NAME, key) HISTORY_LAYER_##NAME,
enum history_layer { HISTORY_LAYER_MAP(HISTORY_ENUM_LAYER) HISTORY_LAYER_NUMBERS };

struct history {
  int64_t epochs;           /* added */
  int64_t points, capacity; /* held: those whose place from 0 divides by `stride`, and the best and the last */
  int64_t stride;           /* 1: all are held */
  int32_t layers;
  bool other_loss;     /* the training loss has class weights or label smoothing, which the validation loss has not */
  int64_t best;        /* place of the epoch with the lowest validation loss, or training loss without validation */
  double best_loss;    /* its loss; NaN: none yet */
  double time_per_row; /* seconds, the sum over all epochs but the first, which includes warm-up */
  double *numbers;     /* (capacity, 1 + HISTORY_NUMBERS + layers * HISTORY_LAYER_NUMBERS): the place of an epoch, then
                          its numbers; NaN: undefined or absent */
};

/* Adds an epoch. Returns NULL, or why the line is invalid as a static text, with the history unchanged. */
const char *history_add(struct history *history, const cJSON *line);
/* Adds every epoch of a run log. A last line without a newline is skipped, since it may still be in writing. Returns 0;
 * the number of an invalid line, with the reason in `*wrong`; or -1 with errno set. */
int64_t history_read(FILE *file, struct history *history, const char **wrong);
void history_free(struct history *history);

/* `point` counts the epochs that are held from 0, `layer` from 1. */
double history_number(const struct history *history, int64_t point, enum history_number number);
double history_layer(const struct history *history, int64_t point, int32_t layer, enum history_layer number);
/* Mean speed over all epochs but the first, in rows per second; NaN when unknown. */
double history_speed(const struct history *history);
/* Whether any epoch has this number. */
bool history_has(const struct history *history, enum history_number number);

#endif
