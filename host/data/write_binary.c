/* Writing the binary form: rows of X are appended. The header holds the checksum of X, so it is written again at the
 * end. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/binary.h"
#include "data/write.h"

static descent_status out_of_memory(const char *path) {
  return status_set(DESCENT_ERROR_MEMORY, "%s: not written: out of memory for its metadata", path);
}

static descent_status describe(struct binary_writer *w) {
  const struct dataset_storage *form = w->form;
  descent_status status = DESCENT_OK;
  cJSON *object = cJSON_CreateObject();
  bool ok = cJSON_AddNumberToObject(object, "version", 1) != NULL;
  if (ok && w->y) ok = cJSON_AddStringToObject(object, "task", descent_task_name(form->task)) != NULL;
  if (ok && w->y && form->classes) ok = cJSON_AddNumberToObject(object, "classes", (double)form->classes) != NULL;
  if (!ok) TRY(out_of_memory(w->path));
  TRY(schema_write(w->path, &form->schema, object));
  TRY(schema_write_reals(w->path, object, "rounding", form->X_rounding, form->inputs));
  if (w->y) TRY(schema_write_reals(w->path, object, "target_rounding", form->y_rounding, form->targets));
  w->description = cJSON_PrintUnformatted(object);
  if (!w->description) TRY(out_of_memory(w->path));
done:
  cJSON_Delete(object);
  return status;
}

static size_t y_bytes(const struct binary_writer *w) {
  return w->y ? (size_t)w->rows * (size_t)w->form->targets * sizeof *w->y : 0;
}

static size_t weight_bytes(const struct binary_writer *w) {
  return w->weights ? (size_t)w->rows * sizeof *w->weights : 0;
}

static descent_status write_header(struct binary_writer *w) {
  const struct dataset_storage *form = w->form;
  struct safetensors_tensor tensors[3] = {{.name = "X", .rank = 2, .shape = {w->rows, form->inputs}}};
  int64_t n = 1;
  if (w->y)
    tensors[n++] =
        (struct safetensors_tensor){.name = "y", .rank = form->targets == 1 ? 1 : 2, .shape = {w->rows, form->targets}};
  if (w->weights) tensors[n++] = (struct safetensors_tensor){.name = "weights", .rank = 1, .shape = {w->rows, 0}};
  XXH64_state_t state;
  XXH64_reset(&state, 0);
  XXH64_update(&state, w->description, strlen(w->description));
  if (w->y) XXH64_update(&state, w->y, y_bytes(w));
  if (w->weights) XXH64_update(&state, w->weights, weight_bytes(w));
  const struct safetensors_sum sum = safetensors_sum_text(XXH64_digest(&state)),
                               X_sum = safetensors_sum_text(XXH64_digest(w->sum));
  const char *const texts[SAFETENSORS_TEXTS] = {
      [SAFETENSORS_DATA] = w->description, [SAFETENSORS_DATA_SUM] = sum.text, [SAFETENSORS_X_SUM] = X_sum.text};
  return safetensors_write_header(&w->file, w->path, texts, tensors, n);
}

descent_status binary_begin(struct binary_writer *writer, const char *path, const struct dataset_storage *form,
                            int64_t rows, const float *y, const float *weights) {
  *writer = (struct binary_writer){.path = path, .form = form, .rows = rows, .y = y, .weights = weights};
  descent_status status;
  writer->sum = memory_allocate(1, sizeof(XXH64_state_t), "a checksum");
  if (!writer->sum) return DESCENT_ERROR_MEMORY;
  XXH64_reset(writer->sum, 0);
  TRY(describe(writer));
  TRY(file_create(path, &writer->file));
  TRY(write_header(writer));
done:
  if (status != DESCENT_OK) binary_abandon(writer);
  return status;
}

static descent_status wrong_rows(const struct binary_writer *writer) {
  return status_set(DESCENT_ERROR_WRITE,
                    "%s: not written: %" PRId64 " rows instead of %" PRId64 " (did the data change?)", writer->path,
                    writer->written, writer->rows);
}

descent_status binary_rows(struct binary_writer *writer, const float *X, int64_t rows) {
  const size_t bytes = (size_t)rows * (size_t)writer->form->inputs * sizeof *X;
  writer->written += rows;
  if (writer->written > writer->rows) return wrong_rows(writer);
  XXH64_update(writer->sum, X, bytes);
  return file_write(&writer->file, X, bytes);
}

descent_status binary_end(struct binary_writer *writer) {
  descent_status status;
  if (writer->written != writer->rows) TRY(wrong_rows(writer));
  if (writer->y) TRY(file_write(&writer->file, writer->y, y_bytes(writer)));
  if (writer->weights) TRY(file_write(&writer->file, writer->weights, weight_bytes(writer)));
  if (fseeko(writer->file.stream, 0, SEEK_SET) != 0)
    TRY(status_set(DESCENT_ERROR_WRITE, "%s: cannot write: %s", writer->path, strerror(errno)));
  TRY(write_header(writer));
  TRY(file_commit(&writer->file));
done:
  binary_abandon(writer);
  return status;
}

void binary_abandon(struct binary_writer *writer) {
  file_abandon(&writer->file);
  cJSON_free(writer->description);
  free(writer->sum);
  *writer = (struct binary_writer){0};
}

static descent_status write_bytes(struct binary_writer *w, const descent_dataset *dataset) {
  enum { BLOCK = 1 << 16 }; /* values */
  const int64_t inputs = dataset->storage->inputs, at_a_time = inputs < BLOCK ? BLOCK / inputs : 1;
  float *X = memory_allocate(at_a_time * inputs, sizeof *X, "rows");
  descent_status status = X ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  for (int64_t r = 0, n; status == DESCENT_OK && r < dataset->rows; r += n) {
    n = dataset->rows - r < at_a_time ? dataset->rows - r : at_a_time;
    write_copy_X(dataset, r, n, X);
    status = binary_rows(w, X, n);
  }
  free(X);
  return status;
}

/* Writes runs of adjacent rows of a view at once. */
static descent_status write_view(struct binary_writer *w, const descent_dataset *dataset) {
  const struct dataset_storage *s = dataset->storage;
  descent_status status = DESCENT_OK;
  if (s->bytes) return write_bytes(w, dataset);
  for (int64_t r = 0, n; r < dataset->rows; r += n) {
    const int64_t at = dataset_source_row(dataset, r);
    for (n = 1; r + n < dataset->rows && dataset_source_row(dataset, r + n) == at + n; n++) continue;
    TRY(binary_rows(w, s->X + at * s->inputs, n));
  }
done:
  return status;
}

descent_status write_binary(const descent_dataset *dataset, const char *path) {
  struct binary_writer writer = {0};
  float *y = NULL, *weights = NULL;
  descent_status status;
  TRY(write_gather(dataset, &y, &weights));
  TRY(binary_begin(&writer, path, dataset->storage, dataset->rows, y, weights));
  TRY(write_view(&writer, dataset));
  TRY(binary_end(&writer));
done:
  binary_abandon(&writer);
  free(y);
  free(weights);
  return status;
}
