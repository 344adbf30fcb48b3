/* Text from data files: lists of cells, a hash, and escaping for messages. */
#ifndef DESCENT_DATA_TEXT_H
#define DESCENT_DATA_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing list of cells, each with the line it starts on. */
struct text_list {
  char **items;
  int64_t *lines;
  int64_t n, capacity;
};
/* Copies text[0 .. length); false when out of memory. */
bool text_list_add(struct text_list *list, const char *text, size_t length, int64_t line);
void text_list_clear(struct text_list *list);

uint64_t text_hash(const void *data, size_t length);

/* Copies text for a message: what is harmful to a terminal is escaped, long text ends in "...". size >= 16. */
void text_escape(const char *text, size_t length, char *shown, size_t size);

/* Appends 'text', escaped and truncated to about 40 bytes, to the list in `line`, separated by ", ". False, with
 * nothing appended, when there is no room. */
bool text_append_quoted(char *line, size_t size, const char *text);

/* One line about decisions of a reader that the user should know. */
enum { NOTE_SIZE = 400 };
/* Appends a note, escaped; those before it end in "; ". Nothing for an empty one. */
void note_add(char note[NOTE_SIZE], const char *text);

/* Whether the number rounds to a finite float32; false for NaN. */
static inline bool text_number_fits(double value) { return value > -0x1.ffffffp127 && value < 0x1.ffffffp127; }

#endif
