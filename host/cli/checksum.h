/* Whether something is what it was: FNV-1a in 64 bits (Fowler, Noll, Vo), which finds changes but no forgeries. */
#ifndef DESCENT_CLI_CHECKSUM_H
#define DESCENT_CLI_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <descent/descent.h>

#define CHECKSUM_START UINT64_C(14695981039346656037)
enum { CHECKSUM_SIZE = 17 };

/* Each continues `*sum`. */
void checksum_bytes(const void *bytes, size_t n, uint64_t *sum);
/* All rows with targets and weights, and the names of inputs, targets and classes; false when memory ran out. */
bool checksum_dataset(const descent_dataset *data, uint64_t *sum);
bool checksum_file(const char *path, uint64_t *sum); /* false with errno set */
/* The file that the network would be saved as; false when memory ran out. */
bool checksum_network(const descent_network *network, uint64_t *sum);

/* 16 hexadecimal digits; returns `text`. */
const char *checksum_text(uint64_t sum, char text[static CHECKSUM_SIZE]);

#endif
