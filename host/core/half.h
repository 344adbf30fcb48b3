/* The bits of float32, and the 16-bit floats, IEEE 754 binary16 (f16) and bfloat16 (bf16), to and from it, on the host and
 * in kernels. */
#ifndef DESCENT_CORE_HALF_H
#define DESCENT_CORE_HALF_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define HALF static inline __host__ __device__
#else
#define HALF static inline __attribute__((always_inline))
#endif

HALF uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

HALF float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

HALF float bf16_to_float(uint16_t bits) { return float_from_bits((uint32_t)bits << 16); }

/* To nearest, ties to even; NaN stays NaN. */
HALF uint16_t bf16_from_float(float x) {
  const uint32_t bits = float_bits(x);
  return x != x ? 0x7fff : (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* Sign, 5 bits of exponent, 10 of fraction; every value is a float. */
HALF float f16_to_float(uint16_t bits) {
  const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fffu;
  if (rest < 0x400) return float_from_bits(sign | float_bits((float)rest * 0x1p-24f));
  if (rest >= 0x7c00) return float_from_bits(sign | 0x7f800000 | rest << 13);
  return float_from_bits(sign | ((rest << 13) + (112u << 23)));
}

/* To nearest, ties to even; infinite from 65520 on; NaN stays NaN. */
HALF uint16_t f16_from_float(float x) {
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (size >= float_bits(65520.0f)) return (uint16_t)(sign | 0x7c00);
  if (size < float_bits(0x1p-14f)) { /* a multiple of 2^-24: adding 2^23 rounds to it */
    const float shifted = float_from_bits(size) * 0x1p24f + 0x1p23f;
    return (uint16_t)(sign | (float_bits(shifted) & 0x7ff));
  }
  return (uint16_t)(sign | ((size + 0xfff + (size >> 13 & 1)) - (112u << 23)) >> 13);
}

#endif
