/* --report: the page of a sweep from its trials. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/sweep_run.h"
#include "report/sweep_page.h"
#include "report/text.h"

static const char *const command = sweep_command;

enum { CURVES_MOST = 8, TICKS_MOST = 12, LINES_MOST = 1000, POINTS_MOST = 1000, TITLE_SIZE = 512 };

/* What the page borrows. */
struct content {
  const struct sweep *sweep;
  struct sweep_trial **ranked; /* (n) those with a line in the record */
  int64_t n;
  int n_axes; /* the options, and the objective as the last */
  const char **names;
  struct sweep_page_trial *rows;             /* (n) */
  struct parallel_axis *axes;                /* (n_axes) */
  struct parallel_tick (*ticks)[TICKS_MOST]; /* (n_axes) */
  struct parallel_line *lines;               /* (n) */
  double *at;                                /* (n, n_axes) */
  char (*titles)[TITLE_SIZE];                /* (n) */
  struct chart_axis objective;
  struct figure curves;
};

static void content_clear(struct content *c) {
  figure_clear(&c->curves);
  free(c->titles);
  free(c->at);
  free(c->lines);
  free(c->ticks);
  free(c->axes);
  free(c->rows);
  free(c->names);
  free(c->ranked);
}

static bool allocate(struct content *c) {
  const struct sweep *sweep = c->sweep;
  c->ranked = sweep_trials_ranked(&sweep->trials, sweep->options.measure);
  if (!c->ranked) return false;
  for (int64_t i = 0; i < sweep->trials.n; i++)
    if (c->ranked[i]->status != SWEEP_TRIAL_OPEN) c->ranked[c->n++] = c->ranked[i];
  c->n_axes = sweep->options.n_axes + 1;
  const size_t n = (size_t)c->n + 1, axes = (size_t)c->n_axes; /* no array is empty */
  c->names = calloc(axes, sizeof *c->names);
  c->rows = calloc(n, sizeof *c->rows);
  c->axes = calloc(axes, sizeof *c->axes);
  c->ticks = calloc(axes, sizeof *c->ticks);
  c->lines = calloc(n, sizeof *c->lines);
  c->at = calloc(n * axes, sizeof *c->at);
  c->titles = calloc(n, sizeof *c->titles);
  return c->names && c->rows && c->axes && c->ticks && c->lines && c->at && c->titles;
}

/* ---- the plot of configurations ---------------------------------------------------------------------------------- */

/* Losses crowd at the low end of their axis: few trials are bad, and those are very bad. */
static bool is_crowded(const struct chart_series *s, enum sweep_measure measure) {
  double low = HUGE_VAL, high = 0;
  for (int64_t i = 0; i < s->n; i++) {
    if (isnan(s->y[i])) continue;
    low = fmin(low, s->y[i]);
    high = fmax(high, s->y[i]);
  }
  return (measure == SWEEP_LOSS || measure == SWEEP_RMSE) && low > 0 && high > 10 * low;
}

/* The scale of the last axis: that of a chart of the trials' results. */
static bool scale_objective(struct content *c) {
  struct figure figure = {0};
  struct chart *chart = figure_add(&figure, "", "", "");
  struct chart_series *s = chart ? chart_add(chart, NULL, 0, CHART_POINTS, c->n) : NULL;
  if (s) {
    for (int64_t i = 0; i < c->n; i++) {
      s->x[i] = (double)i;
      s->y[i] = c->ranked[i]->objective;
    }
    chart->log_y = is_crowded(s, c->sweep->options.measure);
    c->objective = chart_y_axis(chart);
  }
  figure_clear(&figure);
  return s != NULL;
}

static void set_axes(struct content *c) {
  const int last = c->n_axes - 1;
  for (int a = 0; a < last; a++) {
    const struct sweep_axis *axis = &c->sweep->options.axes[a];
    c->names[a] = axis->option->name;
    struct parallel_axis *shown = &c->axes[a];
    *shown = (struct parallel_axis){.name = axis->option->name, .ticks = c->ticks[a]};
    const int64_t every = axis->n > TICKS_MOST ? (axis->n + TICKS_MOST - 1) / TICKS_MOST : 1;
    for (int64_t i = 0; i < axis->n; i += every)
      c->ticks[a][shown->n_ticks++] =
          (struct parallel_tick){sweep_axis_position(axis, axis->values[i]), axis->values[i]};
    for (int end = 0; end < 2 && axis->n == 0; end++)
      c->ticks[a][shown->n_ticks++] = (struct parallel_tick){end, axis->ends[end]};
  }
  c->axes[last] = (struct parallel_axis){.name = sweep_measure_title(c->sweep), .ticks = c->ticks[last]};
  for (int i = 0; i < c->objective.n && i < TICKS_MOST; i++)
    c->ticks[last][c->axes[last].n_ticks++] =
        (struct parallel_tick){chart_position(&c->objective, c->objective.ticks[i]), c->objective.texts[i]};
}

/* The line of trial i from the best; the best is drawn last. */
static void set_line(struct content *c, int64_t i, int64_t with_result) {
  const struct sweep_trial *t = c->ranked[i];
  const int last = c->n_axes - 1;
  double *at = c->at + i * c->n_axes;
  char value[TEXT_SIZE], which[TITLE_SIZE - 64];
  for (int a = 0; a < last; a++) at[a] = sweep_axis_position(&c->sweep->options.axes[a], t->values[a]);
  at[last] = isnan(t->objective) ? NAN : chart_position(&c->objective, t->objective);
  const bool ranked = i < with_result;
  sweep_trial_describe(&c->sweep->options, t, which, sizeof which);
  snprintf(c->titles[i], TITLE_SIZE, "trial %" PRId64 ": %s; %s", t->number, which,
           ranked ? text_loss(t->objective, value) : sweep_status_names[t->status]);
  c->lines[c->n - 1 - i] = (struct parallel_line){
      .at = at,
      .color =
          ranked ? CHART_RAMP + (int)(CHART_RAMP_STEPS * i / (with_result > 1 ? with_result - 1 : 1)) : CHART_REFERENCE,
      .title = c->titles[i]};
}

static bool has_result(const struct sweep_trial *t) {
  return !isnan(t->objective) && t->status != SWEEP_TRIAL_DIVERGED;
}

/* ---- curves and rows --------------------------------------------------------------------------------------------- */

static bool add_curve(struct chart *chart, const struct sweep_trial *t, int color, const double *losses) {
  char name[32];
  snprintf(name, sizeof name, "trial %" PRId64, t->number);
  struct chart_series *s = chart_add(chart, name, color, CHART_LINE, t->course.n);
  if (!s) return false;
  for (int64_t e = 0; e < t->course.n; e++) {
    s->x[e] = (double)(e + 1);
    s->y[e] = losses[e];
  }
  chart_thin(s, POINTS_MOST);
  return true;
}

static bool add_curves(struct content *c) {
  const bool validation = c->sweep->shared.rows.validation != NULL;
  for (int kind = validation ? 0 : 1; kind < 2; kind++) {
    struct chart *chart = figure_add(&c->curves, kind ? "Training loss" : "Validation loss", "epoch", "loss");
    if (!chart) return false;
    chart->whole_x = true;
    for (int64_t i = 0; i < c->n && i < CURVES_MOST; i++) {
      const struct sweep_trial *t = c->ranked[i];
      if (!has_result(t)) continue;
      if (!add_curve(chart, t, (int)i, kind ? t->course.train_loss : t->course.validation_loss)) return false;
    }
    chart_choose_scale(chart);
  }
  return true;
}

static void set_rows(struct content *c) {
  int64_t with_result = 0;
  while (with_result < c->n && has_result(c->ranked[with_result])) with_result++;
  for (int64_t i = 0; i < c->n; i++) {
    const struct sweep_trial *t = c->ranked[i];
    c->rows[i] = (struct sweep_page_trial){t->number,
                                           (const char *const *)t->values,
                                           sweep_status_names[t->status],
                                           t->error,
                                           t->objective,
                                           t->epochs,
                                           t->best_epoch,
                                           t->seconds};
    set_line(c, i, with_result);
  }
}

static int write_page(const struct sweep *sweep, const struct sweep_page *page) {
  const char *path = sweep->options.report;
  struct output_file output;
  if (!output_open(&output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  sweep_page_write(output.stream, page);
  return output_commit(&output) ? EXIT_DONE : fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}

static int write_content(struct content *c, const struct sweep_trial *best) {
  const struct sweep *sweep = c->sweep;
  char search[128], number[TEXT_SIZE];
  char *line = sweep_trial_command(&sweep->options, best);
  if (!line || !allocate(c) || !scale_objective(c) || !add_curves(c)) {
    free(line);
    return fail(command, EXIT_RUN, "%s: not written: out of memory", sweep->options.report);
  }
  set_axes(c);
  set_rows(c);
  const int64_t epochs = sweep->shared.values.training.train.epochs;
  snprintf(search, sizeof search, "%s, %" PRId64 " trial%s of at most %s epoch%s",
           sweep_search_names[sweep->options.search], sweep->trials.n, sweep->trials.n == 1 ? "" : "s",
           text_count(epochs, number), epochs == 1 ? "" : "s");
  const int64_t lines = c->n < LINES_MOST ? c->n : LINES_MOST; /* the best of them */
  const struct sweep_page page = {.data_path = sweep->options.data_path,
                                  .model_path = sweep->options.out,
                                  .search = search,
                                  .measure = sweep_measure_title(sweep),
                                  .names = c->names,
                                  .n_names = c->n_axes - 1,
                                  .trials = c->rows,
                                  .n_trials = c->n,
                                  .open = sweep->trials.n - c->n,
                                  .command = line,
                                  .same_model = best->status != SWEEP_TRIAL_DROPPED,
                                  .interrupted = interrupt_signal() != 0,
                                  .parallel = {c->axes, c->n_axes, c->lines + (c->n - lines), lines},
                                  .curves = &c->curves};
  const int code = write_page(sweep, &page);
  free(line);
  return code;
}

int sweep_report(const struct sweep *sweep, const struct sweep_trial *best) {
  if (!sweep->options.report) return EXIT_DONE;
  struct content content = {.sweep = sweep};
  const int code = write_content(&content, best);
  content_clear(&content);
  return code;
}
