/* The epochs that logs of a training hold: read in order, from two logs as from one. */
#ifndef DESCENT_CLI_LOGGED_H
#define DESCENT_CLI_LOGGED_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* A log that is read line by line. */
struct logged_file {
  FILE *stream; /* NULL: no log */
  char *text;
  size_t capacity;
  cJSON *line;   /* of `epoch`, or NULL at the end */
  int64_t epoch; /* of the last line that was read */
};

struct logged {
  struct logged_file files[2]; /* the second adds what the first lacks */
  int64_t step;                /* later epochs are left out */
  int64_t taken;               /* the epoch of the last line that was given */
};

/* Takes the two files, each of which may be NULL. The second is left out if the first has all `epochs`, or if both have
 * an epoch that is not the same: then it is of another training. False with errno set on a failure to read. */
bool logged_open(struct logged *logged, FILE *first, FILE *second, int64_t step, int64_t epochs);
/* The next epoch's line, owned by `logged` until the next call, or NULL at the end in `*line`. Damaged lines and those
 * out of order are left out. False with errno set on a failure to read. */
bool logged_next(struct logged *logged, const cJSON **line);
void logged_close(struct logged *logged);

#endif
