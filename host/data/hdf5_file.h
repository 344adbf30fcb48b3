/* The HDF5 library's side of reading: a dataset of numbers inside a file, or several side by side. To be used in a
 * process of its own (hdf5.c): with damaged files the library may crash, and it may not be built for threads. */
#ifndef DESCENT_DATA_HDF5_FILE_H
#define DESCENT_DATA_HDF5_FILE_H

#include <descent/descent.h>

struct hdf5_file;

/* What a matrix says of itself; see matrix.h. */
struct hdf5_shape {
  int64_t rows, columns, targets, weights;
};

/* Silences the library's own messages. ERROR_READ, ERROR_DATA. */
descent_status hdf5_file_open(const char *path, const char *part, struct hdf5_shape *shape, struct hdf5_file **file);
/* The next rows (*rows, columns), at least 1 and at most `most`; adds to *inexact. */
descent_status hdf5_file_read(struct hdf5_file *file, int64_t most, double *cells, int64_t *rows, int64_t *inexact);
void hdf5_file_close(struct hdf5_file *file);

#endif
