/* Figures into files. */
#include "cli/picture.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/svg.h"

bool picture_named(const char *path) {
  static const char ending[] = ".svg";
  const size_t length = strlen(path), tail = sizeof ending - 1;
  return length > tail && path[length - tail - 1] != '/' && strcasecmp(path + length - tail, ending) == 0;
}

int picture_save(const char *command, const char *path, const struct figure *figure) {
  struct output_file output;
  if (!output_open(&output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  svg_figure(output.stream, figure);
  return output_commit(&output) ? EXIT_DONE : fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}
