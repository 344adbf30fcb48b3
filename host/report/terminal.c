/* Charts drawn in characters. */
#include "report/terminal.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "report/text.h"

enum { MIN_COLUMNS = 10, ROWS = 12, NAME_COLUMNS = 40, NO_SERIES = -1 };

int terminal_columns(FILE *stream) {
  struct winsize window;
  if (ioctl(fileno(stream), TIOCGWINSZ, &window) != 0 || window.ws_col == 0) return 80;
  return window.ws_col > MIN_COLUMNS ? window.ws_col : MIN_COLUMNS;
}

bool terminal_unicode(void) {
  setlocale(LC_CTYPE, "");
  return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

bool terminal_is_live(FILE *stream) {
  const char *terminal = getenv("TERM");
  return isatty(fileno(stream)) && terminal && strcmp(terminal, "dumb") != 0;
}

bool terminal_colors(FILE *stream) {
  const char *no_color = getenv("NO_COLOR"); /* https://no-color.org */
  return terminal_is_live(stream) && !(no_color && *no_color);
}

/* ---- canvas ----------------------------------------------------------------------------------------------------- */

struct cell {
  unsigned char dots; /* braille: bit i is dot i + 1 (Unicode 15, chapter 21.1) */
  char mark;          /* an ASCII character instead; 0: none */
  int series;         /* the last to draw here, or NO_SERIES */
};

struct canvas {
  int width;       /* cells; ROWS high */
  int fine, finer; /* points of a cell across and up */
  struct cell *cells;
};

static char symbol_of(int series) { return "*+ox#@%&"[series % 8]; }
static char letter_of(int series) { return (char)('a' + series % 26); }

static struct cell *cell_at(const struct canvas *c, int x, int y) {
  return &c->cells[(ROWS - 1 - y / c->finer) * c->width + x / c->fine];
}

/* (x, y): points from the lower left. */
static void set_point(const struct canvas *c, int x, int y, int series, bool unicode) {
  static const unsigned char bits[4][2] = {{0x40, 0x80}, {0x04, 0x20}, {0x02, 0x10}, {0x01, 0x08}}; /* from below */
  struct cell *cell = cell_at(c, x, y);
  if (unicode)
    cell->dots |= bits[y % 4][x % 2];
  else
    cell->mark = symbol_of(series);
  cell->series = series;
}

static void set_line(const struct canvas *c, int x0, int y0, int x1, int y1, int series, bool unicode) {
  const int dx = abs(x1 - x0), dy = abs(y1 - y0), steps = dx > dy ? dx : dy;
  for (int i = 0; i <= steps; i++) {
    const double share = steps ? (double)i / steps : 0;
    set_point(c, (int)lround(x0 + share * (x1 - x0)), (int)lround(y0 + share * (y1 - y0)), series, unicode);
  }
}

static void set_series(const struct canvas *c, const struct chart *chart, int series, const struct chart_axis *x_axis,
                       const struct chart_axis *y_axis, const struct terminal_look *look) {
  const struct chart_series *s = &chart->series[series];
  const int right = c->width * c->fine - 1, top = ROWS * c->finer - 1;
  bool open = false;
  int last_x = 0, last_y = 0;
  for (int64_t i = 0; i < s->n; i++) {
    const double px = chart_position(x_axis, s->x[i]), py = chart_position(y_axis, s->y[i]);
    if (!(px >= -0.001 && px <= 1.001 && py >= -0.001 && py <= 1.001)) {
      open = false;
      continue;
    }
    const int x = (int)lround(fmin(fmax(px, 0), 1) * right), y = (int)lround(fmin(fmax(py, 0), 1) * top);
    set_line(c, open ? last_x : x, open ? last_y : y, x, y, series, look->unicode);
    last_x = x, last_y = y, open = true;
  }
  if (open && look->unicode && !look->colors && chart->n_series > 1)
    cell_at(c, last_x, last_y)->mark = letter_of(series);
}

/* ---- output ----------------------------------------------------------------------------------------------------- */

/* Selects the nearest of the terminal's 6 x 6 x 6 colors. */
static void set_color(FILE *out, const struct terminal_look *look, int color) {
  if (!look->colors) return;
  const uint32_t rgb = chart_color(color);
  const uint32_t r = (rgb >> 16) * 5 / 200, g = (rgb >> 8 & 255) * 5 / 200, b = (rgb & 255) * 5 / 200; /* brighter */
  fprintf(out, "\033[38;5;%" PRIu32 "m", 16 + 36 * (r > 5 ? 5 : r) + 6 * (g > 5 ? 5 : g) + (b > 5 ? 5 : b));
}

static void reset_color(FILE *out, const struct terminal_look *look) {
  if (look->colors) fputs("\033[0m", out);
}

static void write_cell(FILE *out, const struct chart *chart, const struct cell *cell,
                       const struct terminal_look *look) {
  if (cell->series == NO_SERIES) {
    fputc(' ', out);
    return;
  }
  set_color(out, look, chart->series[cell->series].color);
  if (cell->mark)
    fputc(cell->mark, out);
  else
    fprintf(out, "\xe2%c%c", 0xa0 | cell->dots >> 6, 0x80 | (cell->dots & 0x3f)); /* U+2800 + dots */
  reset_color(out, look);
}

/* A name for the terminal: without Unicode, '?' for each character that is not ASCII. */
static const char *label(const char *name, const struct terminal_look *look, char text[TEXT_SIZE]) {
  const int room = look->columns - 4;
  text_label(name, room < NAME_COLUMNS ? room : NAME_COLUMNS, text);
  if (look->unicode) return text;
  char *end = text;
  for (const char *c = text; *c; c++)
    if ((*c & 0xc0) != 0x80) *end++ = *c & 0x80 ? '?' : *c;
  *end = 0;
  return text;
}

static void write_legend(FILE *out, const struct chart *chart, const struct terminal_look *look) {
  int used = 0;
  char text[TEXT_SIZE];
  for (int s = 0; s < chart->n_series; s++) {
    if (!chart->series[s].name) continue;
    const char *name = label(chart->series[s].name, look, text);
    const int width = 2 + 2 + text_columns(name);
    if (used && used + width > look->columns) fputc('\n', out), used = 0;
    fputs("  ", out);
    set_color(out, look, chart->series[s].color);
    if (look->unicode && look->colors)
      fputs("\xe2\x94\x81", out); /* a heavy dash */
    else
      fputc(look->unicode ? letter_of(s) : symbol_of(s), out);
    reset_color(out, look);
    fprintf(out, " %s", name);
    used += width;
  }
  if (used) fputc('\n', out);
}

/* The label of the tick in this row, or "". */
static const char *tick_of_row(const struct chart_axis *axis, int row) {
  for (int i = 0; i < axis->n; i++)
    if ((int)lround(chart_position(axis, axis->ticks[i]) * (ROWS - 1)) == ROWS - 1 - row) return axis->texts[i];
  return "";
}

static void write_x_axis(FILE *out, const struct chart *chart, const struct chart_axis *axis, int margin, int width,
                         const struct terminal_look *look) {
  fprintf(out, "%*s%s", margin, "", look->unicode ? "\xe2\x94\x94" : "+");
  for (int i = 0; i < width; i++) fputs(look->unicode ? "\xe2\x94\x80" : "-", out);
  fprintf(out, "\n%*s", margin + 1, "");
  int used = 0;
  for (int i = 0; i < axis->n; i++) {
    const int length = (int)strlen(axis->texts[i]);
    int at = (int)lround(chart_position(axis, axis->ticks[i]) * (width - 1)) - length / 2;
    if (at + length > width) at = width - length;
    if (at < 0) at = 0;
    if (used && at <= used) continue; /* no room */
    fprintf(out, "%*s%s", at - used, "", axis->texts[i]);
    used = at + length;
  }
  char text[TEXT_SIZE];
  const char *name = label(chart->x_label, look, text);
  if (used + 2 + text_columns(name) <= width) fprintf(out, "  %s", name);
  fputc('\n', out);
}

static bool write_chart(FILE *out, const struct chart *chart, const struct terminal_look *look) {
  const struct chart_axis x = chart_x_axis(chart), y = chart_y_axis(chart);
  int margin = 1;
  for (int i = 0; i < y.n; i++)
    if ((int)strlen(y.texts[i]) > margin) margin = (int)strlen(y.texts[i]);
  const int room = look->columns - margin - 2;
  struct canvas canvas = {room < 4 ? 4 : room, look->unicode ? 2 : 1, look->unicode ? 4 : 1, NULL};
  canvas.cells = calloc((size_t)canvas.width * ROWS, sizeof *canvas.cells);
  if (!canvas.cells) return false;
  for (int i = 0; i < canvas.width * ROWS; i++) canvas.cells[i].series = NO_SERIES;
  for (int s = 0; s < chart->n_series; s++) set_series(&canvas, chart, s, &x, &y, look);
  char text[TEXT_SIZE];
  static const char log_text[] = " (log)";
  struct terminal_look for_title = *look;
  if (y.log) for_title.columns -= (int)strlen(log_text);
  fprintf(out, "%s%s%s%s\n", look->colors ? "\033[1m" : "", label(chart->title, &for_title, text),
          look->colors ? "\033[0m" : "", y.log ? log_text : "");
  write_legend(out, chart, look);
  for (int row = 0; row < ROWS; row++) {
    const char *tick = tick_of_row(&y, row);
    fprintf(out, "%*s%s", margin, tick, !look->unicode ? "|" : *tick ? "\xe2\x94\xa4" : "\xe2\x94\x82");
    int end = canvas.width; /* no blanks at the end */
    while (end > 0 && canvas.cells[row * canvas.width + end - 1].series == NO_SERIES) end--;
    for (int i = 0; i < end; i++) write_cell(out, chart, &canvas.cells[row * canvas.width + i], look);
    fputc('\n', out);
  }
  write_x_axis(out, chart, &x, margin, canvas.width, look);
  free(canvas.cells);
  return true;
}

bool terminal_figure(FILE *out, const struct figure *figure, const struct terminal_look *look) {
  for (int i = 0; i < figure->n; i++) {
    if (i) fputc('\n', out);
    if (!write_chart(out, &figure->charts[i], look)) return false;
  }
  return true;
}
