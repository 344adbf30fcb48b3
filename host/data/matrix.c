/* Shared by all matrix readers. */
#include "data/matrix.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "data/text.h"

void matrix_add_unread(struct unread_parts *unread, const char *name) {
  static const char *const descriptions[] = {"input_names", "target_names", "class_names"};
  for (size_t k = 0; k < sizeof descriptions / sizeof *descriptions; k++)
    if (strcmp(name, descriptions[k]) == 0) return;
  if (unread->n++ == unread->listed) unread->listed += text_append_quoted(unread->names, sizeof unread->names, name);
}

void matrix_note_unread(const struct unread_parts *unread, char note[NOTE_SIZE]) {
  if (unread->n) snprintf(note, NOTE_SIZE, "not read: %s%s", unread->names, unread->listed < unread->n ? ", ..." : "");
}

void matrix_close(struct matrix *matrix) {
  memory_free_texts(matrix->names, matrix->columns);
  if (matrix->close) matrix->close(matrix->state);
  *matrix = (struct matrix){0};
}
