/* Reading and writing the container of model and data files. Files are untrusted: every size in the header is checked
 * against the size of the file before it is used. */
#include "core/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/file.h"
#include "core/half.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/number.h"
#include "core/status.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(float) == 4,
               "tensors are little-endian float32, read and written without conversion");

enum { PREFIX = 8, ALIGNMENT = 64 };

static const char *const text_keys[SAFETENSORS_TEXTS] = {[SAFETENSORS_MODEL] = "descent",
                                                         [SAFETENSORS_MODEL_SUM] = "descent.xxh64",
                                                         [SAFETENSORS_DATA] = "descent.data",
                                                         [SAFETENSORS_DATA_SUM] = "descent.data.xxh64",
                                                         [SAFETENSORS_X_SUM] = "descent.data.X.xxh64",
                                                         [SAFETENSORS_CHECKPOINT] = "descent.checkpoint",
                                                         [SAFETENSORS_HEADER_SUM] = "descent.header.xxh64"};
static const char no_sum[] = "0000000000000000";

/* Bytes per value; 0 for an unknown type. */
static int64_t dtype_bytes(const char *dtype) {
  static const struct {
    const char *name;
    int64_t bytes;
  } types[] = {{"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (strcmp(dtype, types[i].name) == 0) return types[i].bytes;
  return 0;
}

int64_t safetensors_count(const struct safetensors_tensor *tensor) {
  return tensor->shape[0] * (tensor->rank == 2 ? tensor->shape[1] : 1);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static cJSON *describe(const struct safetensors_tensor *tensor, int64_t begin) {
  const double offsets[2] = {(double)begin, (double)begin + 4.0 * (double)safetensors_count(tensor)};
  cJSON *entry = cJSON_CreateObject();
  cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
  cJSON *bounds = cJSON_CreateDoubleArray(offsets, 2);
  bool ok = cJSON_AddStringToObject(entry, "dtype", "F32") && shape;
  for (int i = 0; ok && i < tensor->rank; i++)
    ok = cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->shape[i]));
  if (ok && cJSON_AddItemToObject(entry, "data_offsets", bounds)) return entry;
  cJSON_Delete(bounds);
  cJSON_Delete(entry);
  return NULL;
}

struct safetensors_sum safetensors_sum_text(uint64_t sum) {
  struct safetensors_sum text;
  snprintf(text.text, sizeof text.text, "%016" PRIx64, sum);
  return text;
}

struct safetensors_sum safetensors_sum_of(const void *data, size_t bytes) {
  return safetensors_sum_text(XXH64(data, bytes, 0));
}

struct safetensors_sum safetensors_sum_model(const char *metadata, const struct safetensors_tensor *tensors,
                                             int64_t n) {
  XXH64_state_t state;
  XXH64_reset(&state, 0);
  XXH64_update(&state, metadata, strlen(metadata));
  for (int64_t i = 0; i < n; i++)
    XXH64_update(&state, tensors[i].data, (size_t)safetensors_count(&tensors[i]) * sizeof(float));
  return safetensors_sum_text(XXH64_digest(&state));
}

/* The header as text, freed by cJSON_free; NULL when out of memory. */
static char *compose_header(const char *const texts[SAFETENSORS_TEXTS], const struct safetensors_tensor *tensors,
                            int64_t n) {
  char *text = NULL;
  cJSON *header = cJSON_CreateObject();
  cJSON *map = cJSON_AddObjectToObject(header, "__metadata__");
  bool ok = cJSON_AddStringToObject(map, "format", "pt");
  for (int k = 0; ok && k < SAFETENSORS_TEXTS; k++)
    ok = !texts[k] || cJSON_AddStringToObject(map, text_keys[k], k == SAFETENSORS_HEADER_SUM ? no_sum : texts[k]);
  int64_t begin = 0;
  for (int64_t i = 0; ok && i < n; i++) {
    cJSON *entry = describe(&tensors[i], begin);
    ok = cJSON_AddItemToObject(header, tensors[i].name, entry);
    if (!ok) cJSON_Delete(entry);
    begin += 4 * safetensors_count(&tensors[i]);
  }
  if (ok) text = cJSON_PrintUnformatted(header);
  cJSON_Delete(header);
  return text;
}

static descent_status check_values(const char *path, const struct safetensors_tensor *tensor) {
  const int64_t count = safetensors_count(tensor), i = number_find_non_finite(tensor->data, count);
  if (i == count) return DESCENT_OK;
  return status_set(DESCENT_ERROR_WRITE, "%s: not written: %s[%" PRId64 "] is %g", path, tensor->name, i,
                    (double)tensor->data[i]);
}

/* Number of blanks between the header's `length` bytes and the data. */
static size_t padding_of(size_t length) { return (ALIGNMENT - (PREFIX + length) % ALIGNMENT) % ALIGNMENT; }

/* The 16 digits of the header's checksum in the bytes before the data, or NULL. No JSON string can contain the pattern,
 * since quotes are escaped. */
static char *find_header_sum(char *bytes, size_t length) {
  char key[64];
  const int n = snprintf(key, sizeof key, "\"%s\":\"", text_keys[SAFETENSORS_HEADER_SUM]);
  char *found = memmem(bytes, length, key, (size_t)n);
  const bool whole = found && (size_t)(bytes + length - found) > (size_t)n + strlen(no_sum);
  return whole && found[(size_t)n + strlen(no_sum)] == '"' ? found + n : NULL;
}

/* All bytes before the data, length, header and blanks; `*bytes` is from malloc. */
static descent_status join_header(const char *path, const char *header, bool summed, char **bytes, size_t *n) {
  const size_t length = strlen(header), padding = padding_of(length);
  const uint64_t total = length + padding;
  char *joined = malloc(PREFIX + total);
  if (!joined) return status_set(DESCENT_ERROR_MEMORY, "%s: not written: out of memory for its header", path);
  memcpy(joined, &total, PREFIX);
  memcpy(joined + PREFIX, header, length);
  memset(joined + PREFIX + length, ' ', padding);
  char *sum = summed ? find_header_sum(joined, PREFIX + total) : NULL;
  if (sum) memcpy(sum, safetensors_sum_of(joined, PREFIX + total).text, strlen(no_sum));
  *bytes = joined;
  *n = PREFIX + total;
  return DESCENT_OK;
}

/* The same from the texts and tensors, checked as a reader would. */
static descent_status make_header(const char *path, const char *const texts[SAFETENSORS_TEXTS],
                                  const struct safetensors_tensor *tensors, int64_t n, char **bytes, size_t *length) {
  descent_status status = DESCENT_OK;
  char *header = compose_header(texts, tensors, n);
  if (!header) return status_set(DESCENT_ERROR_MEMORY, "%s: not written: out of memory for its header", path);
  if (json_check(path, PREFIX, header, strlen(header)) != DESCENT_OK)
    TRY(status_set(DESCENT_ERROR_WRITE, "%s (not written)", descent_last_error()));
  for (int k = 0; k < SAFETENSORS_TEXTS; k++)
    if (texts[k] && (k == SAFETENSORS_MODEL || k == SAFETENSORS_DATA) &&
        json_check(path, 0, texts[k], strlen(texts[k])) != DESCENT_OK)
      TRY(status_set(DESCENT_ERROR_WRITE, "%s (not written)", descent_last_error()));
  TRY(join_header(path, header, texts[SAFETENSORS_HEADER_SUM] != NULL, bytes, length));
done:
  cJSON_free(header);
  return status;
}

descent_status safetensors_write_header(struct file_writer *writer, const char *path,
                                        const char *const texts[SAFETENSORS_TEXTS],
                                        const struct safetensors_tensor *tensors, int64_t n) {
  char *bytes = NULL;
  size_t length = 0;
  descent_status status;
  TRY(make_header(path, texts, tensors, n, &bytes, &length));
  status = file_write(writer, bytes, length);
done:
  free(bytes);
  return status;
}

descent_status safetensors_write_to(struct file_writer *writer, const char *const texts[SAFETENSORS_TEXTS],
                                    const struct safetensors_tensor *tensors, int64_t n) {
  descent_status status;
  writer->quiet = true;
  TRY(safetensors_write_header(writer, writer->path, texts, tensors, n));
  for (int64_t i = 0; i < n; i++)
    TRY(file_write(writer, tensors[i].data, (size_t)safetensors_count(&tensors[i]) * sizeof(float)));
done:
  return status;
}

descent_status safetensors_write(const char *path, const char *const texts[SAFETENSORS_TEXTS],
                                 const struct safetensors_tensor *tensors, int64_t n) {
  struct file_writer writer = {0};
  descent_status status;
  TRY(file_create(path, &writer));
  TRY(safetensors_write_to(&writer, texts, tensors, n));
  status = file_commit(&writer);
done:
  file_abandon(&writer);
  return status;
}

/* Checks a model's values and computes its checksum. */
static descent_status sum_model(const char *path, const char *metadata, const struct safetensors_tensor *tensors,
                                int64_t n, struct safetensors_sum *sum) {
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < n; i++) TRY(check_values(path, &tensors[i]));
  *sum = safetensors_sum_model(metadata, tensors, n);
done:
  return status;
}

descent_status safetensors_save(const char *path, const char *metadata, const struct safetensors_tensor *tensors,
                                int64_t n) {
  struct safetensors_sum sum;
  descent_status status;
  TRY(sum_model(path, metadata, tensors, n, &sum));
  const char *const texts[SAFETENSORS_TEXTS] = {[SAFETENSORS_MODEL] = metadata, [SAFETENSORS_MODEL_SUM] = sum.text};
  status = safetensors_write(path, texts, tensors, n);
done:
  return status;
}

descent_status safetensors_save_memory(const char *what, const char *metadata, const struct safetensors_tensor *tensors,
                                       int64_t n, void *data, size_t capacity, size_t *size) {
  struct safetensors_sum sum;
  char *header = NULL;
  size_t length = 0;
  descent_status status;
  TRY(sum_model(what, metadata, tensors, n, &sum));
  const char *const texts[SAFETENSORS_TEXTS] = {[SAFETENSORS_MODEL] = metadata, [SAFETENSORS_MODEL_SUM] = sum.text};
  TRY(make_header(what, texts, tensors, n, &header, &length));
  *size = length;
  for (int64_t i = 0; i < n; i++) *size += (size_t)safetensors_count(&tensors[i]) * sizeof(float);
  if (!data) goto done;
  if (*size > capacity)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "capacity %zu: %s needs %zu bytes", capacity, what, *size));
  char *at = mempcpy(data, header, length);
  for (int64_t i = 0; i < n; i++)
    at = mempcpy(at, tensors[i].data, (size_t)safetensors_count(&tensors[i]) * sizeof(float));
done:
  free(header);
  return status;
}

/* ---- the header of a file --------------------------------------------------------------------------------------- */

static descent_status open_regular(struct safetensors *file) {
  int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* do not wait for the writer of a pipe */
  if (descriptor < 0) return status_cannot_read(file->path, errno);
  int error = fstat(descriptor, &file->about) ? errno : S_ISDIR(file->about.st_mode) ? EISDIR : 0;
  const bool regular = error || S_ISREG(file->about.st_mode);
  if (!error && regular && !(file->stream = fdopen(descriptor, "rb"))) error = errno;
  if (!error && regular) return DESCENT_OK;
  close(descriptor);
  if (!regular) return status_set(DESCENT_ERROR_READ, "%s: cannot read: not a regular file", file->path);
  return status_cannot_read(file->path, error);
}

/* A stream over the caller's bytes; none over fewer than a header has. */
static descent_status open_memory(const void *data, size_t size, struct safetensors *file) {
  file->about.st_size = (off_t)size;
  if (size < PREFIX) return DESCENT_OK;
  file->stream = fmemopen((void *)(uintptr_t)data, size, "rb"); /* which does not write */
  return file->stream ? DESCENT_OK : status_cannot_read(file->path, errno);
}

static descent_status read_bytes(struct safetensors *file, int64_t offset, void *data, size_t bytes) {
  errno = 0;
  if (fseeko(file->stream, offset, SEEK_SET) == 0 && fread(data, 1, bytes, file->stream) == bytes) return DESCENT_OK;
  if (errno) return status_cannot_read(file->path, errno);
  return status_set(DESCENT_ERROR_READ, "%s: the file was truncated while it was read", file->path);
}

static descent_status read_header(struct safetensors *file) {
  const int64_t size = file->about.st_size;
  if (size < PREFIX)
    return status_set(DESCENT_ERROR_MODEL,
                      "%s: %" PRId64 " bytes: too short for a .safetensors file, which starts with an 8-byte length",
                      file->path, size);
  descent_status status;
  char *text = NULL;
  uint64_t length;
  TRY(read_bytes(file, 0, &length, PREFIX));
  if (length > (uint64_t)(size - PREFIX) || length > JSON_MAX_BYTES) {
    status = status_set(DESCENT_ERROR_MODEL,
                        "%s: not a .safetensors file, or truncated: byte 0 states a header of %" PRIu64
                        " bytes (at most %d), but the file has %" PRId64,
                        file->path, length, JSON_MAX_BYTES, size);
    goto done;
  }
  text = memory_allocate(PREFIX + (int64_t)length, 1, "the header of a .safetensors file");
  if (!text) return DESCENT_ERROR_MEMORY;
  TRY(read_bytes(file, 0, text, PREFIX + length));
  TRY(json_parse(file->path, PREFIX, text + PREFIX, length, &file->header));
  char *sum = find_header_sum(text, PREFIX + length);
  if (sum) {
    memcpy(sum, no_sum, strlen(no_sum));
    file->header_sum = safetensors_sum_of(text, PREFIX + length);
  }
  file->data_start = PREFIX + (int64_t)length;
  file->data_bytes = size - file->data_start;
done:
  free(text);
  return status;
}

static descent_status parse_metadata(struct safetensors *file, const cJSON *map) {
  if (file->described) return status_set(DESCENT_ERROR_MODEL, "%s: duplicate __metadata__", file->path);
  file->described = true;
  if (!cJSON_IsObject(map)) return status_set(DESCENT_ERROR_MODEL, "%s: __metadata__ is not an object", file->path);
  const cJSON *member;
  cJSON_ArrayForEach(member, map) {
    if (!cJSON_IsString(member))
      return status_set(DESCENT_ERROR_MODEL, "%s: __metadata__: '%s' is not a string", file->path,
                        json_quote(member->string).text);
    for (int k = 0; k < SAFETENSORS_TEXTS; k++) { /* entries of other programs are ignored */
      if (strcmp(member->string, text_keys[k]) != 0) continue;
      if (file->texts[k])
        return status_set(DESCENT_ERROR_MODEL, "%s: __metadata__: duplicate '%s'", file->path, text_keys[k]);
      file->texts[k] = member->valuestring;
    }
  }
  return DESCENT_OK;
}

/* Parses shape [..] and data_offsets [begin, end] of an entry and checks them against each other and the file. */
static descent_status parse_extent(const struct safetensors *file, const char *where, const cJSON *shape,
                                   const cJSON *offsets, struct safetensors_entry *entry) {
  int64_t count = 1, bytes;
  const cJSON *value;
  if (!cJSON_IsArray(shape)) return status_set(DESCENT_ERROR_MODEL, "%s: missing shape", where);
  cJSON_ArrayForEach(value, shape) {
    if (entry->rank == SAFETENSORS_MAX_RANK)
      return status_set(DESCENT_ERROR_MODEL, "%s: more than %d dimensions", where, SAFETENSORS_MAX_RANK);
    if (!json_integer(value, &entry->shape[entry->rank]) || !size_product(count, entry->shape[entry->rank], &count))
      return status_set(DESCENT_ERROR_MODEL, "%s: dimension %d is not a valid size", where, entry->rank);
    entry->rank++;
  }
  if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !json_integer(offsets->child, &entry->begin) ||
      !json_integer(offsets->child->next, &entry->end))
    return status_set(DESCENT_ERROR_MODEL, "%s: data_offsets must be two offsets", where);
  if (entry->begin > entry->end || entry->end > file->data_bytes)
    return status_set(DESCENT_ERROR_MODEL,
                      "%s: data_offsets [%" PRId64 ", %" PRId64 "] are outside the file's %" PRId64
                      " bytes of data: truncated or altered",
                      where, entry->begin, entry->end, file->data_bytes);
  if (!size_product(count, dtype_bytes(entry->dtype), &bytes) || bytes != entry->end - entry->begin)
    return status_set(DESCENT_ERROR_MODEL, "%s: %" PRId64 " values do not take %" PRId64 " bytes", where, count,
                      entry->end - entry->begin);
  return DESCENT_OK;
}

static descent_status parse_entry(const struct safetensors *file, const cJSON *object,
                                  struct safetensors_entry *entry) {
  enum { DTYPE, SHAPE, OFFSETS, FIELDS };
  static const char *const fields[FIELDS] = {"dtype", "shape", "data_offsets"};
  const cJSON *found[FIELDS];
  char where[512];
  snprintf(where, sizeof where, "%.400s: tensor '%s'", file->path, json_quote(object->string).text);
  descent_status status;
  TRY(json_fields(where, object, fields, FIELDS, found));
  const char *dtype = cJSON_GetStringValue(found[DTYPE]);
  if (!dtype || !dtype_bytes(dtype) || (!file->any && strcmp(dtype, "F32") != 0))
    return status_set(DESCENT_ERROR_MODEL, "%s: dtype is %s, not %s", where, dtype ? json_quote(dtype).text : "missing",
                      file->any ? "F32, F64, F16 or BF16" : "F32");
  entry->name = object->string;
  entry->dtype = dtype;
  TRY(parse_extent(file, where, found[SHAPE], found[OFFSETS], entry));
done:
  return status;
}

static int by_offset(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  return strcmp(x->name, y->name);
}

/* Checks that every byte of the data belongs to exactly one tensor. */
static descent_status check_cover(struct safetensors *file) {
  qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_offset);
  int64_t covered = 0;
  for (int64_t i = 0; i < file->n; i++) {
    const struct safetensors_entry *entry = &file->entries[i];
    if (entry->begin != covered)
      return status_set(DESCENT_ERROR_MODEL, "%s: tensor '%s' begins at offset %" PRId64 ", not at %" PRId64 ": %s",
                        file->path, json_quote(entry->name).text, entry->begin, covered,
                        entry->begin < covered ? "tensors overlap" : "gap between tensors");
    covered = entry->end;
  }
  if (covered == file->data_bytes) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": %" PRId64 " bytes belong to no tensor", file->path,
                    file->data_start + covered, file->data_bytes - covered);
}

static descent_status check_names(struct safetensors *file) {
  qsort(file->entries, (size_t)file->n, sizeof *file->entries, by_name);
  for (int64_t i = 1; i < file->n; i++)
    if (by_name(&file->entries[i - 1], &file->entries[i]) == 0)
      return status_set(DESCENT_ERROR_MODEL, "%s: duplicate tensor '%s'", file->path,
                        json_quote(file->entries[i].name).text);
  return DESCENT_OK;
}

static descent_status parse_header(struct safetensors *file) {
  descent_status status = DESCENT_OK;
  if (!cJSON_IsObject(file->header))
    return status_set(DESCENT_ERROR_MODEL, "%s: byte %d: the header is not a JSON object", file->path, PREFIX);
  file->entries = memory_allocate(cJSON_GetArraySize(file->header), sizeof *file->entries, "the tensors of a file");
  if (!file->entries) return DESCENT_ERROR_MEMORY;
  const cJSON *member;
  cJSON_ArrayForEach(member, file->header) {
    if (strcmp(member->string, "__metadata__") == 0)
      TRY(parse_metadata(file, member));
    else
      TRY(parse_entry(file, member, &file->entries[file->n++]));
  }
  TRY(check_cover(file));
  TRY(check_names(file));
done:
  return status;
}

/* The rest of opening, once `opened` says whether there is a stream. */
static descent_status open_stream(descent_status opened, struct safetensors *file) {
  descent_status status;
  TRY(opened);
  TRY(read_header(file));
  TRY(parse_header(file));
  TRY(safetensors_check_sum(file, SAFETENSORS_HEADER_SUM, file->header_sum));
done:
  if (status != DESCENT_OK) safetensors_close(file);
  return status;
}

descent_status safetensors_open(const char *path, struct safetensors *file) {
  *file = (struct safetensors){.path = path};
  return open_stream(open_regular(file), file);
}

descent_status safetensors_open_any(const char *path, struct safetensors *file) {
  *file = (struct safetensors){.path = path, .any = true};
  return open_stream(open_regular(file), file);
}

descent_status safetensors_open_memory(const char *what, const void *data, size_t size, struct safetensors *file) {
  *file = (struct safetensors){.path = what};
  return open_stream(open_memory(data, size, file), file);
}

void safetensors_close(struct safetensors *file) {
  if (file->stream) fclose(file->stream);
  cJSON_Delete(file->header);
  free(file->entries);
  *file = (struct safetensors){0};
}

/* ---- the tensors of a file -------------------------------------------------------------------------------------- */

struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name) {
  const struct safetensors_entry key = {.name = name};
  return bsearch(&key, file->entries, (size_t)file->n, sizeof key, by_name);
}

descent_status safetensors_read_bytes(struct safetensors *file, const struct safetensors_entry *entry, void *data) {
  return read_bytes(file, file->data_start + entry->begin, data, (size_t)(entry->end - entry->begin));
}

descent_status safetensors_sum_entry(struct safetensors *file, const struct safetensors_entry *entry,
                                     struct safetensors_sum *sum) {
  enum { CHUNK = 64 << 10 };
  char bytes[CHUNK];
  XXH64_state_t state;
  descent_status status = DESCENT_OK;
  XXH64_reset(&state, 0);
  for (int64_t at = entry->begin, n; at < entry->end; at += n) {
    n = entry->end - at < CHUNK ? entry->end - at : CHUNK;
    TRY(read_bytes(file, file->data_start + at, bytes, (size_t)n));
    XXH64_update(&state, bytes, (size_t)n);
  }
  *sum = safetensors_sum_text(XXH64_digest(&state));
done:
  return status;
}

descent_status safetensors_expect(const struct safetensors *file, const struct safetensors_tensor *tensor,
                                  struct safetensors_entry **found) {
  struct safetensors_entry *entry = safetensors_find(file, tensor->name);
  if (!entry) return status_set(DESCENT_ERROR_MODEL, "%s: tensor '%s' is missing", file->path, tensor->name);
  bool same = entry->rank == tensor->rank;
  for (int i = 0; same && i < tensor->rank; i++) same = entry->shape[i] == tensor->shape[i];
  if (!same)
    return status_set(DESCENT_ERROR_MODEL,
                      "%s: tensor '%s' has %d dimensions, [%" PRId64 ", %" PRId64
                      "], but the network needs %d, [%" PRId64 ", %" PRId64 "]",
                      file->path, tensor->name, entry->rank, entry->shape[0], entry->shape[1], tensor->rank,
                      tensor->shape[0], tensor->shape[1]);
  entry->expected = true;
  *found = entry;
  return DESCENT_OK;
}

descent_status safetensors_check_sum(const struct safetensors *file, enum safetensors_text key,
                                     struct safetensors_sum sum) {
  const char *stated = file->texts[key]; /* NULL in files of other programs */
  if (!stated || strcmp(stated, sum.text) == 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_MODEL,
                    "%s: altered since it was saved: its checksum is %s, not '%s' (to accept deliberate changes, "
                    "remove %s from its metadata)",
                    file->path, sum.text, json_quote(stated).text, text_keys[key]);
}

static descent_status read_tensor(struct safetensors *file, const struct safetensors_tensor *tensor) {
  struct safetensors_entry *entry = NULL;
  const int64_t count = safetensors_count(tensor);
  descent_status status;
  TRY(safetensors_expect(file, tensor, &entry));
  TRY(safetensors_read_bytes(file, entry, tensor->data));
  const int64_t i = number_find_non_finite(tensor->data, count);
  if (i < count)
    status = status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": %s[%" PRId64 "] is %g", file->path,
                        file->data_start + entry->begin + 4 * i, tensor->name, i, (double)tensor->data[i]);
done:
  return status;
}

static bool belongs_to_checkpoint(const struct safetensors *file, const struct safetensors_entry *entry) {
  static const char prefix[] = SAFETENSORS_CHECKPOINT_PREFIX;
  return file->texts[SAFETENSORS_CHECKPOINT] && strncmp(entry->name, prefix, sizeof prefix - 1) == 0;
}

descent_status safetensors_read(struct safetensors *file, const struct safetensors_tensor *tensors, int64_t n) {
  descent_status status = DESCENT_OK;
  for (int64_t i = 0; i < n; i++) TRY(read_tensor(file, &tensors[i]));
  for (int64_t i = 0; i < file->n; i++)
    if (!file->entries[i].expected && !belongs_to_checkpoint(file, &file->entries[i]))
      return status_set(DESCENT_ERROR_MODEL, "%s: tensor '%s' is not part of the network", file->path,
                        json_quote(file->entries[i].name).text);
  const struct safetensors_sum sum = safetensors_sum_model(file->texts[SAFETENSORS_MODEL], tensors, n);
  status = safetensors_check_sum(file, SAFETENSORS_MODEL_SUM, sum);
done:
  return status;
}

/* ---- other types ------------------------------------------------------------------------------------------------ */

static float convert(const char *dtype, const unsigned char *bytes) {
  uint16_t half;
  double wide;
  float value;
  if (strcmp(dtype, "F64") == 0) {
    memcpy(&wide, bytes, sizeof wide);
    return (float)wide;
  }
  if (strcmp(dtype, "F32") == 0) {
    memcpy(&value, bytes, sizeof value);
    return value;
  }
  memcpy(&half, bytes, sizeof half);
  return strcmp(dtype, "F16") == 0 ? f16_to_float(half) : bf16_to_float(half);
}

descent_status safetensors_read_entry(struct safetensors *file, const struct safetensors_entry *entry, float *values) {
  enum { CHUNK = 4096 };
  const int64_t width = dtype_bytes(entry->dtype), count = (entry->end - entry->begin) / width;
  unsigned char bytes[CHUNK * sizeof(double)];
  descent_status status = DESCENT_OK;
  for (int64_t done = 0, n; done < count; done += n) {
    n = count - done < CHUNK ? count - done : CHUNK;
    TRY(read_bytes(file, file->data_start + entry->begin + done * width, bytes, (size_t)(n * width)));
    for (int64_t i = 0; i < n; i++) {
      values[done + i] = convert(entry->dtype, bytes + i * width);
      if (!isfinite(values[done + i]))
        TRY(status_set(DESCENT_ERROR_MODEL, "%s: byte %" PRId64 ": %s[%" PRId64 "] is %g", file->path,
                       file->data_start + entry->begin + (done + i) * width, json_quote(entry->name).text, done + i,
                       (double)values[done + i]));
    }
  }
done:
  return status;
}
