/* One cell: blanks, missing, or not a valid number. */
#include "data/cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "core/number.h"

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

/* Beyond 2^64, numbers that are one float32 are one value: programs write the largest one with 8 to 21 digits. */
static bool is_same(double a, double b) { return a == b || (fabs(a) >= 0x1p64 && (float)a == (float)b); }

bool cell_number_is_missing(const struct missing_cells *missing, double number) {
  for (int64_t i = 0; i < missing->n_numbers; i++)
    if (is_same(missing->numbers[i], number)) return true;
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
  return missing->n_numbers && number_parse_style(text, length, missing->style, &number) && !isnan(number) &&
         cell_number_is_missing(missing, number);
}

const char *cell_separator_problem(enum number_style style, const char *text, size_t length) {
  const unsigned forms = cell_number_forms(text, length);
  if (!forms) return NULL;
  if (style == NUMBER_PLAIN && !(forms & FORM_POINT))
    return "is not a number (use a decimal point, or choose decimal ',')";
  if (style == NUMBER_PLAIN)
    return "is not a number (remove the separators of thousands, or choose decimal '.' or ',')";
  if (style == NUMBER_POINT_GROUPED) return "is not a number with a decimal point (correct it, or choose decimal ',')";
  if (style == NUMBER_COMMA && forms & FORM_COMMA)
    return "has either a decimal point or a separator of thousands (choose decimal '.' or ',')";
  return "is not a number with a decimal comma (correct it, or choose decimal '.')";
}

const char *cell_number_problem(const struct missing_cells *missing, const char *text, size_t length, bool numeric,
                                double value) {
  const bool strict = missing->options->strict;
  if (length == 0) return "is empty (fill in a number, or remove the row or the column)";
  if (!numeric) {
    const char *problem = cell_separator_problem(missing->style, text, length);
    const struct cell_decoration *decoration = problem ? NULL : cell_find_decoration(text, length);
    if (problem) return problem;
    if (decoration) return decoration->feature_problem;
    return strict ? "is not a number (correct it, or remove the row or the column)"
                  : "is not a number (correct it, list it as missing, or make the column categorical)";
  }
  if (isnan(value)) return "is not a number (fill one in, or remove the row or the column)";
  return "is not a finite 32-bit number, at most 3.4e38 (correct it, or remove the row or the column)";
}
