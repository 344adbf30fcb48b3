/* The state that a signal handler can reach has to be global. */
#include "cli/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/replace.h"

/* Atomic, since a handler may run on any thread, also one of the BLAS library. */
static atomic_int caught;
static atomic_bool save_asked;
_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_BOOL_LOCK_FREE == 2, "handlers take no locks");

/* Async-signal-safe. */
static void remove_files(void) {
  replace_remove_all(); /* of the command */
  descent_remove_unfinished_files();
}

/* Ends the process as the signal does by default, so that a shell sees the signal. The first process of a container
 * has no defaults: there raise() returns. */
static void on_end(int number) {
  remove_files();
  raise(number);
  _exit(EXIT_SIGNAL + number);
}

/* Mapped data files are read in place: a page that was truncated away is noticed only here. */
static void on_bus_error(int number) {
  static const char text[] = "descent: a data file was truncated while it was read\n";
  (void)number;
  remove_files();
  _exit(write(STDERR_FILENO, text, sizeof text - 1) < 0 ? EXIT_RUN : EXIT_DATA);
}

static void on_signal(int number) {
  int none = 0;
  if (number == SIGUSR1) {
    save_asked = true;
  } else if (!atomic_compare_exchange_strong(&caught, &none, number)) {
    remove_files();
    _exit(EXIT_SIGNAL + number);
  }
}

static void handle(const int *numbers, size_t n, void (*handler)(int), unsigned flags) {
  for (size_t i = 0; i < n; i++) {
    struct sigaction old, action = {.sa_handler = handler, .sa_flags = (int)flags};
    if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(numbers[i], &action, NULL);
  }
}

void interrupt_clean_up(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM, SIGVTALRM},
                   bus[] = {SIGBUS};
  handle(ending, sizeof ending / sizeof *ending, on_end, SA_RESETHAND | SA_NODEFER);
  handle(bus, 1, on_bus_error, 0);
}

void interrupt_watch(void) {
  static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
  handle(watched, sizeof watched / sizeof *watched, on_signal, SA_RESTART);
}

int interrupt_signal(void) { return caught; }

bool interrupt_save_asked(void) { return atomic_exchange(&save_asked, false); }
