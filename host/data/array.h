/* An array in NumPy's .npy format, in its own file or inside an .npz.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef DESCENT_DATA_ARRAY_H
#define DESCENT_DATA_ARRAY_H

#include <descent/descent.h>

#include "data/elements.h"

enum { ARRAY_MAX_RANK = 64 }; /* NumPy's limit */

/* The bytes of the .npy. */
struct array_source {
  int64_t size;
  bool in_order; /* not seekable: an array in Fortran order is then read into memory */
  /* Reads bytes [offset, offset + n), which are within `size`. ERROR_READ, ERROR_DATA. */
  descent_status (*read)(void *state, int64_t offset, int64_t n, void *to);
  void *state; /* borrowed */
};

struct array {
  const char *where; /* for messages: "x.npy", "x.npz: array 'X'"; borrowed */
  struct array_source source;
  struct element_type element;
  bool by_column;        /* Fortran order */
  int64_t rows, columns; /* rows: the first dimension; columns: the product of the others, the last one fastest */
  int rank;
  int64_t shape[ARRAY_MAX_RANK];
  int64_t start; /* offset of the data */
  int64_t next;  /* row to read next */
  char *window;  /* raw rows [first, first + held), in the array's order */
  int64_t capacity, first, held;
  int32_t
      *positions; /* (columns) Fortran order of rank 3 or more: the column of the table for each column of the file */
  char *whole;    /* all the data, for Fortran order from a source that is not seekable */
};

/* Reads and checks the header. ERROR_DATA with the byte offset. On failure there is nothing to close. */
descent_status array_open(const char *where, struct array_source source, struct array *array);
/* Reads the next rows into `cells` (rows, columns), whose rows start `pitch` apart. Adds to *inexact the cells that a
 * double does not hold exactly. */
descent_status array_read(struct array *array, int64_t rows, double *cells, int64_t pitch, int64_t *inexact);
void array_close(struct array *array);

#endif
