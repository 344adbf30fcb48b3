/* `descent evaluate MODEL DATA`: a model measured on data with known targets. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/diagrams.h"
#include "cli/output.h"
#include "report/metrics.h"

static const char command[] = "descent evaluate";

struct evaluate_values {
  const char *target;
  const char *plot; /* or NULL */
  int64_t top_k;
  bool json;
  struct data_choice data;
  struct device_choice device;
};

#define AT(member) offsetof(struct evaluate_values, member)
static const struct setting evaluate_rows[] = {
    ROW_HEADING("Evaluation:"),
    ROW_TEXT("target", "NAME|INDEX", AT(target), "Column with the true values (default: the target of the training)",
             0),
    ROW_INTEGER("top-k", "K", AT(top_k),
                "Count a row as correct when its class is among the K most likely; 0: min(5, classes)", 0, 0, 1e9),
    ROW_FLAG("json", AT(json), "Print one JSON object", 0),
    ROW_TEXT("plot", "FILE,...", AT(plot),
             "Draw charts: roc, confusion, calibration, residuals or fit. The file name selects the chart (roc.svg); "
             "otherwise prefix it: roc:test.svg",
             0),
    ROW_END,
};
#undef AT

static bool add_classes(cJSON *root, const descent_network *network) {
  if (!descent_network_class_name(network, 0)) return true;
  cJSON *names = cJSON_AddArrayToObject(root, "classes");
  for (int64_t k = 0; names && k < descent_network_classes(network); k++)
    if (!cJSON_AddItemToArray(names, cJSON_CreateString(descent_network_class_name(network, k)))) return false;
  return names != NULL;
}

static int print_json(const descent_network *network, const descent_metrics *m) {
  descent_task task = descent_network_task(network);
  cJSON *root = cJSON_CreateObject();
  const bool whole = root && cJSON_AddNumberToObject(root, "rows", (double)m->rows) &&
                     report_metrics_add(root, "", task, m) &&
                     (task != DESCENT_TASK_CLASSES || cJSON_AddNumberToObject(root, "top_k", (double)m->top_k)) &&
                     add_classes(root, network) && report_metrics_add_confusion(root, m);
  return print_object(command, root, whole, false);
}

static int evaluate(void *values, const struct arguments *arguments) {
  const struct evaluate_values *v = values;
  const char *model = arguments->values[0], *data = arguments->values[1];
  descent_network *network = NULL;
  descent_dataset *dataset = NULL;
  descent_device *device = NULL;
  descent_metrics metrics = {0};
  struct diagrams diagrams;
  descent_status status;
  int code = diagrams_parse(command, v->plot, &diagrams);
  for (int i = 0; i < diagrams.n && code == EXIT_DONE; i++)
    if (output_same_file(diagrams.list[i].path, model) || output_same_file(diagrams.list[i].path, data) ||
        (v->data.target_file && output_same_file(diagrams.list[i].path, v->data.target_file)))
      code = fail(command, EXIT_USAGE, "--plot '%s': is also an input file", diagrams.list[i].path);
  if (code == EXIT_DONE && (status = descent_network_load(model, &network)) != DESCENT_OK)
    code = fail_status(command, status);
  if (code == EXIT_DONE) code = diagrams_check(command, &diagrams, descent_network_task(network));
  if (code != EXIT_DONE) goto done;
  descent_dataset_options source = descent_dataset_options_default();
  source.target = v->target;
  source.target_file = v->data.target_file;
  source.network = network;
  code = data_choice_read(command, &v->data, data, source, &dataset);
  if (code != EXIT_DONE) goto done;
  if (descent_dataset_targets(dataset) == 0) {
    const char *target = descent_network_target_name(network, 0);
    code =
        fail(command, EXIT_DATA, "%s: has no column '%s' to compare with (use --target)", data, target ? target : "");
    goto done;
  }
  if ((code = device_choice_open(command, &v->device, &device)) != EXIT_DONE) goto done;
  const descent_predict_options options = device_choice_predict_options(&v->device);
  status = descent_evaluate_with(network, device, dataset, &options, v->top_k, &metrics);
  if (status == DESCENT_ERROR_DATA) {
    code = fail(command, EXIT_DATA, "%s: %s", data, descent_last_error());
  } else if (status != DESCENT_OK) {
    code = fail_status(command, status);
  } else if (v->json) {
    code = print_json(network, &metrics);
  } else {
    const struct metrics_column column = {"evaluation", &metrics};
    report_metrics_print(stdout, network, &column, 1);
    report_metrics_print_confusion(stdout, network, &column);
  }
  if (code == EXIT_DONE) code = diagrams_draw(command, &diagrams, network, device, dataset, &options, &metrics);
done:
  diagrams_clear(&diagrams);
  descent_metrics_clear(&metrics);
  descent_device_close(device);
  descent_dataset_free(dataset);
  descent_network_free(network);
  return code;
}

int command_evaluate(int argc, char **argv) {
  struct evaluate_values values = {.data = DATA_CHOICE_INIT, .device = DEVICE_CHOICE_INIT};
  const struct setting_set sets[] = {{evaluate_rows, &values},
                                     {answer_options, &values.data},
                                     {model_data_options, &values.data},
                                     {device_options, &values.device}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL DATA",
      .about = "Measure MODEL on the file DATA, whose columns are found by name.\v" PREDICTION_PRECISION,
      .fewest = 2,
      .most = 2,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  return options_run(&syntax, argc, argv, evaluate, &values);
}
