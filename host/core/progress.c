/* One handler per thread. It is not called from inside itself. */
#include "core/progress.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/status.h"

struct handler {
  int (*on_progress)(void *user, const descent_progress *progress);
  void *user;
  double next; /* clock_seconds() of the next report */
  bool running;
};
static _Thread_local struct handler handler;

void descent_set_progress(int (*on_progress)(void *user, const descent_progress *progress), void *user) {
  handler.on_progress = on_progress;
  handler.user = user;
  handler.next = 0;
}

descent_status progress_report(const char *verb, const char *path, const char *unit, int64_t done, int64_t total) {
  static const double interval = 0.1; /* seconds */
  char task[1024];
  if (!handler.on_progress || handler.running) return DESCENT_OK;
  const double now = clock_seconds();
  if (now < handler.next) return DESCENT_OK;
  snprintf(task, sizeof task, "%s%s%s", verb, path ? " " : "", path ? path : "");
  const descent_progress progress = {.task = task, .unit = unit, .done = done, .total = total};
  handler.next = now + interval;
  handler.running = true;
  const bool cancelled = handler.on_progress(handler.user, &progress) != 0;
  handler.running = false;
  return cancelled ? status_set(DESCENT_ERROR_CANCELLED, "%s: cancelled", task) : DESCENT_OK;
}
