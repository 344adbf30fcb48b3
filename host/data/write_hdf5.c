/* Writing datasets as HDF5: X, y, weights and the names as contiguous datasets of the root group. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/progress.h"
#include "core/status.h"
#include "data/write.h"

#ifndef DESCENT_HDF5_BUILT
#include "core/left_out.h"

descent_status write_hdf5(const descent_dataset *dataset, const char *path) {
  (void)dataset;
  return format_left_out(path, "write HDF5");
}

#else
#include <hdf5.h>

#include "data/hdf5.h"

/* Writes rows [first, first + rows) of a dataset. */
static bool write_block(hid_t dataset, hid_t type, int rank, int64_t first, int64_t rows, int64_t columns,
                        const void *values) {
  const hsize_t start[2] = {(hsize_t)first, 0}, count[2] = {(hsize_t)rows, (hsize_t)columns};
  const hid_t in_file = H5Dget_space(dataset), in_memory = H5Screate_simple(rank, count, NULL);
  const bool written = in_file > 0 && in_memory > 0 &&
                       H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                       H5Dwrite(dataset, type, in_memory, in_file, H5P_DEFAULT, values) >= 0;
  if (in_memory > 0) H5Sclose(in_memory);
  if (in_file > 0) H5Sclose(in_file);
  return written;
}

/* Creates a dataset without timestamps, so that equal data give equal files. */
static hid_t create(hid_t file, const char *name, hid_t type, int rank, int64_t rows, int64_t columns) {
  const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)columns};
  const hid_t space = H5Screate_simple(rank, shape, NULL), properties = H5Pcreate(H5P_DATASET_CREATE);
  hid_t dataset = -1;
  if (space > 0 && properties > 0 && H5Pset_obj_track_times(properties, false) >= 0)
    dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  if (properties > 0) H5Pclose(properties);
  if (space > 0) H5Sclose(space);
  return dataset;
}

static bool write_array(hid_t file, const char *name, hid_t kept, hid_t type, int rank, int64_t rows, int64_t columns,
                        const void *values) {
  const hid_t dataset = create(file, name, kept, rank, rows, columns);
  const bool written = dataset > 0 && write_block(dataset, type, rank, 0, rows, columns, values);
  if (dataset > 0) H5Dclose(dataset);
  return written;
}

static bool write_texts(hid_t file, const char *name, char *const *texts, int64_t n) {
  if (!texts) return true;
  const hid_t type = H5Tcopy(H5T_C_S1);
  const bool written = type > 0 && H5Tset_size(type, H5T_VARIABLE) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0 &&
                       write_array(file, name, type, type, 1, n, 1, texts);
  if (type > 0) H5Tclose(type);
  return written;
}

static descent_status write_rows(hid_t file, const char *path, const descent_dataset *dataset, bool *written) {
  enum { BLOCK = 1 << 18 }; /* values */
  const int64_t inputs = dataset->storage->inputs, at_a_time = inputs < BLOCK ? BLOCK / inputs : 1;
  const bool wide = dataset->storage->schema.offsets != NULL;
  double *rows = memory_allocate(at_a_time * inputs, sizeof *rows, "rows");
  float *narrow = (float *)rows;
  descent_status status = DESCENT_OK;
  if (!rows) return DESCENT_ERROR_MEMORY;
  const hid_t X = create(file, "X", wide ? H5T_IEEE_F64LE : H5T_IEEE_F32LE, 2, dataset->rows, inputs);
  *written = X > 0;
  for (int64_t first = 0, n; *written && first < dataset->rows; first += n) {
    n = dataset->rows - first < at_a_time ? dataset->rows - first : at_a_time;
    if (!wide) write_copy_X(dataset, first, n, narrow);
    for (int64_t i = 0; wide && i < n * inputs; i++) rows[i] = write_input(dataset, first + i / inputs, i % inputs);
    *written = write_block(X, wide ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT, 2, first, n, inputs, rows);
    TRY(progress_report("writing", path, "rows", first + n, dataset->rows));
  }
done:
  if (X > 0) *written = H5Dclose(X) >= 0 && *written;
  free(rows);
  return status;
}

/* Writes classes as integers, other targets as float32, or double where they have offsets. */
static descent_status write_targets(hid_t file, const descent_dataset *dataset, bool *written) {
  const struct dataset_storage *s = dataset->storage;
  float *y = NULL, *weights = NULL;
  double *wide = NULL;
  int64_t *labels = NULL;
  descent_status status;
  TRY(write_labels(dataset, &labels));
  TRY(write_gather(dataset, &y, &weights));
  if (s->schema.target_offsets) TRY(write_wide_targets(dataset, &wide));
  if (labels) {
    *written = write_array(file, "y", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, dataset->rows, 1, labels);
  } else if (wide) {
    *written = write_array(file, "y", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, s->targets == 1 ? 1 : 2, dataset->rows,
                           s->targets, wide);
  } else if (y) {
    *written =
        write_array(file, "y", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, s->targets == 1 ? 1 : 2, dataset->rows, s->targets, y);
  }
  if (*written && weights)
    *written = write_array(file, "weights", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, dataset->rows, 1, weights);
done:
  free(labels);
  free(wide);
  free(y);
  free(weights);
  return status;
}

/* Opens the temporary file. Its writer keeps the lock, because another writer removes unlocked temporary files. HDF5
 * locks files as well: this is disabled, and if HDF5_USE_FILE_LOCKING forces it, the writer gives up its lock. */
static hid_t open_temporary(const struct file_writer *writer) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  if (access < 0) return access;
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 11, 0))
  H5Pset_file_locking(access, false, true);
#endif
  hid_t file = H5Fcreate(writer->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file < 0) {
    flock(fileno(writer->stream), LOCK_UN);
    file = H5Fcreate(writer->temporary, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  }
  H5Pclose(access);
  return file;
}

/* Fills the temporary file, which the library opens by name. */
static descent_status fill(const descent_dataset *dataset, const struct file_writer *writer) {
  const struct schema *schema = &dataset->storage->schema;
  bool written = false;
  descent_status status = DESCENT_OK;
  const hid_t file = open_temporary(writer);
  if (file > 0) {
    TRY(write_rows(file, writer->path, dataset, &written));
    if (written) TRY(write_targets(file, dataset, &written));
    written = written && write_texts(file, "input_names", schema->input_names, schema->inputs) &&
              write_texts(file, "target_names", schema->target_names, schema->targets) &&
              write_texts(file, "class_names", schema->class_names, schema->classes);
  }
done:
  if (file > 0 && H5Fclose(file) < 0) written = false;
  flock(fileno(writer->stream), LOCK_EX | LOCK_NB);
  if (status == DESCENT_OK && !written)
    status = status_set(DESCENT_ERROR_WRITE, "%s: cannot write: HDF5 failed (is the disk full?)", writer->path);
  return status;
}

descent_status write_hdf5(const descent_dataset *dataset, const char *path) {
  struct file_writer writer = {0};
  descent_status status = file_create(path, &writer);
  if (status != DESCENT_OK) return status;
  H5E_auto2_t print;
  void *user;
  pthread_mutex_lock(&hdf5_library);
  H5Eget_auto2(H5E_DEFAULT, &print, &user);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the library prints errors by default */
  status = fill(dataset, &writer);
  H5Eset_auto2(H5E_DEFAULT, print, user);
  pthread_mutex_unlock(&hdf5_library);
  if (status == DESCENT_OK) status = file_commit(&writer);
  file_abandon(&writer);
  return status;
}
#endif
