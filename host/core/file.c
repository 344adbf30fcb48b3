/* Atomic file writing: temporary name in the same directory, fsync, rename, fsync of the directory. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"

static descent_status write_error(const char *path, int error) {
  return status_set(DESCENT_ERROR_WRITE, "%s: cannot write: %s", path, strerror(error));
}

descent_status file_create(const char *path, struct file_writer *writer) {
  static const char suffix[] = ".XXXXXX";
  *writer = (struct file_writer){0};
  struct stat existing;
  if (stat(path, &existing) == 0 && S_ISDIR(existing.st_mode)) return write_error(path, EISDIR);
  /* The rename would put a file in the place of a device or a pipe. */
  if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode))
    return status_set(DESCENT_ERROR_WRITE, "%s: cannot write: not a regular file", path);
  size_t length = strlen(path);
  char *copy = malloc(length + 1), *temporary = malloc(length + sizeof suffix);
  if (!copy || !temporary) {
    free(copy);
    free(temporary);
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
  }
  memcpy(copy, path, length + 1);
  memcpy(temporary, path, length);
  memcpy(temporary + length, suffix, sizeof suffix);
  int descriptor = mkstemp(temporary);
  FILE *stream = NULL;
  if (descriptor >= 0) {
    mode_t mask = umask(0); /* mkstemp made it private: give it the mode that open() would have */
    umask(mask);
    if (fchmod(descriptor, 0666 & ~mask) == 0) stream = fdopen(descriptor, "wb");
  }
  if (!stream) {
    int error = errno;
    if (descriptor >= 0) {
      close(descriptor);
      unlink(temporary);
    }
    free(copy);
    free(temporary);
    return write_error(path, error);
  }
  *writer = (struct file_writer){.stream = stream, .path = copy, .temporary = temporary};
  return DESCENT_OK;
}

descent_status file_write(struct file_writer *writer, const void *data, size_t bytes) {
  if (bytes && fwrite(data, 1, bytes, writer->stream) != bytes) return write_error(writer->path, errno);
  return DESCENT_OK;
}

static int sync_directory(const char *path) {
  char *copy = strdup(path);
  if (!copy) return -1;
  int descriptor = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(copy);
  if (descriptor < 0) return -1;
  int failed = fsync(descriptor);
  /* Some file systems cannot sync a directory; the rename itself has happened. */
  if (failed && (errno == EINVAL || errno == EROFS)) failed = 0;
  close(descriptor);
  return failed;
}

descent_status file_commit(struct file_writer *writer) {
  int failed = fflush(writer->stream) || fsync(fileno(writer->stream));
  int error = errno;
  if (fclose(writer->stream) && !failed) failed = 1, error = errno;
  writer->stream = NULL;
  if (!failed && rename(writer->temporary, writer->path)) failed = 1, error = errno;
  descent_status status = DESCENT_OK;
  if (failed)
    status = write_error(writer->path, error);
  else {
    free(writer->temporary); /* renamed: nothing left to remove */
    writer->temporary = NULL;
    if (sync_directory(writer->path)) status = write_error(writer->path, errno);
  }
  file_abandon(writer);
  return status;
}

void file_abandon(struct file_writer *writer) {
  if (writer->stream) fclose(writer->stream);
  if (writer->temporary) unlink(writer->temporary);
  free(writer->temporary);
  free(writer->path);
  *writer = (struct file_writer){0};
}
