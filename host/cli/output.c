/* Atomic results. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

/* The temporary file lies beside the file itself where `path` is a symbolic link to one, so that the link stays, and
 * has the permissions of what it replaces. */
static bool open_beside(struct output_file *output, const struct stat *existing) {
  int descriptor = -1;
  output->place = existing ? realpath(output->path, NULL) : strdup(output->path);
  if (!output->place || asprintf(&output->temporary, "%s.%ld.tmp", output->place, (long)getpid()) < 0) {
    output->temporary = NULL;
  } else if ((descriptor = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0) {
    free(output->temporary); /* another's, or none */
    output->temporary = NULL;
  } else if (!existing || fchmod(descriptor, existing->st_mode & 0777) == 0) {
    output->stream = fdopen(descriptor, "w");
  }
  if (output->stream) return true;
  int error = errno;
  if (descriptor >= 0) close(descriptor);
  output_abandon(output);
  errno = error;
  return false;
}

bool output_open(struct output_file *output, const char *path) {
  *output = (struct output_file){.path = path};
  struct stat existing;
  if (strcmp(path, "-") == 0) {
    output->stream = stdout;
    return true;
  }
  const bool exists = stat(path, &existing) == 0;
  if (!exists || S_ISREG(existing.st_mode)) return open_beside(output, exists ? &existing : NULL);
  output->stream = fopen(path, "w");
  return output->stream != NULL;
}

bool output_commit(struct output_file *output) {
  const bool failed = ferror(output->stream); /* errno is still that of the write */
  bool written = !failed && fflush(output->stream) == 0;
  if (written && output->temporary) written = fsync(fileno(output->stream)) == 0;
  int error = errno;
  if (fclose(output->stream) != 0 && written) written = false, error = errno;
  output->stream = NULL;
  if (written && output->temporary && rename(output->temporary, output->place) != 0) written = false, error = errno;
  if (written) {
    free(output->temporary);
    output->temporary = NULL;
  }
  output_abandon(output);
  errno = error;
  return written;
}

void output_abandon(struct output_file *output) {
  if (output->stream && output->stream != stdout) fclose(output->stream);
  if (output->temporary) unlink(output->temporary);
  free(output->temporary);
  free(output->place);
  *output = (struct output_file){0};
}

bool output_possible(const char *path) {
  struct output_file probe;
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

int output_size(const char *command, const char *path, int64_t *bytes) {
  struct stat file;
  if (stat(path, &file) != 0) return fail(command, EXIT_RUN, "%s: cannot read: %s", path, strerror(errno));
  *bytes = file.st_size;
  return EXIT_DONE;
}

bool output_same_file(const char *a, const char *b) {
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && S_ISREG(of_a.st_mode) && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

/* The folder that a path names a file in. */
static bool stat_folder(const char *path, struct stat *folder) {
  const char *slash = strrchr(path, '/');
  char *name = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
  const bool found = name && stat(name, folder) == 0;
  free(name);
  return found;
}

bool output_same_place(const char *a, const char *b) {
  struct stat of_a, of_b;
  if (output_same_file(a, b)) return true;
  return strcmp(basename(a), basename(b)) == 0 && stat_folder(a, &of_a) && stat_folder(b, &of_b) &&
         of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}
