/* `descent predict MODEL DATA`: predictions as CSV, one line per row of DATA in its order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/prediction.h"
#include "report/text.h"

static const char command[] = "descent predict";

struct predict_values {
  const char *out, *output;
  double threshold;
  bool std, guard_formulas;
  struct data_choice data;
  struct device_choice device;
};

#define AT(member) offsetof(struct predict_values, member)
static const struct setting predict_rows[] = {
    ROW_HEADING("Prediction:"),
    ROW_TEXT("output", "KIND", AT(output),
             "all (classes and probabilities), classes, probabilities, or raw: values before the output function", 0),
    ROW_FLAG(
        "std", AT(std),
        "Also write the standard deviation of each probability or value over the members of an ensemble, divided by "
        "their number",
        0),
    ROW_REAL("threshold", "P", AT(threshold), "With two classes, predict the second one from this probability on", 0, 0,
             1),
    ROW_TEXT("out", "FILE", AT(out), "CSV file to write, - for standard output; an existing file is replaced", 0),
    ROW_FLAG("guard-formulas", AT(guard_formulas),
             "Write ' before names that begin with =, +, -, @, a tab or a line break, which spreadsheets compute", 0),
    ROW_END,
};
#undef AT

struct prediction {
  const struct predict_values *values;
  const char *data;
  descent_network *network;
  descent_device *device;
  descent_predictor *predictor; /* from the first block on, which is the largest */
  struct output_file output;
  struct prediction_writer writer;
  bool open, said; /* said: progress is on the terminal */
  bool out_of_memory;
  float *outputs;        /* (capacity, outputs) as the writer takes them */
  float *means, *spread; /* (capacity, outputs) with --std, else NULL: of descent_predict_spread */
  int64_t capacity, rows, missing, unseen;
  descent_status status; /* of a prediction; OK */
  int error;             /* errno of a failed write, 0 */
};

static bool allocate(int64_t count, float **values) {
  free(*values);
  *values = calloc((size_t)count, sizeof **values);
  return *values != NULL;
}

static bool reserve(struct prediction *p, int64_t rows) {
  int64_t count;
  if (rows <= p->capacity) return true;
  p->capacity = 0;
  if (__builtin_mul_overflow(rows, descent_network_outputs(p->network), &count)) return false;
  if (!allocate(count, &p->outputs)) return false;
  if (p->values->std && !(allocate(count, &p->means) && allocate(count, &p->spread))) return false;
  p->capacity = rows;
  return true;
}

static void note_block(struct prediction *p, const descent_dataset *block) {
  p->missing += data_choice_missing(block);
  p->unseen += descent_dataset_unseen(block);
  if (p->rows == 0 && *descent_dataset_note(block))
    text_print(stderr, "%s: note: %s: %s\n", command, p->data, descent_dataset_note(block));
}

/* The spread is computed apart: probabilities come from raw outputs, beside which float32 loses small ones. */
static descent_status predict_block(struct prediction *p, const descent_dataset *block) {
  const descent_predict_options options = device_choice_predict_options(&p->values->device);
  descent_status status = DESCENT_OK;
  if (!p->predictor)
    status = descent_predictor_create_with(p->network, p->device, &options, p->capacity, &p->predictor);
  if (status == DESCENT_OK)
    status = (p->writer.raw ? descent_predictor_run_raw_dataset : descent_predictor_run_dataset)(p->predictor, block,
                                                                                                 p->outputs);
  if (status == DESCENT_OK && p->spread)
    status = descent_predict_spread(p->network, p->device, block, &options, p->means, p->spread);
  return status;
}

/* Predicts and writes a block of rows; non-zero to stop. */
static int take_block(void *user, const descent_dataset *block) {
  struct prediction *p = user;
  const int64_t rows = descent_dataset_rows(block), outputs = descent_network_outputs(p->network);
  char text[TEXT_SIZE];
  p->out_of_memory = !reserve(p, rows);
  if (p->out_of_memory) return 1;
  note_block(p, block);
  p->status = predict_block(p, block);
  if (p->status != DESCENT_OK) return 1;
  if (p->rows == 0) prediction_write_header(&p->writer); /* not before the first rows were found good */
  for (int64_t i = 0; i < rows && !ferror(p->output.stream); i++)
    prediction_write_row(&p->writer, p->outputs + i * outputs, p->spread ? p->spread + i * outputs : NULL);
  p->rows += rows;
  if (ferror(p->output.stream)) p->error = errno;
  if (p->output.stream != stdout && isatty(STDERR_FILENO) && p->rows > rows)
    p->said = fprintf(stderr, "\rpredicted %s rows", text_count(p->rows, text)) > 0;
  return p->error != 0;
}

static void print_notes(const struct prediction *p) {
  char text[TEXT_SIZE];
  if (p->said) fputc('\n', stderr);
  if (p->missing)
    text_print(stderr, "%s: note: %s: %s missing cell%s filled in\n", command, p->data, text_count(p->missing, text),
               p->missing == 1 ? " is" : "s are");
  if (p->unseen)
    text_print(stderr, "%s: note: %s: %s cell%s a category not seen in training, taken as zeros\n", command, p->data,
               text_count(p->unseen, text), p->unseen == 1 ? " holds" : "s hold");
}

/* Reads, predicts and writes. An output file appears only when it is complete. */
static int stream(struct prediction *p) {
  enum { BLOCK_CELLS = 1 << 24, MOST_ROWS = 1 << 16 };
  const char *path = p->values->out;
  const int64_t inputs = descent_network_inputs(p->network);
  const int64_t fit = inputs < BLOCK_CELLS ? BLOCK_CELLS / inputs : 1;
  descent_dataset_options source = descent_dataset_options_default();
  source.network = p->network;
  source.features_only = true; /* the target may be there, but is often still unknown */
  if (!output_open(&p->output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  p->open = true;
  p->writer.stream = p->output.stream;
  p->writer.spread = p->values->std;
  p->writer.terminal = isatty(fileno(p->output.stream));
  int code = data_choice_read_blocks(command, &p->values->data, p->data, source, fit < MOST_ROWS ? fit : MOST_ROWS,
                                     take_block, p);
  print_notes(p);
  if (code != EXIT_DONE) return code;
  if (p->status == DESCENT_ERROR_DATA) return fail(command, EXIT_DATA, "%s: %s", p->data, descent_last_error());
  if (p->status != DESCENT_OK) return fail_status(command, p->status);
  if (p->out_of_memory) return fail(command, EXIT_RUN, "%s: out of memory for predictions", p->data);
  if (p->output.stream == stdout) return EXIT_DONE; /* main looks at it */
  if (p->error) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(p->error));
  p->open = false;
  return output_commit(&p->output) ? EXIT_DONE : fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}

static int find_kind(const struct predict_values *v, enum prediction_kind *kind) {
  static const char *const kinds[] = {"all", "classes", "probabilities", "raw"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (strcmp(v->output, kinds[i]) == 0) {
      *kind = (enum prediction_kind)i;
      return EXIT_DONE;
    }
  return fail(command, EXIT_USAGE, "--output '%s': must be all, classes, probabilities or raw", v->output);
}

/* Whether the options fit the model. */
static int check_model(const struct prediction *p) {
  const struct predict_values *v = p->values;
  const enum prediction_kind kind = p->writer.kind;
  const int64_t classes = descent_network_classes(p->network);
  if (classes == 0 && (kind == PREDICTION_CLASSES || kind == PREDICTION_PROBABILITIES))
    return fail(command, EXIT_USAGE, "--output %s: the model predicts values, not classes", v->output);
  if (classes != 2 && v->threshold != 0.5)
    return fail(command, EXIT_USAGE, "--threshold: only for models with two classes");
  if (v->std && (kind == PREDICTION_CLASSES || kind == PREDICTION_RAW))
    return fail(command, EXIT_USAGE, "--std: is of probabilities or values: omit it with --output %s", v->output);
  if (v->std && descent_network_members(p->network) == 1)
    return fail(command, EXIT_USAGE, "--std: the model is a single network: train with --ensemble, or omit --std");
  return EXIT_DONE;
}

static int predict(void *values, const struct arguments *arguments) {
  const struct predict_values *v = values;
  const char *model = arguments->values[0], *data = arguments->values[1];
  struct prediction p = {.values = v, .data = data};
  enum prediction_kind kind = PREDICTION_ALL;
  int code = find_kind(v, &kind);
  if (code != EXIT_DONE) return code;
  if (output_same_file(v->out, data) || output_same_file(v->out, model))
    return fail(command, EXIT_USAGE, "--out '%s': is also an input file", v->out);
  if (place_holds_checkpoints(v->out))
    return fail(command, EXIT_USAGE, "--out '%s': would replace a file of the checkpoints there: choose another name",
                v->out);
  if (!output_possible(v->out)) return fail(command, EXIT_RUN, "%s: cannot write: %s", v->out, strerror(errno));
  descent_status status = descent_network_load(model, &p.network);
  if (status != DESCENT_OK) return fail_status(command, status);
  if (!prediction_open(&p.writer, p.network, kind, v->threshold, v->guard_formulas))
    code = fail(command, EXIT_RUN, "out of memory");
  else if ((code = check_model(&p)) == EXIT_DONE &&
           (code = device_choice_open(command, &v->device, &p.device)) == EXIT_DONE)
    code = stream(&p);
  if (p.open && p.output.stream != stdout) output_abandon(&p.output);
  free(p.outputs);
  free(p.means);
  free(p.spread);
  prediction_close(&p.writer);
  descent_predictor_free(p.predictor);
  descent_device_close(p.device);
  descent_network_free(p.network);
  return code;
}

int command_predict(int argc, char **argv) {
  struct predict_values values = {
      .out = "-", .output = "all", .threshold = 0.5, .data = DATA_CHOICE_INIT, .device = DEVICE_CHOICE_INIT};
  const struct setting_set sets[] = {
      {predict_rows, &values}, {model_data_options, &values.data}, {device_options, &values.device}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL DATA",
      .about =
          "Write what MODEL predicts for each row of the file DATA, whose columns are found by name: the "
          "predicted class and the probability of every class, or the predicted value. DATA is read in blocks and "
          "may be larger than memory.\v" PREDICTION_PRECISION,
      .fewest = 2,
      .most = 2,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  return options_run(&syntax, argc, argv, predict, &values);
}
