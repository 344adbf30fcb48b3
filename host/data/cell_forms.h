/* What a cell of text looks like, apart from a plain number: a number with other separators or with a sign around it,
 * or a date. */
#ifndef DESCENT_DATA_CELL_FORMS_H
#define DESCENT_DATA_CELL_FORMS_H

#include <stdbool.h>
#include <stddef.h>

/* Removes blanks from both ends. */
void cell_trim(const char **text, size_t *length);

/* The ways of reading a cell as a number, as bits. */
enum { FORM_PLAIN = 1, FORM_COMMA = 2 /* NUMBER_COMMA_GROUPED */, FORM_POINT = 4 /* NUMBER_POINT_GROUPED */ };
unsigned cell_number_forms(const char *text, size_t length);

/* A number with a currency, a percent sign or blanks between its digits: the predicates that follow the quoted cell in
 * a message; NULL for any other text. */
struct cell_decoration {
  const char *sign, *feature_problem, *target_problem;
};
const struct cell_decoration *cell_find_decoration(const char *text, size_t length);

/* 2024-03-01, 1/3/24, 01.03.2024, 12:30, 2024-03-01T12:30:05Z: groups of digits separated by - / . and :. */
bool cell_looks_like_date(const char *text, size_t length);

#endif
