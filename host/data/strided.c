/* Arrays of callers, converted a piece of a row at a time. */
#include "data/strided.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/handle.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/status.h"
#include "core/terms.h"
#include "data/elements.h"

enum { PIECE = 512 }; /* elements converted at a time */

#define COUNT_TERM(NAME, text) +1
enum { DTYPES = 0 DESCENT_DTYPE_MAP(COUNT_TERM), PLACES = 0 DESCENT_PLACE_MAP(COUNT_TERM) };

static const enum element_kind kinds[DTYPES] = {
    [DESCENT_DTYPE_F32] = ELEMENT_FLOAT,  [DESCENT_DTYPE_F64] = ELEMENT_FLOAT,   [DESCENT_DTYPE_F16] = ELEMENT_FLOAT,
    [DESCENT_DTYPE_BF16] = ELEMENT_BRAIN, [DESCENT_DTYPE_U8] = ELEMENT_UNSIGNED, [DESCENT_DTYPE_I32] = ELEMENT_SIGNED,
    [DESCENT_DTYPE_I64] = ELEMENT_SIGNED,
};

static struct element_type element_of(descent_dtype dtype) {
  return (struct element_type){kinds[dtype], dtype_size(dtype), __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__};
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

/* Whether all elements are within 2^62 bytes of the first. */
static bool has_reach(const descent_array *array) {
  const int64_t most = (INT64_C(1) << 62) / dtype_size(array->dtype);
  int64_t down, across, reach;
  if (array->row_stride == INT64_MIN || array->column_stride == INT64_MIN) return false;
  return !__builtin_mul_overflow(array->rows - 1, llabs(array->row_stride), &down) &&
         !__builtin_mul_overflow(array->columns - 1, llabs(array->column_stride), &across) &&
         !__builtin_add_overflow(down, across, &reach) && reach < most;
}

descent_status strided_complete(const descent_array *given, const char *name, descent_array *array) {
  int64_t count;
  descent_status status;
  TRY(argument_check(given, name));
  TRY(complete_array(given, name, array));
  if ((unsigned)array->dtype >= DTYPES)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: unknown dtype %d", name, (int)array->dtype);
  if ((unsigned)array->place >= PLACES)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: unknown place %d", name, (int)array->place);
  if (!array->data) return status_set(DESCENT_ERROR_ARGUMENT, "%s: its data is NULL", name);
  if (array->column_stride == 0) array->column_stride = 1;
  if (array->rows < 1 || array->columns < 1 || !size_product(array->rows, array->columns, &count) ||
      (array->row_stride == 0 && __builtin_mul_overflow(array->columns, array->column_stride, &array->row_stride)) ||
      !has_reach(array))
    return status_set(DESCENT_ERROR_ARGUMENT,
                      "%s: %lld x %lld elements with strides %lld, %lld: rows and columns must be at least 1, and all "
                      "of it in the address space",
                      name, (long long)given->rows, (long long)given->columns, (long long)given->row_stride,
                      (long long)given->column_stride);
done:
  return status;
}

descent_status strided_check_shape(const descent_array *array, const char *name, int64_t most_rows, int64_t columns) {
  if (array->columns != columns)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: has %lld columns: must be %lld", name, (long long)array->columns,
                      (long long)columns);
  if (array->rows > most_rows)
    return status_set(DESCENT_ERROR_ARGUMENT, "%s: has %lld rows: must be at most %lld", name, (long long)array->rows,
                      (long long)most_rows);
  return DESCENT_OK;
}

descent_status strided_check_rows(const descent_array *array, const char *name, int64_t rows) {
  if (array->rows == rows) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: has %lld rows: must be %lld, as X", name, (long long)array->rows,
                    (long long)rows);
}

descent_status strided_check_output(const descent_array *array, const char *name) {
  const enum element_kind kind = kinds[array->dtype];
  if (kind == ELEMENT_FLOAT || kind == ELEMENT_BRAIN) return DESCENT_OK;
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: %s cannot hold results: use f32, f64, f16 or bf16", name,
                    descent_dtype_name(array->dtype));
}

static bool has_no_gaps(const descent_array *array) {
  return (array->column_stride == 1 || array->columns == 1) &&
         (array->row_stride == array->columns || array->rows == 1);
}

bool strided_is_dense(const descent_array *array) {
  return array->dtype == DESCENT_DTYPE_F32 && (uintptr_t)array->data % _Alignof(float) == 0 && has_no_gaps(array);
}

bool strided_is_dense_bytes(const descent_array *array) {
  return array->dtype == DESCENT_DTYPE_U8 && has_no_gaps(array);
}

descent_array strided_part(const descent_array *array, int64_t first, int64_t rows) {
  descent_array part = *array;
  part.data = (char *)array->data + first * array->row_stride * dtype_size(array->dtype);
  part.rows = rows;
  return part;
}

/* ---- conversion -------------------------------------------------------------------------------------------------- */

static const char *element_at(const descent_array *array, int64_t row, int64_t column) {
  return (const char *)array->data +
         (row * array->row_stride + column * array->column_stride) * dtype_size(array->dtype);
}

/* A 64-bit integer is rounded once: by way of a double it could become a tie. */
static float as_float(const descent_array *array, int64_t row, int64_t column, double wide) {
  int64_t whole;
  if (array->dtype != DESCENT_DTYPE_I64) return (float)wide;
  memcpy(&whole, element_at(array, row, column), sizeof whole);
  return (float)whole;
}

static descent_status load_piece(const descent_array *array, const char *name, int64_t row, int64_t column,
                                 int64_t count, float *values) {
  double wide[PIECE];
  elements_load(element_of(array->dtype), element_at(array, row, column),
                array->column_stride * dtype_size(array->dtype), count, wide);
  for (int64_t i = 0; i < count; i++, column++) {
    values[i] = as_float(array, row, column, wide[i]);
    if (isinf(values[i]) && !isinf(wide[i]))
      return status_set(DESCENT_ERROR_ARGUMENT, "%s: row %lld, column %lld: %g exceeds float32", name, (long long)row,
                        (long long)column, wide[i]);
  }
  return DESCENT_OK;
}

descent_status strided_load(const descent_array *array, const char *name, float *values) {
  descent_status status = DESCENT_OK;
  for (int64_t r = 0; r < array->rows; r++)
    for (int64_t j = 0; j < array->columns; j += PIECE) {
      const int64_t left = array->columns - j;
      TRY(load_piece(array, name, r, j, left < PIECE ? left : PIECE, values + r * array->columns + j));
    }
done:
  return status;
}

static void store_element(float x, descent_dtype dtype, void *to) {
  const double wide = (double)x;
  const uint16_t half = dtype == DESCENT_DTYPE_F16 ? f16_from_float(x) : bf16_from_float(x);
  const void *const from = dtype == DESCENT_DTYPE_F32   ? (const void *)&x
                           : dtype == DESCENT_DTYPE_F64 ? (const void *)&wide
                                                        : (const void *)&half;
  memcpy(to, from, (size_t)dtype_size(dtype));
}

void strided_store(const float *values, const descent_array *array) {
  for (int64_t r = 0; r < array->rows; r++)
    for (int64_t j = 0; j < array->columns; j++)
      store_element(values[r * array->columns + j], array->dtype, (char *)element_at(array, r, j));
}
