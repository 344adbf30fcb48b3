/* The banner of a training. */
#include "cli/summary.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cautions.h"
#include "cli/cli.h"
#include "cli/no_data.h"
#include "report/run_log.h"
#include "report/text.h"

enum { NAMES_SHOWN = 10, NAME_COLUMNS = 28 };

static void append(char *text, size_t size, const char *more) { strncat(text, more, size - strlen(text) - 1); }

void summary_shape(const descent_network *network, char *text, size_t size) {
  enum { ENDS = 6 }; /* of a deep network, this many widths from either end */
  int32_t layers = descent_network_layers(network);
  *text = '\0';
  for (int32_t l = 0; l <= layers; l++) {
    char width[32];
    if (layers > 2 * ENDS && l == ENDS) {
      append(text, size, "-...");
      l = layers - ENDS;
    }
    snprintf(width, sizeof width, "%s%" PRId64, l ? "-" : "", descent_network_width(network, l));
    append(text, size, width);
  }
  const char *shown = NULL;
  for (int32_t l = 1; l <= layers; l++) {
    descent_activation activation = descent_network_activation(network, l);
    const char *name = descent_activation_name(activation);
    if (shown == name || (l == layers && activation == DESCENT_ACTIVATION_IDENTITY)) continue;
    append(text, size, shown ? ", " : " ");
    append(text, size, name);
    if (l == layers) append(text, size, " output");
    shown = name;
  }
}

static const char *name_or_index(const char *name, int64_t index, char out[TEXT_SIZE]) {
  if (name) return text_label(name, NAME_COLUMNS, out);
  snprintf(out, TEXT_SIZE, "%" PRId64, index);
  return out;
}

static bool is_number(const char *text) {
  char *end;
  strtod(text, &end);
  return end != text && !*end;
}

/* Whether the classes might as well be values to predict: more than two, and all of them numbers. */
static bool may_be_values(const descent_dataset *data) {
  int64_t classes = descent_dataset_classes(data);
  for (int64_t k = 0; k < classes; k++)
    if (!descent_dataset_class_name(data, k) || !is_number(descent_dataset_class_name(data, k))) return false;
  return classes > 2;
}

/* Whether the values might as well be classes: all of them whole numbers, in too few rows for any to repeat much. */
static bool may_be_classes(const descent_dataset *data) {
  enum { FEW_ROWS = 40 };
  int64_t rows = descent_dataset_rows(data);
  if (descent_dataset_targets(data) != 1) return false;
  for (int64_t r = 0; r < rows && r < FEW_ROWS; r++) {
    const double y = descent_dataset_target_value(data, r, 0);
    if (y != trunc(y)) return false;
  }
  return rows < FEW_ROWS;
}

static void print_task(FILE *stream, const descent_dataset *data, bool inferred) {
  char name[TEXT_SIZE], count[TEXT_SIZE];
  int64_t classes = descent_dataset_classes(data);
  fprintf(stream, "task        %s%s", descent_task_name(descent_dataset_task(data)), inferred ? " (inferred)" : "");
  if (classes > NAMES_SHOWN) fprintf(stream, ", %" PRId64 " classes", classes);
  for (int64_t k = 0; k < classes && k < NAMES_SHOWN; k++)
    fprintf(stream, "%s%s %s", k ? ", " : ": ", name_or_index(descent_dataset_class_name(data, k), k, name),
            text_count(descent_dataset_class_count(data, k), count));
  fputs(classes > NAMES_SHOWN ? ", ...\n" : "\n", stream);
  if (inferred && classes && may_be_values(data))
    fputs("            few different whole numbers: --task regression predicts them as values\n", stream);
  if (inferred && !classes && may_be_classes(data))
    fputs("            whole numbers in few rows: --task classes predicts them as classes\n", stream);
}

/* Marks the inputs whose value never changes in these rows, and returns how many there are. Stops at the row that settles the last one, mostly the second or third. */
static int64_t find_constant(const descent_dataset *data, bool *constant) {
  int64_t inputs = descent_dataset_inputs(data), left = inputs;
  for (int64_t j = 0; j < inputs; j++) constant[j] = true;
  for (int64_t i = 1; left > 0 && i < descent_dataset_rows(data); i++)
    for (int64_t j = 0; j < inputs; j++)
      if (constant[j] && descent_dataset_input_value(data, i, j) != descent_dataset_input_value(data, 0, j))
        constant[j] = false, left--; /* so does a missing cell */
  return left;
}

static void print_constant(FILE *stream, const descent_dataset *training) {
  int64_t inputs = descent_dataset_inputs(training);
  bool *constant = malloc((size_t)inputs * sizeof *constant);
  int64_t found = constant ? find_constant(training, constant) : -1;
  if (found > 0) {
    char name[TEXT_SIZE];
    int shown = 0;
    fprintf(stream, "constant    %" PRId64 " column%s the same in every training row:", found,
            found > 1 ? "s are" : " is");
    for (int64_t j = 0; j < inputs && shown < NAMES_SHOWN; j++)
      if (constant[j])
        fprintf(stream, "%s%s", shown++ ? ", " : " ", name_or_index(descent_dataset_input_name(training, j), j, name));
    fputs(found > shown ? ", ...\n" : "\n", stream);
  }
  free(constant);
}

/* The columns whose count is not 0, the first ones: "city: 3 categories, color: 4", or of cells that are `missing` "77
 * cells in city, 24 in size". */
static void print_counts(FILE *stream, const descent_dataset *data, const int64_t *counts, bool missing) {
  char name[TEXT_SIZE], number[TEXT_SIZE];
  int shown = 0;
  fprintf(stream, "%-12s", missing ? "missing" : "categories");
  for (int64_t c = 0; c < descent_dataset_columns(data); c++) {
    if (counts[c] == 0) continue;
    if (shown++ == NAMES_SHOWN) {
      fputs(", ...", stream);
      break;
    }
    name_or_index(descent_dataset_column_name(data, c), c, name);
    text_count(counts[c], number);
    const char *unit = shown > 1 ? ""
                       : missing ? " cell"
                                 : " categor",
               *one = missing ? "" : "y", *many = missing ? "s" : "ies",
               *ending = shown > 1        ? ""
                         : counts[c] == 1 ? one
                                          : many;
    if (shown > 1) fputs(", ", stream);
    if (missing)
      fprintf(stream, "%s%s%s in %s", number, unit, ending, name);
    else
      fprintf(stream, "%s: %s%s%s", name, number, unit, ending);
  }
}

static int64_t sum(const int64_t *counts, int64_t n) {
  int64_t total = 0;
  for (int64_t i = 0; i < n; i++) total += counts[i];
  return total;
}

/* What missing cells of `categorical` of so many columns are filled with. */
static const char *filling(descent_impute impute, int64_t categorical, int64_t columns) {
  static const char *const mixed[] = {"mean or the most frequent category", "median or the most frequent category"};
  if (impute == DESCENT_IMPUTE_MOST_FREQUENT) return "most frequent value";
  if (categorical == columns) return "most frequent category";
  return categorical ? mixed[impute == DESCENT_IMPUTE_MEDIAN] : descent_impute_name(impute);
}

/* What reading made of the columns, where it is more than numbers as they stood there. */
static void print_columns(FILE *stream, const struct summary *s) {
  const int64_t columns = descent_dataset_columns(s->data), dropped = descent_dataset_dropped(s->data);
  int64_t *counts = calloc((size_t)columns, sizeof *counts), categorical = 0;
  char text[TEXT_SIZE];
  if (!counts) return;
  for (int64_t c = 0; c < columns; c++) {
    counts[c] = descent_dataset_column_categories(s->data, c);
    categorical += counts[c] > 0;
  }
  if (categorical) {
    print_counts(stream, s->data, counts, false);
    fprintf(stream, " (%s inputs in total)\n", text_count(descent_dataset_inputs(s->data), text));
  }
  descent_dataset_missing(s->data, counts);
  if (sum(counts, columns)) {
    print_counts(stream, s->data, counts, true);
    fprintf(stream, "; filled with the %s\n", filling(s->impute, categorical, columns));
  }
  free(counts);
  if (dropped)
    fprintf(stream, "dropped     %s row%s without a target\n", text_count(dropped, text), dropped == 1 ? "" : "s");
}

static void print_split(FILE *stream, const struct summary *s) {
  char training[TEXT_SIZE], held[TEXT_SIZE];
  fprintf(stream, "split       %s training rows", text_count(descent_dataset_rows(s->training), training));
  if (!s->validation)
    fputs(", none to validate on\n", stream);
  else if (s->validation_path)
    text_print(stream, ", %s to validate on from %s\n", text_count(descent_dataset_rows(s->validation), held),
               s->validation_path);
  else
    fprintf(stream, ", %s held out%s\n", text_count(descent_dataset_rows(s->validation), held),
            !descent_dataset_classes(s->data) ? " to validate on"
            : cautions_lacks_class(s->data, s->training) || cautions_lacks_class(s->data, s->validation)
                ? ", stratified where classes have enough rows"
                : ", stratified");
  if (s->validation && descent_dataset_classes(s->data)) cautions_print_classes(stream, s->training, s->validation);
}

static void print_training(FILE *stream, const descent_train_options *t) {
  char count[TEXT_SIZE];
  fprintf(stream, "training    %s, learning rate %g", descent_optimizer_name(t->optimizer.kind),
          t->optimizer.learning_rate);
  if (t->schedule.kind != DESCENT_SCHEDULE_CONSTANT) fprintf(stream, " (%s)", descent_schedule_name(t->schedule.kind));
  if (t->batch_size)
    fprintf(stream, ", batches of %s", text_count(t->batch_size, count));
  else
    fputs(", all rows in one batch", stream);
  if (t->ranks.micro_batches > 1) fprintf(stream, " in %s micro-batches", text_count(t->ranks.micro_batches, count));
  fprintf(stream, ", at most %s epoch%s", text_count(t->epochs, count), t->epochs > 1 ? "s" : "");
  if (t->early_stopping.patience)
    fprintf(stream, ", early stopping after %" PRId64 " epoch%s without improvement", t->early_stopping.patience,
            t->early_stopping.patience > 1 ? "s" : "");
  fputc('\n', stream);
}

/* How many ranks are on the host of this one; 0 where a lower rank is on it too. */
static int ranks_of_host(const descent_communicator *c, int rank) {
  const char *host = descent_communicator_host(c, rank);
  int n = 0;
  for (int r = 0; r < descent_communicator_size(c); r++) {
    const bool same = strcmp(descent_communicator_host(c, r), host) == 0;
    if (same && r < rank) return 0;
    n += same;
  }
  return n;
}

static bool is_mapped(const char *path) {
  static const char ending[] = ".safetensors";
  const size_t length = strlen(path), n = sizeof ending - 1;
  return length > n && strcmp(path + length - n, ending) == 0;
}

static void print_hosts(FILE *stream, const descent_communicator *c) {
  const int size = descent_communicator_size(c);
  int hosts = 0, shown = 0;
  for (int r = 0; r < size; r++) hosts += ranks_of_host(c, r) > 0;
  fprintf(stream, " on %d host%s (", hosts, hosts == 1 ? "" : "s");
  for (int r = 0; r < size && shown <= NAMES_SHOWN; r++) {
    const int n = ranks_of_host(c, r);
    if (n == 0) continue;
    fputs(shown ? ", " : "", stream);
    if (shown++ < NAMES_SHOWN)
      text_print(stream, "%s: %d", descent_communicator_host(c, r), n);
    else
      fputs("...", stream);
  }
  fputc(')', stream);
}

void summary_ranks(FILE *stream, const char *title, const descent_communicator *c, const descent_train_options *t) {
  const int size = descent_communicator_size(c);
  const int64_t micro_batches = t->ranks.micro_batches ? t->ranks.micro_batches : size;
  fprintf(stream, "%s%d", title, size);
  if (size == 1)
    fputs(", which exchanges gradients with itself", stream);
  else
    print_hosts(stream, c);
  fprintf(stream, ", %" PRId64 " micro-batch%s\n", micro_batches, micro_batches == 1 ? "" : "es");
}

static void print_ranks(FILE *stream, const descent_communicator *c, const char *data_path,
                        const descent_train_options *t) {
  summary_ranks(stream, "ranks       ", c, t);
  if (descent_communicator_size(c) == 1 || is_mapped(data_path)) return;
  text_print(stream, "            each rank reads all of %s; of a .safetensors file, its rows (descent convert)\n",
             data_path);
}

void summary_print(FILE *stream, const struct summary *s) {
  char text[512], count[TEXT_SIZE];
  const char *target = descent_dataset_target_name(s->data, 0), *with = run_log_loss_with(s->train);
  text_print(stream, "data        %s: %s rows, ", s->data_path, text_count(descent_dataset_rows(s->data), count));
  int64_t columns = descent_dataset_columns(s->data), targets = descent_dataset_targets(s->data);
  fprintf(stream, "%s feature%s", text_count(columns, count), columns == 1 ? "" : "s");
  if (target)
    fprintf(stream, ", target%s %s", targets > 1 ? "s" : "", text_label(target, NAME_COLUMNS, text));
  else if (s->target)
    fprintf(stream, ", no header, target column %s", text_label(s->target, NAME_COLUMNS, text));
  for (int64_t k = 1; target && k < targets && k < NAMES_SHOWN; k++)
    fprintf(stream, ", %s", text_label(descent_dataset_target_name(s->data, k), NAME_COLUMNS, text));
  if (target && targets > NAMES_SHOWN) fputs(", ...", stream);
  fputc('\n', stream);
  if (*descent_dataset_note(s->data)) text_print(stream, "            %s\n", descent_dataset_note(s->data));
  if (data_choice_rounding(s->data, text)) fprintf(stream, "            %s\n", text);
  print_columns(stream, s);
  print_task(stream, s->data, s->task_inferred);
  if (descent_dataset_task(s->data) == DESCENT_TASK_REGRESSION)
    fputs("loss        mean squared error of the target scaled to mean 0, deviation 1\n", stream);
  if (with) fprintf(stream, "loss        in training with %s, in validation without: the two do not compare\n", with);
  print_constant(stream, s->training);
  cautions_print_identifiers(stream, s->data);
  no_data_print(stream, s->training, s->missing);
  print_split(stream, s);
  if (!s->trials) {
    summary_shape(s->network, text, sizeof text);
    fprintf(stream, "network     %s, %s parameters\n", text, text_count(descent_network_parameters(s->network), count));
  }
  if (s->how) fprintf(stream, "%s\n", s->how);
  if (!s->trials) print_training(stream, s->train);
  text_print(stream, "device      %s\n", descent_device_description(s->device));
  if (*descent_device_note(s->device)) text_print(stream, "            %s\n", descent_device_note(s->device));
  if (s->ranks) print_ranks(stream, s->ranks, s->data_path, s->train);
  fprintf(stream, "precision   %s\n", descent_precision_name(s->train->precision));
}
