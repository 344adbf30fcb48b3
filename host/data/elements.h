/* Numbers as files of arrays hold them, in either byte order, to double in bulk. */
#ifndef DESCENT_DATA_ELEMENTS_H
#define DESCENT_DATA_ELEMENTS_H

#include <stdbool.h>
#include <stdint.h>

enum element_kind { ELEMENT_BOOL, ELEMENT_UNSIGNED, ELEMENT_SIGNED, ELEMENT_FLOAT };

struct element {
  enum element_kind kind;
  int size;        /* bytes: 1 (bool), 1, 2, 4, 8 (integers), 2, 4, 8 (IEEE 754 floats) */
  bool big_endian; /* means nothing where size is 1 */
};

/* Is there such an element? */
bool element_known(struct element element);
/* `bytes`, (rows, columns) without gaps, to `values`, (rows, columns) whose rows start `pitch` apart. Returns how many
 * a double cannot hold exactly: integers beyond 2^53. */
int64_t elements_to_double(struct element element, const void *bytes, int64_t rows, int64_t columns, double *values,
                           int64_t pitch);

#endif
