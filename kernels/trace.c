/* The trace: a file opened for appending, one write per line. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module.h"

descent_status trace_open(struct trace *trace) {
  const char *path = getenv("DESCENT_CUDA_TRACE");
  trace->file = -1;
  if (!path) return DESCENT_OK;
  trace->file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (trace->file < 0)
    return module_status(DESCENT_ERROR_WRITE,
                         "DESCENT_CUDA_TRACE: cannot append to '%s': %s (name a file, or unset it)", path,
                         strerror(errno));
  return DESCENT_OK;
}

void trace_close(struct trace *trace) {
  if (trace->file >= 0) (void)close(trace->file);
  trace->file = -1;
}

void trace_line(const struct trace *trace, const char *format, ...) {
  char line[TRACE_LINE];
  va_list arguments;
  if (trace->file < 0) return;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  if (length > TRACE_LINE - 2) length = TRACE_LINE - 2;
  line[length] = '\n';
  const ssize_t written = write(trace->file, line, (size_t)length + 1);
  (void)written; /* a full disk costs the line, not the training */
}
