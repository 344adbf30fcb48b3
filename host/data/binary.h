/* The binary form of a dataset: a .safetensors file of float32 tensors that is mapped into memory instead of read.
 *
 *   X        (rows, inputs)   a missing cell is NaN
 *   y        (rows, targets) or (rows), optional; class indices for the tasks with classes
 *   weights  (rows), optional
 *
 * __metadata__ has "descent.data", JSON of version, task, classes and the schema, and checksums (core/safetensors.h). A
 * file without it, as other programs write them, has no names, and its task is inferred from y.
 *
 * Opening reads header, y and weights, which are copied and checked, since class indices address memory; X is only
 * mapped, shared and read-only, and its pages come and go as they are used: neither values nor checksum are looked at
 * before descent_dataset_save does. While the dataset lives the file must stay as it is. A file that is replaced (as
 * every writer of ours does, by renaming) leaves the mapping of the old one whole. One that is overwritten in place
 * changes X under the training, which looks at the file's size and time before each checkpoint and after each epoch and
 * then ends. One that is cut off ends the process with SIGBUS at the first touch of a page that is gone.
 */
#ifndef DESCENT_DATA_BINARY_H
#define DESCENT_DATA_BINARY_H

#include "core/file.h"
#include "core/safetensors.h"
#include "data/dataset.h"
#include "data/table.h"

/* An open file, with what its header says, y and the weights. */
struct binary {
  struct safetensors file;
  bool described; /* by a program of ours: task, classes and schema are the file's own */
  descent_task task;
  int64_t rows, inputs, targets, classes; /* targets 0 without y */
  struct schema schema;
  const float *X; /* in the mapping, or in owned_X where the file does not align it */
  void *mapping;
  size_t mapped_bytes;
  float *owned_X, *y, *weights; /* y, weights: NULL without */
};

/* The reader. `blocks` may be NULL. A file whose columns are just what is asked for is mapped as it is;
 * otherwise its rows are read into memory, as those of any other file. `*storage` NULL after whole blocks. */
descent_status binary_read(const char *path, const struct reading *reading, const struct table_blocks *blocks,
                           struct dataset_storage **storage);
/* The rows as cells of the columns that they were made from, into a table. */
descent_status binary_into_table(const struct binary *binary, const struct reading *reading,
                                 const struct table_blocks *blocks, struct dataset_storage **storage);

/* Writing one, rows in order. `form` gives task, classes, schema and sizes, y and weights (rows, not a view's); its X
 * is not looked at. */
struct binary_writer {
  const char *path;
  const struct dataset_storage *form;
  int64_t rows, written;
  const float *y, *weights; /* (rows, form->targets) or NULL; (rows) or NULL; borrowed until binary_end */
  char *description;
  struct file_writer file;
  void *sum; /* of X so far */
};
descent_status binary_begin(struct binary_writer *writer, const char *path, const struct dataset_storage *form,
                            int64_t rows, const float *y, const float *weights);
descent_status binary_rows(struct binary_writer *writer, const float *X, int64_t rows);
descent_status binary_end(struct binary_writer *writer);
/* Removes what was written unless it has ended; does nothing on a zeroed writer. */
void binary_abandon(struct binary_writer *writer);

#endif
