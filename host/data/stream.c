/* zlib's file functions, which pass other files through unchanged, with errors that name the position. */
#include "data/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"

enum { BUFFER = 1 << 18 };

descent_status stream_open(const char *path, struct stream *stream) {
  const bool standard_input = strcmp(path, "-") == 0;
  *stream = (struct stream){.path = standard_input ? "standard input" : path, .size = -1};
  const int file = standard_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(path, O_RDONLY | O_CLOEXEC);
  struct stat about;
  if (file < 0 || fstat(file, &about) != 0 || (S_ISDIR(about.st_mode) && (errno = EISDIR))) {
    const int reason = errno;
    if (file >= 0) close(file);
    return status_cannot_read(stream->path, reason);
  }
  if (S_ISREG(about.st_mode)) stream->size = (int64_t)about.st_size;
  stream->file = gzdopen(file, "r");
  if (!stream->file) {
    close(file);
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for reading", stream->path);
  }
  gzbuffer(stream->file, BUFFER);
  return DESCENT_OK;
}

static descent_status read_error(const struct stream *stream) {
  int error;
  const int reason = errno;
  const char *text = gzerror(stream->file, &error);
  if (error == Z_ERRNO) return status_cannot_read(stream->path, reason);
  if (error == Z_MEM_ERROR)
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory while decompressing", stream->path);
  const char *const named = strstr(text, ">: "); /* strip zlib's "<fd:3>: " */
  if (error == Z_BUF_ERROR)
    text = "the file is truncated";
  else if (named)
    text = named + 3;
  return status_set(DESCENT_ERROR_DATA, "%s: gzip, at decompressed byte %" PRId64 ": %s (copy the file again)",
                    stream->path, stream->offset, text);
}

descent_status stream_read(struct stream *stream, void *to, int64_t bytes, int64_t *got) {
  int error;
  errno = 0;
  const int read = gzread(stream->file, to, (unsigned)bytes);
  if (read < 0) return read_error(stream);
  stream->offset += read;
  *got = read;
  if (read < bytes && (gzerror(stream->file, &error), error != Z_OK && error != Z_STREAM_END))
    return read_error(stream);
  return DESCENT_OK;
}

descent_status stream_rewind(struct stream *stream) {
  if (gzrewind(stream->file) != 0)
    return status_set(DESCENT_ERROR_READ, "%s: must be read twice, which a pipe does not allow (save it as a file)",
                      stream->path);
  stream->offset = 0;
  return DESCENT_OK;
}

bool stream_is_compressed(struct stream *stream) { return !gzdirect(stream->file); }

void stream_close(struct stream *stream) {
  if (stream->file) gzclose(stream->file);
  *stream = (struct stream){0};
}
