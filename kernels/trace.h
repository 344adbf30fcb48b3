/* DESCENT_CUDA_TRACE=file: what was asked, tried and chosen, one line of text each. A line is appended with one write,
 * so that the lines of processes that write at the same time stay whole. */
#ifndef DESCENT_KERNELS_TRACE_H
#define DESCENT_KERNELS_TRACE_H

#include <descent/descent.h>

enum { TRACE_LINE = 1024 }; /* bytes, the end of the line included; longer ones are cut off */

struct trace {
  int file; /* -1: there is none */
};

/* ERROR_WRITE where the environment names a file that cannot be appended to. */
descent_status trace_open(struct trace *trace);
void trace_close(struct trace *trace);
void trace_line(const struct trace *trace, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
