/* Writing NumPy's .npz: a zip file of .npy files (version 1.0), stored as they are, which numpy.load reads by name. */
#ifndef DESCENT_CORE_NPZ_H
#define DESCENT_CORE_NPZ_H

#include <descent/descent.h>

enum { NPZ_MAX_RANK = 2 };

struct zip_error; /* of <zip.h> */

struct npz_array {
  const char *name;  /* as numpy.load(..)[name] has it */
  const char *descr; /* NumPy's type: "<f4", "<i8", "|S12" */
  int rank;          /* 0 .. NPZ_MAX_RANK */
  int64_t shape[NPZ_MAX_RANK];
  const void *data; /* row-major, little-endian */
  int64_t bytes;
};

/* What precedes an array's values in a .npy file (format version 1.0): its length, a multiple of 64, or 0 when the
 * type's name is too long. */
enum { NPY_HEADER = 128 };
size_t npy_header(const struct npz_array *array, char header[NPY_HEADER]);

/* Writes the file through a temporary one beside it; equal arrays give equal bytes. Needs as much memory again as the
 * arrays take. ERROR_WRITE names the path and the reason. */
descent_status npz_save(const char *path, const struct npz_array *arrays, int64_t n);

/* ERROR_MEMORY where that is what libzip failed for, which it may call no error at all; else `otherwise`. */
descent_status npz_status(const struct zip_error *error, descent_status otherwise);

#endif
