/* CBLAS from any vendor: a single-threaded sgemm. The vendors' own functions are weak references, so a library may lack
 * them. */
#include "backend/cpu/gemm.h"

#include <cblas.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/process.h"

__attribute__((weak)) void openblas_set_num_threads(int threads);
__attribute__((weak)) int openblas_get_num_threads(void);
__attribute__((weak)) char *openblas_get_config(void);
__attribute__((weak)) char *openblas_get_corename(void);
__attribute__((weak)) void *blas_memory_alloc(int position); /* OpenBLAS's, likewise */
__attribute__((weak)) void blas_memory_free(void *buffer);
__attribute__((weak)) void bli_thread_set_num_threads(long threads);
__attribute__((weak)) long bli_thread_get_num_threads(void);
__attribute__((weak)) void MKL_Set_Num_Threads(int threads);
__attribute__((weak)) int MKL_Get_Max_Threads(void);

/* The BLAS's number of threads; below 1 where it is unknown or, in BLIS, unset, which means one. */
static int blas_threads(void) {
  if (openblas_get_num_threads) return openblas_get_num_threads();
  if (bli_thread_get_num_threads) return (int)bli_thread_get_num_threads();
  return MKL_Get_Max_Threads ? MKL_Get_Max_Threads() : 0;
}

static void set_blas_threads(int threads) {
  if (openblas_set_num_threads) openblas_set_num_threads(threads);
  if (bli_thread_set_num_threads) bli_thread_set_num_threads(threads);
  if (MKL_Set_Num_Threads) MKL_Set_Num_Threads(threads);
}

static struct {
  pthread_mutex_t lock;
  int users, before;   /* before: threads of the BLAS when the first one came */
  uint32_t generation; /* of the users' process: core/process.h */
} single = {.lock = PTHREAD_MUTEX_INITIALIZER};

void gemm_begin_one_thread(void) {
  pthread_mutex_lock(&single.lock);
  bool inherited = false; /* the BLAS's one thread, from users that do not end in this child of fork() */
  if (single.generation != process_generation()) {
    single.generation = process_generation();
    inherited = single.users > 0 && blas_threads() == 1;
    single.users = 0;
  }
  if (single.users++ == 0) {
    if (!inherited) single.before = blas_threads();
    set_blas_threads(1);
  }
  pthread_mutex_unlock(&single.lock);
}

void gemm_end_one_thread(void) {
  pthread_mutex_lock(&single.lock);
  if (--single.users == 0 && single.before > 1 && blas_threads() == 1) set_blas_threads(single.before);
  pthread_mutex_unlock(&single.lock);
}

/* True if the address space has room for one more of OpenBLAS's buffers, 128 MB on x86-64 and less elsewhere. */
static bool buffer_fits(void) {
  const size_t bytes = (size_t)129 << 20;
  void *probe = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return probe != MAP_FAILED && munmap(probe, bytes) == 0;
}

/* Where the address space is limited: products at a time, of which more than `reserved` (0: any number) would need new
 * buffers. Several threads may use a device of fewer. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t returned;
  int reserved, used;
} buffers = {.lock = PTHREAD_MUTEX_INITIALIZER, .returned = PTHREAD_COND_INITIALIZER};

static bool take_buffer(void) {
  if (__atomic_load_n(&buffers.reserved, __ATOMIC_RELAXED) == 0) return false;
  pthread_mutex_lock(&buffers.lock);
  while (buffers.used >= buffers.reserved) pthread_cond_wait(&buffers.returned, &buffers.lock);
  buffers.used++;
  pthread_mutex_unlock(&buffers.lock);
  return true;
}

static void return_buffer(void) {
  pthread_mutex_lock(&buffers.lock);
  buffers.used--;
  pthread_cond_signal(&buffers.returned);
  pthread_mutex_unlock(&buffers.lock);
}

/* Another thread of the process runs, or waits for a processor. */
static bool another_runs(void) {
  DIR *const tasks = opendir("/proc/self/task");
  const long self = syscall(SYS_gettid);
  bool runs = false;
  if (!tasks) return false;
  for (const struct dirent *entry; !runs && (entry = readdir(tasks));) {
    char path[64], state = 0;
    if (entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) == self) continue;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", entry->d_name);
    FILE *const file = fopen(path, "re");
    runs = file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state == 'R';
    if (file) fclose(file);
  }
  closedir(tasks);
  return runs;
}

/* OpenBLAS's threads take a buffer each when they start, after a fork() only now. If one started later than the
 * reservation, it would take a buffer of the products'. */
static void await_blas_threads(void) {
  enum { MILLISECONDS = 500 }; /* other threads of the program may run as long as they like */
  for (int i = 0; i < MILLISECONDS && another_runs(); i++) usleep(1000);
}

bool gemm_reserve(int threads) {
  enum { MOST = 256 };
  struct rlimit limit;
  void *taken[MOST];
  int n = 0;
  if (!blas_memory_alloc || !blas_memory_free) return true;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return true;
  await_blas_threads();
  while (n < threads && n < MOST && buffer_fits()) taken[n++] = blas_memory_alloc(0);
  for (int i = 0; i < n; i++) blas_memory_free(taken[i]); /* OpenBLAS keeps them for the products */
  pthread_mutex_lock(&buffers.lock);
  if (n == threads && n > buffers.reserved) __atomic_store_n(&buffers.reserved, n, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&buffers.lock);
  return n == threads;
}

bool gemm_describe(char *text, size_t size) {
  if (openblas_get_config && openblas_get_corename) {
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..." */
    size_t words = strcspn(config, " ");
    if (config[words]) words += 1 + strcspn(config + words + 1, " ");
    snprintf(text, size, "%.*s (%s kernels)", (int)words, config, openblas_get_corename());
    return true;
  }
  snprintf(text, size, "%s", MKL_Set_Num_Threads ? "MKL" : bli_thread_set_num_threads ? "BLIS" : "CBLAS");
  return false;
}

void gemm(bool transpose_A, bool transpose_B, int64_t m, int64_t n, int64_t k, const float *A, int64_t lda,
          const float *B, int64_t ldb, float *C, int64_t ldc) {
  const bool taken = take_buffer();
  cblas_sgemm(CblasRowMajor, transpose_A ? CblasTrans : CblasNoTrans, transpose_B ? CblasTrans : CblasNoTrans, (int)m,
              (int)n, (int)k, 1.0f, A, (int)lda, B, (int)ldb, 0.0f, C, (int)ldc);
  if (taken) return_buffer();
}
