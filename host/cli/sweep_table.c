/* What a sweep shows while it runs: a table that is redrawn, or lines of events. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cli/sweep_run.h"
#include "core/clock.h"
#include "report/terminal.h"
#include "report/text.h"

enum { ROWS_MOST = 10, LINE_SIZE = 1024, VALUE_COLUMNS = 24 };
static const double REDRAW_SECONDS = 0.1;

void sweep_table_open(struct sweep_table *table, bool quiet) {
  *table = (struct sweep_table){.stream = quiet ? NULL : stderr, .started = clock_seconds()};
  table->live = !quiet && terminal_is_live(stderr);
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

/* A line, cut at the width of the window. */
struct line {
  char text[LINE_SIZE];
  size_t used;
};

static void append(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(struct line *line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(line->text + line->used, sizeof line->text - line->used, format, arguments);
  va_end(arguments);
  if (n > 0) line->used += (size_t)n < sizeof line->text - line->used ? (size_t)n : sizeof line->text - line->used - 1;
}

static void put(FILE *out, const struct line *line, int columns) {
  size_t length = line->used;
  while (length && line->text[length - 1] == ' ') length--;
  int shown = 0;
  size_t end = 0;
  while (end < length && shown < columns) { /* whole characters of UTF-8 */
    for (end++; end < length && ((unsigned char)line->text[end] & 0xc0) == 0x80;) end++;
    shown++;
  }
  fwrite(line->text, 1, end, out);
}

/* Each text in a column as wide as the widest. */
static int width_of(const struct sweep *sweep, struct sweep_trial *const *ranked, int64_t n, int axis) {
  char label[TEXT_SIZE];
  int width = text_columns(sweep->options.axes[axis].option->name);
  for (int64_t i = 0; i < n; i++) {
    const int columns = text_columns(text_label(ranked[i]->values[axis], VALUE_COLUMNS, label));
    if (columns > width) width = columns;
  }
  return width;
}

static void append_padded(struct line *line, const char *text, int width) {
  append(line, "%s%*s", text, width - text_columns(text) > 0 ? width - text_columns(text) : 0, "");
}

/* What is not the rule. */
static const char *status_text(const struct sweep_trial *t) {
  return t->status == SWEEP_TRIAL_OPEN || t->status == SWEEP_TRIAL_DONE ? "" : sweep_status_names[t->status];
}

static void write_heading(const struct sweep *sweep, FILE *out, const int *widths, int columns) {
  struct line line = {.used = 0};
  append(&line, "trial  %s  epochs  ", sweep_measure_title(sweep));
  for (int a = 0; a < sweep->options.n_axes; a++) {
    append_padded(&line, sweep->options.axes[a].option->name, widths[a]);
    append(&line, "  ");
  }
  put(out, &line, columns);
}

static void write_row(const struct sweep *sweep, const struct sweep_trial *t, FILE *out, const int *widths,
                      int columns) {
  struct line line = {.used = 0};
  char value[TEXT_SIZE], label[TEXT_SIZE];
  append(&line, "%5" PRId64 "  %-*s  %6" PRId64 "  ", t->number, text_columns(sweep_measure_title(sweep)),
         isnan(t->objective) ? "-" : text_loss(t->objective, value), t->course.n);
  for (int a = 0; a < sweep->options.n_axes; a++) {
    append_padded(&line, text_label(t->values[a], VALUE_COLUMNS, label), widths[a]);
    append(&line, "  ");
  }
  append(&line, "%s", status_text(t));
  put(out, &line, columns);
}

/* The number of lines, each ended by `end`. */
static int write_table(const struct sweep *sweep, FILE *out, int64_t most, int columns, const char *end) {
  struct sweep_trial **ranked = sweep_trials_ranked(&sweep->trials, sweep->options.measure);
  int *widths = calloc((size_t)sweep->options.n_axes + 1, sizeof *widths);
  int lines = 0;
  int64_t n = 0;
  while (ranked && n < sweep->trials.n && n < most && (ranked[n]->course.n || ranked[n]->status)) n++;
  for (int a = 0; a < sweep->options.n_axes && ranked && widths; a++) widths[a] = width_of(sweep, ranked, n, a);
  if (ranked && widths && n) {
    write_heading(sweep, out, widths, columns);
    fputs(end, out);
    for (int64_t i = 0; i < n; i++) {
      write_row(sweep, ranked[i], out, widths, columns);
      fputs(end, out);
    }
    lines = (int)n + 1;
  }
  free(widths);
  free(ranked);
  return lines;
}

bool sweep_table_write(const struct sweep *sweep, FILE *out, int64_t most, int columns) {
  return write_table(sweep, out, most, columns, "\n") > 0;
}

/* ---- on a terminal ------------------------------------------------------------------------------------------------ */

static void erase(struct sweep_table *table) {
  if (table->lines) fprintf(table->stream, "\033[%dA\r\033[J", table->lines);
  table->lines = 0;
}

/* Rows of trials that fit below the line of progress. */
static int64_t rows_that_fit(FILE *stream) {
  struct winsize window;
  if (ioctl(fileno(stream), TIOCGWINSZ, &window) != 0 || window.ws_row == 0) return ROWS_MOST;
  const int rows = window.ws_row - 4;
  return rows < 1 ? 1 : rows < ROWS_MOST ? rows : ROWS_MOST;
}

static int64_t finished(const struct sweep *sweep) {
  int64_t n = 0;
  for (int64_t t = 0; t < sweep->trials.n; t++) n += sweep->trials.trials[t].status != SWEEP_TRIAL_OPEN;
  return n;
}

void sweep_table_epoch(struct sweep *sweep, int64_t epoch, int64_t epochs, int64_t training) {
  struct sweep_table *table = &sweep->table;
  if (!table->live || clock_seconds() - table->drawn_at < REDRAW_SECONDS) return;
  const int columns = terminal_columns(table->stream) - 1;
  struct line line = {.used = 0};
  char text[TEXT_SIZE];
  erase(table);
  append(&line, "epoch %" PRId64 "/%" PRId64 "  %" PRId64 " training, %" PRId64 " of %" PRId64 " trials finished  %s",
         epoch, epochs, training, finished(sweep), sweep->trials.n,
         text_duration(clock_seconds() - table->started, text));
  put(table->stream, &line, columns);
  fputs("\033[K\n", table->stream);
  table->lines = 1 + write_table(sweep, table->stream, rows_that_fit(table->stream), columns, "\033[K\n");
  fflush(table->stream);
  table->drawn_at = clock_seconds();
}

void sweep_table_say(struct sweep *sweep, const char *format, ...) {
  struct sweep_table *table = &sweep->table;
  char text[2048];
  if (!table->stream) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  erase(table);
  text_print(table->stream, "%s\n", text);
  table->drawn_at = 0;
}

void sweep_table_close(struct sweep_table *table) {
  if (table->stream) erase(table);
}
