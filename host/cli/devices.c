/* `descent devices`: the devices of this machine, and why one cannot be used. */
#include <stdio.h>

#include "cli/cli.h"
#include "report/text.h"

static const char command[] = "descent devices";

struct listing {
  bool json;
};

#define AT(member) offsetof(struct listing, member)
static const struct setting listing_options[] = {
    ROW_HEADING("Output:"),
    ROW_FLAG("json", AT(json), "Print one JSON object", OPTION_UNRECORDED),
    ROW_END,
};
#undef AT

/* The properties of a GPU, as members of a JSON object; unknown ones are left out. */
static bool add_facts(cJSON *item, const descent_device_info *info) {
  const struct {
    const char *name, *value;
  } texts[] = {{"model", info->model},
               {"uuid", info->uuid},
               {"pci", info->pci},
               {"driver", info->driver},
               {"cuda_driver", info->cuda_driver},
               {"cuda_runtime", info->cuda_runtime},
               {"cublas", info->cublas}};
  char capability[32];
  snprintf(capability, sizeof capability, "%d.%d", info->compute_major, info->compute_minor);
  bool added = cJSON_AddStringToObject(item, "compute_capability", capability) &&
               cJSON_AddNumberToObject(item, "multiprocessors", info->multiprocessors) &&
               cJSON_AddNumberToObject(item, "memory_total", (double)info->memory_total);
  if (info->memory_free >= 0) added = added && cJSON_AddNumberToObject(item, "memory_free", (double)info->memory_free);
  for (size_t i = 0; added && i < sizeof texts / sizeof *texts; i++)
    if (*texts[i].value) added = cJSON_AddStringToObject(item, texts[i].name, texts[i].value);
  return added;
}

/* One device that was tried; `text` describes it, or says why it cannot be used. `info`: NULL where it is no GPU. */
static bool add_json(cJSON *list, const char *name, bool usable, const char *text, const descent_device_info *info) {
  cJSON *item = cJSON_CreateObject();
  if (!item) return false;
  const bool added = cJSON_AddStringToObject(item, "name", name) && cJSON_AddBoolToObject(item, "usable", usable) &&
                     cJSON_AddStringToObject(item, usable ? "description" : "reason", text) &&
                     (!info || add_facts(item, info));
  if (added) return cJSON_AddItemToArray(list, item);
  cJSON_Delete(item);
  return false;
}

static void print_facts(const descent_device_info *info) {
  printf("%17s%s, PCI %s, compute capability %d.%d, ", "", info->uuid, info->pci, info->compute_major,
         info->compute_minor);
  if (info->memory_free >= 0) printf("%.1f of ", 1e-9 * (double)info->memory_free);
  printf("%.1f GB %s", 1e-9 * (double)info->memory_total, info->memory_free >= 0 ? "free" : "(free: unknown)");
  if (*info->driver) printf(", driver %s", info->driver);
  printf("\n");
}

/* Tries one device and lists it, in `list` or as lines. False when memory ran out. */
static bool try_device(const char *name, cJSON *list, const descent_device_info *info) {
  descent_device *device = NULL;
  const bool usable = descent_device_open(name, 0, &device) == DESCENT_OK;
  const char *text = usable ? descent_device_description(device) : descent_last_error();
  bool listed = true;
  if (list) {
    listed = add_json(list, name, usable, text, info);
  } else {
    text_print(stdout, "%-10s  %-3s  %s\n", name, usable ? "yes" : "no", text);
    if (info) print_facts(info);
  }
  descent_device_close(device);
  return listed;
}

struct gpus {
  cJSON *list;
  bool whole;
};

/* Every GPU is queried before it is opened, which takes some of its memory until the command ends. */
static void show_gpu(void *user, const descent_device_info *info) {
  struct gpus *const gpus = user;
  gpus->whole = gpus->whole && try_device(info->name, gpus->list, info);
}

static bool list_devices(cJSON *list) {
  struct gpus gpus = {list, true};
  if (!list) printf("%-10s  %-3s  %s\n", "device", "use", "what it is, or why not");
  if (!try_device("cpu", list, NULL) || !try_device("reference", list, NULL)) return false;
  if (descent_device_list(show_gpu, &gpus) != DESCENT_OK) return try_device("cuda:0", list, NULL); /* says why not */
  return gpus.whole;
}

static int list_all(void *values, const struct arguments *arguments) {
  (void)arguments;
  const bool json = ((const struct listing *)values)->json;
  cJSON *object = json ? cJSON_CreateObject() : NULL;
  cJSON *list = object ? cJSON_AddArrayToObject(object, "devices") : NULL;
  const bool whole = (!json || list) && list_devices(list);
  return json ? print_object(command, object, whole, true) : EXIT_DONE;
}

int command_devices(int argc, char **argv) {
  struct listing listing = {false};
  const struct setting_set sets[] = {{listing_options, &listing}};
  const struct command_syntax syntax = {
      .name = command,
      .about =
          "List the devices that --device accepts and whether this machine can use them. A GPU's second line has its "
          "UUID, which --device accepts too, or any unique beginning of it."
          "\vJSON: {\"devices\": [{\"name\", \"usable\", \"description\" or \"reason\"}]}; of GPUs also "
          "compute_capability, multiprocessors, memory_total and memory_free in bytes, model, uuid, pci, driver, "
          "cuda_driver, cuda_runtime and cublas (versions), as far as known.",
      .sets = sets,
      .n_sets = 1,
  };
  return options_run(&syntax, argc, argv, list_all, &listing);
}
