/* DESCENT_CUDA_TRACE=file: the candidates of products and the choices, one line of text each. A line is appended with
 * one write, so that the lines of concurrent processes stay whole. */
#ifndef DESCENT_KERNELS_TRACE_H
#define DESCENT_KERNELS_TRACE_H

#include <descent/descent.h>

enum { TRACE_LINE = 1024 }; /* bytes with the newline; longer lines are truncated */

struct trace {
  int file; /* -1: none */
};

/* ERROR_WRITE when the file cannot be opened for appending. */
descent_status trace_open(struct trace *trace);
void trace_close(struct trace *trace);
void trace_line(const struct trace *trace, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
