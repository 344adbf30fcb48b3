/* The checkpoint folder: file names, the locks, and which files to keep. After it is opened, its files are created,
 * locked, listed and removed through its descriptor, without following symbolic links. */
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
  char parent[PATH_MAX];
  if (mkdir(path, 0777) != 0) return errno == EEXIST ? 0 : -1;
  snprintf(parent, sizeof parent, "%s/..", path);
  const int descriptor = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && replace_sync_folder(descriptor);
  const int error = errno;
  if (descriptor >= 0) close(descriptor);
  errno = error;
  return synced ? 0 : -1;
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

static bool has_no_locks(int error) { return error == ENOSYS || error == EOPNOTSUPP || error == ENOLCK; }

static descent_status open_lock(const struct checkpoint_folder *folder, int *lock) {
  struct stat about;
  const int file =
      openat(folder->descriptor, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
  if (file < 0 && errno == ELOOP)
    return status_set(DESCENT_ERROR_WRITE, "%s/%s: is a symbolic link; remove it, or use another folder", folder->path,
                      lock_name);
  if (file < 0 && errno != EISDIR && errno != ENXIO) return cannot_write(folder->path, errno);
  const int failed = file >= 0 && fstat(file, &about) != 0 ? errno : 0;
  if (file >= 0 && !failed && S_ISREG(about.st_mode)) {
    *lock = file;
    return DESCENT_OK;
  }
  if (file >= 0) close(file);
  if (failed) return cannot_write(folder->path, failed);
  return status_set(DESCENT_ERROR_WRITE, "%s/%s: is not a regular file; remove it, or use another folder", folder->path,
                    lock_name);
}

/* Locks the folder itself, so that removing the file `lock` does not let a second training in, and then that file. On
 * network file systems the lock of a folder holds on this machine only, so that of the file decides. */
static descent_status take_locks(struct checkpoint_folder *folder) {
  static const char in_use[] = "%s: in use by another running training; use another folder";
  const bool folder_locked = flock(folder->descriptor, LOCK_EX | LOCK_NB) == 0;
  if (!folder_locked && errno == EWOULDBLOCK) return status_set(DESCENT_ERROR_WRITE, in_use, folder->path);
  const descent_status status = open_lock(folder, &folder->lock);
  if (status != DESCENT_OK || flock(folder->lock, LOCK_EX | LOCK_NB) == 0) return status;
  if (errno == EWOULDBLOCK) return status_set(DESCENT_ERROR_WRITE, in_use, folder->path);
  if (!has_no_locks(errno)) return cannot_write(folder->path, errno);
  folder->unlocked = true;
  return DESCENT_OK;
}

static bool is_same_file(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

descent_status checkpoint_folder_check(const struct checkpoint_folder *folder, bool *lost) {
  struct stat opened, named, locked;
  *lost = false;
  if (fstat(folder->descriptor, &opened) != 0 || fstat(folder->lock, &locked) != 0)
    return cannot_write(folder->path, errno);
  const bool there = stat(folder->path, &named) == 0;
  if (!there && errno != ENOENT && errno != ENOTDIR) return cannot_write(folder->path, errno);
  *lost = !there || !is_same_file(&opened, &named);
  if (*lost)
    return status_set(DESCENT_ERROR_WRITE,
                      "%s: was moved, removed or replaced while the training used it; put it back and resume, or use "
                      "another folder",
                      folder->path);
  const bool has_lock = fstatat(folder->descriptor, lock_name, &named, AT_SYMLINK_NOFOLLOW) == 0;
  if (!has_lock && errno != ENOENT) return cannot_write(folder->path, errno);
  *lost = !has_lock || !is_same_file(&locked, &named);
  if (*lost)
    return status_set(DESCENT_ERROR_WRITE,
                      "%s/%s: was removed or replaced while the training used it; make sure that no other training "
                      "uses the folder, and resume",
                      folder->path, lock_name);
  return DESCENT_OK;
}

/* ---- the files -------------------------------------------------------------------------------------------------- */

/* The folder's entries, to be closed by closedir; NULL with errno set. */
static DIR *open_listing(const struct checkpoint_folder *folder) {
  const int descriptor = openat(folder->descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return NULL;
  DIR *directory = fdopendir(descriptor);
  if (directory) return directory;
  const int error = errno;
  close(descriptor);
  errno = error;
  return NULL;
}

/* Removes temporary files of an earlier holder of the lock. */
static void remove_unfinished(const struct checkpoint_folder *folder) {
  DIR *directory = open_listing(folder);
  if (!directory) return;
  const struct dirent *entry;
  while ((entry = readdir(directory)))
    if (replace_is_temporary(entry->d_name, prefix)) unlinkat(folder->descriptor, entry->d_name, 0);
  closedir(directory);
}

descent_status checkpoint_folder_open(const char *path, struct checkpoint_folder *folder) {
  struct checkpoint_folder made = {.path = strdup(path), .descriptor = -1, .lock = -1};
  descent_status status = DESCENT_OK;
  if (!made.path) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", path);
  if (make_folders(path)) TRY(cannot_write(path, errno));
  made.descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (made.descriptor < 0) TRY(cannot_write(path, errno));
  TRY(take_locks(&made));
  remove_unfinished(&made);
  *folder = made;
  made.path = NULL;
done:
  if (made.path) checkpoint_folder_close(&made);
  return status;
}

void checkpoint_folder_close(struct checkpoint_folder *folder) {
  if (folder->path && folder->lock >= 0) close(folder->lock);
  if (folder->path && folder->descriptor >= 0) close(folder->descriptor);
  free(folder->path);
  *folder = (struct checkpoint_folder){0};
}

/* The name of the file of a step. */
struct name {
  char text[64];
};
static struct name name_of(int64_t step) {
  struct name name;
  snprintf(name.text, sizeof name.text, "%s%0*" PRId64 "%s", prefix, DIGITS, step, suffix);
  return name;
}

descent_status checkpoint_folder_file(const char *folder, int64_t step, char **path) {
  if (asprintf(path, "%s/%s", folder, name_of(step).text) >= 0) return DESCENT_OK;
  *path = NULL;
  return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for the file name", folder);
}

descent_status checkpoint_folder_create(const struct checkpoint_folder *folder, int64_t step,
                                        struct file_writer *file) {
  char *path;
  descent_status status = checkpoint_folder_file(folder->path, step, &path);
  if (status == DESCENT_OK) status = file_create_at(folder->descriptor, path, name_of(step).text, file);
  free(path);
  return status;
}

static int ascending(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Closes `directory`; NULL with errno set: it could not be opened. */
static descent_status list_steps(DIR *directory, const char *folder, int64_t **steps, int64_t *n) {
  int64_t *found = NULL, count = 0, capacity = 0;
  const struct dirent *entry;
  const char *rest;
  descent_status status = DESCENT_OK;
  *steps = NULL;
  *n = 0;
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

descent_status checkpoint_folder_list(const char *folder, int64_t **steps, int64_t *n) {
  return list_steps(opendir(folder), folder, steps, n);
}

descent_status checkpoint_folder_same(const char *a, const char *b, bool *same) {
  struct stat of_a, of_b;
  *same = strcmp(a, b) == 0;
  if (*same) return DESCENT_OK;
  if (stat(a, &of_a) != 0) return status_cannot_read(a, errno);
  const bool there = stat(b, &of_b) == 0;
  if (!there && errno != ENOENT) return status_cannot_read(b, errno);
  *same = there && is_same_file(&of_a, &of_b);
  return DESCENT_OK;
}

static void remove_step(const struct checkpoint_folder *folder, int64_t step) {
  unlinkat(folder->descriptor, name_of(step).text, 0);
}

void checkpoint_folder_remove_after(const struct checkpoint_folder *folder, int64_t step, int64_t except) {
  int64_t *steps, n;
  if (list_steps(open_listing(folder), folder->path, &steps, &n) != DESCENT_OK) return;
  while (n-- > 0 && steps[n] > step)
    if (steps[n] != except) remove_step(folder, steps[n]);
  free(steps);
}

bool checkpoint_lasts(const struct checkpoint_retention *retention, int64_t step) {
  for (size_t i = 0; i < sizeof retention->every / sizeof *retention->every; i++)
    if (retention->every[i] && step % retention->every[i] == 0) return true;
  return false;
}

void checkpoint_folder_prune(const struct checkpoint_folder *folder, const struct checkpoint_retention *retention,
                             int64_t best, int64_t most) {
  int64_t *steps, n, removed = 0;
  if (list_steps(open_listing(folder), folder->path, &steps, &n) != DESCENT_OK) return;
  for (int64_t i = 0; i < n - retention->newest; i++)
    if (steps[i] != best && !checkpoint_lasts(retention, steps[i])) steps[removed++] = steps[i];
  for (int64_t i = 0; i < removed && removed <= most; i++) remove_step(folder, steps[i]);
  free(steps);
}

/* ---- other files in the folder ---------------------------------------------------------------------------------- */

/* A file that cannot be opened is skipped: this process did not write it. */
static bool sync_file(int folder, const char *name, bool *found) {
  struct stat about;
  const int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (file < 0) return true;
  const bool regular = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
  const bool synced = !regular || replace_sync(file);
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
  DIR *directory = open_listing(folder);
  if (!directory) return cannot_write(folder->path, errno);
  while (synced && (errno = 0, (entry = readdir(directory))))
    if (step_of(entry->d_name, &rest) < 0 && strcmp(entry->d_name, lock_name) != 0 && entry->d_name[0] != '.')
      synced = sync_file(dirfd(directory), entry->d_name, &found);
  if (synced && !entry && errno) synced = false;
  if (synced && found) synced = replace_sync(dirfd(directory));
  const int error = errno;
  closedir(directory);
  return synced ? DESCENT_OK : cannot_write(folder->path, error);
}
