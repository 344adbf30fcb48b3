// Included before every source of the coverage build, so that all processes write complete counts: those that end
// through _exit, those that are killed just before their end, as the reader of HDF5 is, and those whose files may not
// grow.
#ifndef DESCENT_TESTS_COVERAGE_EXIT_H
#define DESCENT_TESTS_COVERAGE_EXIT_H
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void __gcov_dump(void);
void fault_suspend(void) __attribute__((weak)); /* of tests/faults: writing the counts must not fail */

/* Before gcov's own, which has the last priority of all. */
__attribute__((destructor)) static void coverage_let_files_grow(void) {
  setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
}

static inline int coverage_kill(pid_t process, int number) {
  siginfo_t about = {.si_pid = 0};
  for (int i = 0; i < 20 && !about.si_pid && !waitid(P_PID, (id_t)process, &about, WEXITED | WNOHANG | WNOWAIT); i++)
    usleep(1000);
  return kill(process, number);
}

#define _exit(code) ((fault_suspend ? fault_suspend() : (void)0), coverage_let_files_grow(), __gcov_dump(), _exit(code))
#define kill(process, number) coverage_kill(process, number)
#endif
