/* Lists of cells, and escaping of text for messages. */
#include "data/text.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/memory.h"
#include "core/printable.h"

bool text_list_add(struct text_list *list, const char *text, size_t length, int64_t line) {
  if (list->n == list->capacity) {
    enum { COPY = 32 }; /* bytes: what the allocator takes for a short text */
    const int64_t capacity = list->capacity ? list->capacity * 2 : 16;
    if (!memory_fits((capacity - list->n) * (COPY + (int64_t)(sizeof(char *) + sizeof(int64_t))))) return false;
    char **items = realloc(list->items, (size_t)capacity * sizeof *items);
    if (items) list->items = items;
    int64_t *lines = realloc(list->lines, (size_t)capacity * sizeof *lines);
    if (lines) list->lines = lines;
    if (!items || !lines) return false;
    list->capacity = capacity;
  }
  char *copy = strndup(length ? text : "", length);
  if (!copy) return false;
  list->items[list->n] = copy;
  list->lines[list->n++] = line;
  return true;
}

void text_list_clear(struct text_list *list) {
  for (int64_t i = 0; i < list->n; i++) free(list->items[i]);
  free(list->items);
  free(list->lines);
  *list = (struct text_list){0};
}

/* SipHash-1-3 (Aumasson and Bernstein 2012) with a key of this process, so that no file can be made of texts with equal
 * hashes, which would take time in proportion to the square of their number. */
static uint64_t hash_key[2];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;
static void make_hash_key(void) {
  if (getrandom(hash_key, sizeof hash_key, GRND_NONBLOCK) == sizeof hash_key) return;
  struct timespec now = {0}; /* without random numbers, shortly after a start: the place in memory and the time */
  clock_gettime(CLOCK_REALTIME, &now);
  hash_key[0] = (uint64_t)(uintptr_t)hash_key, hash_key[1] = (uint64_t)now.tv_nsec;
}

static uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static void sip_round(uint64_t v[4]) {
  v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
  v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
  v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
  v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t text_hash(const void *data, size_t length) {
  const unsigned char *bytes = data;
  pthread_once(&hash_key_once, make_hash_key);
  uint64_t v[4] = {hash_key[0] ^ UINT64_C(0x736f6d6570736575), hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
                   hash_key[0] ^ UINT64_C(0x6c7967656e657261), hash_key[1] ^ UINT64_C(0x7465646279746573)};
  for (size_t at = 0; at <= length; at += 8) {
    uint64_t word = length - at < 8 ? (uint64_t)length << 56 : 0;
    memcpy(&word, bytes + at, length - at < 8 ? length - at : 8); /* the last word ends in the length */
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void text_escape(const char *text, size_t length, char *shown, size_t size) {
  static const char ellipsis[] = "...";
  size_t used = 0, safe = 0; /* safe: where an ellipsis still fits */
  for (size_t i = 0; i < length;) {
    char piece[PRINTABLE_SIZE];
    i += printable_escape(text + i, length - i, piece);
    const size_t n = strlen(piece);
    if (used + n >= size) {
      memcpy(shown + safe, ellipsis, sizeof ellipsis);
      return;
    }
    memcpy(shown + used, piece, n);
    used += n;
    if (used + sizeof ellipsis <= size) safe = used;
  }
  shown[used] = 0;
}

bool text_append_quoted(char *line, size_t size, const char *text) {
  char shown[44];
  text_escape(text, strlen(text), shown, sizeof shown);
  const size_t used = strlen(line);
  const int wrote = snprintf(line + used, size - used, "%s'%s'", used ? ", " : "", shown);
  if (wrote >= 0 && (size_t)wrote < size - used) return true;
  line[used] = 0;
  return false;
}

void note_add(char note[NOTE_SIZE], const char *text) {
  enum { LEAST = 16 }; /* what text_escape needs */
  const size_t used = strlen(note), between = used ? 2 : 0;
  if (!*text || used + between + LEAST > NOTE_SIZE) return;
  memcpy(note + used, "; ", between);
  text_escape(text, strlen(text), note + used + between, NOTE_SIZE - used - between);
}
