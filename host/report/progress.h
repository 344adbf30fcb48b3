/* Progress of a training: on a terminal a live line, redrawn in place and never wider than the window. Elsewhere a line
 * for the first and the last epoch, for each tenth of the training, for an epoch with a new warning, and for one
 * that ends a minute after the last line. Health warnings are separate lines, printed when they appear or change. */
#ifndef DESCENT_REPORT_PROGRESS_H
#define DESCENT_REPORT_PROGRESS_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

/* Contents of a line. */
struct progress_view {
  int64_t epoch, epochs;
  double share; /* of the whole training, 0 .. 1 */
  double loss, validation_loss;
  const char *metric; /* "accuracy", "rmse" or NULL */
  double metric_value;
  double rows_per_second; /* 0: unknown */
  double seconds, seconds_left;
  bool finished; /* show the elapsed time instead of the time left */
  /* Of several networks, the numbers above are means over those that still train. Those of the validation are shown
   * where all of these have it. */
  int64_t networks, training;                  /* in all, and those that still train; 0: one */
  double loss_deviation, validation_deviation; /* between them, divided by n; NaN: not shown */
};

struct progress {
  FILE *stream; /* NULL: silent */
  bool live, unicode;
  bool shown;   /* the live line is on the screen */
  bool pending; /* not live: the last epoch has no line yet */
  double started, drawn_at;
  double printed_at;       /* not live: seconds of the training at the last line */
  int64_t rows, rows_done; /* of the epoch */
  struct progress_view view;
  char warning[256]; /* the last one shown */
};

/* `rows`: training rows per epoch. */
void progress_open(struct progress *progress, FILE *stream, int64_t rows);
void progress_step(struct progress *progress, int64_t epochs, const descent_step_info *info);
void progress_epoch(struct progress *progress, descent_task task, const descent_epoch_info *info);
/* An epoch of several networks: of each that has just finished it; NULL for the others. Shows the means of these and,
 * where there is room, the standard deviation between networks. */
void progress_members(struct progress *progress, descent_task task, const descent_epoch_info *const *epochs,
                      int64_t count);
/* Leaves the last state on the screen, or in the log. */
void progress_close(struct progress *progress);

/* Composes a line of at most `columns` (>= 10); parts that do not fit are dropped, least important first. `bar`: with a
 * progress bar. */
void progress_line(const struct progress_view *view, int columns, bool bar, bool unicode, char *text, size_t size);

#endif
