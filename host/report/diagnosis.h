/* How good a model is, as charts: what it says of rows whose answers are known, against the answers. */
#ifndef DESCENT_REPORT_DIAGNOSIS_H
#define DESCENT_REPORT_DIAGNOSIS_H

#include <descent/descent.h>

#include "report/chart.h"

/* X(NAME, "name"). roc: for two classes, the share of true positives over that of false ones at every threshold.
 * confusion: true class by predicted class. calibration: how often what is predicted with some probability is so
 * (DeGroot and Fienberg 1983); of more than two classes, the likeliest one's. residuals: true value less predicted
 * value, by the latter. fit: true value by predicted value. */
#define DIAGNOSIS_MAP(X)        \
  X(ROC, "roc")                 \
  X(CONFUSION, "confusion")     \
  X(CALIBRATION, "calibration") \
  X(RESIDUALS, "residuals")     \
  X(FIT, "fit")
#define DIAGNOSIS_ENUM(NAME, name) DIAGNOSIS_##NAME,
enum diagnosis { DIAGNOSIS_MAP(DIAGNOSIS_ENUM) DIAGNOSES };
extern const char *const diagnosis_names[DIAGNOSES];

bool diagnosis_applies(enum diagnosis kind, descent_task task);

/* What a model says of the rows of a dataset with targets, and what is true. */
struct predictions {
  const descent_network *network; /* borrowed */
  int64_t rows, outputs, targets;
  float *predicted; /* (rows, outputs) as descent_predict gives them */
  float *truth;     /* (rows, targets) */
};
descent_status predictions_make(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                struct predictions *predictions);
void predictions_clear(struct predictions *predictions);

/* Adds the chart, for several targets one each. NULL, or the reason why there is none: a static text. */
const char *diagnosis_add(struct figure *figure, enum diagnosis kind, const struct predictions *predictions,
                          const descent_metrics *metrics);

#endif
