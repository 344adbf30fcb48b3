/* `descent info MODEL`: what a model file, or a dataset's binary form, holds. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/output.h"
#include "report/text.h"

static const char command[] = "descent info";

struct info_values {
  bool json;
};

static const struct setting info_rows[] = {
    ROW_HEADING("Output:"),
    ROW_FLAG("json", offsetof(struct info_values, json), "Print one JSON object", 0),
    ROW_END,
};

enum { NAMES_SHOWN = 8, SEEDS_SHOWN = 4, CATEGORIES_SHOWN = 6, NAME_COLUMNS = 28, VALUE_COLUMNS = 60 };

typedef const char *(*name_of)(const descent_network *network, int64_t index);

static void print_names(const char *title, const descent_network *network, name_of name, int64_t count) {
  char text[TEXT_SIZE];
  if (count == 0 || !name(network, 0)) return;
  printf("%-14s", title);
  for (int64_t i = 0; i < count && i < NAMES_SHOWN; i++)
    printf("%s%s", i ? ", " : "", text_label(name(network, i), NAME_COLUMNS, text));
  if (count > NAMES_SHOWN) printf(", ... (%s in all)", text_count(count, text));
  putchar('\n');
}

/* Whether this is the value of an option that is off. */
static bool is_plain(const cJSON *value) {
  return cJSON_IsFalse(value) || (cJSON_IsNumber(value) && value->valuedouble == 0) ||
         (cJSON_IsString(value) && strcmp(value->valuestring, "auto") == 0);
}

/* False when memory ran out. */
static bool print_options(const cJSON *options) {
  const cJSON *item;
  char name[TEXT_SIZE], text[TEXT_SIZE];
  puts("options       (those that are 0, false or auto are left out)");
  cJSON_ArrayForEach(item, options) {
    if (is_plain(item)) continue;
    char *value = cJSON_IsString(item) ? NULL : text_json(item, false);
    if (!value && !cJSON_IsString(item)) return false;
    printf("  %-18s%s\n", text_label(item->string, NAME_COLUMNS, name),
           text_label(value ? value : item->valuestring, VALUE_COLUMNS, text));
    cJSON_free(value);
  }
  return true;
}

/* How many there were, and the best, of a training that has ended. */
static void print_epochs(const cJSON *provenance) {
  const cJSON *epochs = cJSON_GetObjectItemCaseSensitive(provenance, "epochs"),
              *best = cJSON_GetObjectItemCaseSensitive(provenance, "best_epoch");
  if (!cJSON_IsNumber(epochs) || !cJSON_IsNumber(best)) return;
  printf("%-14s%.0f", "epochs", epochs->valuedouble);
  if (best->valuedouble > 0) printf(", best %.0f", best->valuedouble);
  putchar('\n');
}

/* Of a network that was exported from an ensemble. */
static void print_member(const cJSON *provenance, const cJSON *options) {
  const cJSON *member = cJSON_GetObjectItemCaseSensitive(provenance, "member"),
              *seed = cJSON_GetObjectItemCaseSensitive(provenance, "seed"),
              *count = cJSON_GetObjectItemCaseSensitive(options, "ensemble");
  char text[TEXT_SIZE];
  if (!cJSON_IsNumber(member) || !cJSON_IsString(seed)) return;
  printf("%-14s%.0f of an ensemble", "member", member->valuedouble);
  if (cJSON_IsNumber(count)) printf(" of %.0f", count->valuedouble);
  printf(", seed %s\n", text_label(seed->valuestring, NAME_COLUMNS, text));
}

/* "seeds  0, 7312, ..": those of an ensemble's members. */
static void print_seeds(const cJSON *ensemble) {
  const cJSON *members = cJSON_GetObjectItemCaseSensitive(ensemble, "members"), *member;
  char text[TEXT_SIZE];
  int n = 0;
  cJSON_ArrayForEach(member, members) {
    const cJSON *seed = cJSON_GetObjectItemCaseSensitive(member, "seed");
    if (!cJSON_IsString(seed)) break;
    if (n)
      fputs(", ", stdout);
    else
      printf("%-14s", "seeds");
    if (n++ == SEEDS_SHOWN) {
      printf("... (%s in all)", text_count(cJSON_GetArraySize(members), text));
      break;
    }
    fputs(text_label(seed->valuestring, NAME_COLUMNS, text), stdout);
  }
  if (n) putchar('\n');
}

/* False when memory ran out. */
static bool print_provenance(const descent_network *network) {
  const char *provenance = descent_network_provenance(network);
  char text[TEXT_SIZE];
  if (!*provenance) return true;
  errno = 0;
  cJSON *root = cJSON_Parse(provenance);
  if (!root && errno == ENOMEM) return false;
  bool printed = true;
  const cJSON *options = root ? cJSON_GetObjectItemCaseSensitive(root, "options") : NULL;
  if (cJSON_IsObject(options)) {
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(root, "data");
    if (cJSON_IsString(data)) printf("%-14s%s\n", "trained on", text_label(data->valuestring, VALUE_COLUMNS, text));
    print_member(root, options);
    print_epochs(root);
    print_seeds(cJSON_GetObjectItemCaseSensitive(root, "ensemble"));
    printed = print_options(options);
  } else {
    printf("%-14s%s\n", "provenance", text_label(provenance, VALUE_COLUMNS, text));
  }
  cJSON_Delete(root);
  return printed;
}

/* How many targets have names. */
static int64_t count_targets(const descent_network *network) {
  int64_t n = 0;
  while (descent_network_target_name(network, n)) n++;
  return n;
}

static void print_categories(const descent_network *network) {
  char name[TEXT_SIZE];
  for (int64_t c = 0; c < descent_network_columns(network); c++) {
    const int64_t n = descent_network_column_categories(network, c);
    const char *column = descent_network_column_name(network, c);
    if (n == 0) continue;
    if (column)
      printf("  %-18s", text_label(column, NAME_COLUMNS, name));
    else
      printf("  column %-11" PRId64, c);
    for (int64_t k = 0; k < n && k < CATEGORIES_SHOWN; k++)
      printf("%s%s", k ? ", " : "", text_label(descent_network_column_category(network, c, k), NAME_COLUMNS, name));
    printf("%s (%" PRId64 ")\n", n > CATEGORIES_SHOWN ? ", ..." : "", n);
  }
}

static void print_offset(const char *name, int64_t index, double offset, bool *first) {
  char label[TEXT_SIZE], text[32];
  snprintf(text, sizeof text, "%.15g", offset);
  if (name)
    text_label(name, NAME_COLUMNS, label);
  else
    snprintf(label, sizeof label, "%" PRId64, index);
  if (*first) printf("%-14s", "offsets");
  printf("%s%s: difference to %s", *first ? "" : ", ", label, text);
  *first = false;
}

/* Columns and targets that the network takes as differences. */
static void print_offsets(const descent_network *network) {
  const int64_t inputs = descent_network_inputs(network), outputs = descent_network_outputs(network);
  bool first = true;
  int64_t found = 0;
  for (int64_t j = 0; j < inputs + outputs; j++) {
    const bool input = j < inputs;
    const double offset =
        input ? descent_network_input_offset(network, j) : descent_network_target_offset(network, j - inputs);
    if (offset != 0 && found++ < NAMES_SHOWN)
      print_offset(input ? descent_network_input_name(network, j) : descent_network_target_name(network, j - inputs),
                   input ? j : j - inputs, offset, &first);
  }
  if (found > NAMES_SHOWN) printf(", ... (%" PRId64 " in all)", found);
  if (!first) putchar('\n');
}

static void print_parameters(const descent_network *network) {
  const int64_t members = descent_network_members(network), all = descent_network_parameters(network);
  char text[TEXT_SIZE], other[TEXT_SIZE];
  if (members > 1)
    printf("%-14s%s members, whose %s are averaged\n", "ensemble", text_count(members, text),
           descent_network_task(network) == DESCENT_TASK_REGRESSION ? "values" : "probabilities");
  printf("%-14s%s (%s bytes)", "parameters", text_count(all, text), text_count(4 * all, other));
  if (members > 1) printf(", %s of each member", text_count(all / members, text));
  putchar('\n');
}

static int print_text(const char *path, const descent_network *network, int64_t bytes) {
  char text[TEXT_SIZE], other[TEXT_SIZE];
  const int32_t layers = descent_network_layers(network);
  const int64_t step = descent_network_checkpoint_step(network);
  text_print(stdout, "%-14s%s, %s bytes\n", "file", path, text_count(bytes, text));
  if (*descent_network_library(network))
    text_print(stdout, "%-14sdescent %s\n", "written by", descent_network_library(network));
  if (step >= 0) printf("%-14sof step %s of a training\n", "checkpoint", text_count(step, text));
  printf("%-14s%s, loss %s\n", "task", descent_task_name(descent_network_task(network)),
         descent_loss_name(descent_network_loss(network)));
  print_parameters(network);
  printf("%-14s%s, normalisation %s\n", "inputs", text_count(descent_network_inputs(network), text),
         descent_normalize_name(descent_network_normalize(network)));
  if (descent_network_svmlight_base(network) >= 0)
    printf("%-14ssvmlight files count from %d\n", "indices", descent_network_svmlight_base(network));
  if (descent_network_imputes(network))
    printf("%-14s%s (numeric), most frequent (categorical)\n", "imputation",
           descent_impute_name(descent_network_impute(network)));
  puts("layers");
  for (int32_t l = 1; l <= layers; l++)
    printf("  %-4" PRId32 "%8s -> %-8s%s\n", l, text_count(descent_network_width(network, l - 1), text),
           text_count(descent_network_width(network, l), other),
           descent_activation_name(descent_network_activation(network, l)));
  print_names("columns", network, descent_network_column_name, descent_network_columns(network));
  print_categories(network);
  print_offsets(network);
  print_names("target", network, descent_network_target_name, count_targets(network));
  print_names("classes", network, descent_network_class_name, descent_network_classes(network));
  return print_provenance(network) ? EXIT_DONE : fail(command, EXIT_RUN, "out of memory");
}

static bool add_names(cJSON *root, const char *key, const descent_network *network, name_of name, int64_t count) {
  if (count == 0 || !name(network, 0)) return true;
  cJSON *names = cJSON_AddArrayToObject(root, key);
  for (int64_t i = 0; names && i < count; i++)
    if (!cJSON_AddItemToArray(names, cJSON_CreateString(name(network, i)))) return false;
  return names != NULL;
}

static bool add_layers(cJSON *root, const descent_network *network) {
  cJSON *layers = cJSON_AddArrayToObject(root, "layers");
  for (int32_t l = 1; layers && l <= descent_network_layers(network); l++) {
    cJSON *layer = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(layers, layer) ||
        !cJSON_AddNumberToObject(layer, "inputs", (double)descent_network_width(network, l - 1)) ||
        !cJSON_AddNumberToObject(layer, "outputs", (double)descent_network_width(network, l)) ||
        !cJSON_AddStringToObject(layer, "activation", descent_activation_name(descent_network_activation(network, l))))
      return false;
  }
  return layers != NULL;
}

/* {"name": .., "categories": [..]} of each column, with what there is to say. */
static bool add_columns(cJSON *root, const descent_network *network) {
  if (!descent_network_input_name(network, 0)) return true;
  cJSON *list = cJSON_AddArrayToObject(root, "columns");
  for (int64_t c = 0; list && c < descent_network_columns(network); c++) {
    const char *name = descent_network_column_name(network, c);
    const int64_t n = descent_network_column_categories(network, c);
    cJSON *column = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(list, column) || (name && !cJSON_AddStringToObject(column, "name", name))) return false;
    cJSON *categories = n ? cJSON_AddArrayToObject(column, "categories") : NULL;
    for (int64_t k = 0; k < n; k++)
      if (!cJSON_AddItemToArray(categories, cJSON_CreateString(descent_network_column_category(network, c, k))))
        return false;
  }
  return list != NULL;
}

/* The provenance as the JSON it is, or as a string when it is none. */
static bool add_provenance(cJSON *root, const descent_network *network) {
  const char *text = descent_network_provenance(network);
  if (!*text) return true;
  errno = 0;
  cJSON *parsed = cJSON_Parse(text);
  if (!parsed && errno != ENOMEM) parsed = cJSON_CreateString(text);
  if (cJSON_AddItemToObject(root, "provenance", parsed)) return true;
  cJSON_Delete(parsed);
  return false;
}

static int print_json(const char *path, const descent_network *network, int64_t bytes) {
  cJSON *root = cJSON_CreateObject();
  const int64_t members = descent_network_members(network);
  const bool whole =
      root && cJSON_AddStringToObject(root, "file", path) && cJSON_AddNumberToObject(root, "bytes", (double)bytes) &&
      (!*descent_network_library(network) ||
       cJSON_AddStringToObject(root, "library", descent_network_library(network))) &&
      (descent_network_checkpoint_step(network) < 0 ||
       cJSON_AddNumberToObject(root, "checkpoint_step", (double)descent_network_checkpoint_step(network))) &&
      cJSON_AddStringToObject(root, "task", descent_task_name(descent_network_task(network))) &&
      cJSON_AddStringToObject(root, "loss", descent_loss_name(descent_network_loss(network))) &&
      (members == 1 || cJSON_AddNumberToObject(root, "members", (double)members)) &&
      cJSON_AddNumberToObject(root, "parameters", (double)descent_network_parameters(network)) &&
      (members == 1 ||
       cJSON_AddNumberToObject(root, "member_parameters", (double)(descent_network_parameters(network) / members))) &&
      cJSON_AddNumberToObject(root, "inputs", (double)descent_network_inputs(network)) &&
      cJSON_AddStringToObject(root, "normalize", descent_normalize_name(descent_network_normalize(network))) &&
      add_layers(root, network) &&
      (descent_network_svmlight_base(network) < 0 ||
       cJSON_AddNumberToObject(root, "svmlight_base", (double)descent_network_svmlight_base(network))) &&
      (!descent_network_imputes(network) ||
       cJSON_AddStringToObject(root, "impute", descent_impute_name(descent_network_impute(network)))) &&
      add_columns(root, network) &&
      add_names(root, "input_names", network, descent_network_input_name, descent_network_inputs(network)) &&
      add_names(root, "targets", network, descent_network_target_name, count_targets(network)) &&
      add_names(root, "classes", network, descent_network_class_name, descent_network_classes(network)) &&
      add_provenance(root, network);
  return print_object(command, root, whole, false);
}

static int info(void *values, const struct arguments *arguments) {
  const bool json = ((const struct info_values *)values)->json;
  const char *path = arguments->values[0];
  descent_network *network = NULL;
  int64_t size;
  descent_status status = descent_network_load(path, &network);
  if (status == DESCENT_ERROR_DATA) return data_info_print(command, path, json);
  if (status != DESCENT_OK) return fail_status(command, status);
  int code = output_size(command, path, &size);
  if (code == EXIT_DONE) code = json ? print_json(path, network, size) : print_text(path, network, size);
  descent_network_free(network);
  return code;
}

int command_info(int argc, char **argv) {
  struct info_values values = {0};
  const struct setting_set sets[] = {{info_rows, &values}};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "MODEL",
      .about =
          "Show the contents of the model file MODEL: layers, columns and how it was trained; or of data that descent "
          "convert wrote as .safetensors: size, columns and classes.",
      .fewest = 1,
      .most = 1,
      .sets = sets,
      .n_sets = 1,
  };
  return options_run(&syntax, argc, argv, info, &values);
}
