/* The proportion of a matrix to its file. */
#include "data/expansion.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/status.h"

/* "3.36 GB" */
static const char *size_text(double bytes, char text[32]) {
  static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB", "PB", "EB"};
  int unit = 0;
  while (bytes >= 999.5 && unit < 6) bytes /= 1000, unit++;
  snprintf(text, 32, "%.3g %s", bytes, units[unit]);
  return text;
}

descent_status expansion_check(const char *path, int64_t rows, int64_t columns, int64_t bytes, const char *detail,
                               const char *advice) {
  enum { CELLS = 1 << 26, CELLS_PER_BYTE = 1032, CELLS_PER_COLUMN = 48 };
  char dense[32], file[32];
  const double size = 4.0 * (double)rows * (double)columns;
  if (((double)rows + CELLS_PER_COLUMN) * (double)columns <= CELLS + (double)CELLS_PER_BYTE * (double)bytes)
    return DESCENT_OK;
  return status_set(
      DESCENT_ERROR_DATA,
      "%s: %" PRId64 " rows x %" PRId64 " columns are %s as a dense matrix, %.0f times the file's %s%s: %s", path, rows,
      columns, size_text(size, dense), size / fmax((double)bytes, 1), size_text((double)bytes, file), detail, advice);
}
