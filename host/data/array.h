/* An array in NumPy's .npy format, wherever its bytes lie: in a file of its own or inside an .npz.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef DESCENT_DATA_ARRAY_H
#define DESCENT_DATA_ARRAY_H

#include <descent/descent.h>

#include "data/elements.h"

enum { ARRAY_MOST_RANK = 64 }; /* NumPy's */

/* The bytes of the .npy. */
struct array_source {
  int64_t size;
  bool in_order; /* they come in order only: an array that lies otherwise is held in memory */
  /* Bytes offset .. offset + n, which are there. ERROR_READ, ERROR_DATA. */
  descent_status (*read)(void *state, int64_t offset, int64_t n, void *to);
  void *state; /* borrowed */
};

struct array {
  const char *where; /* of messages, borrowed: "x.npy", "x.npz: array 'X'" */
  struct array_source source;
  struct element element;
  bool by_column;        /* Fortran's order */
  int64_t rows, columns; /* (n) is n rows of one column; further dimensions are columns, the last one fastest */
  int rank;
  int64_t shape[ARRAY_MOST_RANK];
  int64_t start; /* of the data */
  int64_t next;  /* row */
  char *window;  /* raw rows [first, first + held), by row or by column */
  int64_t capacity, first, held;
  int32_t *positions; /* (columns) of a row of more than one dimension that lies by column: where each column belongs */
  char *whole;        /* all the data, of a source in order that lies by column */
};

/* Reads and checks the header. ERROR_DATA with the byte offset. On failure there is nothing to close. */
descent_status array_open(const char *where, struct array_source source, struct array *array);
/* The next rows, (rows, columns), into `cells` whose rows start `pitch` apart; counts what is not exact. */
descent_status array_read(struct array *array, int64_t rows, double *cells, int64_t pitch, int64_t *inexact);
void array_close(struct array *array);

#endif
