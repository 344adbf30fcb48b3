/* Logs are merged by the number of the epoch, which grows from line to line. */
#include "cli/logged.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report/run_log.h"

/* The epoch of a line, where it is one that follows `last` and is over by the step; else 0. */
static int64_t epoch_of(const cJSON *line, int64_t last, int64_t step) {
  const cJSON *at = cJSON_GetObjectItemCaseSensitive(line, "step");
  const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(line, "epoch");
  const bool sound = cJSON_IsNumber(at) && at->valuedouble <= (double)step && cJSON_IsNumber(epoch) &&
                     epoch->valuedouble > (double)last && epoch->valuedouble <= (double)step;
  return sound ? (int64_t)epoch->valuedouble : 0;
}

/* Reads the next sound line; `line` is NULL at the end. False with errno set. */
static bool advance(struct logged_file *f, int64_t step) {
  ssize_t length;
  cJSON_Delete(f->line);
  f->line = NULL;
  if (!f->stream) return true;
  while (errno = 0, (length = getline(&f->text, &f->capacity, f->stream)) > 0) {
    errno = 0;
    cJSON *line = length > RUN_LOG_LONGEST ? NULL : cJSON_ParseWithLength(f->text, (size_t)length);
    if (!line && errno == ENOMEM) return false;
    const int64_t epoch = epoch_of(line, f->epoch, step);
    if (epoch) {
      f->line = line;
      f->epoch = epoch;
      return true;
    }
    cJSON_Delete(line);
  }
  return !ferror(f->stream) && errno != ENOMEM;
}

static void close_file(struct logged_file *f) {
  if (f->stream) fclose(f->stream);
  free(f->text);
  cJSON_Delete(f->line);
  *f = (struct logged_file){0};
}

/* Back to the first line. */
static bool restart(struct logged *l) {
  for (int i = 0; i < 2; i++) {
    if (l->files[i].stream && fseeko(l->files[i].stream, 0, SEEK_SET) != 0) return false;
    l->files[i].epoch = 0;
    if (!advance(&l->files[i], l->step)) return false;
  }
  return true;
}

/* The number of epochs in the first file. */
static bool count(struct logged *l, int64_t *n) {
  for (*n = 0; l->files[0].line; ++*n)
    if (!advance(&l->files[0], l->step)) return false;
  return restart(l);
}

/* Whether both files agree where they have the same epoch. */
static bool compare(struct logged *l, bool *same) {
  struct logged_file *a = &l->files[0], *b = &l->files[1];
  *same = true;
  while (a->line && *same) {
    while (b->line && b->epoch < a->epoch)
      if (!advance(b, l->step)) return false;
    *same = !b->line || b->epoch != a->epoch || cJSON_Compare(a->line, b->line, true);
    if (!advance(a, l->step)) return false;
  }
  return restart(l);
}

bool logged_open(struct logged *l, FILE *first, FILE *second, int64_t step, int64_t epochs) {
  int64_t n;
  bool same = true;
  *l = (struct logged){.files = {{.stream = first}, {.stream = second}}, .step = step};
  if (!restart(l)) return false;
  if (!second) return true;
  if (!count(l, &n) || (n < epochs && !compare(l, &same))) return false;
  if (!same || n >= epochs) close_file(&l->files[1]);
  return true;
}

bool logged_next(struct logged *l, const cJSON **line) {
  const struct logged_file *next = NULL;
  *line = NULL;
  for (int i = 0; i < 2; i++) {
    struct logged_file *f = &l->files[i];
    while (f->line && f->epoch <= l->taken)
      if (!advance(f, l->step)) return false;
    if (f->line && (!next || f->epoch < next->epoch)) next = f;
  }
  if (!next) return true;
  l->taken = next->epoch;
  *line = next->line;
  return true;
}

void logged_close(struct logged *l) {
  for (int i = 0; i < 2; i++) close_file(&l->files[i]);
}
