#include "cli/checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_word(uint32_t word, uint64_t *sum) { *sum = (*sum ^ word) * UINT64_C(1099511628211); }

void checksum_bytes(const void *bytes, size_t n, uint64_t *sum) {
  const unsigned char *byte = bytes;
  for (size_t i = 0; i < n; i++) add_word(byte[i], sum);
}

/* With its end, so that "ab", "c" differ from "a", "bc". */
static void add_name(const char *name, uint64_t *sum) {
  checksum_bytes(name ? name : "", name ? strlen(name) + 1 : 1, sum);
}

/* A value for each word of 32 bits: rows can be many. */
static bool add_rows(const descent_dataset *data, uint64_t *sum) {
  const int64_t inputs = descent_dataset_inputs(data), targets = descent_dataset_targets(data);
  const int64_t width = inputs + targets + 1, rows = descent_dataset_rows(data);
  float *row = calloc((size_t)width, sizeof *row);
  bool valid = row != NULL;
  for (int64_t r = 0; r < rows && valid; r++) {
    valid = descent_dataset_row(data, r, row) == DESCENT_OK &&
            (targets == 0 || descent_dataset_target(data, r, row + inputs) == DESCENT_OK) &&
            descent_dataset_weight(data, r, row + inputs + targets) == DESCENT_OK;
    for (int64_t i = 0; i < width; i++) {
      uint32_t word;
      memcpy(&word, &row[i], sizeof word);
      add_word(word, sum);
    }
  }
  free(row);
  return valid;
}

bool checksum_dataset(const descent_dataset *data, uint64_t *sum) {
  for (int64_t i = 0; i < descent_dataset_inputs(data); i++) add_name(descent_dataset_input_name(data, i), sum);
  for (int64_t i = 0; i < descent_dataset_targets(data); i++) add_name(descent_dataset_target_name(data, i), sum);
  for (int64_t i = 0; i < descent_dataset_classes(data); i++) add_name(descent_dataset_class_name(data, i), sum);
  return add_rows(data, sum);
}

bool checksum_file(const char *path, uint64_t *sum) {
  unsigned char block[65536];
  FILE *in = fopen(path, "rb");
  if (!in) return false;
  for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) checksum_bytes(block, n, sum);
  const bool whole = !ferror(in);
  const int error = errno;
  fclose(in);
  errno = error;
  return whole;
}

bool checksum_network(const descent_network *network, uint64_t *sum) {
  size_t size = 0;
  void *bytes = NULL;
  bool valid = descent_network_save_memory(network, NULL, 0, &size) == DESCENT_OK && (bytes = malloc(size)) &&
               descent_network_save_memory(network, bytes, size, &size) == DESCENT_OK;
  if (valid) checksum_bytes(bytes, size, sum);
  free(bytes);
  return valid;
}

const char *checksum_text(uint64_t sum, char text[static CHECKSUM_SIZE]) {
  snprintf(text, CHECKSUM_SIZE, "%016" PRIx64, sum);
  return text;
}
