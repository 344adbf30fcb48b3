/* Text as data files hold it: lists of cells, a hash for finding names, and what may be shown of it in a message. */
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
/* Copies text[0 .. length); false when memory ran out. */
bool text_list_add(struct text_list *list, const char *text, size_t length, int64_t line);
void text_list_clear(struct text_list *list);

uint64_t text_hash(const void *data, size_t length);

/* Copies text for an error message: bytes that do not print or are not UTF-8 become \n, \t, \r or \xNN, long text ends
 * in "...". size >= 16. */
void text_escape(const char *text, size_t length, char *shown, size_t size);

/* Appends 'text', escaped and cut to about 40 bytes, to the list in `line`, after ", " unless it is the first. False,
 * with nothing appended, when there is no room. */
bool text_append_quoted(char *line, size_t size, const char *text);

/* Can this number be stored as a finite float32, FLT_MAX or what still rounds to it at most? Not NaN. */
static inline bool text_number_fits(double value) { return value > -0x1.ffffffp127 && value < 0x1.ffffffp127; }

#endif
