/* Writing a file as a whole or not at all, with the library's errors. */
#ifndef DESCENT_CORE_FILE_H
#define DESCENT_CORE_FILE_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/replace.h"

/* A file being written under a temporary name until file_commit renames it; see core/replace.h. */
struct file_writer {
  FILE *stream;
  char *path, *temporary; /* of the file, links followed, and of the temporary file */
  int64_t written;        /* bytes, by file_write */
  bool quiet;             /* no progress is reported: what is saved is no dataset */
  struct replacement replacement;
};

/* Opens the temporary file. ERROR_WRITE names the path and the reason. */
descent_status file_create(const char *path, struct file_writer *writer);
/* The same for `name` in an open folder; a symbolic link there is replaced, not followed. `path` names both in messages. */
descent_status file_create_at(int folder, const char *path, const char *name, struct file_writer *writer);
/* Flushes, fsyncs, closes, renames, then fsyncs the directory. On failure removes the temporary file and leaves `path`
 * unchanged. Clears the writer. */
descent_status file_commit(struct file_writer *writer);
/* Removes the temporary file and clears the writer. No-op on a zeroed writer. */
void file_abandon(struct file_writer *writer);
/* fwrite; ERROR_WRITE names the path and the reason. ERROR_CANCELLED unless quiet: see core/progress.h. */
descent_status file_write(struct file_writer *writer, const void *data, size_t bytes);

#endif
