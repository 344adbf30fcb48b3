/* libzip builds the archive in memory; file_writer then writes it. */
#include "core/npz.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 64 };

size_t npy_header(const struct npz_array *array, char header[NPY_HEADER]) {
  char shape[64] = "";
  static const char magic[] = "\x93NUMPY\x01"; /* with its terminating 0: version 1.0 */
  const size_t prefix = sizeof magic + 2;
  if (array->rank == 1) snprintf(shape, sizeof shape, "%" PRId64 ",", array->shape[0]);
  if (array->rank == 2) snprintf(shape, sizeof shape, "%" PRId64 ", %" PRId64, array->shape[0], array->shape[1]);
  const int wrote = snprintf(header + prefix, NPY_HEADER - prefix,
                             "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", array->descr, shape);
  if (wrote < 0 || (size_t)wrote + 1 > NPY_HEADER - prefix) return 0;
  const size_t used = prefix + (size_t)wrote + 1, length = (used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  memset(header + prefix + wrote, ' ', length - prefix - (size_t)wrote);
  header[length - 1] = '\n';
  memcpy(header, magic, sizeof magic);
  header[sizeof magic] = (char)((length - prefix) & 0xff);
  header[sizeof magic + 1] = (char)((length - prefix) >> 8);
  return length;
}

#ifndef DESCENT_FORMATS_BUILT
#include "core/left_out.h"

descent_status npz_save(const char *path, bool quiet, const struct npz_array *arrays, int64_t n) {
  (void)quiet, (void)arrays, (void)n;
  return format_left_out(path, "write npz");
}

#else
#include <errno.h>
#include <stdlib.h>
#include <zip.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/status.h"

enum { DOS_1980 = 1 << 5 | 1 };

descent_status npz_status(const zip_error_t *error, descent_status otherwise) {
  const int code = zip_error_code_zip(error);
  const bool lacking = code == ZIP_ER_MEMORY || code == ZIP_ER_OK || zip_error_code_system(error) == ENOMEM;
  return lacking ? DESCENT_ERROR_MEMORY : otherwise;
}

static descent_status zip_failed(const char *path, zip_error_t *error) {
  const descent_status status = npz_status(error, DESCENT_ERROR_WRITE);
  return status_set(status, "%s: not written: %s", path,
                    status == DESCENT_ERROR_MEMORY ? "out of memory" : zip_error_strerror(error));
}

/* Every entry is dated 1980-01-01, so that the file depends neither on the clock nor on the time zone. */
static descent_status add_array(const char *path, zip_t *archive, const struct npz_array *array,
                                char header[NPY_HEADER]) {
  const size_t length = npy_header(array, header);
  zip_buffer_fragment_t parts[] = {
      {.data = (zip_uint8_t *)header, .length = length},
      {.data = (zip_uint8_t *)(uintptr_t)array->data, .length = (zip_uint64_t)array->bytes}};
  char name[80];
  snprintf(name, sizeof name, "%s.npy", array->name);
  if (!length)
    return status_set(DESCENT_ERROR_INTERNAL, "%s: not written: the type name of array '%s' is too long", path,
                      array->name);
  zip_source_t *source = zip_source_buffer_fragment(archive, parts, 2, 0);
  if (!source) return zip_failed(path, zip_get_error(archive));
  const zip_int64_t index = zip_file_add(archive, name, source, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(source);
    return zip_failed(path, zip_get_error(archive));
  }
  if (zip_set_file_compression(archive, (zip_uint64_t)index, ZIP_CM_STORE, 0) ||
      zip_file_set_dostime(archive, (zip_uint64_t)index, 0, DOS_1980, 0))
    return zip_failed(path, zip_get_error(archive));
  return DESCENT_OK;
}

/* Copies the finished archive from memory to the file. */
static descent_status copy_out(const char *path, bool quiet, zip_source_t *source) {
  struct file_writer writer = {0};
  char *block = NULL;
  zip_int64_t got;
  enum { BLOCK = 1 << 20 };
  descent_status status = DESCENT_OK;
  if (zip_source_open(source)) return zip_failed(path, zip_source_error(source));
  block = memory_allocate(BLOCK, 1, "a block of a file");
  if (!block) TRY(DESCENT_ERROR_MEMORY);
  TRY(file_create(path, &writer));
  writer.quiet = quiet;
  while ((got = zip_source_read(source, block, BLOCK)) > 0) TRY(file_write(&writer, block, (size_t)got));
  if (got < 0) TRY(zip_failed(path, zip_source_error(source)));
  TRY(file_commit(&writer));
done:
  file_abandon(&writer);
  zip_source_close(source);
  free(block);
  return status;
}

descent_status npz_save(const char *path, bool quiet, const struct npz_array *arrays, int64_t n) {
  zip_error_t error;
  zip_t *archive = NULL;
  zip_source_t *memory = NULL;
  char(*headers)[NPY_HEADER] = NULL; /* the archive points into them until it is closed */
  descent_status status = DESCENT_OK;
  zip_error_init(&error);
  headers = memory_allocate(n, sizeof *headers, "headers of arrays");
  if (!headers) TRY(DESCENT_ERROR_MEMORY);
  memory = zip_source_buffer_create(NULL, 0, 0, &error);
  if (!memory) TRY(zip_failed(path, &error));
  archive = zip_open_from_source(memory, ZIP_TRUNCATE, &error);
  if (!archive) TRY(zip_failed(path, &error));
  zip_source_keep(memory); /* closing the archive drops its reference */
  for (int64_t i = 0; i < n; i++) TRY(add_array(path, archive, &arrays[i], headers[i]));
  if (zip_close(archive)) TRY(zip_failed(path, zip_get_error(archive)));
  archive = NULL;
  TRY(copy_out(path, quiet, memory));
done:
  if (archive) zip_discard(archive);
  zip_source_free(memory);
  zip_error_fini(&error);
  free(headers);
  return status;
}
#endif
