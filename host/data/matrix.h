/* Data files whose cells are numbers: every format but CSV opens as a matrix that gives its rows one after the other.
 */
#ifndef DESCENT_DATA_MATRIX_H
#define DESCENT_DATA_MATRIX_H

#include <descent/descent.h>

enum { MATRIX_MOST_COLUMNS = 1 << 22 }; /* beyond that a file is no table */

/* An open file. Rows come in the file's order; a cell that float32 cannot hold exactly is given as it is, in double. */
struct matrix {
  const char *path; /* as given, for messages; borrowed */
  int64_t rows;     /* at least 1 */
  int64_t columns;  /* at least 1; of a row, targets and weights included */
  char **names;     /* (columns) or NULL; freed by matrix_close */
  int64_t targets;  /* this many last columns are targets by the format itself (svmlight's label, y of an npz); 0 */
  int64_t weights;  /* 1: the column before those is the rows' weight by the format itself; 0 */
  const char *note; /* one line about what was decided and could surprise ("index base 1 detected"), or NULL; static */
  /* Writes the next `rows` rows (rows, columns), of the `rows` that are left, into `cells`. ERROR_READ, ERROR_DATA with
   * the byte offset or line. NaN and infinities are given as they are. */
  descent_status (*read)(struct matrix *matrix, int64_t rows, double *cells);
  /* Cells that a double could not hold exactly (integers beyond 2^53), so far. */
  int64_t inexact;
  void (*close)(void *state); /* of `state`; NULL: nothing to do */
  void *state;
};

/* One per format. On failure there is nothing to close. `part` names what to read inside the file (an array of an npz,
 * a dataset of an HDF5 file), NULL: the only one, or X with y and weights where they are called so. */
descent_status npy_open(const char *path, struct matrix *matrix);
descent_status npz_open(const char *path, const char *part, struct matrix *matrix);
descent_status idx_open(const char *path, struct matrix *matrix);
/* `base`: what the indices count from, 0 or 1; -1: 0 if one of them is 0, else 1. `features`: how many columns before
 * the label, where that is known (an index beyond is ERROR_DATA); 0: the most in any row. The file is read twice, so it
 * cannot be a pipe. */
descent_status svmlight_open(const char *path, int base, int64_t features, struct matrix *matrix);
descent_status hdf5_open(const char *path, const char *part, struct matrix *matrix);

/* Frees the names and closes; does nothing on a zeroed matrix. */
void matrix_close(struct matrix *matrix);

#endif
