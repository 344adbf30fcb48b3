/* The line is composed for the width of the window and leaves its last column free. */
#include "report/waiting.h"

#include <inttypes.h>
#include <stdlib.h>

#include "core/clock.h"
#include "report/terminal.h"
#include "report/text.h"

static int show(void *user, const descent_progress *progress) {
  enum { NUMBER = 16, TASK = 60, LEAST = 8 };
  static const double patience = 1; /* seconds */
  struct waiting *waiting = user;
  char number[TEXT_SIZE], scaled[TEXT_SIZE], task[TEXT_SIZE];
  if (clock_seconds() - waiting->started < patience) return 0;
  if (progress->total)
    snprintf(number, sizeof number, "%d %%", (int)(100 * (double)progress->done / (double)progress->total));
  else
    snprintf(number, sizeof number, "%.20s %.20s", text_scaled((double)progress->done, scaled), progress->unit);
  const int room = terminal_columns(waiting->stream) - NUMBER - 2;
  text_label(progress->task, room > TASK ? TASK : room > LEAST ? room : LEAST, task);
  fprintf(waiting->stream, "\r%s  %s\033[K", task, number);
  fflush(waiting->stream);
  waiting->shown = true;
  return 0;
}

void waiting_begin(struct waiting *waiting, FILE *stream) {
  *waiting = (struct waiting){.stream = stream, .started = clock_seconds()};
  if (stream && terminal_is_live(stream)) descent_set_progress(show, waiting);
}

void waiting_end(struct waiting *waiting) {
  descent_set_progress(NULL, NULL);
  if (!waiting->shown) return;
  fputs("\r\033[K", waiting->stream);
  fflush(waiting->stream);
}
