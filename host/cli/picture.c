/* Figures into files. */
#include "cli/picture.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/gnuplot.h"
#include "report/svg.h"

static bool ends_in(const char *path, const char *ending) {
  const size_t length = strlen(path), tail = strlen(ending);
  return length > tail && path[length - tail - 1] != '/' && strcasecmp(path + length - tail, ending) == 0;
}

bool picture_named(const char *path) { return ends_in(path, ".svg") || ends_in(path, ".png"); }

int picture_save(const char *command, const char *path, const struct figure *figure) {
  struct output output;
  char error[400];
  if (!output_open(&output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  if (!ends_in(path, ".png")) {
    svg_figure(output.stream, figure);
  } else if (!gnuplot_figure(output.stream, figure, error, sizeof error)) {
    output_abandon(&output);
    return fail(command, EXIT_RUN, "%s: %s", path, error);
  }
  return output_commit(&output) ? EXIT_DONE : fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}
