/* What in the data may make a good result mean little: said once before a training. */
#ifndef DESCENT_CLI_CAUTIONS_H
#define DESCENT_CLI_CAUTIONS_H

#include <descent/descent.h>
#include <stdio.h>

/* Prints a line for each column of numbers that looks like a row number or an identifier. */
void cautions_print_identifiers(FILE *stream, const descent_dataset *data);
/* Prints a line for the classes without training rows, and one for those without validation rows. */
void cautions_print_classes(FILE *stream, const descent_dataset *training, const descent_dataset *validation);
/* Whether there is such a class: of `data`, but absent from `part`. */
bool cautions_lacks_class(const descent_dataset *data, const descent_dataset *part);

#endif
