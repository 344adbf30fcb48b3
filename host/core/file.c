/* core/replace.h with the library's errors. */
#include "core/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "core/status.h"

static descent_status write_error(const char *path, int error) {
  return status_set(error == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_WRITE, "%s: cannot write: %s", path,
                    strerror(error));
}

/* After the replacement was opened: the texts of the writer. */
static descent_status complete(const char *path, struct file_writer *writer) {
  const char *slash = strrchr(path, '/');
  const int folder = slash ? (int)(slash - path) + 1 : 0;
  writer->stream = writer->replacement.stream;
  writer->path = strdup(path);
  if (asprintf(&writer->temporary, "%.*s%s", folder, path, writer->replacement.temporary) < 0) writer->temporary = NULL;
  if (writer->path && writer->temporary) return DESCENT_OK;
  file_abandon(writer);
  return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
}

descent_status file_create(const char *path, struct file_writer *writer) {
  char place[PATH_MAX];
  *writer = (struct file_writer){0};
  if (replace_open(path, &writer->replacement, place)) return complete(place, writer);
  if (errno == EINVAL) return status_set(DESCENT_ERROR_WRITE, "%s: cannot write: not a regular file", path);
  return write_error(path, errno);
}

descent_status file_create_at(int folder, const char *path, const char *name, struct file_writer *writer) {
  *writer = (struct file_writer){0};
  return replace_open_at(folder, name, &writer->replacement) ? complete(path, writer) : write_error(path, errno);
}

descent_status file_write(struct file_writer *writer, const void *data, size_t bytes) {
  enum { PIECE = 1 << 20 }; /* between two reports */
  const char *from = data;
  descent_status status = DESCENT_OK;
  for (size_t n; bytes; from += n, bytes -= n) {
    const size_t to_report = PIECE - (size_t)(writer->written % PIECE);
    n = bytes < to_report ? bytes : to_report;
    if (fwrite(from, 1, n, writer->stream) != n) return write_error(writer->path, errno);
    writer->written += (int64_t)n;
    if (n == to_report && !writer->quiet) TRY(progress_report("writing", writer->path, "bytes", writer->written, 0));
  }
done:
  return status;
}

descent_status file_commit(struct file_writer *writer) {
  const bool done = replace_commit(&writer->replacement);
  const descent_status status = done ? DESCENT_OK : write_error(writer->path, errno);
  file_abandon(writer);
  return status;
}

void file_abandon(struct file_writer *writer) {
  replace_abandon(&writer->replacement);
  free(writer->temporary);
  free(writer->path);
  *writer = (struct file_writer){0};
}

void descent_remove_unfinished_files(void) { replace_remove_all(); }
