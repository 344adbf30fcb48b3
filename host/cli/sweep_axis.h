/* One option that differs between the trials of a sweep, and the values that it takes. */
#ifndef DESCENT_CLI_SWEEP_AXIS_H
#define DESCENT_CLI_SWEEP_AXIS_H

#include "cli/options.h"

struct sweep_axis {
  const struct setting *option;
  const char *text;               /* as given: "64,32;128" or "1e-4..1e-2:log:5" */
  bool range, whole, logarithmic; /* whole: of integers */
  double low, high;               /* of a range */
  char ends[2][24];               /* of a range, as texts */
  char **values;                  /* (n) alternatives in the order given, or the points of a range from low to high */
  int64_t n;                      /* 0: a range without points */
};

/* Whether the text gives several values. */
bool sweep_axis_is(const char *text);

/* Reads "a;b;c" or "LO..HI[:log][:N]"; `option` decides which numbers are allowed. Ranges are of options that are integers
 * or reals. EXIT_DONE or the exit code after one line about what is wrong. `text` is borrowed. */
int sweep_axis_read(const char *command, const struct setting *option, const char *text, struct sweep_axis *axis);
void sweep_axis_clear(struct sweep_axis *axis);

/* How many values it has; HUGE_VAL for a range of reals. */
double sweep_axis_count(const struct sweep_axis *axis);

/* The value for u in [0, 1): every alternative, point or integer is equally likely; a range of reals is uniform, with log
 * uniform in the logarithm. Reals are rounded to six digits, so that a command line repeats them exactly.
 * Allocated; NULL when memory ran out. */
char *sweep_axis_draw(const struct sweep_axis *axis, double u);

/* Where the value is on an axis of a plot, 0 .. 1: of a range by its number, else by its place in the list. */
double sweep_axis_position(const struct sweep_axis *axis, const char *value);

#endif
