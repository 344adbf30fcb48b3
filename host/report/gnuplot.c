/* gnuplot as a child: script and data go into its standard input, the picture comes out of its standard output. */
#include "report/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report/text.h"

enum { PANEL_WIDTH = 640, PANEL_HEIGHT = 400, NAME_COLUMNS = 40, COUNTS_SHOWN = 12 };

/* ---- script ----------------------------------------------------------------------------------------------------- */

/* Between single quotes gnuplot takes every text as it is, where elsewhere backquotes would run a command. A single
 * quote in the text becomes an apostrophe: version 5.4 takes a doubled one for the end of some texts. */
static void write_quoted(FILE *out, const char *text) {
  char label[TEXT_SIZE];
  fputc('\'', out);
  for (const char *c = text_label(text, NAME_COLUMNS, label); *c; c++) {
    if (*c == '\'')
      fputs("\xe2\x80\x99", out);
    else
      fputc(*c, out);
  }
  fputc('\'', out);
}

static void write_axis(FILE *out, char name, const struct chart_axis *axis) {
  fprintf(out, "set %crange [%.17g:%.17g]\nset %ctics (", name, axis->low, axis->high, name);
  for (int i = 0; i < axis->n; i++) fprintf(out, "%s'%s' %.17g", i ? ", " : "", axis->texts[i], axis->ticks[i]);
  fputs(")\n", out);
  if (axis->log) fprintf(out, "set logscale %c\n", name);
}

/* A blank line is a gap. Returns how many points there are. */
static int64_t write_data(FILE *out, const struct chart_series *s, bool log, int number) {
  int64_t points = 0;
  fprintf(out, "$s%d << END\n", number);
  for (int64_t i = 0; i < s->n; i++) {
    const bool shown = isfinite(s->y[i]) && (!log || s->y[i] > 0);
    if (shown)
      fprintf(out, "%.17g %.17g\n", s->x[i], s->y[i]);
    else
      fputc('\n', out);
    points += shown;
  }
  fputs("END\n", out);
  return points;
}

static void write_series(FILE *out, const struct chart_series *s, int number) {
  static const char *const styles[] = {
      [CHART_LINE] = "lines lw 2",
      [CHART_DASHED] = "lines lw 2 dt 2",
      [CHART_POINTS] = "points pt 7 ps 0.4",
      [CHART_LINE_POINTS] = "linespoints lw 2 pt 7",
      [CHART_BARS] = "boxes fill solid 0.3 noborder",
  };
  fprintf(out, ", $s%d using 1:2 with %s lc rgb '#%06" PRIx32 "' ", number, styles[s->style], chart_color(s->color));
  fputs(s->name ? "title " : "notitle", out);
  if (s->name) write_quoted(out, s->name);
}

static void write_curves(FILE *out, const struct chart *chart) {
  const struct chart_axis x = chart_x_axis(chart), y = chart_y_axis(chart);
  fputs(
      "set key tmargin left horizontal Left reverse\nset border 3\nset tics nomirror\n"
      "set grid xtics ytics lt 1 lc rgb '#dddddd'\nset boxwidth 0.86 relative\n",
      out);
  write_axis(out, 'x', &x);
  write_axis(out, 'y', &y);
  bool empty[512] = {false};
  const int n = chart->n_series < 512 ? chart->n_series : 512;
  for (int s = 0; s < n; s++) empty[s] = write_data(out, &chart->series[s], chart->log_y, s) == 0;
  fputs("plot NaN notitle", out); /* a plot of nothing is an error otherwise */
  for (int s = 0; s < n; s++)
    if (!empty[s]) write_series(out, &chart->series[s], s);
  fputc('\n', out);
}

static void write_class_tics(FILE *out, const struct chart *chart, char axis) {
  fprintf(out, "set %ctics %s(", axis, axis == 'x' ? "rotate by 40 right " : "");
  for (int64_t k = 0; k < chart->classes; k++) {
    char index[24];
    snprintf(index, sizeof index, "%" PRId64, k);
    if (k) fputs(", ", out);
    write_quoted(out, chart->class_names[k] ? chart->class_names[k] : index);
    fprintf(out, " %" PRId64, k);
  }
  fputs(")\n", out);
}

/* Each row's cells by their share of the row. */
static void write_matrix(FILE *out, const struct chart *chart) {
  const int64_t n = chart->classes;
  fprintf(out,
          "unset key\nset xrange [-0.5:%" PRId64 ".5]\nset yrange [%" PRId64
          ".5:-0.5]\nset cbrange [0:1]\nunset colorbox\nset palette defined (0 '#ffffff', 1 '#2563c9')\n",
          n - 1, n - 1);
  write_class_tics(out, chart, 'x');
  write_class_tics(out, chart, 'y');
  fputs("$m << END\n", out);
  for (int64_t i = 0; i < n; i++) {
    int64_t total = 0;
    for (int64_t j = 0; j < n; j++) total += chart->counts[i * n + j];
    for (int64_t j = 0; j < n; j++) {
      const int64_t count = chart->counts[i * n + j];
      const double share = total ? (double)count / (double)total : 0;
      fprintf(out, "%" PRId64 " %" PRId64 " %.6f %" PRId64 " %d\n", j, i, share, count,
              share > 0.55 ? 0xffffff : 0x1b1f27);
    }
  }
  fputs("END\nplot $m using 1:2:3 with image", out);
  if (n <= COUNTS_SHOWN) fputs(", $m using 1:2:4:5 with labels tc rgb variable", out);
  fputc('\n', out);
}

static void write_script(FILE *out, const struct figure *figure) {
  const int columns = figure->n > 1 ? 2 : 1, rows = (figure->n + columns - 1) / columns;
  fprintf(out,
          "set encoding utf8\nset terminal pngcairo noenhanced size %d,%d font 'sans,10'\nset multiplot layout %d,%d\n",
          columns * PANEL_WIDTH, rows * PANEL_HEIGHT, rows, columns);
  for (int i = 0; i < figure->n; i++) {
    const struct chart *chart = &figure->charts[i];
    fputs("reset\nset title ", out);
    write_quoted(out, chart->title);
    fputs("\nset xlabel ", out);
    write_quoted(out, chart->x_label);
    fputs("\nset ylabel ", out);
    write_quoted(out, chart->y_label);
    fputc('\n', out);
    if (chart->classes)
      write_matrix(out, chart);
    else
      write_curves(out, chart);
  }
  fputs("unset multiplot\n", out);
}

/* ---- process ---------------------------------------------------------------------------------------------------- */

/* Starts gnuplot, without its start-up files, on these descriptors; 0 or an error number. */
static int start(int in, int out, int err, pid_t *child) {
  char name[] = "gnuplot", defaults[] = "-d";
  char *arguments[] = {name, defaults, NULL};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE); /* ignored here */
  int error = posix_spawn_file_actions_init(&files);
  if (error) return error;
  if ((error = posix_spawnattr_init(&attributes)) == 0) {
    if ((error = posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO)) == 0 &&
        (error = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO)) == 0 &&
        (error = posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO)) == 0 &&
        (error = posix_spawnattr_setsigdefault(&attributes, &pipe_signal)) == 0 &&
        (error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF)) == 0)
      error = posix_spawnp(child, name, &files, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&files);
  return error;
}

/* The last line with a word in it of what gnuplot complained about: those before repeat the command. */
static void read_complaint(FILE *complaints, char *text, size_t size) {
  char line[256];
  *text = '\0';
  rewind(complaints);
  while (fgets(line, sizeof line, complaints)) {
    line[strcspn(line, "\n")] = '\0';
    if (line[strspn(line, " \t^")]) snprintf(text, size, "%s", line + strspn(line, " \t^"));
  }
}

bool gnuplot_figure(FILE *png, const struct figure *figure, char *error, size_t size) {
  int ends[2] = {-1, -1}, status = 0, failed = 0, untold = 0;
  pid_t child = -1;
  char complaint[200];
  FILE *complaints = tmpfile(), *script = NULL;
  if (!complaints || fflush(png) != 0 || pipe2(ends, O_CLOEXEC) != 0)
    failed = errno;
  else
    failed = start(ends[0], fileno(png), fileno(complaints), &child);
  if (ends[0] >= 0) close(ends[0]);
  if (!failed) script = fdopen(ends[1], "w");
  if (script) {
    write_script(script, figure);
    const bool told = !ferror(script);
    if (fclose(script) != 0 || !told) untold = errno ? errno : EIO;
  } else if (ends[1] >= 0) {
    close(ends[1]);
  }
  if (child > 0)
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  if (failed == ENOENT)
    snprintf(error, size, "gnuplot is not here: install it (Debian: gnuplot-nox), or write an .svg, which needs none");
  else if (failed || !script)
    snprintf(error, size, "gnuplot cannot be started: %s", strerror(failed ? failed : errno));
  else if (read_complaint(complaints, complaint, sizeof complaint), WIFSIGNALED(status) || WEXITSTATUS(status))
    snprintf(error, size, "gnuplot failed: %s", *complaint ? complaint : "without a word");
  else if (untold) /* one that has gone away has said why, above */
    snprintf(error, size, "gnuplot could not be told all of it: %s", strerror(untold));
  else
    *error = '\0';
  if (complaints) fclose(complaints);
  return !*error;
}
