/* Replaces files atomically: a file is written under a temporary name beside its place and renamed over it when it is
 * complete, so that the place holds the old file or the new one at every moment.
 *
 * The temporary name is NAME.xxxxxxxx.descent.tmp, with NAME shortened to 100 bytes and random characters. Its writer
 * holds a lock (flock) on it. The next writer of the same NAME removes temporary files without a lock: their writer
 * was killed. Where the file system has no locks they stay.
 *
 * Needs only the C library: the library and the command have a copy each. */
#ifndef DESCENT_CORE_REPLACE_H
#define DESCENT_CORE_REPLACE_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>

struct replacement {
  FILE *stream; /* to write to */
  int folder;   /* descriptor of the folder that holds both names */
  int slot;     /* of the list that replace_remove_all works through; -1: not in it */
  char name[NAME_MAX + 1], temporary[NAME_MAX + 1];
};

/* Opens the temporary file for `path`. The new file keeps the permissions of the file that it replaces; without one it
 * gets those of the umask. A symbolic link stays, and what it points to is replaced or created. `place`: the path of the
 * file to replace, links followed. False with errno set: EISDIR for a folder, EINVAL for anything else that is not a
 * regular file, EBUSY for a file that is mounted, EPERM for one that is append-only or immutable. */
bool replace_open(const char *path, struct replacement *replacement, char place[PATH_MAX]);
/* The same for `name` in an open folder, of which the caller keeps its descriptor. A symbolic link, or anything else but
 * a folder, is itself replaced. */
bool replace_open_at(int folder, const char *name, struct replacement *replacement);
/* Writes what is buffered, syncs the file, closes it, renames it and syncs the folder. On failure (errno) the temporary
 * file is removed; the place is unchanged unless only the sync of the folder failed. */
bool replace_commit(struct replacement *replacement);
/* Removes the temporary file. */
void replace_abandon(struct replacement *replacement);

/* Removes all temporary files of this process. For a handler of signals that end the process: async-signal-safe. */
void replace_remove_all(void);

/* Whether `name` has the form of a temporary name of a file NAME that begins with `prefix`. */
bool replace_is_temporary(const char *name, const char *prefix);

/* Follows a symbolic link at the end of `path`, also one to a file that does not exist. False with errno set. */
bool replace_resolve(const char *path, char place[PATH_MAX]);
/* fsync, except that EINVAL and EROFS, from file systems that cannot sync (mostly directories), are not failures. */
bool replace_sync(int descriptor);
/* Syncs an open folder, so that a creation, renaming or removal there is on disk. A folder that may not be read is not
 * synced, without a failure. */
bool replace_sync_folder(int folder);

#endif
