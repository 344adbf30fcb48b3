// Included before every source of the coverage build: a process that leaves through _exit, as the reader of HDF5 does,
// leaves its counts behind too.
#ifndef DESCENT_TESTS_COVERAGE_EXIT_H
#define DESCENT_TESTS_COVERAGE_EXIT_H
#include <unistd.h>

void __gcov_dump(void);
#define _exit(code) (__gcov_dump(), _exit(code))
#endif
