/* Measured choices of algorithms, in memory and in a text file per GPU and library version. One line per product:
 * checksum, the algorithm's words, nanoseconds, key. A damaged file costs a measurement and nothing else. */
#ifndef DESCENT_KERNELS_TUNE_H
#define DESCENT_KERNELS_TUNE_H

#include "product_shape.h"

enum { TUNE_KEY = 448, TUNE_LINE = 768, TUNE_WORDS = 8 }; /* sizes with the terminating zero */
enum { TUNE_ENTRIES = 4096, TUNE_BYTES = TUNE_ENTRIES * TUNE_LINE };

struct tune_entry {
  char key[TUNE_KEY]; /* from tune_key */
  int64_t nanoseconds;
  uint64_t algorithm[TUNE_WORDS];
};
struct tune_table { /* at most TUNE_ENTRIES, keys are unique, the oldest first */
  struct tune_entry *entries;
  int64_t n;
};

/* Everything that the choice depends on besides GPU and library version, and the way of timing, as one line of text. */
void tune_key(const struct product_shape *shape, int64_t workspace, int64_t alignment, char key[TUNE_KEY]);
/* An entry as a line without its newline, and back; false, with the entry unspecified, for text that tune_format did
 * not write. */
void tune_format(const struct tune_entry *entry, char line[TUNE_LINE]);
bool tune_parse(const char *line, size_t length, struct tune_entry *entry);

/* $XDG_CACHE_HOME/descent/products-<gpu>-sm<capability>-<multiprocessors>-<version>.txt, with $HOME/.cache if the
 * former is not an absolute path; false if neither is set or the path does not fit. Parts of a GPU and smaller variants
 * may share a name, but the fastest algorithm depends on the number of multiprocessors. */
bool tune_path(const struct cudaDeviceProp *gpu, size_t version, char *path, size_t size);

const struct tune_entry *tune_find(const struct tune_table *table, const char *key); /* NULL: not found */
/* Replaces the entry of the same key; drops the oldest of a full table. False when memory is exhausted. */
bool tune_put(struct tune_table *table, const struct tune_entry *entry);
/* Adds the readable entries of the file. */
void tune_read(const char *path, struct tune_table *table);
/* Adds an entry to the file, through a temporary file beside it; creates missing directories. If the file cannot be
 * written, nothing changes and the result is false. Writers take turns by a lock of the folder. */
bool tune_remember(const char *path, const struct tune_entry *entry);
void tune_release(struct tune_table *table);

#endif
