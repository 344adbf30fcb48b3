/* Data files whose cells are numbers: every such format opens as a matrix that is read row by row. */
#ifndef DESCENT_DATA_MATRIX_H
#define DESCENT_DATA_MATRIX_H

#include <descent/descent.h>

#include "data/text.h"

enum { MATRIX_MAX_COLUMNS = 1 << 22 };

/* An open file. Rows are read in the file's order, cells as double. */
struct matrix {
  const char *path; /* as given, for messages; borrowed */
  int64_t rows;     /* at least 1 */
  int64_t columns;  /* at least 1; includes targets and weights */
  char **names;     /* (columns) or NULL; freed by matrix_close */
  int64_t targets;  /* number of last columns that the format defines as targets (svmlight's label, y of an npz) */
  int64_t weights;  /* 1 when the column before those holds row weights by definition of the format, else 0 */
  int64_t stored;   /* bytes of the file, to which the matrix must be in proportion (expansion.h); 0: unknown */
  int64_t first_index, indexed_columns; /* of svmlight; see struct schema */
  char note[NOTE_SIZE];                 /* one line about a decision that the user should know, or "" */
  /* Reads the next `rows` rows into `cells` (rows, columns); the caller never reads beyond the last row. ERROR_READ,
   * ERROR_DATA with the byte offset or line. NaN and infinities are passed through. */
  descent_status (*read)(struct matrix *matrix, int64_t rows, double *cells);
  /* Number of cells so far that a double does not hold exactly (integers beyond 2^53). */
  int64_t inexact;
  void (*close)(void *state); /* frees `state`; NULL: nothing to do */
  void *state;
};

/* One per format. On failure there is nothing to close. `part` names an array of an npz or a dataset of an HDF5 file;
 * NULL: the only one, or those named X, y and weights. */
descent_status npy_open(const char *path, struct matrix *matrix);
descent_status npz_open(const char *path, const char *part, struct matrix *matrix);
descent_status idx_open(const char *path, struct matrix *matrix);
/* The first index, 0 or 1: `stated` by the user, or else `trained`, that of the file that a network was trained on; -1:
 * unknown. If both are: 0 if any index is 0, else 1. `features`: the number of columns before weight and label (an
 * index beyond is ERROR_DATA); 0: the largest of any row. The file is read twice, so it cannot be a pipe. */
descent_status svmlight_open(const char *path, int stated, int trained, int64_t features, struct matrix *matrix);
descent_status hdf5_open(const char *path, const char *part, struct matrix *matrix);

/* Lists the parts of a file that are not read, for its note, except for the names that files written here have in
 * further arrays. */
struct unread_parts {
  char names[NOTE_SIZE - 100];
  int64_t n, listed;
};
void matrix_add_unread(struct unread_parts *unread, const char *name);
void matrix_note_unread(const struct unread_parts *unread, char note[NOTE_SIZE]);

/* Closes and frees the names. No-op on a zeroed matrix. */
void matrix_close(struct matrix *matrix);

#endif
