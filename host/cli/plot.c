/* `descent plot RUN...`: the course of trainings, from their run logs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/picture.h"
#include "report/curves.h"
#include "report/terminal.h"

static const char command[] = "descent plot";

struct plot_values {
  const char *out; /* or NULL */
  bool terminal;
};

#define AT(member) offsetof(struct plot_values, member)
static const struct setting plot_rows[] = {
    ROW_HEADING("Plot:"),
    ROW_SHORT_TEXT('o', "out", "FILE", AT(out), "Output file, an .svg; an existing file is replaced", 0),
    ROW_FLAG("terminal", AT(terminal), "Also draw in the terminal when --out is given", 0),
    ROW_END,
};
#undef AT

struct plot {
  struct history histories[ARGUMENTS_MOST];
  struct curves_run runs[ARGUMENTS_MOST];
  int n;
  struct figure figure;
};

static int read_run(const char *path, struct history *history) {
  const char *wrong;
  FILE *file = fopen(path, "r");
  const int64_t line = file ? history_read(file, history, &wrong) : -1;
  const int error = errno;
  if (file) fclose(file);
  if (line < 0)
    return fail(command, error == ENOMEM ? EXIT_RUN : EXIT_DATA, "%s: cannot read: %s", path, strerror(error));
  if (line > 0) return fail(command, EXIT_DATA, "%s:%lld: %s", path, (long long)line, wrong);
  if (history->epochs == 0) return fail(command, EXIT_DATA, "%s: holds no finished epoch", path);
  return EXIT_DONE;
}

/* A run is called by its file's name, by the whole path where two have the same. */
static const char *run_name(const struct arguments *arguments, int run) {
  const char *path = arguments->values[run], *name = basename(path);
  for (int other = 0; other < arguments->count; other++)
    if (other != run && strcmp(basename(arguments->values[other]), name) == 0) return path;
  return name;
}

static int draw(const struct plot_values *v, const struct arguments *arguments, struct plot *p) {
  int code = EXIT_DONE;
  for (; p->n < arguments->count; p->n++) {
    p->runs[p->n] = (struct curves_run){run_name(arguments, p->n), &p->histories[p->n]};
    if ((code = read_run(arguments->values[p->n], &p->histories[p->n])) != EXIT_DONE) return code;
  }
  if (!curves_add_loss(&p->figure, p->runs, p->n) || !curves_add_measures(&p->figure, p->runs, p->n) ||
      !curves_add_learning_rate(&p->figure, p->runs, p->n) ||
      !curves_add_layers(&p->figure, p->runs, p->n, HISTORY_LAYER_GRADIENT_NORM))
    return fail(command, EXIT_RUN, "out of memory");
  if (p->figure.n == 0) return fail(command, EXIT_DATA, "%s: holds nothing to draw", arguments->values[0]);
  if (v->out) code = picture_save(command, v->out, &p->figure);
  if (code != EXIT_DONE || (v->out && !v->terminal)) return code;
  const struct terminal_look look = {terminal_columns(stdout), terminal_unicode(), terminal_colors(stdout)};
  if (!terminal_figure(stdout, &p->figure, &look)) return fail(command, EXIT_RUN, "out of memory");
  char epochs[TEXT_SIZE]; /* which a narrow chart has no room for */
  for (int r = 0; r < p->n; r++)
    if (p->histories[r].stride > 1) {
      printf("\n%s\n", curves_epochs(p->runs, p->n, epochs));
      break;
    }
  return EXIT_DONE;
}

static int plot(void *values, const struct arguments *arguments) {
  const struct plot_values *v = values;
  if (v->out && !picture_named(v->out))
    return fail(command, EXIT_USAGE, "--out '%s': charts are SVG: the name must end in .svg", v->out);
  for (int i = 0; v->out && i < arguments->count; i++)
    if (output_same_file(v->out, arguments->values[i]))
      return fail(command, EXIT_USAGE, "--out '%s': is also an input file", v->out);
  struct plot *p = calloc(1, sizeof *p);
  if (!p) return fail(command, EXIT_RUN, "out of memory");
  const int code = draw(v, arguments, p);
  for (int i = 0; i < ARGUMENTS_MOST; i++) history_free(&p->histories[i]);
  figure_clear(&p->figure);
  free(p);
  return code;
}

int command_plot(int argc, char **argv) {
  struct plot_values values = {0};
  const struct setting_set sets[] = {{plot_rows, &values}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "RUN...",
      .about =
          "Draw the course of trainings: loss, measures, learning rate and gradient norms by epoch. Each RUN is a file "
          "that descent train --log has written or is still writing; several are drawn over each other.",
      .fewest = 1,
      .most = ARGUMENTS_MOST,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  return options_run(&syntax, argc, argv, plot, &values);
}
