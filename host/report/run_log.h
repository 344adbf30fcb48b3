/* An epoch as a JSON object: a line of --log, and the source of TensorBoard events, curves and report, so that all
 * agree. */
#ifndef DESCENT_REPORT_RUN_LOG_H
#define DESCENT_REPORT_RUN_LOG_H

#include <cjson/cJSON.h>
#include <descent/descent.h>

enum {
  RUN_LOG_LONGEST = 4 << 20
}; /* bytes of a line: twice that of 10,000 layers; as JSON it takes 40 times as much */

/* The object of an epoch; undefined numbers print as null. Where class weights or label smoothing count in the training
 * loss, and so not in the validation loss, "train_loss_with" names them. The caller deletes it. NULL when out of
 * memory. */
cJSON *run_log_line(descent_task task, const descent_train_options *options, const descent_epoch_info *info);
/* "class weights", "label smoothing", both, or NULL. */
const char *run_log_loss_with(const descent_train_options *options);

/* The line of the log with its newline, from cJSON's allocator; NULL when out of memory. */
char *run_log_text(const cJSON *line);

#endif
