/* A file that grows by a part (a line of a log) in each epoch. A part that cannot be written waits in memory and is
 * written before the next one, so that a disk that is full for a while costs nothing. */
#ifndef DESCENT_REPORT_APPENDED_H
#define DESCENT_REPORT_APPENDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct appended_file {
  bool open;      /* else all parts wait */
  int descriptor; /* owned */
  bool regular;   /* else (a pipe, a device) what is written of a part cannot be taken back */
  off_t end;      /* of the parts that are written */
  char *waiting;  /* (length): for each part its length as a size_t, and its bytes */
  size_t length, capacity;
  int64_t parts; /* that wait */
  int64_t lost;  /* that do not even fit in memory */
};

/* Takes a file open for writing, to append to from its end; false with errno set, and the file closed. Parts that wait
 * are kept. */
bool appended_open(struct appended_file *file, int descriptor);
/* Adds a part and writes all that waits. False with errno set where something was lost or still waits. */
bool appended_add(struct appended_file *file, const void *part, size_t length);
/* Writes what waits; false with errno set where something still does. */
bool appended_write(struct appended_file *file);
/* Writes what waits, in up to `tries` tries over as many quarters of a second, and closes the file. `*missing`: the
 * number of parts that are not in it. False with errno set where there are some, the file could not be closed, or it has been removed
 * (ENOENT). */
bool appended_close(struct appended_file *file, int tries, int64_t *missing);

#endif
