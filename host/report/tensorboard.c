/* Event files: epochs as protocol buffers in TFRecord framing. */
#include "report/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tensorboard.pb-c.h>
#include <time.h>
#include <unistd.h>

#include "report/tfrecord.h"

enum { BUCKETS = 30, TAG_SIZE = 96 }; /* TensorBoard draws 30 */

struct tensorboard {
  struct appended_file *file; /* borrowed */
  char *path;
  FILE *part; /* what is added next, in memory */
  char *bytes;
  size_t length;
};

static double wall_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool write_event(struct tensorboard *t, const Tensorboard__Event *event) {
  size_t length = tensorboard__event__get_packed_size(event);
  unsigned char *bytes = malloc(length);
  bool written = bytes && tensorboard__event__pack(event, bytes) == length && tfrecord_write(t->part, bytes, length);
  free(bytes);
  return written;
}

static bool write_value(struct tensorboard *t, int64_t step, const Tensorboard__Value *value) {
  Tensorboard__Value *values[] = {(Tensorboard__Value *)(uintptr_t)value}; /* packing only reads */
  Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
  Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
  summary.n_value = 1;
  summary.value = values;
  event.wall_time = wall_time();
  event.step = step;
  event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
  event.summary = &summary;
  return write_event(t, &event);
}

static bool write_scalar(struct tensorboard *t, int64_t step, char *tag, double number) {
  Tensorboard__Value value = TENSORBOARD__VALUE__INIT;
  value.tag = tag;
  value.value_case = TENSORBOARD__VALUE__VALUE_SIMPLE_VALUE;
  value.simple_value = (float)number;
  return write_value(t, step, &value);
}

/* ---- histograms ------------------------------------------------------------------------------------------------- */

/* Counts the finite values in equal buckets between the smallest and the largest. */
static void count_values(const float *values, int64_t n, Tensorboard__Histogram *h) {
  h->min = INFINITY, h->max = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    const double x = (double)values[i];
    if (!isfinite(x)) continue;
    h->min = fmin(h->min, x), h->max = fmax(h->max, x);
    h->num++, h->sum += x, h->sum_squares += x * x;
  }
  const double width = (h->max - h->min) / BUCKETS;
  h->n_bucket = h->n_bucket_limit = h->num == 0 ? 0 : width > 0 ? BUCKETS : 1;
  memset(h->bucket, 0, BUCKETS * sizeof *h->bucket);
  for (size_t b = 0; b < h->n_bucket; b++)
    h->bucket_limit[b] = b + 1 == h->n_bucket ? h->max : h->min + width * (double)(b + 1);
  for (int64_t i = 0; i < n; i++) {
    const double x = (double)values[i];
    if (!isfinite(x)) continue;
    size_t b = width > 0 ? (size_t)((x - h->min) / width) : 0;
    h->bucket[b < h->n_bucket ? b : h->n_bucket - 1]++;
  }
}

static bool write_histogram(struct tensorboard *t, int64_t step, const char *what, int32_t layer, const float *values,
                            int64_t n) {
  char tag[TAG_SIZE];
  double limits[BUCKETS], counts[BUCKETS];
  Tensorboard__Histogram histogram = TENSORBOARD__HISTOGRAM__INIT;
  Tensorboard__Value value = TENSORBOARD__VALUE__INIT;
  histogram.bucket_limit = limits;
  histogram.bucket = counts;
  count_values(values, n, &histogram);
  if (histogram.num == 0) return true;
  snprintf(tag, sizeof tag, "%s/layer_%" PRId32, what, layer);
  value.tag = tag;
  value.value_case = TENSORBOARD__VALUE__VALUE_HISTO;
  value.histo = &histogram;
  return write_value(t, step, &value);
}

static bool write_parameters(struct tensorboard *t, const descent_network *network, const descent_epoch_info *info) {
  bool written = true;
  for (int32_t l = 1; l <= descent_network_layers(network) && written; l++) {
    const int64_t n_in = descent_network_width(network, l - 1), n_out = descent_network_width(network, l);
    float *W = malloc((size_t)(n_in * n_out) * sizeof *W), *b = malloc((size_t)n_out * sizeof *b);
    errno = ENOMEM;
    written = W && b && descent_trainer_get_layer(info->trainer, l, W, b) == DESCENT_OK &&
              write_histogram(t, info->step, "weights", l, W, n_in * n_out) &&
              write_histogram(t, info->step, "biases", l, b, n_out);
    free(W);
    free(b);
  }
  return written;
}

/* ---- scalars ---------------------------------------------------------------------------------------------------- */

/* TensorBoard groups tags by the text before the slash, so "validation_loss" becomes "loss/validation". */
static void tag_of(const char *key, char tag[TAG_SIZE]) {
  static const char *const sides[] = {"train", "validation"};
  for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
    const size_t length = strlen(sides[i]);
    if (strncmp(key, sides[i], length) == 0 && key[length] == '_') {
      snprintf(tag, TAG_SIZE, "%s/%s", key + length + 1, sides[i]);
      return;
    }
  }
  snprintf(tag, TAG_SIZE, "%s", key);
}

/* Writes a scalar of a layer, or of a list such as F1 per class: "<key>/<what>_<number>". */
static bool write_part(struct tensorboard *t, int64_t step, const char *key, const char *what, int number,
                       const cJSON *item) {
  char tag[TAG_SIZE + 32];
  snprintf(tag, sizeof tag, "%s/%s_%d", key, what, number);
  return write_scalar(t, step, tag, item->valuedouble);
}

static bool write_scalars(struct tensorboard *t, int64_t step, const cJSON *line) {
  const cJSON *item, *part, *field;
  bool written = true;
  cJSON_ArrayForEach(item, line) {
    char tag[TAG_SIZE];
    int number = 0;
    tag_of(item->string, tag);
    if (cJSON_IsNumber(item) && strcmp(tag, "step") != 0)
      written = written && write_scalar(t, step, tag, item->valuedouble);
    cJSON_ArrayForEach(part, item) {
      if (cJSON_IsNumber(part)) written = written && write_part(t, step, tag, "class", number, part);
      number++;
      cJSON_ArrayForEach(field, part) written = written && write_part(t, step, field->string, "layer", number, field);
    }
  }
  return written;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

/* mkdir -p */
static bool make_folder(const char *folder) {
  char *path = strdup(folder);
  if (!path) return false;
  bool made = true;
  for (char *c = path + 1; *path && made; c++) {
    if (*c && *c != '/') continue;
    const char kept = *c;
    *c = '\0';
    made = mkdir(path, 0777) == 0 || errno == EEXIST;
    *c = kept;
    if (!kept) break;
  }
  const int error = errno;
  free(path);
  errno = error;
  return made;
}

/* A name that TensorBoard recognises, with the time, so that the newest sorts last. */
static char *file_path(const char *folder) {
  char host[65] = "", *path;
  gethostname(host, sizeof host - 1);
  if (asprintf(&path, "%s/events.out.tfevents.%.6f.%s.%ld", folder, wall_time(), host, (long)getpid()) < 0) return NULL;
  return path;
}

static bool begin_part(struct tensorboard *t) {
  t->part = open_memstream(&t->bytes, &t->length);
  return t->part != NULL;
}

/* Adds what was written since begin_part to the file; `complete`: all of it was, else errno is why not. */
static bool add_part(struct tensorboard *t, bool complete) {
  int error = errno;
  if (t->part && fclose(t->part) != 0 && complete) complete = false, error = errno;
  t->part = NULL;
  bool added = complete && appended_add(t->file, t->bytes, t->length);
  if (complete) error = errno;
  if (!complete) t->file->lost++;
  free(t->bytes);
  t->bytes = NULL;
  errno = error;
  return added;
}

struct tensorboard *tensorboard_open(const char *folder, struct appended_file *file) {
  struct tensorboard *t = calloc(1, sizeof *t);
  Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
  char version[] = "brain.Event:2";
  if (!t || !make_folder(folder) || !(t->path = file_path(folder))) goto failed;
  t->file = file;
  const int descriptor = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0 || !appended_open(file, descriptor)) goto failed;
  event.wall_time = wall_time();
  event.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
  event.file_version = version;
  if (add_part(t, begin_part(t) && write_event(t, &event)) || file->parts) return t; /* it may wait */
failed:;
  const int error = errno;
  tensorboard_free(t);
  errno = error;
  return NULL;
}

bool tensorboard_restart(struct tensorboard *t, int64_t step) {
  Tensorboard__SessionLog session = TENSORBOARD__SESSION_LOG__INIT;
  Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
  session.status = 1;
  event.wall_time = wall_time();
  event.step = step + 1;
  event.what_case = TENSORBOARD__EVENT__WHAT_SESSION_LOG;
  event.session_log = &session;
  return add_part(t, begin_part(t) && write_event(t, &event));
}

const char *tensorboard_path(const struct tensorboard *t) { return t->path; }

bool tensorboard_epoch(struct tensorboard *t, const cJSON *line, const descent_network *network,
                       const descent_epoch_info *info) {
  return add_part(t, begin_part(t) && write_scalars(t, info->step, line) && write_parameters(t, network, info));
}

void tensorboard_free(struct tensorboard *t) {
  if (t) free(t->path);
  free(t);
}
