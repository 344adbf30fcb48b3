/* Reading one numeric dataset of an HDF5 file, or several side by side. To be used in a separate process (hdf5.c): the
 * library may crash on damaged files, and may not be thread-safe. */
#ifndef DESCENT_DATA_HDF5_FILE_H
#define DESCENT_DATA_HDF5_FILE_H

#include "data/matrix.h"

struct hdf5_file;

/* The sizes of a matrix and its note; see matrix.h. */
struct hdf5_shape {
  int64_t rows, columns, targets, weights;
  int64_t stored; /* bytes of the file */
  char note[NOTE_SIZE];
};

/* Disables the library's own error output. ERROR_READ, ERROR_DATA. */
descent_status hdf5_file_open(const char *path, const char *part, struct hdf5_shape *shape, struct hdf5_file **file);
/* Reads the next rows into cells (*rows, columns), at least 1 and at most `most`; adds to *inexact. */
descent_status hdf5_file_read(struct hdf5_file *file, int64_t most, double *cells, int64_t *rows, int64_t *inexact);
void hdf5_file_close(struct hdf5_file *file);

#endif
