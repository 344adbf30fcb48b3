/* Replaces the calls that allocate, open, read, write and close in our code at link time (ld --wrap): the k-th such
 * call fails, once or from then on. */
#include "faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>
#ifdef DESCENT_HDF5_BUILT
#include <hdf5.h>
#endif

static struct {
  enum fault_kind kind;
  long first, last; /* that fail, from 1; first 0: none */
} chosen;
static atomic_long own_counts[FAULT_KINDS], *counts = own_counts;

/* Forked processes continue this process's count. */
__attribute__((constructor)) static void share_counts(void) {
  void *shared = mmap(NULL, sizeof own_counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared != MAP_FAILED) counts = shared;
}

void fault_choose(enum fault_kind kind, long k, bool persistent) {
  chosen.kind = kind;
  chosen.first = k;
  chosen.last = persistent ? __LONG_MAX__ : k;
  for (int each = 0; each < FAULT_KINDS; each++) counts[each] = 0;
}

void fault_suspend(void) { chosen.first = 0; }

long fault_count(enum fault_kind kind) { return counts[kind]; }

static bool fails(enum fault_kind kind, int error) {
  const long k = ++counts[kind];
  if (kind != chosen.kind || !chosen.first || k < chosen.first || k > chosen.last) return false;
  errno = error;
  return true;
}

#define WRAP(fault, type, name, parameters, arguments, failure) \
  type __real_##name parameters;                                \
  type __wrap_##name parameters;                                \
  type __wrap_##name parameters {                               \
    if (fails fault) return failure;                            \
    return __real_##name arguments;                             \
  }
/* (type, name, (parameters), (arguments), the result of a failure) */
#define ALLOCATES(...) WRAP((FAULT_ALLOCATION, ENOMEM), __VA_ARGS__)
#define CALLS(...) WRAP((FAULT_CALL, EIO), __VA_ARGS__)
/* Fails after the call was made, as calls that close do. */
#define CLOSES(type, name, parameters, arguments, failure) \
  type __real_##name parameters;                           \
  type __wrap_##name parameters;                           \
  type __wrap_##name parameters {                          \
    const type result = __real_##name arguments;           \
    return fails(FAULT_CALL, EIO) ? (failure) : result;    \
  }

/* ---- memory and its users --------------------------------------------------------------------------------------- */

ALLOCATES(void *, malloc, (size_t size), (size), NULL)
ALLOCATES(void *, calloc, (size_t n, size_t size), (n, size), NULL)
ALLOCATES(void *, realloc, (void *memory, size_t size), (memory, size), NULL)
ALLOCATES(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), NULL)
ALLOCATES(char *, strdup, (const char *text), (text), NULL)
ALLOCATES(char *, strndup, (const char *text, size_t n), (text, n), NULL)
ALLOCATES(char *, realpath, (const char *path, char *resolved), (path, resolved), NULL)
ALLOCATES(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
ALLOCATES(FILE *, fdopen, (int descriptor, const char *mode), (descriptor, mode), NULL)
ALLOCATES(FILE *, open_memstream, (char **text, size_t *size), (text, size), NULL)
ALLOCATES(FILE *, fmemopen, (void *data, size_t size, const char *mode), (data, size, mode), NULL)
ALLOCATES(DIR *, opendir, (const char *path), (path), NULL)
ALLOCATES(DIR *, fdopendir, (int folder), (folder), NULL)
ALLOCATES(ssize_t, getline, (char **line, size_t *size, FILE *file), (line, size, file), -1)
ALLOCATES(int, vasprintf, (char **text, const char *format, va_list arguments), (text, format, arguments), -1)
ALLOCATES(void *, mmap, (void *at, size_t length, int protection, int flags, int file, off_t offset),
          (at, length, protection, flags, file, offset), MAP_FAILED)
ALLOCATES(int, pthread_create,
          (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument),
          (thread, attributes, start, argument), EAGAIN)

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...) {
  va_list arguments;
  if (fails(FAULT_ALLOCATION, ENOMEM)) return -1;
  va_start(arguments, format);
  const int length = __real_vasprintf(text, format, arguments);
  va_end(arguments);
  return length;
}

void *fault_malloc(size_t size) { return __wrap_malloc(size); }

/* ---- files ------------------------------------------------------------------------------------------------------ */

CALLS(ssize_t, read, (int file, void *data, size_t bytes), (file, data, bytes), -1)
CALLS(ssize_t, write, (int file, const void *data, size_t bytes), (file, data, bytes), -1)
CALLS(ssize_t, pread, (int file, void *data, size_t bytes, off_t at), (file, data, bytes, at), -1)
CALLS(int, fsync, (int file), (file), -1)
static int flock_error;
void fault_flock(int error) { flock_error = error; }
int __real_flock(int file, int operation);
int __wrap_flock(int file, int operation);
int __wrap_flock(int file, int operation) {
  if (fails(FAULT_CALL, EIO)) return -1;
  if (!flock_error) return __real_flock(file, operation);
  errno = flock_error;
  return -1;
}

CALLS(int, fchmod, (int file, mode_t mode), (file, mode), -1)
CALLS(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
CALLS(int, rename, (const char *from, const char *to), (from, to), -1)
CALLS(int, renameat, (int folder, const char *from, int other, const char *to), (folder, from, other, to), -1)
CALLS(int, fstatat, (int folder, const char *path, struct stat *about, int flags), (folder, path, about, flags), -1)
CALLS(int, lstat, (const char *path, struct stat *about), (path, about), -1)
CALLS(int, stat, (const char *path, struct stat *about), (path, about), -1)
CALLS(int, fstat, (int file, struct stat *about), (file, about), -1)
CALLS(struct dirent *, readdir, (DIR * directory), (directory), NULL)
CALLS(int, fseeko, (FILE * file, off_t offset, int from), (file, offset, from), -1)

/* A stream remembers: glibc's _IO_ERR_SEEN. */
static void remember(FILE *file) {
  if (file) file->_flags |= 0x20;
}
CALLS(size_t, fread, (void *data, size_t size, size_t n, FILE *file), (data, size, n, file), (remember(file), 0))
CALLS(size_t, fwrite, (const void *data, size_t size, size_t n, FILE *file), (data, size, n, file), (remember(file), 0))
CALLS(int, fputs, (const char *text, FILE *file), (text, file), (remember(file), EOF))
CALLS(int, fputc, (int character, FILE *file), (character, file), (remember(file), EOF))
CALLS(int, fflush, (FILE * file), (file), (remember(file), EOF))
CALLS(int, ferror, (FILE * file), (file), (remember(file), 1))
CLOSES(int, close, (int file), (file), -1)
CLOSES(int, fclose, (FILE * file), (file), EOF)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails(FAULT_CALL, EIO) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails(FAULT_CALL, EIO) ? -1 : __real_openat(folder, path, flags, mode);
}

/* ---- processes -------------------------------------------------------------------------------------------------- */

CALLS(int, pipe2, (int ends[2], int flags), (ends, flags), -1)
CALLS(pid_t, fork, (void), (), -1)

/* ---- zip archives ----------------------------------------------------------------------------------------------- */

CALLS(zip_t *, zip_open, (const char *path, int flags, int *error), (path, flags, error), (*error = ZIP_ER_READ, NULL))
CALLS(int, zip_stat_index, (zip_t * archive, zip_uint64_t index, zip_flags_t flags, zip_stat_t *about),
      (archive, index, flags, about), -1)
CALLS(zip_file_t *, zip_fopen_index, (zip_t * archive, zip_uint64_t index, zip_flags_t flags), (archive, index, flags),
      NULL)
CALLS(zip_int64_t, zip_fread, (zip_file_t * file, void *data, zip_uint64_t bytes), (file, data, bytes), -1)
CALLS(zip_int64_t, zip_file_add, (zip_t * archive, const char *name, zip_source_t *source, zip_flags_t flags),
      (archive, name, source, flags), -1)
CALLS(int, zip_set_file_compression, (zip_t * archive, zip_uint64_t index, zip_int32_t method, zip_uint32_t level),
      (archive, index, method, level), -1)
CALLS(int, zip_file_set_dostime,
      (zip_t * archive, zip_uint64_t index, zip_uint16_t time, zip_uint16_t date, zip_flags_t flags),
      (archive, index, time, date, flags), -1)
CALLS(int, zip_close, (zip_t * archive), (archive), -1)
CALLS(int, zip_source_open, (zip_source_t * source), (source), -1)
CALLS(zip_int64_t, zip_source_read, (zip_source_t * source, void *data, zip_uint64_t bytes), (source, data, bytes), -1)

/* ---- HDF5 ------------------------------------------------------------------------------------------------------- */

#ifdef DESCENT_HDF5_BUILT
CALLS(hid_t, H5Fopen, (const char *path, unsigned flags, hid_t access), (path, flags, access), -1)
CALLS(hid_t, H5Fcreate, (const char *path, unsigned flags, hid_t create, hid_t access), (path, flags, create, access),
      -1)
CALLS(hid_t, H5Dopen2, (hid_t file, const char *name, hid_t access), (file, name, access), -1)
CALLS(hid_t, H5Dcreate2,
      (hid_t file, const char *name, hid_t type, hid_t space, hid_t link, hid_t create, hid_t access),
      (file, name, type, space, link, create, access), -1)
CALLS(hid_t, H5Dget_space, (hid_t dataset), (dataset), -1)
CALLS(hid_t, H5Dget_type, (hid_t dataset), (dataset), -1)
CALLS(hid_t, H5Dget_create_plist, (hid_t dataset), (dataset), -1)
CALLS(herr_t, H5Dread, (hid_t dataset, hid_t type, hid_t memory, hid_t file, hid_t transfer, void *data),
      (dataset, type, memory, file, transfer, data), -1)
CALLS(herr_t, H5Dwrite, (hid_t dataset, hid_t type, hid_t memory, hid_t file, hid_t transfer, const void *data),
      (dataset, type, memory, file, transfer, data), -1)
CALLS(hid_t, H5Pcreate, (hid_t kind), (kind), -1)
CALLS(herr_t, H5Pset_obj_track_times, (hid_t list, hbool_t track), (list, track), -1)
CALLS(herr_t, H5Pset_elink_cb, (hid_t list, H5L_elink_traverse_t callback, void *user), (list, callback, user), -1)
CALLS(hid_t, H5Screate_simple, (int rank, const hsize_t *shape, const hsize_t *most), (rank, shape, most), -1)
CALLS(herr_t, H5Sselect_hyperslab,
      (hid_t space, H5S_seloper_t how, const hsize_t *start, const hsize_t *stride, const hsize_t *n,
       const hsize_t *block),
      (space, how, start, stride, n, block), -1)
CALLS(int, H5Sget_simple_extent_ndims, (hid_t space), (space), -1)
CALLS(int, H5Sget_simple_extent_dims, (hid_t space, hsize_t *shape, hsize_t *most), (space, shape, most), -1)
CALLS(hid_t, H5Tcopy, (hid_t type), (type), -1)
CALLS(herr_t, H5Tset_size, (hid_t type, size_t size), (type, size), -1)
CALLS(herr_t, H5Tset_cset, (hid_t type, H5T_cset_t set), (type, set), -1)
CLOSES(herr_t, H5Dclose, (hid_t dataset), (dataset), -1)
CLOSES(herr_t, H5Fclose, (hid_t file), (file), -1)
#endif
