/* NumPy's .npy files: one array, read with pread. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/array.h"
#include "data/matrix.h"
#include "data/stream.h"

struct npy {
  const char *path;
  int file;
  struct array array;
};

static descent_status read_at(void *state, int64_t offset, int64_t n, void *to) {
  const struct npy *npy = state;
  for (int64_t done = 0; done < n;) {
    const ssize_t got = pread(npy->file, (char *)to + done, (size_t)(n - done), (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return status_set(DESCENT_ERROR_READ, "%s: byte %" PRId64 ": cannot read: %s", npy->path, offset + done,
                        got < 0 ? strerror(errno) : "the file was truncated while it was read");
    done += got;
  }
  return DESCENT_OK;
}

static descent_status read_rows(struct matrix *matrix, int64_t rows, double *cells) {
  struct npy *npy = matrix->state;
  return array_read(&npy->array, rows, cells, matrix->columns, &matrix->inexact);
}

static void close_npy(void *state) {
  struct npy *npy = state;
  array_close(&npy->array);
  if (npy->file >= 0) close(npy->file);
  free(npy);
}

descent_status npy_open(const char *path, struct matrix *matrix) {
  struct stat about;
  descent_status status;
  struct npy *npy = memory_allocate(1, sizeof *npy, "the reader");
  if (!npy) return DESCENT_ERROR_MEMORY;
  npy->path = path;
  npy->file = -1;
  TRY(stream_require_file(path, "which .npy requires"));
  npy->file = open(path, O_RDONLY | O_CLOEXEC);
  if (npy->file < 0 || fstat(npy->file, &about) != 0) TRY(status_cannot_read(path, errno));
  if (!S_ISREG(about.st_mode)) TRY(status_set(DESCENT_ERROR_READ, "%s: not a regular file, which .npy requires", path));
  TRY(array_open(path, (struct array_source){(int64_t)about.st_size, false, read_at, npy}, &npy->array));
  *matrix = (struct matrix){.path = path,
                            .rows = npy->array.rows,
                            .columns = npy->array.columns,
                            .stored = (int64_t)about.st_size,
                            .read = read_rows,
                            .close = close_npy,
                            .state = npy};
  npy = NULL;
done:
  if (npy) close_npy(npy);
  return status;
}
