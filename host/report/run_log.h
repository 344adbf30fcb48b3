/* --log: one JSON object per epoch and line, on disk as soon as the epoch is over. */
#ifndef DESCENT_REPORT_RUN_LOG_H
#define DESCENT_REPORT_RUN_LOG_H

#include <descent/descent.h>
#include <stdio.h>

/* Appends one epoch's line to `file` and flushes it; false with errno set when that failed. */
bool run_log_epoch(FILE *file, descent_task task, const descent_epoch_info *info);

#endif
