/* Charts of an evaluation. */
#include "cli/diagrams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/picture.h"

/* Cuts "kind:path" at the colon, or finds the kind at the beginning of the file's own name. */
static bool find_kind(const char **path, enum diagnosis *kind) {
  const char *name = basename(*path);
  for (int k = 0; k < DIAGNOSES; k++) {
    const size_t length = strlen(diagnosis_names[k]);
    const bool said = strncmp(*path, diagnosis_names[k], length) == 0 && (*path)[length] == ':';
    if (!said && strncmp(name, diagnosis_names[k], length) != 0) continue;
    *kind = (enum diagnosis)k;
    if (said) *path += length + 1;
    return true;
  }
  return false;
}

static int parse_one(const char *command, const char *item, struct diagrams *d) {
  if (d->n == DIAGRAMS_MOST) return fail(command, EXIT_USAGE, "--plot: at most %d charts at a time", DIAGRAMS_MOST);
  const char *path = item;
  if (!find_kind(&path, &d->list[d->n].kind))
    return fail(command, EXIT_USAGE,
                "--plot '%s': which chart? its name must begin with roc, confusion, calibration, residuals or fit "
                "(roc.svg); otherwise prefix it: roc:test.svg",
                item);
  if (!picture_named(path))
    return fail(command, EXIT_USAGE, "--plot '%s': charts are SVG: the name must end in .svg", item);
  for (int i = 0; i < d->n; i++)
    if (output_same_place(path, d->list[i].path))
      return fail(command, EXIT_USAGE, "--plot '%s': is also the file of another chart", path);
  if (!output_possible(path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  d->list[d->n++].path = path;
  return EXIT_DONE;
}

int diagrams_parse(const char *command, const char *text, struct diagrams *d) {
  *d = (struct diagrams){0};
  if (!text) return EXIT_DONE;
  if (!(d->text = strdup(text))) return fail(command, EXIT_RUN, "out of memory");
  char *rest = d->text, *item;
  int code = EXIT_DONE;
  while (code == EXIT_DONE && (item = strsep(&rest, ","))) code = parse_one(command, item, d);
  return code;
}

void diagrams_clear(struct diagrams *d) {
  free(d->text);
  *d = (struct diagrams){0};
}

int diagrams_check(const char *command, const struct diagrams *d, descent_task task) {
  for (int i = 0; i < d->n; i++) {
    const enum diagnosis kind = d->list[i].kind;
    const char *tasks = diagnosis_applies(kind, DESCENT_TASK_REGRESSION) ? "regression"
                        : diagnosis_applies(kind, DESCENT_TASK_CLASSES)  ? "classification"
                                                                         : "binary";
    if (!diagnosis_applies(kind, task))
      return fail(command, EXIT_USAGE, "--plot '%s': '%s' applies to %s models only", d->list[i].path,
                  diagnosis_names[kind], tasks);
  }
  return EXIT_DONE;
}

int diagrams_draw(const char *command, const struct diagrams *d, const descent_network *network, descent_device *device,
                  const descent_dataset *dataset, const descent_predict_options *options,
                  const descent_metrics *metrics) {
  struct predictions predictions = {0};
  if (d->n == 0) return EXIT_DONE;
  descent_status status = predictions_make(network, device, dataset, options, &predictions);
  int code = status == DESCENT_OK ? EXIT_DONE : fail_status(command, status);
  for (int i = 0; i < d->n && code == EXIT_DONE; i++) {
    struct figure figure = {0};
    const char *reason = diagnosis_add(&figure, d->list[i].kind, &predictions, metrics);
    if (reason)
      code = fail(command, EXIT_RUN, "%s: not drawn: %s", d->list[i].path, reason);
    else
      code = picture_save(command, d->list[i].path, &figure);
    figure_clear(&figure);
  }
  predictions_clear(&predictions);
  return code;
}
