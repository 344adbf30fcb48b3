/* The binary form of a dataset: a .safetensors file of float32 tensors that is mapped into memory.
 *
 *   X        (rows, inputs)   a missing cell is NaN
 *   y        (rows, targets) or (rows), optional; class indices for the tasks with classes
 *   weights  (rows), optional
 *
 * __metadata__ holds "descent.data", JSON of version, task, classes and schema, "rounding" and "target_rounding" (what
 * float32 has changed at most in each input and target, where it has), and checksums (core/safetensors.h). A
 * file of another program has neither; its columns have no names and its task is inferred from y.
 *
 * Opening reads header, y and weights, which are copied and checked, since class indices address memory. X is mapped
 * read-only and paged in on use; neither its values nor its checksum are verified before descent_dataset_save. The file
 * must not change while the dataset exists. Replacing it by renaming, as all writers here do, keeps the old mapping
 * intact. Overwriting it in place changes X: a training checks the file's size and modification time before each
 * checkpoint and after each epoch, and stops. Truncating it kills the process with SIGBUS at the first access to a lost
 * page. */
#ifndef DESCENT_DATA_BINARY_H
#define DESCENT_DATA_BINARY_H

#include "core/file.h"
#include "core/safetensors.h"
#include "data/dataset.h"
#include "data/table.h"

/* An open file: its description, y and weights. */
struct binary {
  struct safetensors file;
  bool described; /* it has "descent.data": task, classes and schema are the file's own */
  descent_task task;
  int64_t rows, inputs, targets, classes; /* targets 0 without y */
  struct schema schema;
  char note[NOTE_SIZE]; /* tensors that are not read */
  const float *X;       /* in the mapping, or in owned_X when the file does not align it */
  void *mapping;
  size_t mapped_bytes;
  float *owned_X, *y, *weights;    /* y, weights: NULL without */
  double *X_rounding, *y_rounding; /* as of struct dataset_storage */
};

/* Reads a file. `blocks` may be NULL. A file whose columns match the request is mapped; otherwise its rows are read
 * into memory through a table. `*storage` is NULL after whole blocks. */
descent_status binary_read(const char *path, const struct read_request *request, const struct table_blocks *blocks,
                           struct dataset_storage **storage);
/* Decodes the rows into cells of the original columns and reads them through a table. */
descent_status binary_read_as_table(const struct binary *binary, const struct read_request *request,
                                    const struct table_blocks *blocks, struct dataset_storage **storage);

/* Writes a file, rows in order. `form` gives task, classes, schema, inputs and targets; its X, y and weights are not
 * read. */
struct binary_writer {
  const char *path;
  const struct dataset_storage *form;
  int64_t rows, written;
  const float *y, *weights; /* (rows, form->targets) or NULL; (rows) or NULL; borrowed until binary_end */
  char *description;
  struct file_writer file;
  void *sum; /* XXH64 state of X so far */
};
descent_status binary_begin(struct binary_writer *writer, const char *path, const struct dataset_storage *form,
                            int64_t rows, const float *y, const float *weights);
descent_status binary_rows(struct binary_writer *writer, const float *X, int64_t rows);
descent_status binary_end(struct binary_writer *writer);
/* Removes an unfinished file. No-op on a zeroed writer. */
void binary_abandon(struct binary_writer *writer);

#endif
