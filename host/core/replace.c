/* Temporary names, their locks and their removal. */
#include "core/replace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ------------------------------------------------------------------------------------------------------ */

enum { NAME_KEPT = 100, RANDOM = 8 };
static const char ending[] = ".descent.tmp";
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz012345"; /* 32 divides 256: a byte picks without bias */
enum { SUFFIX = 1 + RANDOM + sizeof ending - 1 };                  /* .xxxxxxxx.descent.tmp */
_Static_assert(NAME_KEPT + SUFFIX <= NAME_MAX, "a temporary name fits");

/* The bytes of `name` that its temporary names begin with; never a part of a UTF-8 character. */
static size_t kept_length(const char *name) {
  size_t length = strlen(name);
  if (length <= NAME_KEPT) return length;
  for (length = NAME_KEPT; length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80;) length--;
  return length;
}

static bool is_suffix(const char *text) {
  return text[0] == '.' && strspn(text + 1, alphabet) == RANDOM && strcmp(text + 1 + RANDOM, ending) == 0;
}

bool replace_is_temporary(const char *name, const char *prefix) {
  const size_t length = strlen(name);
  return length >= SUFFIX && strncmp(name, prefix, strlen(prefix)) == 0 && is_suffix(name + length - SUFFIX);
}

static bool draw_name(struct replacement *r) {
  unsigned char random[RANDOM];
  const size_t kept = kept_length(r->name);
  if (getentropy(random, sizeof random)) return false;
  memcpy(r->temporary, r->name, kept);
  char *end = r->temporary + kept;
  *end++ = '.';
  for (int i = 0; i < RANDOM; i++) *end++ = alphabet[random[i] % 32];
  strcpy(end, ending);
  return true;
}

bool replace_resolve(const char *path, char place[PATH_MAX]) {
  enum { LINKS_MOST = 40 };
  struct stat about;
  char target[PATH_MAX];
  if (strlen(path) >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return false;
  }
  strcpy(place, path);
  if (lstat(path, &about) != 0 || !S_ISLNK(about.st_mode)) return true;
  if (stat(path, &about) == 0) return realpath(path, place) != NULL;
  if (errno != ENOENT) return false; /* the system does not follow this link either */
  for (int links = 0; lstat(place, &about) == 0 && S_ISLNK(about.st_mode); links++) {
    const ssize_t length = readlink(place, target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = '\0';
    char *const slash = strrchr(place, '/');
    char *const end = slash && *target != '/' ? slash + 1 : place; /* relative to the folder of the link */
    if (links == LINKS_MOST || (size_t)(end - place) + (size_t)length >= PATH_MAX) {
      errno = links == LINKS_MOST ? ELOOP : ENAMETOOLONG;
      return false;
    }
    strcpy(end, target);
  }
  return true;
}

/* ---- the list of temporary files that a signal handler can remove ------------------------------------------------- */

/* Handlers read names that are listed, possibly on another thread than the writer of the file, and several at once:
 * LISTED + n while n handlers read. A writer changes a name that it has taken back. */
enum { SLOTS = 16, FREE = 0, TAKEN, LISTED };
static struct {
  atomic_int state;
  pid_t process; /* a forked process has the list too */
  int folder;
  char name[NAME_MAX + 1];
} slots[SLOTS];

/* A free slot, or -1. */
static int take_slot(void) {
  for (int i = 0; i < SLOTS; i++) {
    int is_free = FREE;
    if (atomic_compare_exchange_strong(&slots[i].state, &is_free, TAKEN)) return i;
  }
  return -1;
}

/* Takes the name off the list, once no handler reads it. */
static void delist(int slot) {
  for (int state = LISTED; !atomic_compare_exchange_weak(&slots[slot].state, &state, TAKEN) && state != TAKEN;)
    state = LISTED;
}

/* Lists the temporary name, before its file exists: a signal may come right after that. */
static void enlist(const struct replacement *r) {
  if (r->slot < 0) return;
  delist(r->slot);
  slots[r->slot].process = getpid();
  slots[r->slot].folder = r->folder;
  strcpy(slots[r->slot].name, r->temporary);
  atomic_store(&slots[r->slot].state, LISTED);
}

static void free_slot(const struct replacement *r) {
  if (r->slot < 0) return;
  delist(r->slot);
  atomic_store(&slots[r->slot].state, FREE);
}

void replace_remove_all(void) {
  const int error = errno;
  for (int i = 0; i < SLOTS; i++) {
    int state = atomic_load(&slots[i].state);
    while (state >= LISTED && !atomic_compare_exchange_weak(&slots[i].state, &state, state + 1)) continue;
    if (state < LISTED) continue;
    if (slots[i].process == getpid()) unlinkat(slots[i].folder, slots[i].name, 0);
    atomic_fetch_sub(&slots[i].state, 1);
  }
  errno = error;
}

/* ---- locks ------------------------------------------------------------------------------------------------------- */

/* Locks a new temporary file. False if a cleaner was faster, who removes it. */
static bool keep_from_cleaners(int descriptor) {
  struct stat about;
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK; /* without locks none are removed */
  return fstat(descriptor, &about) != 0 || about.st_nlink > 0;
}

/* Removes a temporary file of this user whose writer is dead, which is so if the file can be locked. */
static void remove_if_dead(int folder, const char *name) {
  struct stat about;
  const int file = openat(folder, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return;
  if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == geteuid() &&
      flock(file, LOCK_EX | LOCK_NB) == 0)
    unlinkat(folder, name, 0);
  close(file);
}

/* Removes what killed writers of the same name left. */
static void remove_leftovers(const struct replacement *r) {
  const int listed = openat(r->folder, ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
  DIR *const directory = listed < 0 ? NULL : fdopendir(listed);
  const size_t kept = kept_length(r->name);
  const struct dirent *entry;
  if (!directory) {
    if (listed >= 0) close(listed);
    return;
  }
  while ((entry = readdir(directory)))
    if (strlen(entry->d_name) == kept + SUFFIX && strncmp(entry->d_name, r->name, kept) == 0 &&
        is_suffix(entry->d_name + kept))
      remove_if_dead(r->folder, entry->d_name);
  closedir(directory);
}

/* ---- one file ---------------------------------------------------------------------------------------------------- */

/* Creates the temporary file, with mode 0666 less the umask; -1 with errno set. */
static int create(struct replacement *r) {
  enum { ATTEMPTS = 100 };
  for (int attempt = 0; attempt < ATTEMPTS && draw_name(r); attempt++) {
    enlist(r);
    const int descriptor = openat(r->folder, r->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (descriptor >= 0 && keep_from_cleaners(descriptor)) return descriptor;
    if (descriptor < 0 && errno != EEXIST) return -1;
    if (descriptor >= 0) close(descriptor);
    errno = EEXIST;
  }
  return -1;
}

/* Why an existing file cannot be renamed over, as far as the system says: a mount point (a file that is mounted into a
 * container), or the attributes append-only and immutable. 0: nothing is known. */
static int fixed_by(int folder, const char *name) {
  struct statx about;
  if (statx(folder, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &about) != 0) return 0;
  if (about.stx_attributes & (STATX_ATTR_APPEND | STATX_ATTR_IMMUTABLE)) return EPERM;
  return (about.stx_attributes & STATX_ATTR_MOUNT_ROOT) ? EBUSY : 0;
}

/* In r->folder, which the replacement owns from now on. */
static bool begin(struct replacement *r, const char *name) {
  struct stat existing;
  int descriptor = -1, error = 0;
  const bool exists = fstatat(r->folder, name, &existing, AT_SYMLINK_NOFOLLOW) == 0;
  if (!*name || (exists && S_ISDIR(existing.st_mode))) error = *name ? EISDIR : ENOENT;
  if (!error && strlen(name) > NAME_MAX) error = ENAMETOOLONG;
  if (!error && exists) error = fixed_by(r->folder, name);
  if (error) goto failed;
  strcpy(r->name, name);
  remove_leftovers(r);
  r->slot = take_slot();
  descriptor = create(r);
  if (descriptor < 0) {
    error = errno;
    free_slot(r);
    goto failed;
  }
  if (exists && S_ISREG(existing.st_mode) && fchmod(descriptor, existing.st_mode & 0777) != 0) error = errno;
  if (!error && !(r->stream = fdopen(descriptor, "wb"))) error = errno;
  if (!error) return true;
  unlinkat(r->folder, r->temporary, 0);
  free_slot(r);
  close(descriptor);
failed:
  close(r->folder);
  *r = (struct replacement){.folder = -1, .slot = -1};
  errno = error;
  return false;
}

bool replace_open_at(int folder, const char *name, struct replacement *r) {
  *r = (struct replacement){.folder = fcntl(folder, F_DUPFD_CLOEXEC, 0), .slot = -1};
  return r->folder >= 0 && begin(r, name);
}

bool replace_open(const char *path, struct replacement *r, char place[PATH_MAX]) {
  struct stat existing;
  *r = (struct replacement){.folder = -1, .slot = -1};
  if (!replace_resolve(path, place)) return false;
  if (stat(place, &existing) == 0 && !S_ISREG(existing.st_mode)) {
    errno = S_ISDIR(existing.st_mode) ? EISDIR : EINVAL; /* the rename would replace a device or a pipe */
    return false;
  }
  char *const slash = strrchr(place, '/');
  char folder[PATH_MAX] = ".";
  if (slash) {
    memcpy(folder, place, (size_t)(slash - place) + 1);
    folder[slash - place + 1] = '\0';
  }
  r->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return r->folder >= 0 && begin(r, slash ? slash + 1 : place);
}

bool replace_sync(int descriptor) { return fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS; }

bool replace_sync_folder(int folder) {
  const int descriptor = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return errno == EACCES; /* a folder may be writable but not readable */
  const bool synced = replace_sync(descriptor);
  const int error = errno;
  close(descriptor);
  errno = error;
  return synced;
}

/* A network file system can report the renaming as failed that its server has done. */
static bool rename_over(const struct replacement *r, const struct stat *written) {
  struct stat there;
  if (renameat(r->folder, r->temporary, r->folder, r->name) == 0) return true;
  const int error = errno;
  const bool done = fstatat(r->folder, r->name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == written->st_dev &&
                    there.st_ino == written->st_ino;
  errno = error;
  return done;
}

bool replace_commit(struct replacement *r) {
  struct stat written;
  const bool failed = ferror(r->stream); /* errno is still that of the write */
  bool done =
      !failed && fflush(r->stream) == 0 && fsync(fileno(r->stream)) == 0 && fstat(fileno(r->stream), &written) == 0;
  int error = errno;
  const int lock = done ? fcntl(fileno(r->stream), F_DUPFD_CLOEXEC, 0) : -1; /* held until it is renamed */
  if (fclose(r->stream) != 0 && done) done = false, error = errno;
  r->stream = NULL;
  if (done && !rename_over(r, &written)) done = false, error = errno;
  if (!done) unlinkat(r->folder, r->temporary, 0);
  free_slot(r);
  if (lock >= 0) close(lock);
  if (done && !replace_sync_folder(r->folder)) done = false, error = errno;
  close(r->folder);
  *r = (struct replacement){.folder = -1, .slot = -1};
  errno = error;
  return done;
}

void replace_abandon(struct replacement *r) {
  if (!r->stream) return;
  unlinkat(r->folder, r->temporary, 0);
  fclose(r->stream);
  free_slot(r);
  close(r->folder);
  *r = (struct replacement){.folder = -1, .slot = -1};
}
