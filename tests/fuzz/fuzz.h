/* Shared by the fuzz targets: the bytes as a file in memory, and reading a dataset from it. */
#ifndef DESCENT_TESTS_FUZZ_H
#define DESCENT_TESTS_FUZZ_H

#include <descent/descent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_file {
  int descriptor;
  char path[40];
};

static inline struct fuzz_file fuzz_file_create(const uint8_t *data, size_t size) {
  struct fuzz_file file = {.descriptor = memfd_create("fuzz", MFD_CLOEXEC)};
  for (size_t done = 0; done < size;) {
    const ssize_t written = write(file.descriptor, data + done, size - done);
    if (written <= 0) abort();
    done += (size_t)written;
  }
  snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.descriptor);
  return file;
}

static inline void fuzz_file_free(struct fuzz_file *file) { close(file->descriptor); }

/* Reads the bytes as that format and, if that works, every row of the dataset. `target` may be NULL. */
static inline void fuzz_dataset(const uint8_t *data, size_t size, const char *format, const char *target) {
  struct fuzz_file file = fuzz_file_create(data, size);
  descent_dataset_options options = descent_dataset_options_default();
  descent_dataset *dataset = NULL;
  options.format = format;
  options.target = target;
  if (descent_dataset_read(file.path, &options, &dataset) == DESCENT_OK) {
    const int64_t rows = descent_dataset_rows(dataset), inputs = descent_dataset_inputs(dataset);
    float *X = calloc((size_t)inputs, sizeof *X);
    for (int64_t row = 0; X && row < rows; row++)
      if (descent_dataset_row(dataset, row, X) != DESCENT_OK) abort();
    free(X);
  } else if (!*descent_last_error()) {
    abort();
  }
  descent_dataset_free(dataset);
  fuzz_file_free(&file);
}

#endif
