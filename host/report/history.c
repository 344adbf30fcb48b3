/* The history as one table of numbers, and its parser. */
#include "report/history.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report/run_log.h"

static const char *const number_keys[] = {
#define HISTORY_KEY(NAME, key) key,
    HISTORY_NUMBER_MAP(HISTORY_KEY)};
static const char *const layer_keys[] = {HISTORY_LAYER_MAP(HISTORY_KEY)};

static int64_t width_of(const struct history *h) {
  return 1 + HISTORY_NUMBERS + (int64_t)h->layers * HISTORY_LAYER_NUMBERS;
}

static double *row_of(const struct history *h, int64_t point) { return h->numbers + point * width_of(h); }

/* Reads a number, NaN for null or an absent member; false for any other value. */
static bool read_number(const cJSON *object, const char *key, double *number) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
  *number = cJSON_IsNumber(item) ? item->valuedouble : NAN;
  return !item || cJSON_IsNumber(item) || cJSON_IsNull(item);
}

static const char *read_line(const struct history *h, const cJSON *line, const cJSON *layers, double *row) {
  *row++ = (double)h->epochs;
  for (int i = 0; i < HISTORY_NUMBERS; i++)
    if (!read_number(line, number_keys[i], row++)) return "has a value that must be a number but is not";
  const cJSON *layer;
  cJSON_ArrayForEach(layer, layers) for (int i = 0; i < HISTORY_LAYER_NUMBERS; i++) {
    if (!read_number(layer, layer_keys[i], row++)) return "has a layer with a value that is not a number";
  }
  const double epoch = row[1 - width_of(h)];
  if (!(epoch >= 1 && epoch <= 1e15)) return "has no epoch (expected a run log of descent train --log)";
  if (h->points && epoch <= history_number(h, h->points - 1, HISTORY_EPOCH))
    return "does not have a later epoch than the line before (two runs in one file?)";
  return NULL;
}

/* ---- what is held ----------------------------------------------------------------------------------------------- */

/* Room for one more epoch than are held; false when it does not fit in memory. */
static bool make_room(struct history *h) {
  if (h->points < h->capacity) return true;
  const int64_t capacity = h->capacity ? 2 * h->capacity : 64;
  size_t bytes;
  double *numbers;
  if (__builtin_mul_overflow((size_t)capacity, (size_t)width_of(h) * sizeof *numbers, &bytes) ||
      !(numbers = realloc(h->numbers, bytes)))
    return false;
  h->numbers = numbers;
  h->capacity = capacity;
  return true;
}

/* More points than a chart has, in at most some 100 MB. */
static int64_t most_points(const struct history *h) {
  enum { MOST = 2048, FEWEST = 256, NUMBERS = 1 << 23 };
  const int64_t fit = NUMBERS / width_of(h);
  return fit > MOST ? MOST : fit < FEWEST ? FEWEST : fit;
}

static bool stays(const struct history *h, int64_t point) {
  const int64_t place = (int64_t)*row_of(h, point);
  return place % h->stride == 0 || place == h->best;
}

/* Leaves out the points from `first` to before `end` that need not stay. */
static void leave_out(struct history *h, int64_t first, int64_t end) {
  int64_t kept = first;
  for (int64_t point = first; point < h->points; point++)
    if (point >= end || stays(h, point))
      memmove(row_of(h, kept++), row_of(h, point), (size_t)width_of(h) * sizeof *h->numbers);
  h->points = kept;
}

static double loss_of(const struct history *h, int64_t point) {
  const double validation = history_number(h, point, HISTORY_VALIDATION_LOSS);
  return isnan(validation) ? history_number(h, point, HISTORY_TRAIN_LOSS) : validation;
}

/* The newest epoch is the best: the one that was need not stay. */
static void move_best(struct history *h, double loss) {
  const double before = (double)h->best;
  int64_t point = h->points - 1;
  h->best = h->epochs;
  h->best_loss = loss;
  while (point > 0 && *row_of(h, point) > before) point--;
  leave_out(h, point, point + 1);
}

/* Takes the row behind the last point as the newest epoch. */
static void take_row(struct history *h) {
  const int64_t newest = h->points++;
  const double loss = loss_of(h, newest), seconds = 1 / history_number(h, newest, HISTORY_ROWS_PER_SECOND);
  if (h->epochs == 0) {
    h->stride = 1;
    h->best_loss = loss;
  }
  h->time_per_row = h->epochs < 2 ? seconds : h->time_per_row + seconds;
  if (loss < h->best_loss || (isnan(h->best_loss) && !isnan(loss))) move_best(h, loss);
  h->epochs++;
  if (h->points > 1) leave_out(h, h->points - 2, h->points - 1);
  if (h->points < most_points(h)) return;
  h->stride *= 2;
  leave_out(h, 0, h->points - 1);
}

const char *history_add(struct history *h, const cJSON *line) {
  enum { MAX_LAYERS = 10000 };
  if (!cJSON_IsObject(line)) return "is not a JSON object (expected a run log of descent train --log)";
  const cJSON *layers = cJSON_GetObjectItemCaseSensitive(line, "layers");
  const int count = cJSON_GetArraySize(layers);
  if (layers && (!cJSON_IsArray(layers) || count > MAX_LAYERS)) return "has 'layers' that are not a list of layers";
  if (h->epochs == 0 && count != h->layers) {
    history_free(h);
    h->layers = count;
  }
  if (count != h->layers) return "has a different number of layers than the lines before";
  if (!make_room(h)) return "does not fit in memory";
  const char *wrong = read_line(h, line, layers, row_of(h, h->points));
  if (!wrong) take_row(h);
  if (cJSON_GetObjectItemCaseSensitive(line, "train_loss_with")) h->other_loss = true;
  return wrong;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

/* Reads a line without its newline, truncated to RUN_LOG_LONGEST. False at the end of the file. `*ended`: a newline was
 * read. */
static bool read_text_line(FILE *file, char **text, size_t *capacity, size_t *length, bool *ended) {
  int c = EOF;
  *length = 0;
  while (*length < RUN_LOG_LONGEST && (c = getc_unlocked(file)) != EOF && c != '\n') {
    if (*length == *capacity) {
      const size_t more = *capacity ? 2 * *capacity : 4096;
      char *grown = realloc(*text, more);
      if (!grown) return false;
      *text = grown;
      *capacity = more;
    }
    (*text)[(*length)++] = (char)c;
  }
  *ended = c == '\n';
  return *length > 0 || *ended;
}

static bool blank(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (!strchr(" \t\r", text[i]) || !text[i]) return false;
  return true;
}

int64_t history_read(FILE *file, struct history *history, const char **wrong) {
  char *text = NULL;
  size_t capacity = 0, length;
  bool ended;
  int64_t line = 0;
  *wrong = NULL;
  errno = 0;
  while (!*wrong && read_text_line(file, &text, &capacity, &length, &ended)) {
    line++;
    if (blank(text, length)) continue;
    errno = 0;
    cJSON *object = cJSON_ParseWithLength(text, length);
    if (object && (*wrong = history_add(history, object)) && errno == ENOMEM) *wrong = NULL;
    if (!object && errno != ENOMEM && (ended || !feof(file))) /* an unfinished last line is skipped */
      *wrong = "is not a JSON object (expected a run log of descent train --log)";
    cJSON_Delete(object);
    if (errno == ENOMEM) break;
  }
  const bool failed = ferror(file) || errno == ENOMEM;
  free(text);
  return *wrong ? line : failed ? -1 : 0;
}

void history_free(struct history *h) {
  free(h->numbers);
  *h = (struct history){0};
}

double history_number(const struct history *h, int64_t point, enum history_number number) {
  return row_of(h, point)[1 + number];
}

double history_layer(const struct history *h, int64_t point, int32_t layer, enum history_layer number) {
  return row_of(h, point)[1 + HISTORY_NUMBERS + (layer - 1) * HISTORY_LAYER_NUMBERS + (int)number];
}

double history_speed(const struct history *h) {
  return h->epochs ? (double)(h->epochs > 1 ? h->epochs - 1 : 1) / h->time_per_row : NAN;
}

bool history_has(const struct history *h, enum history_number number) {
  for (int64_t point = 0; point < h->points; point++)
    if (!isnan(history_number(h, point, number))) return true;
  return false;
}
