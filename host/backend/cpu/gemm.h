/* The only interface to CBLAS: single-threaded row-major products. */
#ifndef DESCENT_BACKEND_CPU_GEMM_H
#define DESCENT_BACKEND_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From the first begin to the last end the linked BLAS uses one thread per call, since the pool runs calls in parallel.
 * The end restores the number of threads that it had, unless the program has changed it since. The users that a child of
 * fork() inherits do not count there: its own last end restores the number. Thread-safe. */
void gemm_begin_one_thread(void);
void gemm_end_one_thread(void);

/* Reserves the buffers of this many concurrent products where the address space is limited (ulimit -v), since OpenBLAS
 * retries a failed allocation without end; further products wait for one. False if there is no room. threads <= 256. */
bool gemm_reserve(int threads);

/* "OpenBLAS 0.3.21 (SkylakeX kernels)" into text. False if it lacks the kernels. */
bool gemm_describe(char *text, size_t size);

/* C (m, n) = op(A) op(B), overwriting C; op(A) (m, k) is A or its transpose, likewise B. ld* are the row strides of the
 * stored matrices. All sizes fit an int. */
void gemm(bool transpose_A, bool transpose_B, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
          const float *B, int64_t ldb, float *C, int64_t ldc);

#endif
