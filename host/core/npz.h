/* Writing NumPy's .npz: a zip file of uncompressed .npy files (version 1.0). */
#ifndef DESCENT_CORE_NPZ_H
#define DESCENT_CORE_NPZ_H

#include <descent/descent.h>
#include <stdbool.h>

enum { NPZ_MAX_RANK = 2 };

struct zip_error; /* of <zip.h> */

struct npz_array {
  const char *name;  /* the key in numpy.load */
  const char *descr; /* NumPy's type: "<f4", "<i8", "|S12" */
  int rank;          /* 0 .. NPZ_MAX_RANK */
  int64_t shape[NPZ_MAX_RANK];
  const void *data; /* row-major, little-endian */
  int64_t bytes;
};

/* Fills in the .npy header (format version 1.0). Returns its length, a multiple of 64, or 0 when the type's name is too
 * long. */
enum { NPY_HEADER = 128 };
size_t npy_header(const struct npz_array *array, char header[NPY_HEADER]);

/* Writes the file atomically; equal arrays give equal bytes. Takes as much memory as the arrays. `quiet`: as in struct
 * file_writer. ERROR_WRITE names the path and the reason. */
descent_status npz_save(const char *path, bool quiet, const struct npz_array *arrays, int64_t n);

/* ERROR_MEMORY when libzip ran out of memory, which it may report as ZIP_ER_OK; otherwise `otherwise`. */
descent_status npz_status(const struct zip_error *error, descent_status otherwise);

#endif
