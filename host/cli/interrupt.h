/* Stopping on request: the first SIGINT, SIGTERM or SIGHUP is remembered, a second one leaves at once. */
#ifndef DESCENT_CLI_INTERRUPT_H
#define DESCENT_CLI_INTERRUPT_H

/* From now on; a signal that is being ignored stays ignored. */
void interrupt_watch(void);
/* The signal that came, or 0. */
int interrupt_signal(void);

#endif
