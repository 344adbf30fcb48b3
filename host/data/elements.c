/* One loop per type and byte order. */
#include "data/elements.h"

#include "core/half.h"

#include <math.h>
#include <string.h>

bool element_is_supported(struct element_type element) {
  const int s = element.size;
  if (element.kind == ELEMENT_BOOL) return s == 1;
  if (element.kind == ELEMENT_BRAIN) return s == 2;
  if (element.kind == ELEMENT_FLOAT) return s == 2 || s == 4 || s == 8;
  return s == 1 || s == 2 || s == 4 || s == 8;
}

static double single_to_double(uint32_t raw) {
  float value;
  memcpy(&value, &raw, sizeof value);
  return (double)value;
}

static double double_of(uint64_t raw) {
  double value;
  memcpy(&value, &raw, sizeof value);
  return value;
}

/* Integers of up to 53 significant bits are exact. */
static double signed_to_double(int64_t integer, int64_t *inexact) {
  const double value = (double)integer;
  *inexact += value == 0x1p63 || (int64_t)value != integer;
  return value;
}

static double unsigned_to_double(uint64_t integer, int64_t *inexact) {
  const double value = (double)integer;
  *inexact += value == 0x1p64 || (uint64_t)value != integer;
  return value;
}

static uint8_t swap_8(uint8_t raw) { return raw; }
static uint16_t swap_16(uint16_t raw) { return __builtin_bswap16(raw); }
static uint32_t swap_32(uint32_t raw) { return __builtin_bswap32(raw); }
static uint64_t swap_64(uint64_t raw) { return __builtin_bswap64(raw); }

/* Neighbours have a separate loop, which compilers vectorise. */
#define CONVERT_ROWS(bits, step, loaded, expression)         \
  for (int64_t r = 0; r < rows; r++, values += pitch)        \
    for (int64_t c = 0; c < columns; c++, bytes += (step)) { \
      uint##bits##_t raw;                                    \
      memcpy(&raw, bytes, sizeof raw);                       \
      raw = loaded;                                          \
      values[c] = expression;                                \
    }
/* `expression` converts `raw`, an unsigned integer of `bits` bits, to double. */
#define DEFINE_CONVERSION(name, bits, expression)                                                              \
  static int64_t name(const unsigned char *bytes, int64_t stride, bool swapped, int64_t rows, int64_t columns, \
                      double *values, int64_t pitch) {                                                         \
    int64_t inexact = 0;                                                                                       \
    if (swapped)                                                                                               \
      CONVERT_ROWS(bits, stride, swap_##bits(raw), expression)                                                 \
    else if (stride == sizeof(uint##bits##_t))                                                                 \
      CONVERT_ROWS(bits, sizeof(uint##bits##_t), raw, expression)                                              \
    else                                                                                                       \
      CONVERT_ROWS(bits, stride, raw, expression)                                                              \
    return inexact;                                                                                            \
  }
DEFINE_CONVERSION(convert_bool, 8, raw != 0 ? 1.0 : 0.0)
DEFINE_CONVERSION(convert_u1, 8, (double)raw)
DEFINE_CONVERSION(convert_u2, 16, (double)raw)
DEFINE_CONVERSION(convert_u4, 32, (double)raw)
DEFINE_CONVERSION(convert_u8, 64, unsigned_to_double(raw, &inexact))
DEFINE_CONVERSION(convert_i1, 8, (double)(int8_t)raw)
DEFINE_CONVERSION(convert_i2, 16, (double)(int16_t)raw)
DEFINE_CONVERSION(convert_i4, 32, (double)(int32_t)raw)
DEFINE_CONVERSION(convert_i8, 64, signed_to_double((int64_t)raw, &inexact))
DEFINE_CONVERSION(convert_f2, 16, (double)f16_to_float(raw))
DEFINE_CONVERSION(convert_b2, 16, (double)bf16_to_float(raw))
DEFINE_CONVERSION(convert_f4, 32, single_to_double(raw))
DEFINE_CONVERSION(convert_f8, 64, double_of(raw))

typedef int64_t conversion(const unsigned char *bytes, int64_t stride, bool swapped, int64_t rows, int64_t columns,
                           double *values, int64_t pitch);

static conversion *conversion_of(struct element_type element) {
  static conversion *const conversions[5][4] = {/* [kind][log2 of the size] */
                                                [ELEMENT_BOOL] = {convert_bool},
                                                [ELEMENT_UNSIGNED] = {convert_u1, convert_u2, convert_u4, convert_u8},
                                                [ELEMENT_SIGNED] = {convert_i1, convert_i2, convert_i4, convert_i8},
                                                [ELEMENT_FLOAT] = {NULL, convert_f2, convert_f4, convert_f8},
                                                [ELEMENT_BRAIN] = {NULL, convert_b2}};
  return conversions[element.kind][__builtin_ctz((unsigned)element.size)];
}

static bool is_swapped(struct element_type element) {
  return element.big_endian != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
}

int64_t elements_to_double(struct element_type element, const void *bytes, int64_t rows, int64_t columns,
                           double *values, int64_t pitch) {
  return conversion_of(element)(bytes, element.size, is_swapped(element), rows, columns, values, pitch);
}

void elements_load(struct element_type element, const void *bytes, int64_t stride, int64_t count, double *values) {
  conversion_of(element)(bytes, stride, is_swapped(element), 1, count, values, count);
}
