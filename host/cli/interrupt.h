/* Stopping on request: the first SIGINT, SIGTERM or SIGHUP is remembered, a second one leaves at once. SIGUSR1 asks for
 * a checkpoint. */
#ifndef DESCENT_CLI_INTERRUPT_H
#define DESCENT_CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on; a signal that is being ignored stays ignored. */
void interrupt_watch(void);
/* The signal that came, or 0. */
int interrupt_signal(void);
/* Has SIGUSR1 come since the last time this was asked? */
bool interrupt_save_asked(void);

#endif
