/* The options about data files, and reading by them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "report/text.h"
#include "report/waiting.h"

#define AT(member) offsetof(struct data_choice, member)
/* The rows that all commands share but for the default of --missing and what --strict does not infer. */
#define DATA_ROWS(missing_default, not_inferred)                                                                      \
  ROW_TEXT("ignore", "NAME,...", AT(ignore),                                                                          \
           "Columns to leave out, by name or index from 0; not needed where a model finds its columns by name", 0),   \
      ROW_TEXT("missing", "TEXT,...", AT(missing),                                                                    \
               "Cells that count as missing; an empty item is the empty cell (default: " missing_default, 0),         \
      ROW_TERM("unseen", "NAME", AT(unseen),                                                                          \
               "Treat a category not seen in training as an error, or as zeros in all inputs of its column", 0,       \
               unseen),                                                                                               \
      ROW_FLAG("strict", AT(strict), "Infer nothing: " not_inferred "cells are missing only as listed", 0),           \
      ROW_TEXT("format", "NAME", AT(format),                                                                          \
               "csv, npy, npz, idx, svmlight, hdf5 or safetensors (default: by the file's extension or content)", 0), \
      ROW_TEXT("delimiter", "C", AT(delimiter), "Field delimiter: auto, one of , ; | or tab", 0),                     \
      ROW_TEXT("decimal", "C", AT(decimal),                                                                           \
               "Decimal separator: auto, . or , (the other one then separates thousands)", 0),                        \
      ROW_TEXT("header", "yes|no|auto", AT(header), "Whether the first row holds names", 0), ROW_END

const struct setting data_options[] = {
    DATA_ROWS("the empty cell, ?, NA, N/A, NaN and null)", "columns hold numbers unless listed as categorical, ")};
const struct setting model_data_options[] = {
    DATA_ROWS("as in training, else the empty cell, ?, NA, N/A, NaN and null)", "")};
const struct setting column_options[] = {
    ROW_TEXT("categorical", "NAME,...", AT(categorical),
             "Columns of categories, even if they look like numbers; text columns are detected", 0),
    ROW_FLAG("indicators", AT(indicators),
             "Add an input for each column with missing cells: 1 where the cell is missing", 0),
    ROW_END,
};
const struct setting answer_options[] = {
    ROW_TEXT("target-file", "FILE", AT(target_file), "Targets in a separate file, row by row", 0),
    ROW_TEXT("weight-column", "NAME", AT(weight_column), "Column with the row weights", 0),
    ROW_END,
};
#undef AT

/* "a,b" cut into its parts. `*names` and `*text` are freed by free(). */
static bool split_names(const char *list, char **text, const char ***names, int64_t *count) {
  int64_t n = 1;
  *text = strdup(list);
  for (const char *c = list; *c; c++) n += *c == ',';
  *names = calloc((size_t)n, sizeof **names);
  if (!*text || !*names) return false;
  char *rest = *text;
  for (*count = 0; *count < n;) (*names)[(*count)++] = strsep(&rest, ",");
  return true;
}

/* What an option's list of names became; `names` is NULL where it was not given. */
struct name_list {
  char *text;
  const char **names;
  int64_t n;
};

static bool name_list_make(const char *list, struct name_list *made) {
  return !list || split_names(list, &made->text, &made->names, &made->n);
}

static void name_list_clear(struct name_list *list) {
  free(list->names);
  free(list->text);
}

static int set_syntax(const char *command, const struct data_choice *choice, descent_dataset_options *options) {
  const char *delimiter = choice->delimiter, *header = choice->header, *decimal = choice->decimal;
  if (strcmp(delimiter, "tab") == 0)
    options->delimiter = '\t';
  else if (delimiter[0] && !delimiter[1] && strchr(",;|\t", delimiter[0]))
    options->delimiter = delimiter[0];
  else if (strcmp(delimiter, "auto") != 0)
    return fail(command, EXIT_USAGE, "--delimiter '%s': must be auto, one of , ; | or tab", delimiter);
  if (decimal && (strcmp(decimal, ".") == 0 || strcmp(decimal, ",") == 0))
    options->decimal = *decimal;
  else if (decimal && strcmp(decimal, "auto") != 0)
    return fail(command, EXIT_USAGE, "--decimal '%s': must be auto, . or ,", decimal);
  if (options->decimal && options->decimal == options->delimiter)
    return fail(command, EXIT_USAGE, "--decimal '%s': is also the --delimiter", decimal);
  if (strcmp(header, "auto") != 0) {
    if (strcmp(header, "yes") != 0 && strcmp(header, "no") != 0)
      return fail(command, EXIT_USAGE, "--header '%s': must be yes, no or auto", header);
    options->header = *header == 'y';
  }
  return EXIT_DONE;
}

struct reading {
  descent_dataset_options options;
  struct name_list ignore, missing, categorical;
};

static void reading_clear(struct reading *r) {
  name_list_clear(&r->ignore);
  name_list_clear(&r->missing);
  name_list_clear(&r->categorical);
}

/* Completes the caller's options by the choice; reading_clear afterwards, whatever came of it. */
static int reading_make(const char *command, const struct data_choice *choice, descent_dataset_options options,
                        struct reading *r) {
  *r = (struct reading){.options = options};
  if (!name_list_make(choice->ignore, &r->ignore) || !name_list_make(choice->missing, &r->missing) ||
      !name_list_make(choice->categorical, &r->categorical))
    return fail(command, EXIT_RUN, "out of memory");
  descent_dataset_options *o = &r->options;
  o->ignore = r->ignore.names;
  o->ignored = r->ignore.n;
  o->missing = r->missing.names;
  o->missing_texts = r->missing.n;
  if (!o->network) {
    o->categorical = r->categorical.names;
    o->categoricals = r->categorical.n;
    o->indicators = choice->indicators;
  }
  o->unseen = choice->unseen;
  o->strict = choice->strict;
  o->format = choice->format;
  if (!o->features_only) o->weight_column = choice->weight_column;
  return set_syntax(command, choice, o);
}

int64_t data_choice_missing(const descent_dataset *dataset) {
  const int64_t columns = descent_dataset_columns(dataset);
  int64_t *counts = calloc((size_t)columns, sizeof *counts), missing = 0;
  if (counts) descent_dataset_missing(dataset, counts);
  for (int64_t c = 0; counts && c < columns; c++) missing += counts[c];
  free(counts);
  return missing;
}

/* The largest change relative to the spread of its column, of inputs and targets; *at: the input, or -1 - target. */
static double worst_rounding(const descent_dataset *dataset, int64_t *at, double *change, double *spread) {
  const int64_t inputs = descent_dataset_inputs(dataset), targets = descent_dataset_targets(dataset);
  double worst = 0;
  for (int64_t i = 0; i < inputs + targets; i++) {
    double deviation;
    const double largest = i < inputs ? descent_dataset_input_rounding(dataset, i, &deviation)
                                      : descent_dataset_target_rounding(dataset, i - inputs, &deviation);
    const double share = deviation > 0 ? largest / deviation : largest > 0 ? HUGE_VAL : 0;
    if (share <= worst) continue;
    worst = share, *at = i < inputs ? i : inputs - 1 - i, *change = largest, *spread = deviation;
  }
  return worst;
}

bool data_choice_rounding(const descent_dataset *dataset, char text[512]) {
  enum { NAME_COLUMNS = 28 };
  int64_t at = 0;
  double change = 0, spread = 0;
  const double share = worst_rounding(dataset, &at, &change, &spread);
  char name[TEXT_SIZE], column[TEXT_SIZE + 32], loss[64] = "so that all of its values become equal";
  if (share <= 0x1p-16) return false;
  const char *known = at < 0 ? descent_dataset_target_name(dataset, -1 - at) : descent_dataset_input_name(dataset, at);
  if (known)
    snprintf(column, sizeof column, "column '%s'", text_label(known, NAME_COLUMNS, name));
  else
    snprintf(column, sizeof column, "%s %" PRId64 " (from 0)", at < 0 ? "target" : "input", at < 0 ? -1 - at : at);
  if (spread > 0 && spread < 0x1p-128) { /* whose reciprocal is infinite: normalisation takes it for 0 */
    snprintf(text, 512,
             "%s: its standard deviation of %.2g is too small for float32, to which it is constant (rescale it)",
             column, spread);
    return true;
  }
  if (spread > 0) snprintf(loss, sizeof loss, "%.2g %% of its standard deviation", 100 * share);
  snprintf(text, 512, "%s: rounding changes its values by up to %.2g, %s (subtract a constant or rescale it)", column,
           change, loss);
  return true;
}

void data_choice_note(const char *command, const char *path, const descent_dataset *dataset) {
  const int64_t missing = data_choice_missing(dataset);
  char text[512];
  if (messages_silent()) return;
  if (*descent_dataset_note(dataset))
    text_print(stderr, "%s: note: %s: %s\n", command, path, descent_dataset_note(dataset));
  if (data_choice_rounding(dataset, text)) text_print(stderr, "%s: note: %s: %s\n", command, path, text);
  if (missing)
    text_print(stderr, "%s: note: %s: %s missing cell%s filled in\n", command, path, text_count(missing, text),
               missing == 1 ? " is" : "s are");
  if (descent_dataset_unseen(dataset))
    text_print(stderr, "%s: note: %s: %s cell%s a category not seen in training, taken as zeros\n", command, path,
               text_count(descent_dataset_unseen(dataset), text),
               descent_dataset_unseen(dataset) == 1 ? " holds" : "s hold");
  if (descent_dataset_dropped(dataset))
    text_print(stderr, "%s: note: %s: %s row%s left out: the target is missing\n", command, path,
               text_count(descent_dataset_dropped(dataset), text),
               descent_dataset_dropped(dataset) == 1 ? " is" : "s are");
}

int data_choice_read(const char *command, const struct data_choice *choice, const char *path,
                     descent_dataset_options options, descent_dataset **dataset) {
  struct reading r;
  struct waiting waiting;
  int code = reading_make(command, choice, options, &r);
  if (code == EXIT_DONE) {
    waiting_begin(&waiting, choice->quiet ? NULL : stderr);
    descent_status status = descent_dataset_read(path, &r.options, dataset);
    waiting_end(&waiting);
    if (status != DESCENT_OK)
      code = fail_status(command, status);
    else if (r.options.network)
      data_choice_note(command, path, *dataset);
  }
  reading_clear(&r);
  return code;
}

int data_choice_read_blocks(const char *command, const struct data_choice *choice, const char *path,
                            descent_dataset_options options, int64_t rows,
                            int (*take)(void *user, const descent_dataset *block), void *user) {
  struct reading r;
  int code = reading_make(command, choice, options, &r);
  if (code == EXIT_DONE) {
    descent_status status = descent_dataset_read_blocks(path, &r.options, rows, take, user);
    if (status != DESCENT_OK) code = fail_status(command, status);
  }
  reading_clear(&r);
  return code;
}

int data_choice_convert(const char *command, const struct data_choice *choice, const char *path,
                        descent_dataset_options options, const char *to, descent_dataset **dataset) {
  struct reading r;
  struct waiting waiting;
  int code = reading_make(command, choice, options, &r);
  if (code == EXIT_DONE) {
    waiting_begin(&waiting, choice->quiet ? NULL : stderr);
    descent_status status = descent_dataset_convert(path, &r.options, to, dataset);
    waiting_end(&waiting);
    if (status != DESCENT_OK) code = fail_status(command, status);
  }
  reading_clear(&r);
  return code;
}
