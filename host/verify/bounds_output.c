/* The outputs of an operation: exact values and bounds. */
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "verify/bounds_internal.h"

descent_status bounds_add(struct bounds *bounds, const struct backend_program *reference, int buffer, int64_t offset,
                          int64_t count, double **bound) {
  struct bounds_output *output = &bounds->outputs[bounds->n++];
  *output = (struct bounds_output){.buffer = buffer, .offset = offset, .count = count};
  output->exact = memory_allocate(count, sizeof *output->exact, "exact values");
  output->bound = memory_allocate(count, sizeof *output->bound, "bounds");
  if (!output->exact || !output->bound) return DESCENT_ERROR_MEMORY;
  memcpy(output->exact, reference_values(reference, buffer) + offset, (size_t)count * sizeof *output->exact);
  *bound = output->bound;
  return DESCENT_OK;
}

void bounds_clear(struct bounds *bounds) {
  for (int i = 0; i < bounds->n; i++) {
    free(bounds->outputs[i].exact);
    free(bounds->outputs[i].bound);
  }
  *bounds = (struct bounds){0};
}
