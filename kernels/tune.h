/* Which algorithm computes a product was measured once; here it is remembered, in memory and in a text file per GPU and
 * library version. One line per product: checksum, the algorithm's words, nanoseconds, key. Whatever is wrong with the
 * file costs a measurement, never more. */
#ifndef DESCENT_KERNELS_TUNE_H
#define DESCENT_KERNELS_TUNE_H

#include "product.h"

enum { TUNE_KEY = 448, TUNE_LINE = 768, TUNE_WORDS = 8 }; /* sizes with the terminating zero */
enum { TUNE_ENTRIES = 1024, TUNE_BYTES = TUNE_ENTRIES * TUNE_LINE };

struct tune_entry {
  char key[TUNE_KEY]; /* from tune_key */
  int64_t nanoseconds;
  uint64_t algorithm[TUNE_WORDS];
};
struct tune_table { /* at most TUNE_ENTRIES, no key twice, the oldest first */
  struct tune_entry *entries;
  int64_t n;
};

/* Everything that the choice depends on besides GPU and library version, and how it is timed, as text without line
 * ends. */
void tune_key(const struct product_shape *shape, int64_t workspace, int64_t alignment, char key[TUNE_KEY]);
/* One line without its end, and back; false, and the entry unspecified, for anything that tune_format did not write. */
void tune_format(const struct tune_entry *entry, char line[TUNE_LINE]);
bool tune_parse(const char *line, size_t length, struct tune_entry *entry);

/* $XDG_CACHE_HOME/descent/products-<gpu>-sm<capability>-<multiprocessors>-<version>.txt, $HOME/.cache where the former
 * is not an absolute path; false when there is neither or it does not fit. Parts of a GPU and cut-down ones may share a
 * name, but the fastest algorithm depends on how many multiprocessors there are. */
bool tune_path(const struct cudaDeviceProp *gpu, size_t version, char *path, size_t size);

const struct tune_entry *tune_find(const struct tune_table *table, const char *key); /* NULL: not there */
/* Replaces the entry of the same key; drops the oldest of a full table. False without memory. */
bool tune_put(struct tune_table *table, const struct tune_entry *entry);
/* Puts what the file holds, as far as it can be read. */
void tune_read(const char *path, struct tune_table *table);
/* Adds an entry to what the file holds now, through a temporary file beside it; creates missing directories. Nothing
 * happens where the file cannot be written. Of two writers at the same time one may lose its entry. */
void tune_remember(const char *path, const struct tune_entry *entry);
void tune_release(struct tune_table *table);

#endif
