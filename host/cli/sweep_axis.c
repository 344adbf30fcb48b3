/* Ranges and alternatives. */
#include "cli/sweep_axis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS_MOST = 10000, NUMBER_SIZE = 32 };

bool sweep_axis_is(const char *text) { return strchr(text, ';') || strstr(text, ".."); }

static int refuse(const char *command, const struct sweep_axis *axis, const char *expected) {
  return fail(command, EXIT_USAGE, "--%s '%s': %s", axis->option->name, axis->text, expected);
}

static int refuse_value(const char *command, const struct sweep_axis *axis, const char *value, const char *expected) {
  return fail(command, EXIT_USAGE, "--%s '%s': '%s' %s", axis->option->name, axis->text, value, expected);
}

static bool is_number(const struct setting *o) { return o->kind == OPTION_INTEGER || o->kind == OPTION_REAL; }

/* A number of the range's kind that the option accepts. */
static int read_end(const char *command, const struct sweep_axis *axis, const char *text, double *value) {
  char expected[OPTION_EXPECTED];
  if (!option_accepts(axis->option, text, expected)) return refuse_value(command, axis, text, expected);
  return option_real(text, value) ? EXIT_DONE : refuse_value(command, axis, text, "must be a number");
}

/* ---- numbers as texts -------------------------------------------------------------------------------------------- */

/* With the fewest digits that give x again. */
static void write_exactly(double x, char *text, size_t size) {
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, size, "%.*g", digits, x);
    if (strtod(text, NULL) == x) return;
  }
}

static void write_real(const struct sweep_axis *axis, double x, char *text, size_t size) {
  snprintf(text, size, "%.6g", x);
  const double rounded = strtod(text, NULL);
  if (rounded < axis->low || rounded > axis->high)
    write_exactly(rounded < axis->low ? axis->low : axis->high, text, size);
}

static void write_number(const struct sweep_axis *axis, double x, char *text, size_t size) {
  if (axis->whole)
    snprintf(text, size, "%.0f", fmin(fmax(x, axis->low), axis->high));
  else
    write_real(axis, x, text, size);
}

/* Between the ends, at 0 <= share <= 1. */
static double between(const struct sweep_axis *axis, double low, double high, double share) {
  if (axis->logarithmic) return exp(log(low) + share * (log(high) - log(low)));
  return low + share * (high - low);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool add(struct sweep_axis *axis, const char *text) {
  axis->values[axis->n] = strdup(text);
  return axis->values[axis->n] && ++axis->n;
}

/* Of integers, those that round to the same are one point. */
static bool add_points(struct sweep_axis *axis, int64_t points) {
  axis->values = calloc((size_t)points, sizeof *axis->values);
  if (!axis->values) return false;
  for (int64_t i = 0; i < points; i++) {
    char text[NUMBER_SIZE];
    const double x = between(axis, axis->low, axis->high, (double)i / (double)(points - 1));
    if (!axis->whole && (i == 0 || i == points - 1))
      write_exactly(i == 0 ? axis->low : axis->high, text, sizeof text);
    else
      write_number(axis, axis->whole ? round(x) : x, text, sizeof text);
    if (axis->n > 0 && strcmp(axis->values[axis->n - 1], text) == 0) continue;
    if (!add(axis, text)) return false;
  }
  return true;
}

/* ":log", ":5" or ":log:5" after the ends; `points` 0: not given. */
static bool read_suffix(const char *text, bool *logarithmic, int64_t *points) {
  *logarithmic = strncmp(text, ":log", 4) == 0 && (text[4] == ':' || !text[4]);
  *points = 0;
  if (*logarithmic) text += 4;
  if (!*text) return true;
  return *text == ':' && option_integer(text + 1, points) && *points >= 2 && *points <= POINTS_MOST;
}

static int read_range(const char *command, char *ends, struct sweep_axis *axis) {
  char *second = strstr(ends, "..") + 2, *suffix = second + strcspn(second, ":");
  int64_t points = 0;
  if (!is_number(axis->option)) return refuse(command, axis, "takes no range: give alternatives, like a;b;c");
  if (second == ends + 2 || second == suffix || !read_suffix(suffix, &axis->logarithmic, &points))
    return refuse(command, axis, "a range is LO..HI or LO..HI:log, with :N at its end for 2 to 10000 points of a grid");
  second[-2] = *suffix = '\0';
  int code = read_end(command, axis, ends, &axis->low);
  if (code == EXIT_DONE) code = read_end(command, axis, second, &axis->high);
  if (code != EXIT_DONE) return code;
  snprintf(axis->ends[0], sizeof axis->ends[0], "%s", ends);
  snprintf(axis->ends[1], sizeof axis->ends[1], "%s", second);
  if (axis->low == axis->high) return refuse(command, axis, "the range holds one value: omit ..");
  if (axis->low > axis->high)
    return fail(command, EXIT_USAGE, "--%s '%s': the range ends below its start: did you mean %s..%s?",
                axis->option->name, axis->text, second, ends);
  if (axis->logarithmic && axis->low <= 0) return refuse(command, axis, "a logarithmic range must start above 0");
  if (points && axis->whole && (double)points > axis->high - axis->low + 1)
    return fail(command, EXIT_USAGE, "--%s '%s': there are only %.0f whole numbers in the range", axis->option->name,
                axis->text, axis->high - axis->low + 1);
  return !points || add_points(axis, points) ? EXIT_DONE : fail(command, EXIT_RUN, "out of memory");
}

static char *trim(char *text) {
  text += strspn(text, " ");
  size_t length = strlen(text);
  while (length && text[length - 1] == ' ') length--;
  text[length] = '\0';
  return text;
}

/* Do both texts stand for one value of the option, such as 1e-3 and .001? */
static bool are_equal(const char *a, const char *b) {
  double x, y;
  if (strcmp(a, b) == 0) return true;
  return option_real(a, &x) && option_real(b, &y) && x == y;
}

static int read_alternative(const char *command, const char *value, struct sweep_axis *axis) {
  char expected[OPTION_EXPECTED];
  if (!*value) return refuse(command, axis, "an alternative is empty: separate values with one ;");
  if (is_number(axis->option) && strstr(value, ".."))
    return refuse_value(command, axis, value, "is a range: give a range or alternatives, not both");
  if (!option_accepts(axis->option, value, expected))
    return is_number(axis->option) ? refuse_value(command, axis, value, expected) : refuse(command, axis, expected);
  for (int64_t i = 0; i < axis->n; i++)
    if (are_equal(axis->values[i], value)) return refuse_value(command, axis, value, "is given twice");
  return add(axis, value) ? EXIT_DONE : fail(command, EXIT_RUN, "out of memory");
}

static int read_alternatives(const char *command, char *list, struct sweep_axis *axis) {
  size_t n = 1;
  for (const char *c = list; *c; c++) n += *c == ';';
  axis->values = calloc(n, sizeof *axis->values);
  if (!axis->values) return fail(command, EXIT_RUN, "out of memory");
  int code = EXIT_DONE;
  for (char *item; code == EXIT_DONE && (item = strsep(&list, ";"));)
    code = read_alternative(command, trim(item), axis);
  return code;
}

int sweep_axis_read(const char *command, const struct setting *option, const char *text, struct sweep_axis *axis) {
  *axis = (struct sweep_axis){.option = option, .text = text, .whole = option->kind == OPTION_INTEGER};
  axis->range = !strchr(text, ';');
  char *copy = strdup(text);
  if (!copy) return fail(command, EXIT_RUN, "out of memory");
  const int code = axis->range ? read_range(command, copy, axis) : read_alternatives(command, copy, axis);
  free(copy);
  return code;
}

void sweep_axis_clear(struct sweep_axis *axis) {
  for (int64_t i = 0; i < axis->n; i++) free(axis->values[i]);
  free(axis->values);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

double sweep_axis_count(const struct sweep_axis *axis) {
  if (axis->n) return (double)axis->n;
  return axis->whole ? axis->high - axis->low + 1 : HUGE_VAL;
}

char *sweep_axis_draw(const struct sweep_axis *axis, double u) {
  char text[NUMBER_SIZE];
  if (axis->n) return strdup(axis->values[(int64_t)(u * (double)axis->n)]);
  const double x = between(axis, axis->low, axis->high + (axis->whole ? 1 : 0), u);
  write_number(axis, axis->whole ? floor(x) : x, text, sizeof text);
  return strdup(text);
}

double sweep_axis_position(const struct sweep_axis *axis, const char *value) {
  double x;
  if (axis->range && option_real(value, &x)) {
    if (axis->logarithmic) return (log(x) - log(axis->low)) / (log(axis->high) - log(axis->low));
    return (x - axis->low) / (axis->high - axis->low);
  }
  for (int64_t i = 0; i < axis->n; i++)
    if (strcmp(axis->values[i], value) == 0) return axis->n > 1 ? (double)i / (double)(axis->n - 1) : 0.5;
  return 0.5;
}
