/* Measured choices: entries as text, the table, the file. */
#include "tune.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- one line ---- */

void tune_key(const struct product_shape *shape, int64_t workspace, int64_t alignment, char key[TUNE_KEY]) {
  static const char *const elements[] = {[ELEMENT_F32] = "f32", [ELEMENT_BF16] = "bf16"};
  static const char *const epilogues[] = {
      [EPILOGUE_NONE] = "none",
      [EPILOGUE_BIAS] = "bias",
      [EPILOGUE_RELU_BIAS] = "relu_bias",
      [EPILOGUE_RELU_MASK_BIAS] = "relu_mask_bias",
      [EPILOGUE_MASKED] = "masked",
      [EPILOGUE_MASKED_COLUMN_SUMS] = "masked_column_sums",
      [EPILOGUE_COLUMN_SUMS_A] = "column_sums_a",
  };
  snprintf(key, TUNE_KEY,
           "m=%" PRId64 " n=%" PRId64 " k=%" PRId64 " transposed=%d%d lda=%" PRId64 " ldb=%" PRId64 " ldc=%" PRId64
           " operands=%s result=%s tf32=%d epilogue=%s bias=%s mask=%" PRId64 " workspace=%" PRId64
           " alignment=%" PRId64 " timed=captured",
           shape->m, shape->n, shape->k, shape->transpose_a, shape->transpose_b, shape->lda, shape->ldb, shape->ldc,
           elements[shape->operands], elements[shape->result], shape->tf32, epilogues[shape->epilogue],
           elements[shape->bias_element], shape->mask_ld, workspace, alignment);
}

/* FNV-1a: detects damage, not attacks. */
static uint64_t checksum(const char *text, size_t length) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
  return hash;
}

enum { HEX = 16, HEAD = HEX + 1 }; /* digits of a word; the checksum and a blank */

void tune_format(const struct tune_entry *entry, char line[TUNE_LINE]) {
  char *at = line + HEAD;
  for (int i = 0; i < TUNE_WORDS; i++) at += sprintf(at, "%016" PRIx64 " ", entry->algorithm[i]);
  at += snprintf(at, (size_t)(line + TUNE_LINE - at), "%" PRId64 " %s", entry->nanoseconds, entry->key);
  char head[HEAD + 1];
  snprintf(head, sizeof head, "%016" PRIx64 " ", checksum(line + HEAD, (size_t)(at - line) - HEAD));
  memcpy(line, head, HEAD);
}

/* HEX lower-case digits and a blank. */
static bool parse_word(const char **at, const char *end, uint64_t *word) {
  static const char digits[] = "0123456789abcdef";
  if (end - *at < HEAD || (*at)[HEX] != ' ') return false;
  *word = 0;
  for (int i = 0; i < HEX; i++) {
    const char *digit = memchr(digits, (*at)[i], HEX);
    if (!digit) return false;
    *word = *word << 4 | (uint64_t)(digit - digits);
  }
  *at += HEAD;
  return true;
}

bool tune_parse(const char *line, size_t length, struct tune_entry *entry) {
  const char *at = line, *const end = line + length;
  uint64_t sum;
  if (!parse_word(&at, end, &sum) || sum != checksum(at, (size_t)(end - at))) return false;
  for (int i = 0; i < TUNE_WORDS; i++)
    if (!parse_word(&at, end, &entry->algorithm[i])) return false;
  entry->nanoseconds = 0;
  const char *const number = at;
  while (at < end && *at >= '0' && *at <= '9' && entry->nanoseconds < INT64_MAX / 10 - 1)
    entry->nanoseconds = entry->nanoseconds * 10 + (*at++ - '0');
  if (at == number || at == end || *at++ != ' ') return false;
  const size_t rest = (size_t)(end - at);
  if (rest == 0 || rest >= TUNE_KEY) return false;
  for (size_t i = 0; i < rest; i++)
    if (at[i] < ' ' || at[i] > '~') return false;
  memcpy(entry->key, at, rest);
  entry->key[rest] = 0;
  return true;
}

/* ---- the table ---- */

const struct tune_entry *tune_find(const struct tune_table *table, const char *key) {
  for (int64_t i = 0; i < table->n; i++)
    if (!strcmp(table->entries[i].key, key)) return &table->entries[i];
  return NULL;
}

bool tune_put(struct tune_table *table, const struct tune_entry *entry) {
  if (!table->entries) table->entries = malloc(TUNE_ENTRIES * sizeof *table->entries);
  if (!table->entries) return false;
  int64_t gone = 0; /* the entry to replace: the one with the same key, else the oldest of a full table, else none */
  while (gone < table->n && strcmp(table->entries[gone].key, entry->key) != 0) gone++;
  if (gone == TUNE_ENTRIES) gone = 0;
  if (gone < table->n) {
    memmove(&table->entries[gone], &table->entries[gone + 1], (size_t)(table->n - gone - 1) * sizeof *table->entries);
    table->n--;
  }
  table->entries[table->n++] = *entry;
  return true;
}

void tune_release(struct tune_table *table) {
  free(table->entries);
  *table = (struct tune_table){0};
}

/* ---- the file ---- */

bool tune_path(const struct cudaDeviceProp *gpu, size_t version, char *path, size_t size) {
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  const bool given = cache && cache[0] == '/';
  if (!given && (!home || home[0] != '/')) return false;
  char name[64];
  size_t length = 0;
  for (; length < sizeof name - 1 && gpu->name[length]; length++)
    name[length] = isalnum((unsigned char)gpu->name[length]) ? gpu->name[length] : '-';
  name[length] = 0;
  const int written = snprintf(path, size, "%s%s/descent/products-%s-sm%d%d-%d-%zu.txt", given ? cache : home,
                               given ? "" : "/.cache", name, gpu->major, gpu->minor, gpu->multiProcessorCount, version);
  return written > 0 && (size_t)written < size;
}

/* Reads the whole file, at most TUNE_BYTES, into `text` and returns the number of bytes; 0 for anything but a regular
 * file that fits. */
static size_t read_file(const char *path, char *text) {
  struct stat about;
  size_t length = 0;
  ssize_t got = 0;
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return 0;
  if (fstat(file, &about) == 0 && S_ISREG(about.st_mode) && about.st_size <= TUNE_BYTES)
    while (length < TUNE_BYTES && (got = read(file, text + length, TUNE_BYTES - length)) > 0) length += (size_t)got;
  close(file);
  return got < 0 ? 0 : length;
}

void tune_read(const char *path, struct tune_table *table) {
  char *const text = malloc(TUNE_BYTES);
  if (!text) return;
  const char *const end = text + read_file(path, text);
  for (const char *line = text, *next; line < end; line = next + 1) {
    struct tune_entry entry;
    next = memchr(line, '\n', (size_t)(end - line));
    if (!next) break; /* truncated */
    if (tune_parse(line, (size_t)(next - line), &entry)) tune_put(table, &entry);
  }
  free(text);
}

static void make_directories(const char *path) {
  char part[PATH_MAX];
  for (const char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
    snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
    (void)mkdir(part, 0700); /* if it fails for another reason than that it exists, creating the file fails too */
  }
}

static bool write_table(FILE *file, const struct tune_table *table) {
  char line[TUNE_LINE];
  for (int64_t i = 0; i < table->n; i++) {
    tune_format(&table->entries[i], line);
    if (fprintf(file, "%s\n", line) < 0) return false;
  }
  return fflush(file) == 0 && fsync(fileno(file)) == 0;
}

static bool write_file(const char *path, const struct tune_table *table) {
  char temporary[PATH_MAX];
  if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) return false;
  const int descriptor = mkostemp(temporary, O_CLOEXEC);
  if (descriptor < 0) return false;
  FILE *const file = fdopen(descriptor, "w");
  bool written = false;
  if (!file) close(descriptor);
  if (file) {
    written = write_table(file, table);
    written &= fclose(file) == 0;
  }
  written = written && rename(temporary, path) == 0;
  if (!written) (void)unlink(temporary);
  return written;
}

/* Locks the file's folder; waits a second at most, because another writer may be stopped. -1: no folder. */
static int lock_folder(const char *path) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
  const int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; descriptor >= 0 && i < 100 && flock(descriptor, LOCK_EX | LOCK_NB) != 0; i++) (void)usleep(10000);
  return descriptor;
}

bool tune_remember(const char *path, const struct tune_entry *entry) {
  struct tune_table table = {0};
  make_directories(path);
  const int lock = lock_folder(path); /* else the writer that reads before another writes drops its entry */
  tune_read(path, &table);
  const bool written = tune_put(&table, entry) && write_file(path, &table);
  tune_release(&table);
  if (lock >= 0) close(lock);
  return written;
}
