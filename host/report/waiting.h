/* On a terminal, a line about a call of the library that takes longer than a second, erased when the call ends. */
#ifndef DESCENT_REPORT_WAITING_H
#define DESCENT_REPORT_WAITING_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

struct waiting {
  FILE *stream;
  double started;
  bool shown; /* the line is on the screen */
};

/* Takes the thread's progress callback until waiting_end. `stream` NULL: shows nothing. */
void waiting_begin(struct waiting *waiting, FILE *stream);
void waiting_end(struct waiting *waiting);

#endif
