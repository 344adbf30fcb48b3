/* Arrays of every dtype and layout for tests, each beside the float32 rows that it stands for. */
#ifndef DESCENT_TESTS_ARRAYS_H
#define DESCENT_TESTS_ARRAYS_H

#include <cmath>
#include <cstring>
#include <vector>

#include "internal.h"

namespace arrays {

/* IEEE 754 binary16 by its definition. */
inline double half_value(unsigned bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                     : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -size : size;
}

/* The bits of the nearest 16-bit float of 2^`fraction_bits` steps per power of two, by search; ties to even. */
inline uint16_t nearest(double x, double (*value)(unsigned)) {
  const unsigned sign = std::signbit(x) ? 0x8000 : 0;
  unsigned low = 0, high = 0x7fff; /* finite and infinite codes rise with their value; NaN compares false */
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (value(middle) <= std::fabs(x) ? low : high) = middle;
  }
  const double below = value(low), above = value(high), step = below - value(low ? low - 1 : 0);
  if (std::isinf(below) || below == std::fabs(x)) return static_cast<uint16_t>(sign | low);
  const double next = std::isfinite(above) ? above : below + step; /* where the next value would be */
  const double down = std::fabs(x) - below, up = next - std::fabs(x);
  const bool up_wins = up < down || (up == down && low % 2 == 1);
  return static_cast<uint16_t>(sign | (up_wins ? low + 1 : low));
}

inline double brain_value(unsigned bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof x);
  return static_cast<double>(x);
}

/* An element as its bytes, from a double that the dtype need not hold; `rounded` is the float32 that it stands for. */
inline std::vector<char> element(descent_dtype dtype, double x, float *rounded) {
  std::vector<char> bytes(8);
  const auto put = [&](auto value) {
    bytes.resize(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    *rounded = static_cast<float>(value);
  };
  switch (dtype) {
    case DESCENT_DTYPE_F32: put(static_cast<float>(x)); break;
    case DESCENT_DTYPE_F64: put(x); break;
    case DESCENT_DTYPE_F16:
      put(nearest(x, half_value));
      *rounded = static_cast<float>(half_value(nearest(x, half_value)));
      break;
    case DESCENT_DTYPE_BF16:
      put(nearest(x, brain_value));
      *rounded = static_cast<float>(brain_value(nearest(x, brain_value)));
      break;
    case DESCENT_DTYPE_U8: put(static_cast<uint8_t>(std::fabs(std::round(x)))); break;
    case DESCENT_DTYPE_I32: put(static_cast<int32_t>(std::round(x))); break;
    case DESCENT_DTYPE_I64: put(static_cast<int64_t>(std::round(x))); break;
  }
  return bytes;
}

/* How elements are laid out, in units that `strides` turns into strides of an array of so many rows and columns. */
enum Layout { DENSE, PADDED, BY_COLUMN, BACKWARDS, EVERY_THIRD, UNALIGNED, LAYOUTS };
inline const char *layout_name(int layout) {
  static const char *const names[] = {"dense", "padded", "by column", "backwards", "every third", "unaligned"};
  return names[layout];
}

/* Memory with an array in it; bytes between its elements hold 0xa5. */
struct Array {
  descent_array array = descent_array_default();
  std::vector<char> bytes;
  std::vector<float> rows; /* what it stands for */

  Array(descent_dtype dtype, Layout layout, int64_t n_rows, int64_t columns, const std::vector<double> &values) {
    make(dtype, layout, n_rows, columns);
    for (int64_t r = 0; r < n_rows; r++)
      for (int64_t j = 0; j < columns; j++) {
        float rounded;
        const std::vector<char> e = element(dtype, values[static_cast<size_t>(r * columns + j)], &rounded);
        std::memcpy(at(r, j), e.data(), e.size());
        rows.push_back(rounded);
      }
  }
  /* For results. */
  Array(descent_dtype dtype, Layout layout, int64_t n_rows, int64_t columns) { make(dtype, layout, n_rows, columns); }
  Array(const Array &) = delete;

  char *at(int64_t r, int64_t j) const {
    return static_cast<char *>(array.data) + (r * row_stride + j * column_stride) * static_cast<int64_t>(size);
  }
  const descent_array *operator&() const { return &array; }
  int64_t first_element() const { return static_cast<char *>(array.data) - bytes.data(); } /* bytes before it */

 private:
  size_t size = 0;
  int64_t row_stride = 0, column_stride = 0;

  void make(descent_dtype dtype, Layout layout, int64_t n_rows, int64_t columns) {
    float ignored;
    size = element(dtype, 1, &ignored).size();
    row_stride = columns, column_stride = 1;
    if (layout == PADDED) row_stride = columns + 3;
    if (layout == BY_COLUMN) row_stride = 1, column_stride = n_rows + 1;
    if (layout == BACKWARDS) row_stride = -columns;
    if (layout == EVERY_THIRD) row_stride = 3 * columns + 1, column_stride = 3;
    const int64_t first = layout == BACKWARDS ? (n_rows - 1) * columns : 0; /* of the elements in memory */
    const int64_t down = layout == BACKWARDS ? 0 : (n_rows - 1) * row_stride;
    const int64_t last = first + down + (columns - 1) * column_stride;
    const size_t offset = layout == UNALIGNED ? 1 : 0;
    bytes.assign(offset + static_cast<size_t>(last + 1) * size, '\xa5');
    array.data = bytes.data() + offset + static_cast<size_t>(first) * size;
    array.dtype = dtype;
    array.rows = n_rows;
    array.columns = columns;
    const bool stated = layout != DENSE && layout != UNALIGNED;
    array.row_stride = stated ? row_stride : 0;
    array.column_stride = stated ? column_stride : 0;
  }
};

#define ARRAYS_DTYPE(NAME, text) DESCENT_DTYPE_##NAME,
const descent_dtype dtypes[] = {DESCENT_DTYPE_MAP(ARRAYS_DTYPE)};
#undef ARRAYS_DTYPE
const descent_dtype floats[] = {DESCENT_DTYPE_F32, DESCENT_DTYPE_F64, DESCENT_DTYPE_F16, DESCENT_DTYPE_BF16};

}  // namespace arrays

#endif
