/* The progress line, composed for the current width of the window each time it is drawn. */
#include "report/progress.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "report/terminal.h"
#include "report/text.h"

enum { MIN_BAR = 8, MAX_BAR = 30, LINE_SIZE = 512 };
static const double REDRAW_SECONDS = 0.05, SILENT_SECONDS = 60;

enum piece { EPOCH, BAR, LOSS, VALIDATION, METRIC, NETWORKS, RATE, TIME, PIECES };

/* "loss 0.0832", and of several networks where there is room "loss 0.0832+-0.0041" */
static void write_loss(char piece[64], const char *name, double loss, double deviation, bool unicode) {
  char a[TEXT_SIZE], b[TEXT_SIZE];
  if (isnan(loss)) return;
  const int length = snprintf(piece, 64, "%s %.20s", name, text_loss(loss, a));
  if (!isnan(deviation))
    snprintf(piece + length, (size_t)(64 - length), "%s%.16s", unicode ? "\u00b1" : "+-", text_loss(deviation, b));
}

/* Formats all pieces except the bar; "" when unknown. */
static void write_pieces(const struct progress_view *v, bool brief, bool unicode, char pieces[PIECES][64]) {
  char a[TEXT_SIZE], b[TEXT_SIZE];
  int digits = snprintf(NULL, 0, "%" PRId64, v->epochs);
  memset(pieces, 0, sizeof(char[PIECES][64]));
  snprintf(pieces[EPOCH], sizeof *pieces, "%s%*" PRId64 "/%" PRId64, brief ? "" : "epoch ", digits, v->epoch,
           v->epochs);
  write_loss(pieces[LOSS], "loss", v->loss, brief || !v->networks ? NAN : v->loss_deviation, unicode);
  write_loss(pieces[VALIDATION], "val", v->validation_loss, brief || !v->networks ? NAN : v->validation_deviation,
             unicode);
  if (v->metric) snprintf(pieces[METRIC], sizeof *pieces, "%.20s %.20s", v->metric, text_loss(v->metric_value, a));
  if (v->training < v->networks)
    snprintf(pieces[NETWORKS], sizeof *pieces, "%.20s of %.20s still training", text_count(v->training, a),
             text_count(v->networks, b));
  else if (v->networks)
    snprintf(pieces[NETWORKS], sizeof *pieces, "%.20s networks", text_count(v->networks, a));
  if (v->rows_per_second > 0)
    snprintf(pieces[RATE], sizeof *pieces, "%.20s rows/s", text_scaled(v->rows_per_second, a));
  if (v->finished)
    snprintf(pieces[TIME], sizeof *pieces, "in %.20s", text_duration(v->seconds, a));
  else if (v->seconds_left >= 0)
    snprintf(pieces[TIME], sizeof *pieces, "%.20s left", text_duration(v->seconds_left, a));
}

static int pieces_columns(char pieces[PIECES][64]) {
  int columns = -1;
  for (int i = 0; i < PIECES; i++)
    if (*pieces[i]) columns += text_columns(pieces[i]) + 1;
  return columns;
}

static void append_bar(char *text, size_t size, int columns, double share, bool unicode) {
  int filled = (int)(share * columns + 0.5);
  for (int i = 0; i < columns; i++) {
    const char *cell = i < filled ? (unicode ? "\u2501" : "#") : (unicode ? "\u2500" : ".");
    strncat(text, cell, size - strlen(text) - 1);
  }
}

void progress_line(const struct progress_view *view, int columns, bool bar, bool unicode, char *text, size_t size) {
  /* Pieces dropped in a narrow window, first to last; the word "epoch" goes with the bar. */
  static const enum piece drop[] = {VALIDATION, RATE, NETWORKS, BAR, TIME, METRIC};
  char pieces[PIECES][64];
  struct progress_view narrow = *view;
  const bool live = bar;
  write_pieces(&narrow, false, unicode, pieces);
  if (pieces_columns(pieces) + (bar ? MIN_BAR + 1 : 0) > columns) {
    narrow.loss_deviation = narrow.validation_deviation = NAN;
    write_pieces(&narrow, false, unicode, pieces);
  }
  for (size_t i = 0; pieces_columns(pieces) + (bar ? MIN_BAR + 1 : 0) > columns && i < sizeof drop / sizeof *drop;
       i++) {
    if (drop[i] == BAR) {
      bar = false;
      write_pieces(&narrow, true, unicode, pieces);
      *pieces[RATE] = *pieces[VALIDATION] = *pieces[NETWORKS] = '\0';
    }
    *pieces[drop[i]] = '\0';
  }
  if (pieces_columns(pieces) > columns) memmove(pieces[LOSS], pieces[LOSS] + strcspn(pieces[LOSS], "0123456789-"), 24);
  if (pieces_columns(pieces) > columns) *pieces[LOSS] = '\0'; /* dropped, since a truncated number is wrong */
  int room = columns - pieces_columns(pieces) - 1;
  *text = '\0';
  for (int i = 0; i < PIECES; i++) {
    if (i == BAR ? !bar : !*pieces[i]) continue;
    if (*text) strncat(text, live ? " " : "  ", size - strlen(text) - 1);
    if (i == BAR)
      append_bar(text, size, room < MAX_BAR ? room : MAX_BAR, view->share, unicode);
    else
      strncat(text, pieces[i], size - strlen(text) - 1);
  }
  /* Epochs in the millions can still be too wide; the remaining text is ASCII. */
  if (text_columns(text) > columns) text[columns] = '\0';
}

static void draw(struct progress *progress) {
  char text[LINE_SIZE];
  /* Leave the last column free: many terminals wrap when it is written. */
  progress_line(&progress->view, terminal_columns(progress->stream) - 1, true, progress->unicode, text, sizeof text);
  fprintf(progress->stream, "\r%s\033[K", text);
  fflush(progress->stream);
  progress->shown = true;
  progress->drawn_at = clock_seconds();
}

void progress_open(struct progress *progress, FILE *stream, int64_t rows) {
  *progress = (struct progress){.stream = stream, .rows = rows, .started = clock_seconds()};
  progress->view.loss = progress->view.validation_loss = NAN;
  progress->view.seconds_left = -1;
  if (!stream) return;
  progress->live = terminal_is_live(stream);
  progress->unicode = terminal_unicode();
}

void progress_step(struct progress *progress, int64_t epochs, const descent_step_info *info) {
  struct progress_view *view = &progress->view;
  if (!progress->live) return;
  if (view->epoch != info->epoch) progress->rows_done = 0;
  progress->rows_done += info->rows;
  view->epoch = info->epoch;
  view->epochs = epochs;
  view->share = ((double)(info->epoch - 1) + (double)progress->rows_done / (double)progress->rows) / (double)epochs;
  const double elapsed = clock_seconds() - progress->started;
  view->seconds_left = elapsed / view->share - elapsed;
  if (info->epoch == 1) { /* later epochs show the results of the epoch before */
    view->loss = info->loss;
    view->rows_per_second = (double)progress->rows_done / elapsed;
  }
  if (clock_seconds() - progress->drawn_at >= REDRAW_SECONDS) draw(progress);
}

/* Clears the live line before a permanent line. */
static void clear_line(struct progress *progress) {
  if (progress->shown) fputs("\r\033[K", progress->stream);
  progress->shown = false;
}

/* Whether it is a new one. */
static bool show_warning(struct progress *progress, const char *warning) {
  if (!*warning || text_same_words(warning, progress->warning)) return false;
  snprintf(progress->warning, sizeof progress->warning, "%s", warning);
  clear_line(progress);
  text_print(progress->stream, "warning: epoch %" PRId64 ": %s\n", progress->view.epoch, progress->warning);
  return true;
}

static void print_line(struct progress *progress) {
  char text[LINE_SIZE];
  progress_line(&progress->view, LINE_SIZE, false, false, text, sizeof text);
  fprintf(progress->stream, "%s\n", text);
  progress->pending = false;
  progress->printed_at = progress->view.seconds;
}

/* Ends this epoch a tenth of the training? Of fewer than ten epochs each does. */
static bool ends_tenth(const struct progress_view *view) {
  return view->epoch % (view->epochs / 10 + (view->epochs % 10 != 0)) == 0;
}

static void choose_metric(struct progress *progress, descent_task task, const descent_metrics *validation) {
  struct progress_view *view = &progress->view;
  view->metric = task == DESCENT_TASK_REGRESSION ? "rmse" : progress->live ? "acc" : "accuracy";
  view->metric_value = task == DESCENT_TASK_REGRESSION ? validation->rmse : validation->accuracy;
}

/* The view of an epoch is complete: draws or prints what is due. */
static void show_epoch(struct progress *progress, bool first, const char *placement, const char *warning) {
  const struct progress_view *view = &progress->view;
  progress->rows_done = 0;
  if (first && *placement) {
    clear_line(progress);
    text_print(progress->stream, "%s\n", placement);
  }
  const bool warned = show_warning(progress, warning);
  if (!progress->live) {
    progress->pending = true;
    if (first || warned || ends_tenth(view) || view->seconds - progress->printed_at >= SILENT_SECONDS)
      print_line(progress);
  } else if (clock_seconds() - progress->drawn_at >= REDRAW_SECONDS) {
    draw(progress);
  }
}

void progress_epoch(struct progress *progress, descent_task task, const descent_epoch_info *info) {
  struct progress_view *view = &progress->view;
  if (!progress->stream) return;
  const bool first = view->epoch == 0;
  *view = (struct progress_view){
      .epoch = info->epoch,
      .epochs = info->epochs,
      .share = (double)info->epoch / (double)info->epochs,
      .loss = info->train_loss,
      .validation_loss = NAN,
      .rows_per_second = info->rows_per_second,
      .seconds = info->seconds,
      .seconds_left = info->seconds / (double)info->epoch * (double)(info->epochs - info->epoch),
      .finished = info->epoch == info->epochs,
  };
  if (info->validation) {
    view->validation_loss = info->validation->loss;
    choose_metric(progress, task, info->validation);
  }
  show_epoch(progress, first, info->placement, info->warning);
}

/* ---- several networks -------------------------------------------------------------------------------------------- */

struct sums {
  int64_t n;
  double sum, squares;
};

static void add(struct sums *s, double value) {
  s->n++;
  s->sum += value;
  s->squares += value * value;
}

static double mean_of(const struct sums *s) { return s->n ? s->sum / (double)s->n : NAN; }

/* Of these networks, and not of a sample: divided by n. */
static double deviation_of(const struct sums *s) {
  const double mean = mean_of(s), variance = s->squares / (double)s->n - mean * mean;
  return s->n < 2 || !isfinite(variance) ? NAN : sqrt(variance > 0 ? variance : 0);
}

/* "3 of 8 networks: ..", of the first one with a warning; "" without one. */
static void join_warnings(const descent_epoch_info *const *epochs, int64_t count, char text[static 320]) {
  int64_t warned = 0, first = 0;
  for (int64_t k = count - 1; k >= 0; k--)
    if (epochs[k] && *epochs[k]->warning) warned++, first = k;
  *text = '\0';
  if (warned) snprintf(text, 320, "%" PRId64 " of %" PRId64 " networks: %s", warned, count, epochs[first]->warning);
}

void progress_members(struct progress *progress, descent_task task, const descent_epoch_info *const *epochs,
                      int64_t count) {
  struct progress_view *view = &progress->view;
  struct sums loss = {0}, validation = {0}, metric = {0};
  const descent_epoch_info *last = NULL; /* of those that have trained longest */
  double rate = 0;
  int64_t training = 0;
  char warning[320];
  if (!progress->stream) return;
  for (int64_t k = 0; k < count; k++) {
    const descent_epoch_info *info = epochs[k];
    if (!info) continue;
    if (!last || info->epoch > last->epoch) last = info;
    add(&loss, info->train_loss);
    rate += info->rows_per_second;
    training++;
    if (!info->validation) continue;
    add(&validation, info->validation->loss);
    choose_metric(progress, task, info->validation);
    add(&metric, view->metric_value);
  }
  if (!last) return;
  if (validation.n < training) validation = metric = (struct sums){0}; /* not those of some as if of all */
  const bool first = view->epoch == 0;
  *view = (struct progress_view){
      .epoch = last->epoch,
      .epochs = last->epochs,
      .share = (double)last->epoch / (double)last->epochs,
      .loss = mean_of(&loss),
      .validation_loss = mean_of(&validation),
      .metric = metric.n ? view->metric : NULL,
      .metric_value = mean_of(&metric),
      .rows_per_second = rate,
      .seconds = last->seconds,
      .seconds_left = last->seconds / (double)last->epoch * (double)(last->epochs - last->epoch),
      .finished = last->epoch == last->epochs,
      .networks = count,
      .training = training,
      .loss_deviation = deviation_of(&loss),
      .validation_deviation = deviation_of(&validation),
  };
  join_warnings(epochs, count, warning);
  show_epoch(progress, first, last->placement, warning);
}

void progress_close(struct progress *progress) {
  if (progress->view.epoch == 0 || !(progress->live || progress->pending)) return;
  progress->view.finished = progress->view.seconds > 0;
  if (!progress->live) {
    print_line(progress);
    return;
  }
  draw(progress);
  fputc('\n', progress->stream);
  progress->shown = false;
}
