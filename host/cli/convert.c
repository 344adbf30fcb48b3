/* `descent convert IN OUT`: a data file in another format. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/place.h"
#include "report/text.h"

static const char command[] = "descent convert";

struct convert_values {
  const char *target;
  descent_task task;
  bool two_passes, guard_formulas;
  struct data_choice data;
};

#define AT(member) offsetof(struct convert_values, member)
static const struct setting convert_rows[] = {
    ROW_HEADING("Data:"),
    ROW_TEXT("target", "NAME|INDEX", AT(target),
             "Column to predict, written last: its name, or its index from 0 (-1: the last); for regression several, "
             "separated by commas",
             0),
    ROW_TERM(
        "task", "NAME", AT(task),
        "auto, binary, classes or regression; auto takes text, and at most 20 different whole numbers that repeat, "
        "as classes",
        0, task),
    ROW_FLAG("two-passes", AT(two_passes),
             "Read IN twice instead of holding it in memory; OUT must end in .safetensors (default: for files that are "
             "large for this machine)",
             0),
    ROW_FLAG("guard-formulas", AT(guard_formulas),
             "Write ' before texts that begin with =, +, -, @, a tab or a line break, which spreadsheets compute; OUT "
             "must end in .csv or .tsv",
             0),
    ROW_END,
};
#undef AT

static bool ends_in(const char *path, const char *ending) {
  const size_t length = strlen(path), n = strlen(ending);
  return length > n && strcasecmp(path + length - n, ending) == 0;
}

static bool is_csv(const char *path) { return ends_in(path, ".csv") || ends_in(path, ".tsv"); }

/* Whether the format keeps names, categories and classes as texts. */
static bool holds_texts(const char *path) { return is_csv(path) || ends_in(path, ".safetensors"); }

/* Would the file take much of the memory? Packed ones hold several times their size. */
static bool is_large(const char *path) {
  struct stat file;
  if (stat(path, &file) != 0 || !S_ISREG(file.st_mode)) return false;
  const double bytes = (double)file.st_size * (ends_in(path, ".gz") || ends_in(path, ".npz") ? 5 : 1);
  return bytes > (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 8;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void print_target(const descent_dataset *dataset) {
  char text[TEXT_SIZE];
  const char *name = descent_dataset_target_name(dataset, 0);
  const int64_t targets = descent_dataset_targets(dataset), classes = descent_dataset_classes(dataset);
  if (targets == 0) {
    fputs("no target\n", stdout);
    return;
  }
  if (targets > 1) printf("%s targets", text_count(targets, text));
  if (targets == 1) printf("target %s", name ? text_label(name, 28, text) : "without a name");
  if (classes) printf(" of %s classes", text_count(classes, text));
  putchar('\n');
}

static void print_read(const char *path, const descent_dataset *dataset) {
  char rows[TEXT_SIZE], columns[TEXT_SIZE], text[TEXT_SIZE];
  double change;
  text_print(stdout, "%-10s%s: %s rows, %s columns, ", "read", path, text_count(descent_dataset_rows(dataset), rows),
             text_count(descent_dataset_columns(dataset), columns));
  print_target(dataset);
  if (*descent_dataset_note(dataset)) text_print(stdout, "%-10s%s\n", "note", descent_dataset_note(dataset));
  if (descent_dataset_dropped(dataset))
    printf("%-10s%s row%s without a target dropped\n", "note", text_count(descent_dataset_dropped(dataset), text),
           descent_dataset_dropped(dataset) == 1 ? "" : "s");
  const int64_t rounded = descent_dataset_rounded(dataset, &change);
  if (rounded)
    printf("%-10s%s cell%s rounded to float32, by at most %.2g of the value\n", "inexact", text_count(rounded, text),
           rounded == 1 ? "" : "s", change);
  else
    printf("%-10severy number is the same in float32\n", "exact");
}

static bool is_number(const char *text) {
  double value;
  return option_real(text, &value);
}

/* What a format without texts leaves out. */
static void print_left_out(const char *path, const descent_dataset *dataset) {
  char text[TEXT_SIZE], first[TEXT_SIZE];
  int64_t categorical = 0;
  bool words = false;
  for (int64_t c = 0; c < descent_dataset_columns(dataset); c++)
    categorical += descent_dataset_column_categories(dataset, c) > 0;
  for (int64_t k = 0; k < descent_dataset_classes(dataset); k++) {
    const char *name = descent_dataset_class_name(dataset, k);
    words = words || (name && !is_number(name));
  }
  if (categorical)
    printf("%-10s%s column%s of categories became inputs of 0 and 1: %s inputs in all\n", "note",
           text_count(categorical, text), categorical == 1 ? "" : "s",
           text_count(descent_dataset_inputs(dataset), first));
  if (words)
    printf("%-10sclasses are written as numbers: 0 is %s, 1 is %s%s\n", "note",
           text_label(descent_dataset_class_name(dataset, 0), 28, text),
           text_label(descent_dataset_class_name(dataset, 1), 28, first),
           descent_dataset_classes(dataset) > 2 ? ", and so on" : "");
  if (descent_dataset_column_name(dataset, 0))
    printf("%-10sthe format has no column names%s\n", "note",
           ends_in(path, ".npz") || ends_in(path, ".h5") || ends_in(path, ".hdf5")
               ? "; they are stored in a separate array, which is not read back"
               : "");
}

static int print_written(const char *path, const descent_dataset *dataset) {
  char rows[TEXT_SIZE], columns[TEXT_SIZE], bytes[TEXT_SIZE];
  int64_t size;
  const int code = output_size(command, path, &size);
  if (code != EXIT_DONE) return code;
  const bool texts = is_csv(path);
  text_print(stdout, "%-10s%s: %s rows, %s %s, %s bytes\n", "wrote", path,
             text_count(descent_dataset_rows(dataset), rows),
             text_count(texts ? descent_dataset_columns(dataset) : descent_dataset_inputs(dataset), columns),
             texts ? "columns" : "inputs", text_count(size, bytes));
  if (!holds_texts(path)) print_left_out(path, dataset);
  return EXIT_DONE;
}

/* ---- converting ------------------------------------------------------------------------------------------------- */

static int convert(void *values, const struct arguments *arguments) {
  const struct convert_values *v = values;
  const char *from = arguments->values[0], *to = arguments->values[1];
  const bool binary = ends_in(to, ".safetensors"),
             can = binary && strcmp(from, "-") != 0 && !ends_in(from, ".safetensors");
  descent_dataset *dataset = NULL;
  descent_dataset_options source = descent_dataset_options_default();
  source.target = v->target;
  source.target_file = v->data.target_file;
  source.task = v->task;
  if (output_same_place(to, from) || (v->data.target_file && output_same_place(to, v->data.target_file)))
    return fail(command, EXIT_USAGE, "'%s': is also an input file", to);
  if (place_holds_checkpoints(to))
    return fail(command, EXIT_USAGE, "'%s': would replace a file of the checkpoints there: choose another name", to);
  if (output_is_special(to)) return fail(command, EXIT_RUN, "%s: cannot write: not a regular file", to);
  if (v->two_passes && !can) return fail(command, EXIT_USAGE, "--two-passes needs an output that ends in .safetensors");
  if (v->guard_formulas && !is_csv(to))
    return fail(command, EXIT_USAGE, "--guard-formulas needs an output that ends in .csv or .tsv");
  if (v->two_passes || (can && is_large(from))) {
    const int code = data_choice_convert(command, &v->data, from, source, to, &dataset);
    if (code != EXIT_DONE) return code;
    print_read(from, dataset);
  } else {
    const int code = data_choice_read(command, &v->data, from, source, &dataset);
    if (code != EXIT_DONE) return code;
    print_read(from, dataset);
    const descent_status status =
        v->guard_formulas ? descent_dataset_save_guarded(dataset, to) : descent_dataset_save(dataset, to);
    if (status != DESCENT_OK) {
      descent_dataset_free(dataset);
      return fail_status(command, status);
    }
  }
  const int code = print_written(to, dataset);
  descent_dataset_free(dataset);
  return code;
}

int command_convert(int argc, char **argv) {
  struct convert_values values = {.data = DATA_CHOICE_INIT};
  const struct setting_set sets[] = {{convert_rows, &values},
                                     {data_options, &values.data},
                                     {column_options, &values.data},
                                     {answer_options, &values.data}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "IN OUT",
      .about =
          "Write the data file IN as OUT, in the format of its extension: .csv, .tsv, .npy, .npz, .idx, .svm, "
          ".svmlight, .libsvm, .h5, .hdf5, or .safetensors, the binary form that a training maps instead of reading. "
          "Numbers become float32; rounding is reported.",
      .fewest = 2,
      .most = 2,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  return options_run(&syntax, argc, argv, convert, &values);
}
