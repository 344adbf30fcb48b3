/* HDF5 files are read in a child process that sends the rows through a pipe: the library crashes on some damaged files,
 * which must not crash this process. */
#include "core/memory.h"
#include "core/status.h"
#include "data/matrix.h"

#ifndef DESCENT_HDF5_BUILT
#include "core/left_out.h"

descent_status hdf5_open(const char *path, const char *part, struct matrix *matrix) {
  (void)part, (void)matrix;
  return format_left_out(path, "read HDF5");
}

#else
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/hdf5.h"
#include "data/hdf5_file.h"
#include "data/stream.h"

pthread_mutex_t hdf5_library = PTHREAD_MUTEX_INITIALIZER;

enum { BLOCK = 1 << 18 }; /* cells sent at a time */

/* Precedes each block of rows. The first message has the shape and no rows. */
struct message {
  descent_status status;
  struct hdf5_shape shape;
  int64_t rows, inexact; /* of the block; rows x columns doubles follow */
  char error[1024];
};

struct hdf5 {
  const char *path;
  pid_t process;
  int pipe;
  int64_t left; /* rows of the block still in the pipe */
};

/* ---- child process ---------------------------------------------------------------------------------------------- */

static bool send_bytes(int pipe, const void *bytes, size_t n) {
  while (n > 0) {
    const ssize_t sent = write(pipe, bytes, n);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = (const char *)bytes + sent;
    n -= (size_t)sent;
  }
  return true;
}

static bool send_message(int pipe, struct message *message) {
  if (message->status != DESCENT_OK) snprintf(message->error, sizeof message->error, "%s", descent_last_error());
  return send_bytes(pipe, message, sizeof *message) && message->status == DESCENT_OK;
}

/* Opens the file, sends its shape and all rows. A crash leaves neither output nor a core file. */
static void run_reader(const char *path, const char *part, int pipe) {
  static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPIPE};
  struct hdf5_file *file = NULL;
  struct message message = {DESCENT_OK};
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int k = STDIN_FILENO; k <= STDERR_FILENO; k++)
    if (nowhere >= 0 && k != pipe) dup2(nowhere, k);
  for (size_t k = 0; k < sizeof crashes / sizeof *crashes; k++) signal(crashes[k], SIG_DFL);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});

  message.status = hdf5_file_open(path, part, &message.shape, &file);
  if (!send_message(pipe, &message)) return;
  const int64_t columns = message.shape.columns, most = columns < BLOCK ? BLOCK / columns : 1;
  double *cells = memory_allocate(most * columns, sizeof *cells, "rows");
  for (int64_t row = 0; row < message.shape.rows; row += message.rows) {
    message.inexact = 0;
    message.status = cells ? hdf5_file_read(file, most, cells, &message.rows, &message.inexact) : DESCENT_ERROR_MEMORY;
    if (!send_message(pipe, &message)) return;
    if (!send_bytes(pipe, cells, (size_t)(message.rows * columns) * sizeof *cells)) return;
  }
}

/* ---- parent process --------------------------------------------------------------------------------------------- */

static descent_status crashed(const struct hdf5 *h) {
  return status_set(DESCENT_ERROR_DATA, "%s: the HDF5 library crashed while reading this file: it is damaged", h->path);
}

static descent_status receive(struct hdf5 *h, void *to, size_t n) {
  while (n > 0) {
    const ssize_t got = read(h->pipe, to, n);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return crashed(h);
    to = (char *)to + got;
    n -= (size_t)got;
  }
  return DESCENT_OK;
}

/* Messages are untrusted like the file: the library may have corrupted the child's memory. */
static descent_status receive_message(struct hdf5 *h, struct message *message) {
  descent_status status;
  TRY(receive(h, message, sizeof *message));
  const int code = (int)message->status;
  if (code < DESCENT_OK || code > DESCENT_ERROR_INTERNAL || message->inexact < 0) TRY(crashed(h));
  message->error[sizeof message->error - 1] = 0;
  if (message->status != DESCENT_OK) TRY(status_set(message->status, "%s", message->error));
done:
  return status;
}

static bool is_shape(const struct hdf5_shape *s) {
  return s->rows > 0 && s->columns > 0 && s->stored > 0 && s->columns <= MATRIX_MAX_COLUMNS && s->weights >= 0 &&
         s->weights <= 1 && s->targets >= 0 && s->targets <= s->columns - s->weights;
}

static descent_status read_rows(struct matrix *matrix, int64_t rows, double *cells) {
  struct hdf5 *h = matrix->state;
  descent_status status = DESCENT_OK;
  for (int64_t n; rows > 0; rows -= n, h->left -= n, cells += n * matrix->columns) {
    if (h->left == 0) {
      struct message message;
      TRY(receive_message(h, &message));
      if (message.rows < 1) TRY(crashed(h));
      h->left = message.rows;
      matrix->inexact += message.inexact;
    }
    n = rows < h->left ? rows : h->left;
    TRY(receive(h, cells, (size_t)(n * matrix->columns) * sizeof *cells));
  }
done:
  return status;
}

static void close_hdf5(void *state) {
  struct hdf5 *h = state;
  if (h->pipe >= 0) close(h->pipe);
  if (h->process > 0) {
    kill(h->process, SIGKILL);
    while (waitpid(h->process, NULL, 0) < 0 && errno == EINTR) continue;
  }
  free(h);
}

static descent_status start(struct hdf5 *h, const char *part) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return status_set(errno == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_READ, "%s: cannot open a pipe: %s",
                      h->path, strerror(errno));
  h->pipe = ends[0];
  pthread_mutex_lock(&hdf5_library);
  h->process = fork();
  const int failure = errno;
  pthread_mutex_unlock(&hdf5_library);
  if (h->process == 0) {
    close(ends[0]);
    run_reader(h->path, part, ends[1]);
    _exit(0);
  }
  close(ends[1]);
  if (h->process > 0) return DESCENT_OK;
  return status_set(failure == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_READ,
                    "%s: cannot start a process to read the file: %s", h->path, strerror(failure));
}

descent_status hdf5_open(const char *path, const char *part, struct matrix *matrix) {
  struct message message;
  descent_status status;
  struct hdf5 *h = memory_allocate(1, sizeof *h, "the reader");
  if (!h) return DESCENT_ERROR_MEMORY;
  h->path = path;
  h->pipe = -1;
  TRY(stream_require_file(path, "which HDF5 requires"));
  TRY(start(h, part));
  TRY(receive_message(h, &message));
  if (!is_shape(&message.shape)) TRY(crashed(h));
  message.shape.note[NOTE_SIZE - 1] = 0;
  *matrix = (struct matrix){.path = path,
                            .rows = message.shape.rows,
                            .columns = message.shape.columns,
                            .targets = message.shape.targets,
                            .weights = message.shape.weights,
                            .stored = message.shape.stored,
                            .read = read_rows,
                            .close = close_hdf5,
                            .state = h};
  snprintf(matrix->note, NOTE_SIZE, "%s", message.shape.note);
  h = NULL;
done:
  if (h) close_hdf5(h);
  return status;
}
#endif
