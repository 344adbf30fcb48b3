/* Tables of the report page. */
#ifndef DESCENT_REPORT_PAGE_TABLES_H
#define DESCENT_REPORT_PAGE_TABLES_H

#include "report/page.h"

void page_warnings(FILE *out, const struct page *page);
void page_measures(FILE *out, const struct page *page);
/* Measures of each network of an ensemble. */
void page_members(FILE *out, const struct measures_table *table);
/* Each layer with its statistics at the end of the last epoch. */
void page_layers(FILE *out, const struct page *page);
void page_configuration(FILE *out, const struct page *page);
void page_machine(FILE *out, const struct page *page);
/* Files, split, classes and columns; false when out of memory. */
bool page_data(FILE *out, const struct page *page);

/* "<tr><th>name</th><td>text</td></tr>" */
void page_pair(FILE *out, const char *name, const char *text);

#endif
