/* Parallel coordinates as SVG (Inselberg 1985). Units are pixels of the natural size, WIDTH by HEIGHT. */
#include "report/parallel.h"

#include <inttypes.h>
#include <math.h>

#include "report/chart.h"
#include "report/markup.h"

enum {
  WIDTH = 1080,
  HEIGHT = 360,
  LEFT = 100,
  RIGHT = 80,
  TOP = 46,
  BOTTOM = 20,
  LONGEST_NAME = 22,
  LONGEST_TICK = 14
};
static const double CHARACTER = 7; /* approximate width at 11 to 13 px */

const char parallel_style[] =
    ".parallel .line{stroke-width:1.3;stroke-opacity:.55}.parallel .line:hover{stroke-width:3;stroke-opacity:1}"
    ".parallel .best{stroke-width:3.2;stroke-opacity:1}"
    ".parallel .tick{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}";

static double x_of(const struct parallel *p, int axis) {
  if (p->n_axes == 1) return WIDTH / 2.0;
  return LEFT + (double)axis * (WIDTH - LEFT - RIGHT) / (p->n_axes - 1);
}

/* How many columns of text fit between two axes. */
static int room(const struct parallel *p, int most) {
  const int columns =
      (int)((x_of(p, p->n_axes - 1) - x_of(p, 0)) / (p->n_axes > 1 ? p->n_axes - 1 : 1) / CHARACTER) - 1;
  return columns < 3 ? 3 : columns < most ? columns : most;
}

static double y_of(double at) { return HEIGHT - BOTTOM - at * (HEIGHT - BOTTOM - TOP); }

static void write_line(FILE *out, const struct parallel *p, const struct parallel_line *line, bool best) {
  fputs("<g", out);
  if (line->color >= CHART_RAMP)
    fprintf(out, " style=\"color:#%06" PRIx32 "\"", chart_color(line->color));
  else
    fputs(" class=\"cr\"", out);
  fprintf(out, "><path class=\"line%s\" d=\"", best ? " best" : line->color < CHART_RAMP ? " dashed" : "");
  for (int a = 0; a < p->n_axes && !isnan(line->at[a]); a++)
    fprintf(out, "%s%.1f %.1f", a ? "L" : "M", x_of(p, a), y_of(line->at[a]));
  fputs("\"><title>", out);
  markup_text(out, line->title);
  fputs("</title></path></g>\n", out);
}

static void write_axis(FILE *out, const struct parallel *p, int a) {
  const struct parallel_axis *axis = &p->axes[a];
  const double x = x_of(p, a);
  const char *anchor = a + 1 == p->n_axes ? "start" : "end";
  const double beside = a + 1 == p->n_axes ? 7 : -7;
  fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fV%.1f\"/>", x, y_of(0), y_of(1));
  fprintf(out, "<text class=\"title\" text-anchor=\"middle\" x=\"%.1f\" y=\"%d\">", x, TOP - 22);
  markup_label(out, axis->name, room(p, LONGEST_NAME));
  fputs("</text>", out);
  for (int i = 0; i < axis->n_ticks; i++) {
    fprintf(out, "<text class=\"tick\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", anchor, x + beside,
            y_of(axis->ticks[i].at) + 4);
    markup_label(out, axis->ticks[i].text, room(p, LONGEST_TICK));
    fputs("</text>", out);
  }
  fputc('\n', out);
}

void parallel_write(FILE *out, const struct parallel *p) {
  fprintf(out, "<svg class=\"chart parallel\" viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, HEIGHT);
  for (int64_t i = 0; i < p->n_lines; i++) write_line(out, p, &p->lines[i], i + 1 == p->n_lines);
  for (int a = 0; a < p->n_axes; a++) write_axis(out, p, a);
  fputs("</svg>\n", out);
}
