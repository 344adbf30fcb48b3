/* Shared by all matrix readers. */
#include "data/matrix.h"

#include "core/memory.h"
#include "core/status.h"

void matrix_close(struct matrix *matrix) {
  memory_free_texts(matrix->names, matrix->columns);
  if (matrix->close) matrix->close(matrix->state);
  *matrix = (struct matrix){0};
}
