/* --plot of `descent evaluate`: which charts, and into which files. */
#ifndef DESCENT_CLI_DIAGRAMS_H
#define DESCENT_CLI_DIAGRAMS_H

#include "report/diagnosis.h"

enum { DIAGRAMS_MOST = 8 };
struct diagrams {
  char *text; /* what the paths point into */
  struct {
    enum diagnosis kind;
    const char *path;
  } list[DIAGRAMS_MOST];
  int n;
};

/* "roc.svg,confusion:c.png": what each is follows from how its name begins, or is said before a colon. NULL: none.
 * Tries whether the files can be written. EXIT_DONE or the exit code after one line; free with diagrams_clear either
 * way. */
int diagrams_parse(const char *command, const char *text, struct diagrams *diagrams);
void diagrams_clear(struct diagrams *diagrams);

/* EXIT_USAGE, with a message, if one of them does not apply to the task. */
int diagrams_check(const char *command, const struct diagrams *diagrams, descent_task task);

/* Predicts the rows of `dataset` once, as the options say, and draws. EXIT_DONE or the exit code after one line. */
int diagrams_draw(const char *command, const struct diagrams *diagrams, const descent_network *network,
                  descent_device *device, const descent_dataset *dataset, const descent_predict_options *options,
                  const descent_metrics *metrics);

#endif
