/* NumPy's .npz: a zip file of .npy arrays. Reads one array, or inputs, weights and targets side by side, found by their
 * usual names. */
#include "data/matrix.h"

#ifndef DESCENT_FORMATS_BUILT
#include "core/left_out.h"

descent_status npz_open(const char *path, const char *part, struct matrix *matrix) {
  (void)part, (void)matrix;
  return format_left_out(path, "read npz");
}

#else
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "core/memory.h"
#include "core/npz.h"
#include "core/status.h"
#include "data/array.h"
#include "data/stream.h"
#include "data/text.h"

enum { X, WEIGHTS, TARGETS, PARTS };

struct npz_part {
  struct array array;
  int64_t stored; /* bytes of the file */
  zip_file_t *file;
  int64_t offset; /* of the next byte of the .npy */
  char *where;    /* "x.npz: array 'X'" */
  int64_t index;  /* of its entry */
};

struct npz {
  const char *path;
  zip_t *zip;
  struct npz_part parts[PARTS]; /* present when `where` is set */
};

/* ---- the bytes of one array ------------------------------------------------------------------------------------- */

static descent_status read_compressed(void *state, int64_t offset, int64_t n, void *to) {
  struct npz_part *part = state;
  if (offset != part->offset)
    return status_set(DESCENT_ERROR_INTERNAL, "%s: read out of order, at byte %" PRId64, part->where, offset);
  while (n > 0) {
    const zip_int64_t got = zip_fread(part->file, to, (zip_uint64_t)n);
    if (got < 0 && npz_status(zip_file_get_error(part->file), DESCENT_ERROR_DATA) == DESCENT_ERROR_MEMORY)
      return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory while decompressing", part->where);
    if (got <= 0)
      return status_set(DESCENT_ERROR_DATA, "%s: byte %" PRId64 ": cannot decompress: %s (copy the file again)",
                        part->where, part->offset, got < 0 ? zip_file_strerror(part->file) : "unexpected end");
    part->offset += got;
    to = (char *)to + got;
    n -= got;
  }
  return DESCENT_OK;
}

/* Checks that nothing follows the array; libzip verifies the checksum at the end. */
static descent_status check_end(struct npz_part *part) {
  char more;
  const zip_int64_t got = zip_fread(part->file, &more, 1);
  if (got == 0) return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA, "%s: byte %" PRId64 ": %s (copy the file again)", part->where, part->offset,
                    got < 0 ? zip_file_strerror(part->file) : "more bytes than the zip file's directory states");
}

static descent_status read_part(struct npz_part *part, int64_t rows, double *cells, int64_t pitch, int64_t *inexact) {
  descent_status status;
  TRY(array_read(&part->array, rows, cells, pitch, inexact));
  if (part->array.next == part->array.rows) TRY(check_end(part));
done:
  return status;
}

/* ---- the arrays ------------------------------------------------------------------------------------------------- */

static bool has_name(const char *entry, const char *name) {
  const size_t length = strlen(name);
  return strncmp(entry, name, length) == 0 && (strcmp(entry + length, ".npy") == 0 || !entry[length]);
}

enum { FOUND_NONE = -1, FOUND_SEVERAL = -2 };

/* Index of the entry of this name, with or without ".npy"; or FOUND_*. */
static int64_t find_array(const struct npz *npz, const char *name) {
  const int64_t n = zip_get_num_entries(npz->zip, 0);
  int64_t found = FOUND_NONE;
  for (int64_t i = 0; i < n; i++) {
    const char *entry = zip_get_name(npz->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
    if (entry && has_name(entry, name)) found = found == FOUND_NONE ? i : FOUND_SEVERAL;
  }
  return found;
}

static descent_status check_entry(const struct npz_part *part, const zip_stat_t *about) {
  enum { MAX_RATIO = 1032 }; /* the maximum compression ratio of deflate */
  const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if ((about->valid & needed) != needed)
    return status_set(DESCENT_ERROR_DATA, "%s: the zip file does not state its size", part->where);
  if (about->valid & ZIP_STAT_ENCRYPTION_METHOD && about->encryption_method != ZIP_EM_NONE)
    return status_set(DESCENT_ERROR_DATA, "%s: it is encrypted (save it without a password)", part->where);
  if (about->comp_method != ZIP_CM_STORE && about->comp_method != ZIP_CM_DEFLATE)
    return status_set(DESCENT_ERROR_DATA, "%s: unsupported compression method %d (use numpy.savez or savez_compressed)",
                      part->where, about->comp_method);
  if (about->size > INT64_MAX || about->size / MAX_RATIO > about->comp_size)
    return status_set(DESCENT_ERROR_DATA, "%s: %" PRIu64 " compressed bytes cannot decompress to %" PRIu64, part->where,
                      about->comp_size, about->size);
  return DESCENT_OK;
}

static descent_status open_part(struct npz *npz, int64_t index, struct npz_part *part) {
  zip_stat_t about;
  char shown[64];
  descent_status status = DESCENT_OK;
  part->index = index;
  const char *entry = zip_get_name(npz->zip, (zip_uint64_t)index, ZIP_FL_ENC_RAW);
  if (!entry || zip_stat_index(npz->zip, (zip_uint64_t)index, 0, &about) != 0)
    return status_set(DESCENT_ERROR_DATA, "%s: %s", npz->path, zip_strerror(npz->zip));
  size_t length = strlen(entry);
  if (length > 4 && strcmp(entry + length - 4, ".npy") == 0) length -= 4;
  text_escape(entry, length, shown, sizeof shown);
  if (asprintf(&part->where, "%s: array '%s'", npz->path, shown) < 0) {
    part->where = NULL;
    return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory", npz->path);
  }
  TRY(check_entry(part, &about));
  part->stored = (int64_t)about.comp_size;
  part->file = zip_fopen_index(npz->zip, (zip_uint64_t)index, 0);
  if (!part->file && npz_status(zip_get_error(npz->zip), DESCENT_ERROR_DATA) == DESCENT_ERROR_MEMORY)
    TRY(status_set(DESCENT_ERROR_MEMORY, "%s: out of memory while decompressing", part->where));
  if (!part->file)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: cannot decompress: %s", part->where, zip_strerror(npz->zip)));
  TRY(array_open(part->where, (struct array_source){(int64_t)about.size, true, read_compressed, part}, &part->array));
done:
  return status;
}

/* ---- choice of arrays ------------------------------------------------------------------------------------------- */

static descent_status choose_error(const struct npz *npz, const char *problem) {
  char known[400] = "";
  int64_t listed = 0;
  const int64_t n = zip_get_num_entries(npz->zip, 0);
  while (listed < n) {
    const char *entry = zip_get_name(npz->zip, (zip_uint64_t)listed, ZIP_FL_ENC_RAW);
    char name[64] = "?";
    if (entry) snprintf(name, sizeof name, "%.*s", (int)(sizeof name - 1), entry);
    const size_t length = strlen(name);
    if (length > 4 && strcmp(name + length - 4, ".npy") == 0) name[length - 4] = 0;
    if (!text_append_quoted(known, sizeof known, name)) break;
    listed++;
  }
  return status_set(DESCENT_ERROR_DATA, "%s: %s: %s%s (select one with %s:NAME)", npz->path, problem,
                    n ? known : "none", listed < n ? ", ..." : "", npz->path);
}

static descent_status same_name(const struct npz *npz, const char *name) {
  char shown[64];
  text_escape(name, strlen(name), shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s: several arrays are named '%s' (save the file again)", npz->path, shown);
}

/* The index of the first of the names that exists; or FOUND_NONE. */
static descent_status find_first_of(const struct npz *npz, const char *const *names, int64_t *found) {
  for (*found = FOUND_NONE; *found == FOUND_NONE && *names; names++) {
    *found = find_array(npz, *names);
    if (*found == FOUND_SEVERAL) return same_name(npz, *names);
  }
  return DESCENT_OK;
}

static descent_status open_default(struct npz *npz) {
  static const char *const names[PARTS][5] = {[X] = {"X", "x", "data"},
                                              [WEIGHTS] = {"weights", "sample_weight", "w"},
                                              [TARGETS] = {"y", "labels", "target", "targets"}};
  descent_status status = DESCENT_OK;
  for (int k = 0; k < PARTS; k++) {
    int64_t index;
    TRY(find_first_of(npz, names[k], &index));
    if (k == X && index < 0) return choose_error(npz, "several arrays, none named X, x or data");
    if (index >= 0) TRY(open_part(npz, index, &npz->parts[k]));
  }
done:
  return status;
}

static void note_unread(const struct npz *npz, char note[NOTE_SIZE]) {
  struct unread_parts unread = {.n = 0};
  const int64_t n = zip_get_num_entries(npz->zip, 0);
  for (int64_t i = 0; i < n; i++) {
    const char *entry = zip_get_name(npz->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
    bool read = !entry;
    for (int k = 0; k < PARTS; k++) read = read || (npz->parts[k].where && npz->parts[k].index == i);
    if (read) continue;
    char name[64];
    const size_t length = strlen(entry), ending = strlen(".npy");
    const bool ends = length > ending && strcmp(entry + length - ending, ".npy") == 0;
    snprintf(name, sizeof name, "%.*s", (int)(ends && length < sizeof name ? length - ending : length), entry);
    matrix_add_unread(&unread, name);
  }
  matrix_note_unread(&unread, note);
}

static descent_status open_parts(struct npz *npz, const char *part) {
  const int64_t n = zip_get_num_entries(npz->zip, 0);
  if (n < 1) return status_set(DESCENT_ERROR_DATA, "%s: the zip file is empty", npz->path);
  if (!part && n > 1) return open_default(npz);
  const int64_t index = part ? find_array(npz, part) : 0;
  if (index >= 0) return open_part(npz, index, &npz->parts[X]);
  if (index == FOUND_SEVERAL) return same_name(npz, part);
  char problem[100], shown[64];
  text_escape(part, strlen(part), shown, sizeof shown);
  snprintf(problem, sizeof problem, "unknown array '%s', known", shown);
  return choose_error(npz, problem);
}

/* ---- the matrix ------------------------------------------------------------------------------------------------- */

static descent_status read_rows(struct matrix *matrix, int64_t rows, double *cells) {
  struct npz *npz = matrix->state;
  descent_status status = DESCENT_OK;
  for (int k = 0; k < PARTS; k++) {
    struct npz_part *part = &npz->parts[k];
    if (!part->where) continue;
    TRY(read_part(part, rows, cells, matrix->columns, &matrix->inexact));
    cells += part->array.columns;
  }
done:
  return status;
}

static void close_npz(void *state) {
  struct npz *npz = state;
  for (int k = 0; k < PARTS; k++) {
    array_close(&npz->parts[k].array);
    if (npz->parts[k].file) zip_fclose(npz->parts[k].file);
    free(npz->parts[k].where);
  }
  if (npz->zip) zip_discard(npz->zip);
  free(npz);
}

static descent_status describe(struct npz *npz, struct matrix *matrix) {
  const struct npz_part *parts = npz->parts;
  *matrix = (struct matrix){.path = npz->path, .rows = parts[X].array.rows, .read = read_rows, .close = close_npz};
  for (int k = 0; k < PARTS; k++) {
    if (!parts[k].where) continue;
    matrix->columns += parts[k].array.columns;
    matrix->stored += parts[k].stored;
    if (parts[k].array.rows != matrix->rows)
      return status_set(DESCENT_ERROR_DATA, "%s has %" PRId64 " rows, but array X has %" PRId64, parts[k].where,
                        parts[k].array.rows, matrix->rows);
  }
  matrix->weights = parts[WEIGHTS].where ? parts[WEIGHTS].array.columns : 0;
  matrix->targets = parts[TARGETS].where ? parts[TARGETS].array.columns : 0;
  if (matrix->weights > 1)
    return status_set(DESCENT_ERROR_DATA, "%s has %" PRId64 " columns, not 1", parts[WEIGHTS].where, matrix->weights);
  if (matrix->columns > MATRIX_MAX_COLUMNS)
    return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " columns exceed the maximum of %d", npz->path,
                      matrix->columns, MATRIX_MAX_COLUMNS);
  matrix->state = npz;
  return DESCENT_OK;
}

/* The record at the end of a zip file, in its 32-bit form, or in its 64-bit form, which a locator before the former
 * points to: how many entries the directory has, and its size and place. All are little-endian. */
struct zip_end {
  uint64_t entries, size, offset;
};

static struct zip_end parse_end(const unsigned char *at) {
  struct zip_end end = {0};
  memcpy(&end.entries, at + 10, 2);
  memcpy(&end.size, at + 12, 4);
  memcpy(&end.offset, at + 16, 4);
  return end;
}

static struct zip_end parse_end_64(FILE *file, const unsigned char *locator) {
  unsigned char at[56] = {0};
  struct zip_end end = {0};
  int64_t offset;
  memcpy(&offset, locator + 8, 8);
  if (offset < 0 || fseeko(file, offset, SEEK_SET) != 0 || fread(at, 1, sizeof at, file) != sizeof at) return end;
  memcpy(&end.entries, at + 32, 8);
  memcpy(&end.size, at + 40, 8);
  memcpy(&end.offset, at + 48, 8);
  return end;
}

/* libzip hashes the names of all entries, for which names can be made that take time in proportion to the square of
 * their number. It searches the last bytes for the record, before a comment of at most 64 KiB, and may take any that fits
 * the file: so every one is checked. Bytes that look like one by chance do not fit. */
static descent_status check_entries(const char *path) {
  enum { MOST = 10000, TAIL = (1 << 16) + 256, RECORD = 22, ENTRY = 46 };
  descent_status status = DESCENT_OK;
  FILE *file = fopen(path, "rbe");
  unsigned char *tail = memory_allocate(TAIL, 1, "the directory of a zip file");
  if (!tail) TRY(DESCENT_ERROR_MEMORY);
  if (!file || fseeko(file, 0, SEEK_END) != 0) TRY(status_cannot_read(path, errno));
  const int64_t size = ftello(file), start = size > TAIL ? size - TAIL : 0;
  const bool sought = fseeko(file, start, SEEK_SET) == 0;
  const int64_t n = sought ? (int64_t)fread(tail, 1, TAIL, file) : 0;
  for (int64_t i = 0; i + RECORD - 2 <= n; i++) {
    struct zip_end end = {0};
    if (memcmp(tail + i, "PK\5\6", 4) == 0) end = parse_end(tail + i);
    if (memcmp(tail + i, "PK\6\7", 4) == 0) end = parse_end_64(file, tail + i);
    const uint64_t before = (uint64_t)(start + i);
    if (end.entries > MOST && end.size <= before && end.offset <= before - end.size && end.entries <= end.size / ENTRY)
      TRY(status_set(DESCENT_ERROR_DATA, "%s: %" PRIu64 " arrays exceed the maximum of %d", path, end.entries, MOST));
  }
done:
  if (file) fclose(file);
  free(tail);
  return status;
}

descent_status npz_open(const char *path, const char *part, struct matrix *matrix) {
  struct matrix opened;
  int code = 0;
  descent_status status;
  struct npz *npz = memory_allocate(1, sizeof *npz, "the reader");
  if (!npz) return DESCENT_ERROR_MEMORY;
  npz->path = path;
  TRY(stream_require_file(path, "which .npz requires"));
  if (access(path, R_OK) != 0) TRY(status_cannot_read(path, errno));
  TRY(check_entries(path));
  npz->zip = zip_open(path, ZIP_RDONLY, &code);
  if (!npz->zip) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const bool unread = code == ZIP_ER_OPEN || code == ZIP_ER_NOENT || code == ZIP_ER_READ;
    status = npz_status(&error, unread ? DESCENT_ERROR_READ : DESCENT_ERROR_DATA);
    status_set(status, "%s: cannot read: %s", path,
               status == DESCENT_ERROR_MEMORY ? "out of memory" : zip_error_strerror(&error));
    zip_error_fini(&error);
    goto done;
  }
  TRY(open_parts(npz, part));
  TRY(describe(npz, &opened));
  if (!part) note_unread(npz, opened.note);
  *matrix = opened;
  npz = NULL;
done:
  if (npz) close_npz(npz);
  return status;
}
#endif
