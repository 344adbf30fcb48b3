/* descent devices: what can be used on this machine, and why not what cannot. */
#include <stdio.h>

#include "cli/cli.h"

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

/* One device that was tried; `text` describes it, or says why it cannot be used. */
static bool add_json(cJSON *list, const char *name, bool usable, const char *text) {
  cJSON *item = cJSON_CreateObject();
  if (!item) return false;
  bool added = cJSON_AddStringToObject(item, "name", name) && cJSON_AddBoolToObject(item, "usable", usable) &&
               cJSON_AddStringToObject(item, usable ? "description" : "reason", text);
  if (added) return cJSON_AddItemToArray(list, item);
  cJSON_Delete(item);
  return false;
}

/* Tries one device and lists it, in `list` or as a line; `*usable` tells how it went. False when memory ran out. */
static bool try_device(const char *name, cJSON *list, bool *usable) {
  descent_device *device = NULL;
  *usable = descent_device_open(name, 0, &device) == DESCENT_OK;
  const char *text = *usable ? descent_device_description(device) : descent_last_error();
  bool listed = true;
  if (list)
    listed = add_json(list, name, *usable, text);
  else
    printf("%-10s  %-3s  %s\n", name, *usable ? "yes" : "no", text);
  descent_device_close(device);
  return listed;
}

static bool list_devices(cJSON *list) {
  enum { MOST_GPUS = 64 };
  bool usable;
  if (!list) printf("%-10s  %-3s  %s\n", "device", "use", "what it is, or why not");
  if (!try_device("cpu", list, &usable) || !try_device("reference", list, &usable)) return false;
  if (!try_device("cuda:0", list, &usable)) return false;
  for (int i = 1; usable && i < MOST_GPUS; i++) { /* the first that is not there ends the list, unlisted */
    char name[24];
    snprintf(name, sizeof name, "cuda:%d", i);
    descent_device *device = NULL;
    if (descent_device_open(name, 0, &device) != DESCENT_OK) break;
    descent_device_close(device);
    if (!try_device(name, list, &usable)) return false;
  }
  return true;
}

int command_devices(int argc, char **argv) {
  struct listing listing = {false};
  const struct setting_set sets[] = {{listing_options, &listing}};
  const struct command_syntax syntax = {
      .name = "descent devices",
      .about =
          "List the devices that --device takes and whether they can be used on this machine."
          "\vJSON: {\"devices\": [{\"name\", \"usable\", \"description\" or \"reason\"}]}.",
      .sets = sets,
      .n_sets = 1,
  };
  struct arguments arguments;
  int code = options_parse(&syntax, argc, argv, NULL, 0, &arguments);
  if (code != OPTIONS_GO_ON) return code;
  cJSON *object = listing.json ? cJSON_CreateObject() : NULL;
  cJSON *list = object ? cJSON_AddArrayToObject(object, "devices") : NULL;
  const bool whole = (!listing.json || list) && list_devices(list);
  return listing.json ? print_object(syntax.name, object, whole, true) : EXIT_DONE;
}
