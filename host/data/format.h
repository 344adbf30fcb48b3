/* Which format a data file has, and which part of it is meant. */
#ifndef DESCENT_DATA_FORMAT_H
#define DESCENT_DATA_FORMAT_H

#include <descent/descent.h>

enum file_format { FORMAT_CSV, FORMAT_NPY, FORMAT_NPZ, FORMAT_IDX, FORMAT_SVMLIGHT, FORMAT_HDF5, FORMAT_SAFETENSORS };

struct file_choice {
  enum file_format format;
  char *path;       /* without the part */
  const char *part; /* in path's memory; NULL: what the file itself offers */
  int base;         /* of svmlight's indices; -1: detected */
};

/* `wanted` NULL: by the ending of the name, or by the first bytes where that says nothing. "data.npz:X" is part X of
 * data.npz, unless a file has that whole name. ERROR_ARGUMENT for an unknown format, or a part of a file without parts;
 * that the file cannot be opened is left to its reader. */
descent_status format_choose(const char *path, const char *wanted, struct file_choice *choice);
void format_clear(struct file_choice *choice);

#endif
