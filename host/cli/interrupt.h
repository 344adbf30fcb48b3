/* Signals that end the process. From the start, one that does removes the temporary files of outputs first. A training
 * stops on request instead: the first SIGINT, SIGTERM or SIGHUP is remembered, a second one ends the process. SIGUSR1
 * asks for a checkpoint. A signal that is being ignored stays ignored. */
#ifndef DESCENT_CLI_INTERRUPT_H
#define DESCENT_CLI_INTERRUPT_H

#include <stdbool.h>

/* Ending the process leaves no temporary file behind, from now on. */
void interrupt_clean_up(void);
/* From now on signals are remembered. */
void interrupt_watch(void);
/* The signal that came, or 0. */
int interrupt_signal(void);
/* Has SIGUSR1 come since the last time this was asked? */
bool interrupt_save_asked(void);

#endif
