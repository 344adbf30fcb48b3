/* A file of results: written beside its place and renamed over it, so that an existing file is wholly old or wholly
 * new. "-" is standard output; what is no regular file (a pipe, /dev/null) is written directly. */
#ifndef DESCENT_CLI_OUTPUT_H
#define DESCENT_CLI_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/replace.h"

struct output_file {
  FILE *stream;
  struct replacement replacement; /* zeroed when written directly */
};

/* Each false with errno set on failure. A file that a signal interrupts is removed (interrupt.h). */
bool output_open(struct output_file *output, const char *path);
bool output_commit(struct output_file *output);
void output_abandon(struct output_file *output);

/* Can a file be written at `path`? Tried, by making and removing the temporary file; false with errno set. */
bool output_possible(const char *path);

/* Is there something at `path` that is neither file nor folder? The library replaces files, which must not happen to a
 * device. */
bool output_is_special(const char *path);

/* How long the file is; else the exit code, after saying why it cannot be told. */
int output_size(const char *command, const char *path, int64_t *bytes);

/* Are both paths one existing file? */
bool output_same_file(const char *a, const char *b);
/* The same, or would they be? */
bool output_same_place(const char *a, const char *b);

#endif
