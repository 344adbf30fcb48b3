/* Whole-file reading and atomic writing. */
#ifndef DESCENT_CORE_FILE_H
#define DESCENT_CORE_FILE_H

#include <descent/descent.h>
#include <stdbool.h>
#include <stdio.h>

/* A file being written: goes to a temporary name in the same directory until file_commit renames it over `path`. */
struct file_writer {
  FILE *stream;
  char *path, *temporary;
};

/* Opens the temporary file. A file that will be replaced keeps its permissions, a new one gets those of the umask; a
 * symbolic link to a file stays one. ERROR_WRITE names the path and the reason. */
descent_status file_create(const char *path, struct file_writer *writer);
/* Flushes, fsyncs, closes, renames, fsyncs the directory; on failure removes the temporary file and leaves `path` as it
 * was. Ends the writer. */
descent_status file_commit(struct file_writer *writer);
/* Removes the temporary file and ends the writer; does nothing on a zeroed writer. */
void file_abandon(struct file_writer *writer);
/* Is `suffix` what such a temporary name has behind the file's own? */
bool file_is_temporary(const char *suffix);
/* fsync, but that a file system which cannot do it to such a thing (a directory, mostly) is no failure. */
bool file_sync_where_possible(int descriptor);
/* Makes sure that what was created, renamed or removed at `path` is so on disk; false with errno set. */
bool file_sync_folder(const char *path);
/* fwrite that reports. */
descent_status file_write(struct file_writer *writer, const void *data, size_t bytes);

#endif
