/* IDX, the format of MNIST: two zero bytes, type, number of dimensions, dimensions (32 bits each), elements; all
 * big-endian, optionally compressed by gzip. http://yann.lecun.com/exdb/mnist */
#include <inttypes.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/elements.h"
#include "data/matrix.h"
#include "data/stream.h"

enum { BUFFER = 1 << 20 };

struct idx {
  struct stream stream;
  struct element_type element;
  int64_t left; /* rows not read yet */
  char *buffer; /* (rows_at_a_time) rows */
  int64_t rows_at_a_time;
};

/* Reads `bytes` bytes or fails. */
static descent_status read_exactly(struct idx *idx, void *to, int64_t bytes) {
  int64_t got;
  const int64_t offset = idx->stream.offset;
  descent_status status;
  TRY(stream_read(&idx->stream, to, bytes, &got));
  if (got < bytes)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: byte %" PRId64 ": the file ends here, %" PRId64 " bytes too early (is it truncated?)",
                   idx->stream.path, offset + got, bytes - got));
done:
  return status;
}

static bool element_of(unsigned char code, struct element_type *element) {
  switch (code) {
    case 0x08: *element = (struct element_type){ELEMENT_UNSIGNED, 1, true}; return true;
    case 0x09: *element = (struct element_type){ELEMENT_SIGNED, 1, true}; return true;
    case 0x0B: *element = (struct element_type){ELEMENT_SIGNED, 2, true}; return true;
    case 0x0C: *element = (struct element_type){ELEMENT_SIGNED, 4, true}; return true;
    case 0x0D: *element = (struct element_type){ELEMENT_FLOAT, 4, true}; return true;
    case 0x0E: *element = (struct element_type){ELEMENT_FLOAT, 8, true}; return true;
    default: return false;
  }
}

/* An uncompressed file must have the length that its header states. */
static descent_status check_size(struct idx *idx, int64_t rows, int64_t columns) {
  int64_t bytes;
  if (rows == 0 || columns == 0)
    return status_set(DESCENT_ERROR_DATA, "%s: the array has no elements", idx->stream.path);
  if (columns > MATRIX_MAX_COLUMNS)
    return status_set(DESCENT_ERROR_DATA, "%s: byte 8: %" PRId64 " columns exceed the maximum of %d", idx->stream.path,
                      columns, MATRIX_MAX_COLUMNS);
  if (!size_product(rows, columns * idx->element.size, &bytes))
    return status_set(DESCENT_ERROR_DATA, "%s: byte 4: the dimensions are out of range", idx->stream.path);
  if (idx->stream.size < 0 || stream_is_compressed(&idx->stream) || bytes == idx->stream.size - idx->stream.offset)
    return DESCENT_OK;
  return status_set(DESCENT_ERROR_DATA,
                    "%s: byte %" PRId64 ": expected %" PRId64 " x %" PRId64 " elements of %d bytes, but %" PRId64
                    " bytes follow (is it truncated?)",
                    idx->stream.path, idx->stream.offset, rows, columns, idx->element.size,
                    idx->stream.size - idx->stream.offset);
}

static descent_status read_header(struct idx *idx, int64_t *rows, int64_t *columns) {
  unsigned char bytes[4];
  descent_status status;
  TRY(read_exactly(idx, bytes, 4));
  const int rank = bytes[3];
  if (bytes[0] || bytes[1] || !element_of(bytes[2], &idx->element))
    TRY(status_set(DESCENT_ERROR_DATA, "%s: byte 0: %02x %02x %02x: not an IDX file (choose another format)",
                   idx->stream.path, bytes[0], bytes[1], bytes[2]));
  if (rank == 0) TRY(status_set(DESCENT_ERROR_DATA, "%s: byte 3: no dimensions", idx->stream.path));
  *rows = *columns = 1;
  for (int d = 0; d < rank; d++) {
    TRY(read_exactly(idx, bytes, 4));
    const int64_t size = (int64_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
    if (d == 0)
      *rows = size;
    else if (!size_product(*columns, size, columns) || *columns > MATRIX_MAX_COLUMNS)
      *columns = (int64_t)MATRIX_MAX_COLUMNS + 1; /* rejected below */
  }
  TRY(check_size(idx, *rows, *columns));
done:
  return status;
}

/* Checks that nothing follows the last row; reading to the end also verifies gzip's checksum. */
static descent_status check_end(struct idx *idx) {
  char more;
  int64_t got;
  const int64_t offset = idx->stream.offset;
  descent_status status;
  TRY(stream_read(&idx->stream, &more, 1, &got));
  if (got)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: byte %" PRId64 ": the file is longer than its dimensions state",
                   idx->stream.path, offset));
done:
  return status;
}

static descent_status read_rows(struct matrix *matrix, int64_t rows, double *cells) {
  struct idx *idx = matrix->state;
  descent_status status = DESCENT_OK;
  for (int64_t n; rows > 0; rows -= n, cells += n * matrix->columns) {
    n = rows < idx->rows_at_a_time ? rows : idx->rows_at_a_time;
    TRY(read_exactly(idx, idx->buffer, n * matrix->columns * idx->element.size));
    elements_to_double(idx->element, idx->buffer, n, matrix->columns, cells, matrix->columns);
    idx->left -= n;
  }
  if (idx->left == 0) TRY(check_end(idx));
done:
  return status;
}

static void close_idx(void *state) {
  struct idx *idx = state;
  stream_close(&idx->stream);
  free(idx->buffer);
  free(idx);
}

descent_status idx_open(const char *path, struct matrix *matrix) {
  int64_t rows, columns;
  descent_status status;
  struct idx *idx = memory_allocate(1, sizeof *idx, "the reader");
  if (!idx) return DESCENT_ERROR_MEMORY;
  TRY(stream_open(path, &idx->stream));
  TRY(read_header(idx, &rows, &columns));
  const int64_t row_bytes = columns * idx->element.size;
  idx->rows_at_a_time = row_bytes < BUFFER ? BUFFER / row_bytes : 1;
  if (idx->rows_at_a_time > rows) idx->rows_at_a_time = rows;
  idx->buffer = memory_allocate(idx->rows_at_a_time * row_bytes, 1, "rows");
  if (!idx->buffer) TRY(DESCENT_ERROR_MEMORY);
  idx->left = rows;
  *matrix = (struct matrix){.path = path,
                            .stored = idx->stream.size > 0 ? idx->stream.size : 0,
                            .rows = rows,
                            .columns = columns,
                            .read = read_rows,
                            .close = close_idx,
                            .state = idx};
  idx = NULL;
done:
  if (idx) close_idx(idx);
  return status;
}
