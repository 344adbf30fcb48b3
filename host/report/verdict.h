/* What the final measures of a training say against it, in one line each with what to try: for the end of the command's
 * output and the top of the report. */
#ifndef DESCENT_REPORT_VERDICT_H
#define DESCENT_REPORT_VERDICT_H

#include <descent/descent.h>

#include "report/metrics.h"

enum { VERDICT_SIZE = 512 };

struct verdict {
  char worse[VERDICT_SIZE];  /* worse than a constant prediction on the training or validation rows; "": it is not */
  char seldom[VERDICT_SIZE]; /* a rare class is hardly ever predicted; "": none */
};

/* A measured data set. */
struct verdict_rows {
  struct metrics_column column;
  const descent_dataset *rows;
};

/* `training`: the rows trained on, on which the constant prediction is fitted: the mean of each target, or the shares
 * of the classes as the training weighted and smoothed them. `validation` may be NULL. False when out of memory. */
bool verdict_make(const descent_network *network, const descent_train_options *options,
                  const descent_fit_result *result, const struct verdict_rows *training,
                  const struct verdict_rows *validation, struct verdict *verdict);

#endif
