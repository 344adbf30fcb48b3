/* The SVG writer. Units are pixels of a chart's natural size, WIDTH by chart_height. */
#include "report/svg.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/markup.h"
#include "report/text.h"

enum {
  WIDTH = 480,
  HEIGHT = 300,
  TITLE = 30,
  LEGEND_ROW = 18,
  MAX_LEGEND = 16, /* entries */
  NAME_COLUMNS = 36,
  RIGHT = 16,
  BOTTOM = 42,
  GAP = 12
};
static const double CHARACTER = 6.3; /* approximate width at 11 px */

/* Colors are set through `color`, so that one rule applies to lines, dots and areas. */
const char svg_style[] =
    ".chart{font:11px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    ".chart text{fill:#4a5160}"
    ".chart .title{font-weight:600;font-size:13px;fill:#1b1f27}"
    ".chart .grid{stroke:#e3e6eb;stroke-width:1}"
    ".chart .axis{stroke:#9aa1ad;stroke-width:1}"
    ".chart .line{fill:none;stroke:currentColor;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}"
    ".chart .dashed{stroke-dasharray:5 4}"
    ".chart .dot{fill:currentColor}.chart .bar{fill:currentColor;fill-opacity:.35}"
    ".chart .cell{fill:#2563c9}.chart .frame{fill:none;stroke:#c4c9d2}"
    ".chart .count{text-anchor:middle;fill:#1b1f27}.chart .count.full{fill:#fff}"
    ".c0{color:#2563c9}.c1{color:#c93c52}.c2{color:#128060}.c3{color:#b06000}"
    ".c4{color:#7a4cc8}.c5{color:#0c7c96}.c6{color:#a3336b}.c7{color:#6a6e14}.cr{color:#8a8f98}"
    "@media (prefers-color-scheme:dark){"
    ".chart text{fill:#a9b1bf}.chart .title{fill:#eceff4}"
    ".chart .grid{stroke:#2b3039}.chart .axis{stroke:#6d7583}"
    ".chart .cell{fill:#5b93f0}.chart .frame{stroke:#3c434f}"
    ".chart .count{fill:#eceff4}.chart .count.full{fill:#0d1117}"
    ".c0{color:#7aa9fa}.c1{color:#f28b99}.c2{color:#57cba3}.c3{color:#eeab5a}"
    ".c4{color:#bb9cf6}.c5{color:#57c4dc}.c6{color:#e687b8}.c7{color:#c3c75c}}";

/* Position of a chart's axes. */
struct box {
  double left, top, right, bottom;
};

static void color_attribute(FILE *out, int color) {
  if (color >= CHART_RAMP)
    fprintf(out, " style=\"color:#%06" PRIx32 "\"", chart_color(color));
  else if (color == CHART_REFERENCE)
    fputs(" class=\"cr\"", out);
  else
    fprintf(out, " class=\"c%d\"", color % CHART_COLORS);
}

static void write_text(FILE *out, double x, double y, const char *anchor, const char *class, const char *text) {
  fprintf(out, "<text x=\"%.1f\" y=\"%.1f\"", x, y);
  if (anchor) fprintf(out, " text-anchor=\"%s\"", anchor);
  if (class) fprintf(out, " class=\"%s\"", class);
  fputc('>', out);
  markup_text(out, text);
  fputs("</text>", out);
}

/* ---- legend ----------------------------------------------------------------------------------------------------- */

static double legend_width(const char *name) {
  const int columns = text_columns(name);
  return 30 + CHARACTER * (columns < NAME_COLUMNS ? columns : NAME_COLUMNS);
}

static void write_sample(FILE *out, const struct chart_series *s, double x, double y) {
  fputs("<g", out);
  color_attribute(out, s->color);
  fputc('>', out);
  if (s->style == CHART_BARS)
    fprintf(out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"8\"/>", x, y - 8);
  if (s->style == CHART_POINTS || s->style == CHART_LINE_POINTS)
    fprintf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x + 7, y - 4);
  if (s->style != CHART_BARS && s->style != CHART_POINTS)
    fprintf(out, "<path class=\"line%s\" d=\"M%.1f %.1fh14\"/>", s->style == CHART_DASHED ? " dashed" : "", x, y - 4);
  fputs("</g>", out);
}

/* Writes the legend in rows below the title and returns their number; `out` NULL: only counts. */
static int legend(FILE *out, const struct chart *chart) {
  double x = GAP;
  int rows = 0, shown = 0, named = 0;
  for (int i = 0; i < chart->n_series; i++) named += chart->series[i].name != NULL;
  for (int i = 0; i < chart->n_series; i++) {
    const struct chart_series *s = &chart->series[i];
    if (!s->name) continue;
    char more[32];
    const bool last = shown == MAX_LEGEND && named > MAX_LEGEND;
    snprintf(more, sizeof more, "and %d more", named - shown);
    const double width = legend_width(last ? more : s->name);
    if (rows == 0 || x + width > WIDTH - RIGHT) rows++, x = GAP;
    const double y = TITLE + LEGEND_ROW * rows - 6;
    if (out && last) write_text(out, x, y, NULL, NULL, more);
    if (last) break;
    if (out) {
      write_sample(out, s, x, y);
      fprintf(out, "<text x=\"%.1f\" y=\"%.1f\">", x + 19, y);
      markup_label(out, s->name, NAME_COLUMNS);
      fputs("</text>", out);
    }
    x += width;
    shown++;
  }
  return rows;
}

/* ---- axes and series -------------------------------------------------------------------------------------------- */

static void write_axes(FILE *out, const struct chart *chart, const struct chart_axis *x, const struct chart_axis *y,
                       const struct box *box) {
  for (int i = 0; i < y->n; i++) {
    const double at = box->bottom - chart_position(y, y->ticks[i]) * (box->bottom - box->top);
    fprintf(out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>", box->left, at, box->right);
    write_text(out, box->left - 6, at + 4, "end", NULL, y->texts[i]);
  }
  for (int i = 0; i < x->n; i++) {
    const double at = box->left + chart_position(x, x->ticks[i]) * (box->right - box->left);
    fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", at, box->bottom);
    write_text(out, at, box->bottom + 16, "middle", NULL, x->texts[i]);
  }
  fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>", box->left, box->bottom, box->right);
  write_text(out, (box->left + box->right) / 2, box->bottom + 34, "middle", NULL, chart->x_label);
  fprintf(out, "<text text-anchor=\"middle\" transform=\"translate(12 %.1f) rotate(-90)\">",
          (box->top + box->bottom) / 2);
  markup_text(out, chart->y_label);
  fputs("</text>", out);
}

static double clamp(double place) { return fmin(fmax(place, -0.02), 1.02); }

static void write_series(FILE *out, const struct chart_series *s, const struct chart_axis *x,
                         const struct chart_axis *y, const struct box *box) {
  const double width = box->right - box->left, height = box->bottom - box->top;
  bool open = false; /* the previous point continues the line */
  int64_t run = 0;   /* points of the line since the last gap */
  double at_x = 0, at_y = 0;
  fputs("<g", out);
  color_attribute(out, s->color);
  fputc('>', out);
  const bool lines = s->style != CHART_POINTS && s->style != CHART_BARS;
  const bool dots = s->style == CHART_POINTS || s->style == CHART_LINE_POINTS;
  if (lines) fprintf(out, "<path class=\"line%s\" d=\"", s->style == CHART_DASHED ? " dashed" : "");
  for (int64_t i = 0; lines && i <= s->n; i++) {
    const double place = i < s->n ? chart_position(y, s->y[i]) : NAN;
    if (isnan(place)) {
      if (open && run == 1) fputs("h.1", out); /* a single point between gaps would be invisible */
      open = false;
      continue;
    }
    at_x = box->left + clamp(chart_position(x, s->x[i])) * width, at_y = box->bottom - clamp(place) * height;
    fprintf(out, "%s%.1f %.1f", open ? " " : "M", at_x, at_y);
    run = open ? run + 1 : 1;
    open = true;
  }
  if (lines) fputs("\"/>", out);
  const double bar = s->n > 1 ? width * 0.86 * (s->x[1] - s->x[0]) / (x->high - x->low) : width * 0.5;
  const double radius = s->n > 300 ? 1.8 : 3;
  for (int64_t i = 0; !(lines && !dots) && i < s->n; i++) {
    const double place = chart_position(y, s->y[i]);
    if (isnan(place)) continue;
    at_x = box->left + clamp(chart_position(x, s->x[i])) * width, at_y = box->bottom - clamp(place) * height;
    if (dots)
      fprintf(out, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", at_x, at_y, radius);
    else
      fprintf(out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", at_x - bar / 2, at_y,
              bar, box->bottom - at_y);
  }
  fputs("</g>", out);
}

static void write_curves(FILE *out, const struct chart *chart) {
  const struct chart_axis x = chart_x_axis(chart), y = chart_y_axis(chart);
  size_t longest = 1;
  for (int i = 0; i < y.n; i++)
    if (strlen(y.texts[i]) > longest) longest = strlen(y.texts[i]);
  const struct box box = {30 + CHARACTER * (double)longest, TITLE + 8 + LEGEND_ROW * legend(NULL, chart), WIDTH - RIGHT,
                          HEIGHT - BOTTOM};
  legend(out, chart);
  write_axes(out, chart, &x, &y, &box);
  for (int s = 0; s < chart->n_series; s++) write_series(out, &chart->series[s], &x, &y, &box);
}

/* ---- matrix ----------------------------------------------------------------------------------------------------- */

enum { COUNTS_SHOWN = 12, MATRIX_NAME = 14 };

static const char *class_text(const struct chart *chart, int64_t k, char index[24]) {
  if (chart->class_names[k]) return chart->class_names[k];
  snprintf(index, 24, "%" PRId64, k);
  return index;
}

static void write_class(FILE *out, const struct chart *chart, int64_t k) {
  char index[24];
  markup_label(out, class_text(chart, k, index), MATRIX_NAME);
}

/* Position of the cells; `below` is the height of the labels below them. */
struct grid {
  double left, top, width, height; /* width and height of one cell */
  double bottom, below;
};

static struct grid matrix_grid(const struct chart *chart) {
  int longest = 2;
  for (int64_t k = 0; k < chart->classes; k++) {
    char index[24];
    const int columns = text_columns(class_text(chart, k, index));
    if (columns > longest) longest = columns < MATRIX_NAME ? columns : MATRIX_NAME;
  }
  struct grid grid = {.left = 34 + CHARACTER * longest, .top = TITLE + 8, .below = 36 + CHARACTER * 0.64 * longest + 8};
  grid.width = (WIDTH - RIGHT - grid.left) / (double)chart->classes;
  grid.height = fmin(fmax(grid.width, 160.0 / (double)chart->classes), 34);
  grid.bottom = grid.top + grid.height * (double)chart->classes;
  return grid;
}

/* Rows by true class; the opacity of a cell is its share of the row. */
static void write_matrix(FILE *out, const struct chart *chart) {
  const int64_t n = chart->classes, every = (n + 23) / 24; /* names shown */
  const struct grid g = matrix_grid(chart);
  for (int64_t i = 0; i < n; i++) {
    int64_t total = 0;
    for (int64_t j = 0; j < n; j++) total += chart->counts[i * n + j];
    for (int64_t j = 0; j < n; j++) {
      const int64_t count = chart->counts[i * n + j];
      const double share = total ? (double)count / (double)total : 0, x = g.left + g.width * (double)j;
      const double y = g.top + g.height * (double)i;
      if (count)
        fprintf(out,
                "<rect class=\"cell\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill-opacity=\"%.3f\"/>", x,
                y, g.width, g.height, 0.06 + 0.94 * share);
      if (n <= COUNTS_SHOWN)
        fprintf(out, "<text class=\"count%s\" x=\"%.1f\" y=\"%.1f\">%" PRId64 "</text>", share > 0.55 ? " full" : "",
                x + g.width / 2, y + g.height / 2 + 4, count);
    }
    if (i % every) continue;
    fprintf(out, "<text text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">", g.left - 6,
            g.top + g.height * ((double)i + 0.5) + 4);
    write_class(out, chart, i);
    fprintf(out, "</text><text text-anchor=\"end\" transform=\"translate(%.1f %.1f) rotate(-40)\">",
            g.left + g.width * ((double)i + 0.5) + 4, g.bottom + 12);
    write_class(out, chart, i);
    fputs("</text>", out);
  }
  fprintf(out, "<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", g.left, g.top,
          g.width * (double)n, g.height * (double)n);
  write_text(out, (g.left + WIDTH - RIGHT) / 2, g.bottom + g.below - 10, "middle", NULL, chart->x_label);
  fprintf(out, "<text text-anchor=\"middle\" transform=\"translate(12 %.1f) rotate(-90)\">", (g.top + g.bottom) / 2);
  markup_text(out, chart->y_label);
  fputs("</text>", out);
}

/* ---- charts ----------------------------------------------------------------------------------------------------- */

static double chart_height(const struct chart *chart) {
  if (!chart->classes) return HEIGHT;
  const struct grid grid = matrix_grid(chart);
  return grid.bottom + grid.below;
}

static void write_chart(FILE *out, const struct chart *chart) {
  write_text(out, GAP, 19, NULL, "title", chart->title);
  if (chart->classes)
    write_matrix(out, chart);
  else
    write_curves(out, chart);
}

void svg_chart(FILE *out, const struct chart *chart) {
  fprintf(out, "<svg class=\"chart\" role=\"img\" viewBox=\"0 0 %d %.0f\" aria-label=\"", WIDTH, chart_height(chart));
  markup_text(out, chart->title);
  fputs("\">", out);
  write_chart(out, chart);
  fputs("</svg>\n", out);
}

void svg_figure(FILE *out, const struct figure *figure) {
  const int columns = figure->n > 1 ? 2 : 1;
  double height = GAP;
  for (int i = 0; i < figure->n; i += columns) {
    double row = chart_height(&figure->charts[i]);
    if (i + 1 < figure->n && columns == 2) row = fmax(row, chart_height(&figure->charts[i + 1]));
    height += row + GAP;
  }
  const int width = columns * (WIDTH + GAP) + GAP;
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"%d\" height=\"%.0f\" viewBox=\"0 0 %d "
          "%.0f\">\n<style>%s.page{fill:#fff}@media (prefers-color-scheme:dark){.page{fill:#0f1319}}</style>\n"
          "<rect class=\"page\" width=\"100%%\" height=\"100%%\"/>\n",
          width, height, width, height, svg_style);
  double y = GAP, row = 0;
  for (int i = 0; i < figure->n; i++) {
    fprintf(out, "<g transform=\"translate(%d %.0f)\">", GAP + (i % columns) * (WIDTH + GAP), y);
    write_chart(out, &figure->charts[i]);
    fputs("</g>\n", out);
    row = fmax(row, chart_height(&figure->charts[i]));
    if (i % columns == columns - 1) y += row + GAP, row = 0;
  }
  fputs("</svg>\n", out);
}
