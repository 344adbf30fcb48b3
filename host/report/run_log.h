/* An epoch as one JSON object: what --log writes, a line each, and what every other view of a training (TensorBoard,
 * curves, the report) is made from, so that they cannot disagree. */
#ifndef DESCENT_REPORT_RUN_LOG_H
#define DESCENT_REPORT_RUN_LOG_H

#include <cjson/cJSON.h>
#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

/* The epoch's object, an undefined number being null once it is printed; NULL when memory ran out. The caller deletes
 * it. */
cJSON *run_log_line(descent_task task, const descent_epoch_info *info);

/* Appends the line to `file` and flushes it, so that it is on disk as soon as the epoch is over; false with errno set
 * when that failed. */
bool run_log_write(FILE *file, const cJSON *line);

#endif
