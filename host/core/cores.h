/* How many cores this process may use. */
#ifndef DESCENT_CORE_CORES_H
#define DESCENT_CORE_CORES_H

/* Cores that the scheduler lets this process run on; at least 1. */
int cores_allowed(void);
/* The same, and no more than its control groups' CPU quota is worth, rounded up; at least 1. */
int cores_usable(void);

#endif
