/* The header of an .npy file is a Python dictionary literal. It is parsed strictly, and its sizes are checked against
 * the size of the file before they are used. */
#include "data/array.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "data/matrix.h"
#include "data/text.h"

/* Magic, version, and the header's length in two bytes (version 1) or four. */
enum { SHORT_PREFIX = 10, LONG_PREFIX = 12, MAX_HEADER = 1 << 16, WINDOW = 4 << 20, COLUMN_WINDOW = 64 << 20 };

/* ---- the header's text ------------------------------------------------------------------------------------------ */

struct parser {
  const char *where;
  const char *text, *end, *at;
  int64_t base; /* offset of text[0] in the file */
};

static descent_status header_error(const struct parser *p, const char *problem) {
  char shown[48];
  const size_t left = (size_t)(p->end - p->at);
  text_escape(p->at, left < 16 ? left : 16, shown, sizeof shown);
  return status_set(DESCENT_ERROR_DATA, "%s: byte %" PRId64 ": %s at '%s' (save the file again with numpy.save)",
                    p->where, p->base + (p->at - p->text), problem, shown);
}

static void skip_blanks(struct parser *p) {
  while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\t')) p->at++;
}

/* Skips blanks and consumes the character if it is next. */
static bool accept(struct parser *p, char c) {
  skip_blanks(p);
  if (p->at == p->end || *p->at != c) return false;
  p->at++;
  return true;
}

static bool accept_word(struct parser *p, const char *word) {
  const size_t length = strlen(word);
  skip_blanks(p);
  if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0) return false;
  p->at += length;
  return true;
}

/* 'text' or "text", without escapes. */
static descent_status parse_text(struct parser *p, char *text, size_t size) {
  skip_blanks(p);
  if (p->at == p->end || (*p->at != '\'' && *p->at != '"')) return header_error(p, "expected a quoted string");
  const char *const begin = p->at + 1;
  const char *const close = memchr(begin, *p->at, (size_t)(p->end - begin));
  if (!close || (size_t)(close - begin) >= size || memchr(begin, '\\', (size_t)(close - begin)))
    return header_error(p, "invalid string");
  memcpy(text, begin, (size_t)(close - begin));
  text[close - begin] = 0;
  p->at = close + 1;
  return DESCENT_OK;
}

static descent_status parse_size(struct parser *p, int64_t *size) {
  skip_blanks(p);
  const char *const begin = p->at;
  for (*size = 0; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
    if (!size_product(*size, 10, size) || __builtin_add_overflow(*size, *p->at - '0', size))
      return header_error(p, "dimension out of range");
  if (p->at == begin) return header_error(p, "expected a dimension");
  if (p->at < p->end && *p->at == 'L') p->at++; /* Python 2's long integers */
  return DESCENT_OK;
}

/* (), (5,), (3, 4), (3, 4,) */
static descent_status parse_shape(struct parser *p, struct array *array) {
  descent_status status = DESCENT_OK;
  bool comma = true;
  if (!accept(p, '(')) return header_error(p, "expected a shape");
  while (!accept(p, ')')) {
    if (!comma) return header_error(p, "expected ',' or ')'");
    if (array->rank == ARRAY_MAX_RANK) return header_error(p, "more than 64 dimensions");
    TRY(parse_size(p, &array->shape[array->rank++]));
    comma = accept(p, ',');
  }
  if (array->rank == 1 && !comma) return header_error(p, "expected ',' after a single dimension");
done:
  return status;
}

/* '<f4': byte order, kind, bytes. */
static descent_status parse_type(struct parser *p, struct element_type *element) {
  char text[32];
  descent_status status = DESCENT_OK;
  skip_blanks(p);
  if (p->at < p->end && *p->at == '[')
    return status_set(DESCENT_ERROR_DATA,
                      "%s: structured arrays are not supported (save the fields as one array of numbers)", p->where);
  TRY(parse_text(p, text, sizeof text));
  static const char kinds[] = {
      [ELEMENT_BOOL] = 'b', [ELEMENT_UNSIGNED] = 'u', [ELEMENT_SIGNED] = 'i', [ELEMENT_FLOAT] = 'f'};
  const char *const kind = text[0] && text[1] ? memchr(kinds, text[1], sizeof kinds) : NULL;
  if (text[0] && strchr("<>|=", text[0]) && kind && strlen(text) == 3) {
    const bool native_is_big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    *element = (struct element_type){.kind = (enum element_kind)(kind - kinds),
                                     .size = text[2] - '0',
                                     .big_endian = text[0] == '>' || (text[0] == '=' && native_is_big)};
    if (element_is_supported(*element) && (element->size == 1 || text[0] != '|')) return DESCENT_OK;
  }
  char shown[48];
  text_escape(text, strlen(text), shown, sizeof shown);
  const char kind_name = text[0] ? text[1] : 0;
  return status_set(DESCENT_ERROR_DATA,
                    "%s: unsupported element type '%s'%s (convert the array to numbers with .astype)", p->where, shown,
                    kind_name == 'O'                       ? ", Python objects"
                    : kind_name == 'c'                     ? ", complex numbers"
                    : kind_name == 'S' || kind_name == 'U' ? ", text"
                    : kind_name == 'M' || kind_name == 'm' ? ", dates"
                                                           : "");
done:
  return status;
}

static descent_status parse_member(struct parser *p, struct array *array, unsigned *seen) {
  static const char *const names[] = {"descr", "fortran_order", "shape"};
  char name[32];
  unsigned member = 0;
  descent_status status;
  const char *const at = p->at;
  TRY(parse_text(p, name, sizeof name));
  while (member < 3 && strcmp(name, names[member]) != 0) member++;
  if (member == 3 || *seen & 1U << member) {
    p->at = at;
    return header_error(p, member == 3 ? "unknown name" : "duplicate name");
  }
  *seen |= 1U << member;
  if (!accept(p, ':')) return header_error(p, "expected ':'");
  if (member == 0) return parse_type(p, &array->element);
  if (member == 2) return parse_shape(p, array);
  array->by_column = accept_word(p, "True");
  if (!array->by_column && !accept_word(p, "False")) return header_error(p, "expected True or False");
done:
  return status;
}

static descent_status parse_header(struct parser *p, struct array *array) {
  unsigned seen = 0;
  descent_status status = DESCENT_OK;
  bool comma = true;
  if (!accept(p, '{')) return header_error(p, "expected '{'");
  while (!accept(p, '}')) {
    if (!comma) return header_error(p, "expected ',' or '}'");
    TRY(parse_member(p, array, &seen));
    comma = accept(p, ',');
  }
  if (seen != 7) return header_error(p, "descr, fortran_order or shape is missing");
  skip_blanks(p);
  if (p->at < p->end) return header_error(p, "unexpected text after the header");
done:
  return status;
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

/* Reads magic, version and the header's length; `length` bytes of header follow at array->start. */
static descent_status read_prefix(struct array *array, int64_t *length) {
  unsigned char prefix[LONG_PREFIX] = {0};
  const int64_t size = array->source.size;
  descent_status status;
  if (size < SHORT_PREFIX)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " bytes: too short for a .npy file (is it truncated?)",
                   array->where, size));
  TRY(array->source.read(array->source.state, 0, SHORT_PREFIX, prefix));
  if (memcmp(prefix, "\x93NUMPY", 6) != 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: byte 0: not a .npy file (choose another format)", array->where));
  if (prefix[6] < 1 || prefix[6] > 3 || prefix[7] != 0)
    TRY(status_set(DESCENT_ERROR_DATA, "%s: byte 6: unsupported .npy version %d.%d (1.0 to 3.0 are supported)",
                   array->where, prefix[6], prefix[7]));
  array->start = prefix[6] == 1 ? SHORT_PREFIX : LONG_PREFIX;
  if (prefix[6] > 1 && size >= LONG_PREFIX)
    TRY(array->source.read(array->source.state, SHORT_PREFIX, LONG_PREFIX - SHORT_PREFIX, prefix + SHORT_PREFIX));
  *length = prefix[8] | prefix[9] << 8 | (int64_t)prefix[10] << 16 | (int64_t)prefix[11] << 24;
  if (*length > MAX_HEADER || *length > size - array->start)
    TRY(status_set(DESCENT_ERROR_DATA,
                   "%s: byte 8: a header of %" PRId64 " bytes in a file of %" PRId64 " (is it truncated?)",
                   array->where, *length, size));
done:
  return status;
}

/* Rows are the first dimension, columns the product of the others. */
static descent_status check_shape(struct array *array) {
  const int64_t left = array->source.size - array->start;
  int64_t bytes;
  if (array->rank == 0)
    return status_set(DESCENT_ERROR_DATA, "%s: a single number, not an array of rows (give a 1-D or 2-D array)",
                      array->where);
  array->rows = array->shape[0];
  array->columns = 1;
  for (int d = 1; d < array->rank; d++)
    if (!size_product(array->columns, array->shape[d], &array->columns))
      array->columns = INT64_MAX; /* rejected below */
  if (array->rows == 0 || array->columns == 0)
    return status_set(DESCENT_ERROR_DATA, "%s: the array has no elements", array->where);
  if (array->columns > MATRIX_MAX_COLUMNS)
    return status_set(DESCENT_ERROR_DATA, "%s: %" PRId64 " columns exceed the maximum of %d", array->where,
                      array->columns, MATRIX_MAX_COLUMNS);
  if (!size_product(array->rows, array->columns, &bytes) || !size_product(bytes, array->element.size, &bytes) ||
      bytes > left)
    return status_set(DESCENT_ERROR_DATA,
                      "%s: byte %" PRId64 ": %" PRId64 " x %" PRId64
                      " elements of %d bytes do not fit in the remaining %" PRId64 " bytes (is the file truncated?)",
                      array->where, array->start, array->rows, array->columns, array->element.size, left);
  if (bytes < left)
    return status_set(DESCENT_ERROR_DATA,
                      "%s: byte %" PRId64 ": %" PRId64 " bytes after the array (save the file again)", array->where,
                      array->start + bytes, left - bytes);
  return DESCENT_OK;
}

/* Maps the columns of a row from Fortran order, the first dimension fastest, to C order. */
static descent_status place_columns(struct array *a) {
  int64_t index[ARRAY_MAX_RANK] = {0};
  if (a->rank < 3) return DESCENT_OK;
  a->positions = memory_allocate(a->columns, sizeof *a->positions, "the columns");
  if (!a->positions) return DESCENT_ERROR_MEMORY;
  for (int64_t c = 0; c < a->columns; c++) {
    int64_t position = 0;
    for (int d = 1; d < a->rank; d++) position = position * a->shape[d] + index[d];
    a->positions[c] = (int32_t)position;
    for (int d = 1; d < a->rank && ++index[d] == a->shape[d]; d++) index[d] = 0;
  }
  return DESCENT_OK;
}

/* Allocates a window of rows. In Fortran order all rows are held if they are few or the source is not seekable; else the
 * window is larger, since each column of it is read separately. */
static descent_status prepare_window(struct array *a) {
  if (a->columns == 1) a->by_column = false; /* both orders are the same */
  const int64_t row_bytes = a->columns * a->element.size, bytes = a->rows * row_bytes;
  const bool whole = a->by_column && (a->source.in_order || bytes <= COLUMN_WINDOW);
  const int64_t fitting = (a->by_column && !whole ? COLUMN_WINDOW : WINDOW) / row_bytes;
  a->capacity = fitting < 1 ? 1 : fitting < a->rows ? fitting : a->rows;
  a->window = memory_allocate(a->capacity * row_bytes, 1, a->where);
  if (!a->window) return DESCENT_ERROR_MEMORY;
  if (a->by_column && place_columns(a) != DESCENT_OK) return DESCENT_ERROR_MEMORY;
  if (!whole) return DESCENT_OK;
  a->whole = memory_allocate(bytes, 1, a->where);
  if (!a->whole) return DESCENT_ERROR_MEMORY;
  return a->source.read(a->source.state, a->start, bytes, a->whole);
}

descent_status array_open(const char *where, struct array_source source, struct array *array) {
  char *header = NULL;
  int64_t length;
  descent_status status;
  *array = (struct array){.where = where, .source = source};
  TRY(read_prefix(array, &length));
  header = memory_allocate(length, 1, "the header");
  if (!header) TRY(DESCENT_ERROR_MEMORY);
  TRY(source.read(source.state, array->start, length, header));
  struct parser parser = {where, header, header + length, header, array->start};
  TRY(parse_header(&parser, array));
  array->start += length;
  TRY(check_shape(array));
  TRY(prepare_window(array));
done:
  free(header);
  if (status != DESCENT_OK) array_close(array);
  return status;
}

/* Reads rows [a->next, a->next + n) of every column in turn. */
static descent_status fill_by_column(struct array *a, int64_t n) {
  const int64_t size = a->element.size;
  descent_status status = DESCENT_OK;
  for (int64_t c = 0; c < a->columns; c++) {
    const int64_t offset = (c * a->rows + a->next) * size;
    if (a->whole)
      memcpy(a->window + c * n * size, a->whole + offset, (size_t)(n * size));
    else
      TRY(a->source.read(a->source.state, a->start + offset, n * size, a->window + c * n * size));
  }
done:
  return status;
}

static descent_status fill_window(struct array *a) {
  const int64_t left = a->rows - a->next, n = left < a->capacity ? left : a->capacity;
  const int64_t row_bytes = a->columns * a->element.size;
  descent_status status =
      a->by_column ? fill_by_column(a, n)
                   : a->source.read(a->source.state, a->start + a->next * row_bytes, n * row_bytes, a->window);
  a->first = a->next;
  a->held = status == DESCENT_OK ? n : 0;
  return status;
}

descent_status array_read(struct array *a, int64_t rows, double *cells, int64_t pitch, int64_t *inexact) {
  const int64_t size = a->element.size;
  descent_status status = DESCENT_OK;
  for (int64_t n; rows > 0; rows -= n, cells += n * pitch, a->next += n) {
    if (a->next >= a->first + a->held) TRY(fill_window(a));
    const int64_t skipped = a->next - a->first, left = a->held - skipped;
    n = rows < left ? rows : left;
    if (!a->by_column)
      *inexact += elements_to_double(a->element, a->window + skipped * a->columns * size, n, a->columns, cells, pitch);
    for (int64_t c = 0; a->by_column && c < a->columns; c++)
      *inexact += elements_to_double(a->element, a->window + (c * a->held + skipped) * size, n, 1,
                                     cells + (a->positions ? a->positions[c] : c), pitch);
  }
done:
  return status;
}

void array_close(struct array *array) {
  free(array->window);
  free(array->whole);
  free(array->positions);
  array->window = array->whole = NULL;
  array->positions = NULL;
}
