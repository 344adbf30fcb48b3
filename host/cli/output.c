/* Atomic results. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool open_beside(struct output *output) {
  if (asprintf(&output->temporary, "%s.%ld.tmp", output->path, (long)getpid()) < 0) {
    output->temporary = NULL;
    errno = ENOMEM;
    return false;
  }
  int descriptor = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor >= 0 && (output->stream = fdopen(descriptor, "w"))) return true;
  int error = errno;
  if (descriptor >= 0) {
    close(descriptor);
    unlink(output->temporary);
  }
  free(output->temporary);
  output->temporary = NULL;
  errno = error;
  return false;
}

bool output_open(struct output *output, const char *path) {
  *output = (struct output){.path = path};
  struct stat existing;
  if (strcmp(path, "-") == 0) {
    output->stream = stdout;
  } else if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode)) {
    output->stream = fopen(path, "w");
  } else {
    return open_beside(output);
  }
  return output->stream != NULL;
}

bool output_commit(struct output *output) {
  if (output->stream == stdout) return fflush(stdout) == 0 && !ferror(stdout);
  bool written = fflush(output->stream) == 0 && !ferror(output->stream);
  if (written && output->temporary) written = fsync(fileno(output->stream)) == 0;
  int error = errno;
  if (fclose(output->stream) != 0 && written) written = false, error = errno;
  output->stream = NULL;
  if (written && output->temporary && rename(output->temporary, output->path) != 0) written = false, error = errno;
  if (written) {
    free(output->temporary);
    output->temporary = NULL;
  }
  output_abandon(output);
  errno = error;
  return written;
}

void output_abandon(struct output *output) {
  if (output->stream && output->stream != stdout) fclose(output->stream);
  if (output->temporary) unlink(output->temporary);
  free(output->temporary);
  *output = (struct output){0};
}

bool output_possible(const char *path) {
  struct output probe;
  struct stat existing;
  if (strcmp(path, "-") == 0) return true;
  if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode)) {
    if (S_ISDIR(existing.st_mode)) errno = EISDIR;
    return !S_ISDIR(existing.st_mode) && access(path, W_OK) == 0; /* opening a pipe would wait for its reader */
  }
  if (!output_open(&probe, path)) return false;
  output_abandon(&probe);
  return true;
}

bool output_is_special(const char *path) {
  struct stat existing;
  return stat(path, &existing) == 0 && !S_ISREG(existing.st_mode) && !S_ISDIR(existing.st_mode);
}

bool output_same_file(const char *a, const char *b) {
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && S_ISREG(of_a.st_mode) && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}
