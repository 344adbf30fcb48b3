/* Conversion of array elements, of any numeric type and byte order, to double. */
#ifndef DESCENT_DATA_ELEMENTS_H
#define DESCENT_DATA_ELEMENTS_H

#include <stdbool.h>
#include <stdint.h>

enum element_kind { ELEMENT_BOOL, ELEMENT_UNSIGNED, ELEMENT_SIGNED, ELEMENT_FLOAT, ELEMENT_BRAIN };

struct element_type {
  enum element_kind kind;
  int size;        /* bytes: 1 (bool), 1, 2, 4, 8 (integers), 2, 4, 8 (IEEE 754 floats), 2 (bfloat16) */
  bool big_endian; /* ignored when size is 1 */
};

/* Whether kind and size are a supported combination. */
bool element_is_supported(struct element_type element);
/* Converts `bytes`, (rows, columns) without gaps, to `values`, (rows, columns) whose rows start `pitch` apart. Returns
 * the number of elements that a double does not hold exactly: integers beyond 2^53. */
int64_t elements_to_double(struct element_type element, const void *bytes, int64_t rows, int64_t columns,
                           double *values, int64_t pitch);
/* Converts `count` elements that start `stride` bytes apart. */
void elements_load(struct element_type element, const void *bytes, int64_t stride, int64_t count, double *values);

#endif
