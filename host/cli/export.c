/* `descent export MODEL --out FILE`: the model as something that other programs run or read. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/text.h"

static const char command[] = "descent export";

struct export_values {
  const char *format; /* "auto", a descent_export_format's name or "safetensors" */
  const char *out;
  int64_t member; /* of an ensemble; -1: all */
};

/* A descent_export_format, or a model file. */
enum { MODEL_FILE = DESCENT_EXPORT_FORMAT_NPZ + 1, FORMATS };

#define AT(member) offsetof(struct export_values, member)
static const struct setting export_rows[] = {
    ROW_HEADING("Export:"),
    ROW_TEXT("format", "NAME", AT(format),
             "onnx, c, npz, safetensors (a model file), or auto: what the ending of --out says", 0),
    ROW_TEXT("out", "FILE", AT(out), "Output file; an existing file is replaced", 0),
    ROW_INTEGER("member", "N", AT(member), "Write only member N of an ensemble, from 0, as one network; -1: all of it",
                0, -1, 9007199254740992.0),
    ROW_END,
};
#undef AT

static descent_status parse_format(const char *name, int *format) {
  descent_export_format exported = DESCENT_EXPORT_FORMAT_ONNX;
  if (strcmp(name, "safetensors") == 0) {
    *format = MODEL_FILE;
    return DESCENT_OK;
  }
  const descent_status status = descent_export_format_parse(name, &exported);
  *format = (int)exported;
  return status;
}

/* The format that --format says, or the ending of --out. */
static int choose_format(const struct export_values *v, int *format) {
  if (strcmp(v->format, "auto") != 0) {
    const descent_status status = parse_format(v->format, format);
    return status == DESCENT_OK ? EXIT_DONE : fail(command, EXIT_USAGE, "--format: %s", descent_last_error());
  }
  const char *dot = strrchr(v->out, '.');
  if (dot && parse_format(dot + 1, format) == DESCENT_OK) return EXIT_DONE;
  return fail(command, EXIT_USAGE, "--out '%s': ends in no known format: add --format onnx, c, npz or safetensors",
              v->out);
}

static int print_written(const char *path, int format) {
  static const char *const kinds[FORMATS] = {"ONNX graph (IR 8, opset 17)", "C99 source", "NumPy arrays", "model file"};
  char text[TEXT_SIZE];
  int64_t size;
  const int code = output_size(command, path, &size);
  if (code != EXIT_DONE) return code;
  text_print(stdout, "%-10s%s: %s, %s bytes\n", "wrote", path, kinds[format], text_count(size, text));
  return EXIT_DONE;
}

static bool has_categories(const descent_network *network) {
  for (int64_t c = 0; c < descent_network_columns(network); c++)
    if (descent_network_column_categories(network, c) > 0) return true;
  return false;
}

/* The exported file takes and gives float32, which is too coarse for a column with an offset. */
static void print_coarse(const descent_network *network) {
  const int64_t inputs = descent_network_inputs(network), outputs = descent_network_outputs(network);
  int64_t more = -1, first = 0;
  char text[TEXT_SIZE];
  for (int64_t j = inputs + outputs - 1; j >= 0; j--) {
    if ((j < inputs ? descent_network_input_offset(network, j) : descent_network_target_offset(network, j - inputs)) ==
        0)
      continue;
    more++;
    first = j;
  }
  if (more < 0) return;
  const bool input = first < inputs;
  const char *name =
      input ? descent_network_input_name(network, first) : descent_network_target_name(network, first - inputs);
  const double offset =
      input ? descent_network_input_offset(network, first) : descent_network_target_offset(network, first - inputs);
  printf("%-10sthe exported file %s float32, which near %.15g holds %s %s only to within %.2g", "note",
         input ? "takes" : "gives", offset, input ? "column" : "target",
         name ? text_label(name, 28, text) : "without a name", fabs(offset) * 0x1p-24);
  if (more) printf(" (and %" PRId64 " more)", more);
  putchar('\n');
}

static int write_export(const struct export_values *v, const descent_network *network, int format) {
  const descent_status status = format == MODEL_FILE
                                    ? descent_network_save(network, v->out)
                                    : descent_network_export(network, (descent_export_format)format, v->out);
  if (status != DESCENT_OK) return fail_status(command, status);
  const int code = print_written(v->out, format);
  const bool runs = format == DESCENT_EXPORT_FORMAT_ONNX || format == DESCENT_EXPORT_FORMAT_C;
  if (code == EXIT_DONE && runs) print_coarse(network);
  if (code == EXIT_DONE && runs && has_categories(network))
    printf("%-10sin the exported file an unknown category sets all inputs of its column to 0\n", "note");
  return code;
}

/* In place of what the ensemble's provenance says of all members, what it says of member k of the file: its number in the
 * training too, where others may have been left out. */
static descent_status set_member_provenance(descent_network *network, int64_t k) {
  cJSON *root = cJSON_Parse(descent_network_provenance(network));
  cJSON *ensemble = cJSON_DetachItemFromObjectCaseSensitive(root, "ensemble");
  cJSON *member = cJSON_DetachItemFromArray(cJSON_GetObjectItemCaseSensitive(ensemble, "members"), (int)k), *item;
  descent_status status = DESCENT_OK;
  if (cJSON_IsObject(member)) {
    bool whole = cJSON_HasObjectItem(member, "member") || cJSON_AddNumberToObject(root, "member", (double)k);
    while (whole && (item = cJSON_DetachItemFromArray(member, 0))) {
      whole = cJSON_AddItemToObject(root, item->string, item);
      if (!whole) cJSON_Delete(item);
    }
    char *text = whole ? cJSON_PrintUnformatted(root) : NULL;
    status = text ? descent_network_set_provenance(network, text) : DESCENT_ERROR_MEMORY;
    cJSON_free(text);
  }
  cJSON_Delete(member);
  cJSON_Delete(ensemble);
  cJSON_Delete(root);
  return status;
}

/* Puts the member that --member names in the place of its ensemble. */
static int choose_member(const struct export_values *v, const char *model, descent_network **network) {
  const int64_t members = descent_network_members(*network);
  descent_network *member = NULL;
  if (v->member < 0) return EXIT_DONE;
  if (v->member >= members)
    return fail(command, EXIT_USAGE, "--member %" PRId64 ": %s has %s%" PRId64, v->member, model,
                members > 1 ? "members 0 to " : "only member ", members - 1);
  descent_status status = descent_network_member(*network, v->member, &member);
  if (status == DESCENT_OK && members > 1) status = set_member_provenance(member, v->member);
  if (status != DESCENT_OK) {
    descent_network_free(member);
    return fail_status(command, status);
  }
  descent_network_free(*network);
  *network = member;
  return EXIT_DONE;
}

static int export_model(void *values, const struct arguments *arguments) {
  const struct export_values *v = values;
  const char *model = arguments->values[0];
  descent_network *network = NULL;
  int format = DESCENT_EXPORT_FORMAT_ONNX;
  if (!v->out) return fail(command, EXIT_USAGE, "--out FILE is needed (see %s --help)", command);
  int code = choose_format(v, &format);
  if (code != EXIT_DONE) return code;
  if (output_same_file(v->out, model)) return fail(command, EXIT_USAGE, "--out '%s': is also an input file", v->out);
  if (strcmp(v->out, "-") == 0 || output_is_special(v->out))
    return fail(command, EXIT_RUN, "%s: cannot write: not a regular file", v->out);
  descent_status status = descent_network_load(model, &network);
  if (status != DESCENT_OK) return fail_status(command, status);
  code = choose_member(v, model, &network);
  if (code == EXIT_DONE) code = write_export(v, network, format);
  descent_network_free(network);
  return code;
}

int command_export(int argc, char **argv) {
  struct export_values values = {.format = "auto", .member = -1};
  const struct setting_set sets[] = {{export_rows, &values}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL --out FILE",
      .about =
          "Write MODEL as something that other programs run or read, with all that prediction needs inside: "
          "an ONNX graph, C99 source without dependencies, or NumPy arrays. Or write a member of an ensemble, or the "
          "model of a checkpoint, as a model file.",
      .fewest = 1,
      .most = 1,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  return options_run(&syntax, argc, argv, export_model, &values);
}
