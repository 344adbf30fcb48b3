/* An epoch as a JSON object: a line of --log, and the source of TensorBoard events, curves and report, so that all
 * agree. */
#ifndef DESCENT_REPORT_RUN_LOG_H
#define DESCENT_REPORT_RUN_LOG_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

/* The object of an epoch; undefined numbers print as null. Where class weights or label smoothing count in the training
 * loss, and so not in the validation loss, "train_loss_with" names them. The caller deletes it. NULL when out of
 * memory. */
cJSON *run_log_line(descent_task task, const descent_train_options *options, const descent_epoch_info *info);
/* "class weights", "label smoothing", both, or NULL. */
const char *run_log_loss_with(const descent_train_options *options);

/* Appends the line to `file` and flushes; false with errno set. */
bool run_log_write(FILE *file, const cJSON *line);

#endif
