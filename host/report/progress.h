/* How far a training is: on a terminal one live line, rewritten in place and never wider than the window; elsewhere one
 * plain line per epoch. Health warnings come on lines of their own when they appear or change. */
#ifndef DESCENT_REPORT_PROGRESS_H
#define DESCENT_REPORT_PROGRESS_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

/* What a line shows. */
struct progress_view {
  int64_t epoch, epochs;
  double share; /* of the whole training, 0 .. 1 */
  double loss, validation_loss;
  const char *metric; /* "accuracy", "rmse" or NULL */
  double metric_value;
  double rows_per_second; /* 0: unknown */
  double seconds, seconds_left;
  bool finished; /* show the time taken instead of the time left */
};

struct progress {
  FILE *stream; /* NULL: silent */
  bool live, unicode;
  bool shown; /* the live line is on the screen */
  double started, drawn_at;
  int64_t rows, rows_done; /* of the epoch */
  struct progress_view view;
  char warning[256]; /* the last one shown */
};

/* `rows` of training in an epoch. */
void progress_open(struct progress *progress, FILE *stream, int64_t rows);
void progress_step(struct progress *progress, int64_t epochs, const descent_step_info *info);
void progress_epoch(struct progress *progress, descent_task task, const descent_epoch_info *info);
/* Leaves the last state on the screen. */
void progress_close(struct progress *progress);

/* One line of at most `columns` (>= 10), as much as fits of the view in order of worth; a bar when `bar`. */
void progress_line(const struct progress_view *view, int columns, bool bar, bool unicode, char *text, size_t size);

#endif
