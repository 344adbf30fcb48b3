/* `descent predict MODEL DATA`: predictions as CSV, one line per row of DATA in its order. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"

static const char command[] = "descent predict";

struct predict_values {
  const char *out;
  struct data_choice data;
  struct device_choice device;
};

#define AT(member) offsetof(struct predict_values, member)
static const struct setting predict_rows[] = {
    ROW_HEADING("Prediction:"),
    ROW_TEXT("out", "FILE", AT(out), "Where the CSV goes, - for standard output; an existing file is replaced", 0),
    ROW_END,
};
#undef AT

/* One CSV cell made of two texts, quoted when RFC 4180 asks for it. */
static void write_cell(FILE *out, const char *before, const char *text) {
  if (!strpbrk(text, ",\"\r\n")) {
    fprintf(out, "%s%s", before, text);
    return;
  }
  fprintf(out, "\"%s", before);
  for (; *text; text++) {
    if (*text == '"') fputc('"', out);
    fputc(*text, out);
  }
  fputc('"', out);
}

static const char *class_name(const descent_network *network, int64_t k, char index[24]) {
  const char *name = descent_network_class_name(network, k);
  if (name) return name;
  snprintf(index, 24, "%" PRId64, k);
  return index;
}

static void write_header(FILE *out, const descent_network *network) {
  char index[24];
  int64_t outputs = descent_network_outputs(network), classes = descent_network_classes(network);
  fputs("prediction", out);
  if (classes == 0)
    for (int64_t k = 1; k < outputs; k++) fprintf(out, ",prediction_%" PRId64, k);
  for (int64_t k = 0; k < classes; k++) {
    fputc(',', out);
    write_cell(out, "probability_", class_name(network, k, index));
  }
  fputc('\n', out);
}

/* `values` (outputs) as descent_predict gives them. */
static void write_row(FILE *out, const descent_network *network, const float *values) {
  char index[24];
  int64_t outputs = descent_network_outputs(network), classes = descent_network_classes(network), best = 0;
  if (classes == 0) {
    for (int64_t k = 0; k < outputs; k++) fprintf(out, "%s%.9g", k ? "," : "", (double)values[k]);
  } else if (outputs == 1) {
    write_cell(out, "", class_name(network, values[0] >= 0.5F, index));
    fprintf(out, ",%.9g,%.9g", 1 - (double)values[0], (double)values[0]);
  } else {
    for (int64_t k = 1; k < outputs; k++)
      if (values[k] > values[best]) best = k;
    write_cell(out, "", class_name(network, best, index));
    for (int64_t k = 0; k < outputs; k++) fprintf(out, ",%.9g", (double)values[k]);
  }
  fputc('\n', out);
}

static int write_predictions(const char *path, const descent_network *network, int64_t rows, const float *values) {
  struct output output;
  int64_t outputs = descent_network_outputs(network);
  if (!output_open(&output, path)) return fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
  write_header(output.stream, network);
  for (int64_t i = 0; i < rows && !ferror(output.stream); i++) write_row(output.stream, network, values + i * outputs);
  if (output.stream == stdout) return EXIT_DONE; /* main looks at it */
  return output_commit(&output) ? EXIT_DONE : fail(command, EXIT_RUN, "%s: cannot write: %s", path, strerror(errno));
}

static int predict(const struct predict_values *v, const char *model, const char *data) {
  descent_network *network = NULL;
  descent_dataset *dataset = NULL;
  descent_device *device = NULL;
  float *outputs = NULL;
  int code;
  if (output_same_file(v->out, data) || output_same_file(v->out, model))
    return fail(command, EXIT_USAGE, "--out '%s': is a file that is read from", v->out);
  if (!output_possible(v->out)) return fail(command, EXIT_RUN, "%s: cannot write: %s", v->out, strerror(errno));
  descent_status status = descent_network_load(model, &network);
  if (status != DESCENT_OK) return fail_status(command, status);
  descent_dataset_options source = DESCENT_DATASET_OPTIONS_INIT;
  source.like = network;
  source.features_only = true; /* what is to be predicted may stand there, but is often still unknown */
  code = data_choice_read(command, &v->data, data, source, &dataset);
  if (code != EXIT_DONE) goto done;
  if ((code = device_choice_open(command, &v->device, &device)) != EXIT_DONE) goto done;
  int64_t rows = descent_dataset_rows(dataset), values;
  if (__builtin_mul_overflow(rows, descent_network_outputs(network), &values) ||
      !(outputs = calloc((size_t)values, sizeof *outputs))) {
    code = fail(command, EXIT_RUN, "%s: out of memory for the predictions of %" PRId64 " rows", data, rows);
    goto done;
  }
  status = descent_predict(network, device, dataset, outputs);
  code = status == DESCENT_OK ? write_predictions(v->out, network, rows, outputs) : fail_status(command, status);
done:
  free(outputs);
  descent_device_close(device);
  descent_dataset_free(dataset);
  descent_network_free(network);
  return code;
}

int command_predict(int argc, char **argv) {
  struct predict_values values = {.out = "-", .data = DATA_CHOICE_INIT, .device = DEVICE_CHOICE_INIT};
  const struct setting_set sets[] = {
      {predict_rows, &values}, {data_options, &values.data}, {device_options, &values.device}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL DATA",
      .about =
          "Write what MODEL predicts for each row of the CSV file DATA, whose columns are found by name: the "
          "predicted class and the probability of every class, or the predicted value.",
      .fewest = 2,
      .most = 2,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  struct arguments arguments;
  int code = options_parse(&syntax, argc, argv, NULL, 0, &arguments);
  return code == OPTIONS_GO_ON ? predict(&values, arguments.values[0], arguments.values[1]) : code;
}
