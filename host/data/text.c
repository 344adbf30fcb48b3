/* Lists of cells, and escaping of text for messages. */
#include "data/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/printable.h"

bool text_list_add(struct text_list *list, const char *text, size_t length, int64_t line) {
  if (list->n == list->capacity) {
    int64_t capacity = list->capacity ? list->capacity * 2 : 16;
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

uint64_t text_hash(const void *data, size_t length) { /* FNV-1a */
  const unsigned char *bytes = data;
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
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
