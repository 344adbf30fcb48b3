/* What a dataset in its binary form holds. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/text.h"

enum { NAMES_SHOWN = 8, NAME_COLUMNS = 28 };

static descent_status read_data(const char *path, descent_dataset **data) {
  descent_dataset_options options = descent_dataset_options_default();
  options.format = "safetensors";
  return descent_dataset_read(path, &options, data);
}

static void print_columns(const descent_dataset *data) {
  const int64_t columns = descent_dataset_columns(data);
  char text[TEXT_SIZE];
  if (!descent_dataset_column_name(data, 0)) return;
  printf("%-14s", "columns");
  for (int64_t c = 0; c < columns && c < NAMES_SHOWN; c++)
    printf("%s%s", c ? ", " : "", text_label(descent_dataset_column_name(data, c), NAME_COLUMNS, text));
  if (columns > NAMES_SHOWN) printf(", ... (%s in all)", text_count(columns, text));
  putchar('\n');
}

static void print_classes(const descent_dataset *data) {
  const int64_t classes = descent_dataset_classes(data);
  char name[TEXT_SIZE], text[TEXT_SIZE];
  if (classes == 0) return;
  printf("%-14s", "classes");
  for (int64_t k = 0; k < classes && k < NAMES_SHOWN; k++) {
    const char *known = descent_dataset_class_name(data, k);
    printf("%s%s %s", k ? ", " : "", known ? text_label(known, NAME_COLUMNS, name) : "?",
           text_count(descent_dataset_class_count(data, k), text));
  }
  if (classes > NAMES_SHOWN) printf(", ... (%s in all)", text_count(classes, text));
  putchar('\n');
}

static void print_text(const char *path, const descent_dataset *data, int64_t bytes) {
  char text[TEXT_SIZE], other[TEXT_SIZE];
  const int64_t targets = descent_dataset_targets(data);
  text_print(stdout, "%-14s%s, %s bytes\n", "file", path, text_count(bytes, text));
  printf("%-14s%s rows of %s inputs, mapped rather than read\n", "data", text_count(descent_dataset_rows(data), text),
         text_count(descent_dataset_inputs(data), other));
  print_columns(data);
  if (targets == 0) {
    printf("%-14snone\n", "target");
    return;
  }
  printf("%-14s%s\n", "task", descent_task_name(descent_dataset_task(data)));
  for (int64_t k = 0; k < targets && k < NAMES_SHOWN; k++)
    if (descent_dataset_target_name(data, k))
      printf("%-14s%s\n", "target", text_label(descent_dataset_target_name(data, k), NAME_COLUMNS, text));
  print_classes(data);
}

typedef const char *(*name_of)(const descent_dataset *data, int64_t index);

static bool add_names(cJSON *root, const char *key, const descent_dataset *data, name_of name, int64_t n) {
  if (n == 0 || !name(data, 0)) return true;
  cJSON *names = cJSON_AddArrayToObject(root, key);
  for (int64_t i = 0; names && i < n; i++)
    if (!cJSON_AddItemToArray(names, cJSON_CreateString(name(data, i)))) return false;
  return names != NULL;
}

static int print_json(const char *command, const char *path, const descent_dataset *data, int64_t bytes) {
  cJSON *root = cJSON_CreateObject();
  const int64_t targets = descent_dataset_targets(data);
  const bool whole =
      root && cJSON_AddStringToObject(root, "file", path) && cJSON_AddNumberToObject(root, "bytes", (double)bytes) &&
      cJSON_AddNumberToObject(root, "rows", (double)descent_dataset_rows(data)) &&
      cJSON_AddNumberToObject(root, "inputs", (double)descent_dataset_inputs(data)) &&
      (!targets || cJSON_AddStringToObject(root, "task", descent_task_name(descent_dataset_task(data)))) &&
      add_names(root, "columns", data, descent_dataset_column_name, descent_dataset_columns(data)) &&
      add_names(root, "input_names", data, descent_dataset_input_name, descent_dataset_inputs(data)) &&
      add_names(root, "targets", data, descent_dataset_target_name, targets) &&
      add_names(root, "classes", data, descent_dataset_class_name, descent_dataset_classes(data));
  return print_object(command, root, whole, false);
}

int data_info_print(const char *command, const char *path, bool json) {
  descent_dataset *data = NULL;
  int64_t size;
  const descent_status status = read_data(path, &data);
  if (status != DESCENT_OK) return fail_status(command, status);
  int code = output_size(command, path, &size);
  if (code == EXIT_DONE && json)
    code = print_json(command, path, data, size);
  else if (code == EXIT_DONE)
    print_text(path, data, size);
  descent_dataset_free(data);
  return code;
}
