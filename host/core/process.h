/* Whether this process is the one that started the threads and opened the devices of an object. A child of fork() has
 * neither: it has only the thread that called fork(), and CUDA does not work in it. */
#ifndef DESCENT_CORE_PROCESS_H
#define DESCENT_CORE_PROCESS_H

#include <stdint.h>

/* Counts the calls of fork() between the first call of this function and this process, from 1: an object that remembers
 * the value belongs to another process when it differs. Costs no system call. Thread-safe. */
uint32_t process_generation(void);

#endif
