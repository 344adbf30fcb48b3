/* The one piece of state that a signal handler can reach has to be global. */
#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t caught, save_asked;

static void on_signal(int number) {
  if (number == SIGUSR1) {
    save_asked = 1;
    return;
  }
  if (caught) _exit(EXIT_SIGNAL + number);
  caught = number;
}

void interrupt_watch(void) {
  static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
  for (unsigned i = 0; i < sizeof watched / sizeof *watched; i++) {
    struct sigaction old, action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (sigaction(watched[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(watched[i], &action, NULL);
  }
}

int interrupt_signal(void) { return caught; }

bool interrupt_save_asked(void) {
  const bool asked = save_asked;
  if (asked) save_asked = 0;
  return asked;
}
