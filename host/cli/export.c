/* `descent export MODEL --out FILE`: the model as something that other programs run or read. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/text.h"

static const char command[] = "descent export";

struct export_values {
  const char *format; /* "auto" or a descent_export_format's name */
  const char *out, *rows;
  struct data_choice data;
};

#define AT(member) offsetof(struct export_values, member)
static const struct setting export_rows[] = {
    ROW_HEADING("Export:"),
    ROW_TEXT("data", "FILE", AT(rows),
             "Rows to run through the written graph and MODEL, to compare them (default 256 rows drawn from MODEL's "
             "normalisation)",
             0),
    ROW_TEXT("format", "NAME", AT(format), "onnx, c, npz, or auto: what the ending of --out says", 0),
    ROW_TEXT("out", "FILE", AT(out), "Where it goes; an existing file is replaced", 0),
    ROW_END,
};
#undef AT

/* The format that --format says, or the ending of --out. */
static int choose_format(const struct export_values *v, descent_export_format *format) {
  if (strcmp(v->format, "auto") != 0) {
    descent_status status = descent_export_format_parse(v->format, format);
    return status == DESCENT_OK ? EXIT_DONE : fail(command, EXIT_USAGE, "--format: %s", descent_last_error());
  }
  const char *dot = strrchr(v->out, '.');
  if (dot && descent_export_format_parse(dot + 1, format) == DESCENT_OK) return EXIT_DONE;
  return fail(command, EXIT_USAGE, "--out '%s': ends in no known format: add --format onnx, c or npz", v->out);
}

static int print_written(const char *path, descent_export_format format) {
  static const char *const kinds[] = {"ONNX graph (IR 8, opset 17)", "C99 source", "NumPy arrays"};
  char text[TEXT_SIZE];
  int64_t size;
  const int code = output_size(command, path, &size);
  if (code != EXIT_DONE) return code;
  printf("%-10s%s: %s, %s bytes\n", "wrote", path, kinds[format], text_count(size, text));
  return EXIT_DONE;
}

static bool has_categories(const descent_network *network) {
  for (int64_t c = 0; c < descent_network_columns(network); c++)
    if (descent_network_column_categories(network, c) > 0) return true;
  return false;
}

/* Rows through the file just written and through the model; says how far apart they are. */
static int check(const struct export_values *v, const descent_network *network, const char *written) {
  descent_device *device = NULL;
  descent_dataset *dataset = NULL;
  descent_export_difference difference;
  char text[TEXT_SIZE];
  int code = EXIT_DONE;
  if (v->rows) {
    descent_dataset_options source = descent_dataset_options_default();
    source.network = network;
    source.features_only = true;
    code = data_choice_read(command, &v->data, v->rows, source, &dataset);
    if (code != EXIT_DONE) return code;
  }
  descent_status status = descent_device_open("cpu", 0, &device);
  if (status == DESCENT_OK) status = descent_export_check(network, device, written, dataset, &difference);
  if (status != DESCENT_OK)
    code = fail(command, EXIT_RUN, "%s: not written: its check failed: %s", v->out, descent_last_error());
  else if (!difference.pass)
    code = fail(command, EXIT_RUN,
                "%s: not written: over %" PRId64
                " rows it differs from the model by up to %.3g, %.3g times what "
                "rounding may do, and in %" PRId64 " labels",
                v->out, difference.rows, difference.largest, difference.ratio, difference.wrong_labels);
  else
    printf("%-10s%s rows%s through both: largest difference %.3g, %.2g of what rounding may do\n", "check",
           text_count(difference.rows, text), v->rows ? "" : " drawn from the normalisation", difference.largest,
           difference.ratio);
  descent_dataset_free(dataset);
  descent_device_close(device);
  return code;
}

/* Into a temporary file beside --out, which takes its place only if the check passes. */
static int write_checked(const struct export_values *v, const descent_network *network, descent_export_format format) {
  struct output output;
  if (!output_open(&output, v->out)) return fail(command, EXIT_RUN, "%s: cannot write: %s", v->out, strerror(errno));
  int code = EXIT_DONE;
  descent_status status = descent_network_export(network, format, output.temporary);
  if (status == DESCENT_ERROR_WRITE) /* of the temporary file */
    code = fail(command, EXIT_RUN, "%s: not written: %s", v->out, descent_last_error());
  else if (status != DESCENT_OK)
    code = fail_status(command, status);
  if (code == EXIT_DONE && format == DESCENT_EXPORT_FORMAT_ONNX) code = check(v, network, output.temporary);
  if (code != EXIT_DONE) {
    output_abandon(&output);
    return code;
  }
  if (!output_commit(&output)) return fail(command, EXIT_RUN, "%s: cannot write: %s", v->out, strerror(errno));
  code = print_written(v->out, format);
  if (code == EXIT_DONE && format != DESCENT_EXPORT_FORMAT_NPZ && has_categories(network))
    printf("%-10sa category that the model does not know counts as none of them there\n", "note");
  return code;
}

static int export_model(const struct export_values *v, const char *model) {
  descent_network *network = NULL;
  descent_export_format format = DESCENT_EXPORT_FORMAT_ONNX;
  if (!v->out) return fail(command, EXIT_USAGE, "--out FILE is needed (see %s --help)", command);
  int code = choose_format(v, &format);
  if (code != EXIT_DONE) return code;
  if (v->rows && format != DESCENT_EXPORT_FORMAT_ONNX)
    return fail(command, EXIT_USAGE, "--data: only an onnx file can be run here");
  if (output_same_file(v->out, model) || (v->rows && output_same_file(v->out, v->rows)))
    return fail(command, EXIT_USAGE, "--out '%s': is a file that is read from", v->out);
  if (strcmp(v->out, "-") == 0 || output_is_special(v->out))
    return fail(command, EXIT_RUN, "%s: cannot write: not a regular file", v->out);
  descent_status status = descent_network_load(model, &network);
  if (status != DESCENT_OK) return fail_status(command, status);
  code = write_checked(v, network, format);
  descent_network_free(network);
  return code;
}

int command_export(int argc, char **argv) {
  struct export_values values = {.format = "auto", .data = DATA_CHOICE_INIT};
  const struct setting_set sets[] = {{export_rows, &values}, {data_options, &values.data}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL --out FILE",
      .about =
          "Write MODEL as something that other programs run or read, with all that prediction needs inside: "
          "an ONNX graph, which is run and compared with MODEL first; C99 source without dependencies; or "
          "NumPy arrays.",
      .fewest = 1,
      .most = 1,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  struct arguments arguments;
  int code = options_parse(&syntax, argc, argv, NULL, 0, &arguments);
  return code == OPTIONS_GO_ON ? export_model(&values, arguments.values[0]) : code;
}
