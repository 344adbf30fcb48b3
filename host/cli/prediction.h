/* Predictions as CSV: a line for each row, as `descent predict` writes them. */
#ifndef DESCENT_CLI_PREDICTION_H
#define DESCENT_CLI_PREDICTION_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

enum prediction_kind { PREDICTION_ALL, PREDICTION_CLASSES, PREDICTION_PROBABILITIES, PREDICTION_RAW };

struct prediction_writer {
  const descent_network *network; /* borrowed */
  FILE *stream;                   /* set by the caller */
  enum prediction_kind kind;
  double threshold; /* from which probability on the second of two classes is predicted */
  bool guard_formulas;
  bool spread;           /* columns of standard deviations follow; set by the caller */
  bool terminal;         /* the stream is one, so names are shown escaped; set by the caller */
  bool far;              /* the targets, for their spread, so that the float32 of descent_predict is too coarse */
  bool raw;              /* rows are taken as descent_predict_raw gives them, else as descent_predict does */
  double *probabilities; /* (classes) of a row */
};

/* False when out of memory. */
bool prediction_open(struct prediction_writer *writer, const descent_network *network, enum prediction_kind kind,
                     double threshold, bool guard_formulas);
void prediction_close(struct prediction_writer *writer);

void prediction_write_header(const struct prediction_writer *writer);
/* values (outputs) of one row, and with `spread` their standard deviations over the members (outputs), else NULL. */
void prediction_write_row(const struct prediction_writer *writer, const float *values, const float *spread);
/* Empty cells, for a row without a prediction. */
void prediction_write_missing(const struct prediction_writer *writer);

#endif
