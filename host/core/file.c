/* Atomic file writing: temporary name in the same directory, fsync, rename, fsync of the directory. */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"

static descent_status write_error(const char *path, int error) {
  return status_set(error == ENOMEM ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_WRITE, "%s: cannot write: %s", path,
                    strerror(error));
}

/* The suffix of a temporary name: a dot and RANDOM characters of the alphabet. */
enum { RANDOM = 8 };
static const char suffix_form[] = ".--------";
static const char alphabet[] =
    "abcdefghijklmnopqrstuvwxyz012345"; /* 32 divides 256: a random byte picks without bias */
_Static_assert(sizeof suffix_form == RANDOM + 2, "one dash for each random character");

bool file_is_temporary(const char *suffix) {
  return suffix[0] == '.' && strspn(suffix + 1, alphabet) == RANDOM && suffix[1 + RANDOM] == '\0';
}

/* Opens a new file under an unpredictable name, with mode 0666 less the umask; -1 with errno set. Replaces the dashes
 * that `name` ends in. */
static int open_unique(char *name) {
  enum { ATTEMPTS = 100 };
  char *end = name + strlen(name);
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    unsigned char random[RANDOM];
    if (getentropy(random, sizeof random)) return -1;
    for (int i = 0; i < RANDOM; i++) end[i - RANDOM] = alphabet[random[i] % 32];
    int descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0 || errno != EEXIST) return descriptor;
  }
  return -1;
}

/* Checks that `path` can be created or replaced. Fills in `existing` when it exists. */
static descent_status check_target(const char *path, struct stat *existing, bool *exists) {
  if (!*path) return write_error(path, ENOENT);
  *exists = stat(path, existing) == 0;
  if (*exists && S_ISDIR(existing->st_mode)) return write_error(path, EISDIR);
  /* The rename would replace a device or a pipe by a file. */
  if (*exists && !S_ISREG(existing->st_mode))
    return status_set(DESCENT_ERROR_WRITE, "%s: cannot write: not a regular file", path);
  return DESCENT_OK;
}

/* The target of a symbolic link to a file, otherwise `path`, so that the link is not replaced. From malloc. */
static char *resolved(const char *path) {
  struct stat link;
  return lstat(path, &link) == 0 && S_ISLNK(link.st_mode) && access(path, F_OK) == 0 ? realpath(path, NULL)
                                                                                     : strdup(path);
}

descent_status file_create(const char *path, struct file_writer *writer) {
  struct file_writer made = {0};
  struct stat existing;
  bool exists;
  int descriptor = -1;
  descent_status status;
  *writer = made;
  TRY(check_target(path, &existing, &exists));
  made.path = resolved(path);
  if (made.path) made.temporary = malloc(strlen(made.path) + sizeof suffix_form);
  if (!made.temporary) {
    status = status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
    goto done;
  }
  strcat(strcpy(made.temporary, made.path), suffix_form);
  descriptor = open_unique(made.temporary);
  if (descriptor < 0) {
    status = write_error(path, errno);
    free(made.temporary); /* not created: nothing to remove */
    made.temporary = NULL;
    goto done;
  }
  /* Keep the permissions of the replaced file. */
  if ((exists && fchmod(descriptor, existing.st_mode & 0777)) || !(made.stream = fdopen(descriptor, "wb"))) {
    status = write_error(path, errno);
    close(descriptor);
    goto done;
  }
  *writer = made;
  made = (struct file_writer){0};
done:
  file_abandon(&made);
  return status;
}

descent_status file_write(struct file_writer *writer, const void *data, size_t bytes) {
  if (bytes && fwrite(data, 1, bytes, writer->stream) != bytes) return write_error(writer->path, errno);
  return DESCENT_OK;
}

bool file_sync_where_possible(int descriptor) { return fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS; }

bool file_sync_folder(const char *path) {
  char *copy = strdup(path);
  if (!copy) return false;
  int descriptor = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(copy);
  if (descriptor < 0) return errno == EACCES; /* a directory may be writable but not readable */
  const bool synced = file_sync_where_possible(descriptor);
  const int error = errno;
  close(descriptor);
  errno = error;
  return synced;
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
    if (!file_sync_folder(writer->path)) status = write_error(writer->path, errno);
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
