/* One cell: blanks, missing, or not a valid number. */
#include "data/cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "core/number.h"

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

void cell_trim(const char **text, size_t *length) {
  while (*length && is_blank((*text)[*length - 1])) --*length;
  while (*length && is_blank(**text)) ++*text, --*length;
}

descent_status missing_cells_create(const descent_dataset_options *options, struct missing_cells *missing) {
  *missing = (struct missing_cells){.options = options};
  if (!options->missing || !options->missing_texts) return DESCENT_OK;
  missing->numbers = memory_allocate(options->missing_texts, sizeof *missing->numbers, "missing numbers");
  if (!missing->numbers) return DESCENT_ERROR_MEMORY;
  for (int64_t i = 0; i < options->missing_texts; i++) {
    double number;
    if (number_parse(options->missing[i], strlen(options->missing[i]), &number) && !isnan(number))
      missing->numbers[missing->n_numbers++] = number;
  }
  return DESCENT_OK;
}

void missing_cells_clear(struct missing_cells *missing) {
  free(missing->numbers);
  *missing = (struct missing_cells){0};
}

bool cell_number_is_missing(const struct missing_cells *missing, double number) {
  for (int64_t i = 0; i < missing->n_numbers; i++)
    if (missing->numbers[i] == number) return true;
  return isnan(number);
}

bool cell_is_missing(const struct missing_cells *missing, const char *text, size_t length) {
  static const char *const usual[] = {"?", "NA", "N/A", "NaN", "null"};
  const descent_dataset_options *options = missing->options;
  double number;
  cell_trim(&text, &length);
  if (!options->missing && options->strict) return false;
  if (!options->missing) {
    if (length == 0) return true;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++)
      if (strlen(usual[i]) == length && strncasecmp(usual[i], text, length) == 0) return true;
    return false;
  }
  for (int64_t i = 0; i < options->missing_texts; i++) {
    const char *listed = options->missing[i];
    size_t listed_length = strlen(listed);
    cell_trim(&listed, &listed_length);
    if (listed_length == length && memcmp(listed, text, length) == 0) return true;
  }
  return missing->n_numbers && number_parse(text, length, &number) && !isnan(number) &&
         cell_number_is_missing(missing, number);
}

static bool looks_like_decimal_comma(const char *text, size_t length) {
  char copy[64];
  double value;
  if (length >= sizeof copy) return false;
  memcpy(copy, text, length);
  char *comma = memchr(copy, ',', length);
  if (!comma) return false;
  *comma = '.';
  return number_parse(copy, length, &value);
}

const char *cell_number_problem(const descent_dataset_options *options, const char *text, size_t length, bool numeric,
                                double value) {
  if (length == 0) return "is empty (fill in a number, or remove the row or the column)";
  if (!numeric && looks_like_decimal_comma(text, length)) return "is not a number (use a decimal point)";
  if (!numeric && options->strict) return "is not a number (correct it, or remove the row or the column)";
  if (!numeric) return "is not a number (correct it, list it as missing, or make the column categorical)";
  if (isnan(value)) return "is not a number (fill one in, or remove the row or the column)";
  return "is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the row or the column)";
}
