/* Charts of a model's quality: predictions against true values. */
#ifndef DESCENT_REPORT_DIAGNOSIS_H
#define DESCENT_REPORT_DIAGNOSIS_H

#include <descent/descent.h>

#include "report/chart.h"

/* X(NAME, "name").
 *
 *   roc          two classes: true positive rate over false positive rate for every threshold
 *   confusion    true class by predicted class
 *   calibration  observed frequency over predicted probability (DeGroot and Fienberg 1983); with more than two classes,
 *                of the most probable one
 *   residuals    true value - predicted value, over predicted value
 *   fit          true value over predicted value */
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

/* A model's predictions for a dataset with targets, and the true values. */
struct predictions {
  const descent_network *network; /* borrowed */
  int64_t rows, outputs, targets;
  float *raw;    /* (rows, outputs) of descent_predict_raw */
  double *truth; /* (rows, targets) */
};
descent_status predictions_make(const descent_network *network, descent_device *device, const descent_dataset *dataset,
                                const descent_predict_options *options, struct predictions *predictions);
void predictions_clear(struct predictions *predictions);

/* Adds the chart, one per target. Returns NULL, or the reason why there is none as a static text. */
const char *diagnosis_add(struct figure *figure, enum diagnosis kind, const struct predictions *predictions,
                          const descent_metrics *metrics);

#endif
