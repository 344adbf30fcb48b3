/* The format of a data file, and the part of it to read. */
#ifndef DESCENT_DATA_FORMAT_H
#define DESCENT_DATA_FORMAT_H

#include <descent/descent.h>

enum file_format { FORMAT_CSV, FORMAT_NPY, FORMAT_NPZ, FORMAT_IDX, FORMAT_SVMLIGHT, FORMAT_HDF5, FORMAT_SAFETENSORS };

struct file_choice {
  enum file_format format;
  char *path;       /* without the part */
  const char *part; /* within path's memory; NULL: the default */
  int base;         /* of svmlight indices; -1: detect */
};

/* `wanted` names the format; NULL: by the extension of the file, or by its first bytes if that is unknown. "data.npz:X"
 * is part X of data.npz, unless a file has that whole name. ERROR_ARGUMENT for an unknown format, or for a part of a
 * format without parts. A file that cannot be opened is reported by its reader. */
descent_status format_choose(const char *path, const char *wanted, struct file_choice *choice);
void format_clear(struct file_choice *choice);

#endif
