/* The checkpoint folder: file names, the lock, and which files to keep. */
#include "checkpoint/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/status.h"

enum { DIGITS = 15 }; /* 2^48 steps at most */
static const char prefix[] = "step-", suffix[] = ".safetensors", lock_name[] = "lock";
enum { NAME_LENGTH = sizeof prefix - 1 + DIGITS + sizeof suffix - 1 };

static descent_status cannot_write(const char *path, int error) {
  return status_set(DESCENT_ERROR_WRITE, "%s: cannot write checkpoints here: %s", path, strerror(error));
}

/* The step in the name of a checkpoint, or -1; `*rest` is the text after such a name. */
static int64_t step_of(const char *name, const char **rest) {
  int64_t step = 0;
  if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
  const char *digits = name + sizeof prefix - 1;
  if (strspn(digits, "0123456789") != DIGITS || strncmp(digits + DIGITS, suffix, sizeof suffix - 1) != 0) return -1;
  for (int i = 0; i < DIGITS; i++) step = 10 * step + (digits[i] - '0');
  *rest = name + NAME_LENGTH;
  return step;
}

/* ---- the lock --------------------------------------------------------------------------------------------------- */

/* Creates the folder and syncs its parent, so that it survives a crash. */
static int make_folder(const char *path) {
  if (mkdir(path, 0777) == 0) return file_sync_folder(path) ? 0 : -1;
  return errno == EEXIST ? 0 : -1;
}

static int make_folders(const char *path) {
  char *copy = strdup(path);
  if (!copy) return -1;
  int failed = 0;
  for (char *c = copy + 1; *copy && *c && !failed; c++) {
    if (*c != '/') continue;
    *c = '\0';
    failed = make_folder(copy);
    *c = '/';
  }
  if (!failed) failed = make_folder(copy);
  const int error = errno;
  free(copy);
  errno = error;
  return failed;
}

static descent_status take_lock(const char *path, int *lock) {
  char *file = NULL;
  if (asprintf(&file, "%s/%s", path, lock_name) < 0)
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
  descent_status status = DESCENT_OK;
  *lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*lock < 0) {
    status = cannot_write(path, errno);
    goto done;
  }
  const int failed = flock(*lock, LOCK_EX | LOCK_NB);
  if (failed && (errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK))
    goto done; /* the file system has no locks */
  if (failed && errno == EWOULDBLOCK)
    status = status_set(DESCENT_ERROR_WRITE, "%s: in use by another running training; use another folder", path);
  else if (failed)
    status = cannot_write(path, errno);
done:
  if (status != DESCENT_OK && *lock >= 0) close(*lock);
  free(file);
  return status;
}

/* ---- the files -------------------------------------------------------------------------------------------------- */

static void remove_file(const char *folder, const char *name) {
  char *path = NULL;
  if (asprintf(&path, "%s/%s", folder, name) < 0) return;
  unlink(path);
  free(path);
}

/* Removes temporary files of an earlier holder of the lock. */
static void remove_unfinished(const char *path) {
  DIR *directory = opendir(path);
  if (!directory) return;
  const struct dirent *entry;
  const char *rest;
  while ((entry = readdir(directory)))
    if (step_of(entry->d_name, &rest) >= 0 && file_is_temporary(rest)) remove_file(path, entry->d_name);
  closedir(directory);
}

descent_status checkpoint_folder_open(const char *path, struct checkpoint_folder *folder) {
  struct checkpoint_folder made = {.path = strdup(path)};
  descent_status status = DESCENT_OK;
  if (!made.path) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
  if (make_folders(path)) TRY(cannot_write(path, errno));
  TRY(take_lock(path, &made.lock));
  remove_unfinished(path);
  *folder = made;
  made.path = NULL;
done:
  free(made.path);
  return status;
}

void checkpoint_folder_close(struct checkpoint_folder *folder) {
  if (folder->path) close(folder->lock);
  free(folder->path);
  *folder = (struct checkpoint_folder){0};
}

descent_status checkpoint_folder_file(const char *folder, int64_t step, char **path) {
  if (asprintf(path, "%s/%s%0*" PRId64 "%s", folder, prefix, DIGITS, step, suffix) >= 0) return DESCENT_OK;
  *path = NULL;
  return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", folder);
}

static int ascending(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

descent_status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *n) {
  int64_t *found = NULL, count = 0, capacity = 0;
  const struct dirent *entry;
  const char *rest;
  descent_status status = DESCENT_OK;
  *steps = NULL;
  *n = 0;
  DIR *directory = opendir(folder);
  if (!directory) return errno == ENOENT ? DESCENT_OK : status_cannot_read(folder, errno);
  while (errno = 0, (entry = readdir(directory))) {
    const int64_t step = step_of(entry->d_name, &rest);
    if (step < 0 || *rest) continue;
    if (count == capacity) {
      const int64_t more = capacity ? 2 * capacity : 16;
      int64_t *grown = memory_resize(found, capacity, more, sizeof *found, "the list of checkpoints");
      if (!grown) TRY(DESCENT_ERROR_MEMORY);
      found = grown;
      capacity = more;
    }
    found[count++] = step;
  }
  if (errno) TRY(status_cannot_read(folder, errno));
  if (count) qsort(found, (size_t)count, sizeof *found, ascending);
  *steps = found;
  *n = count;
  found = NULL;
done:
  free(found);
  closedir(directory);
  return status;
}

descent_status checkpoint_folder_same(const char *a, const char *b, bool *same) {
  struct stat of_a, of_b;
  *same = strcmp(a, b) == 0;
  if (*same) return DESCENT_OK;
  if (stat(a, &of_a) != 0) return status_cannot_read(a, errno);
  const bool there = stat(b, &of_b) == 0;
  if (!there && errno != ENOENT) return status_cannot_read(b, errno);
  *same = there && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
  return DESCENT_OK;
}

static void remove_step(const struct checkpoint_folder *folder, int64_t step) {
  char *path;
  if (checkpoint_folder_file(folder->path, step, &path) != DESCENT_OK) return;
  unlink(path);
  free(path);
}

void checkpoint_folder_remove_after(const struct checkpoint_folder *folder, int64_t step, int64_t except) {
  int64_t *steps, n;
  if (checkpoint_folder_list(folder->path, &steps, &n) != DESCENT_OK) return;
  while (n-- > 0 && steps[n] > step)
    if (steps[n] != except) remove_step(folder, steps[n]);
  free(steps);
}

void checkpoint_folder_prune(const struct checkpoint_folder *folder, int64_t keep) {
  int64_t *steps, n;
  if (checkpoint_folder_list(folder->path, &steps, &n) != DESCENT_OK) return;
  for (int64_t i = 0; i < n - keep; i++) remove_step(folder, steps[i]);
  free(steps);
}

/* ---- other files in the folder ---------------------------------------------------------------------------------- */

/* A file that cannot be opened is skipped: this process did not write it. */
static bool sync_file(int folder, const char *name, bool *found) {
  struct stat about;
  const int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (file < 0) return true;
  const bool regular = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
  const bool synced = !regular || file_sync_where_possible(file);
  const int error = errno;
  close(file);
  errno = error;
  *found = *found || regular;
  return synced;
}

descent_status checkpoint_folder_sync_others(const struct checkpoint_folder *folder) {
  const struct dirent *entry;
  const char *rest;
  bool found = false, synced = true;
  DIR *directory = opendir(folder->path);
  if (!directory) return cannot_write(folder->path, errno);
  while (synced && (errno = 0, (entry = readdir(directory))))
    if (step_of(entry->d_name, &rest) < 0 && strcmp(entry->d_name, lock_name) != 0 && entry->d_name[0] != '.')
      synced = sync_file(dirfd(directory), entry->d_name, &found);
  if (synced && !entry && errno) synced = false;
  if (synced && found) synced = file_sync_where_possible(dirfd(directory));
  const int error = errno;
  closedir(directory);
  return synced ? DESCENT_OK : cannot_write(folder->path, error);
}
