/* The run log's line as JSON. */
#include "report/run_log.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <string.h>

#include "report/metrics.h"

static bool add_number(cJSON *object, const char *key, double value) {
  return cJSON_AddNumberToObject(object, key, value) != NULL;
}

static bool add_layers(cJSON *line, const descent_epoch_info *info) {
  cJSON *layers = cJSON_AddArrayToObject(line, "layers");
  if (!layers) return false;
  for (int32_t l = 0; l < info->layers; l++) {
    const descent_layer_health *h = &info->health[l];
    cJSON *layer = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(layers, layer)) return false;
    if (!add_number(layer, "gradient_norm", h->gradient_norm) || !add_number(layer, "update_ratio", h->update_ratio) ||
        !add_number(layer, "activation_mean", h->activation_mean) ||
        !add_number(layer, "activation_std", h->activation_std) ||
        !add_number(layer, "dead_fraction", h->dead_fraction))
      return false;
  }
  return true;
}

const char *run_log_loss_with(const descent_train_options *options) {
  const bool weighted = options->class_weights || options->balance_classes, smoothed = options->label_smoothing > 0;
  if (weighted && smoothed) return "class weights and label smoothing";
  return weighted ? "class weights" : smoothed ? "label smoothing" : NULL;
}

static bool add_epoch(cJSON *line, descent_task task, const descent_train_options *options,
                      const descent_epoch_info *info) {
  const char *with = run_log_loss_with(options);
  return line && add_number(line, "epoch", (double)info->epoch) && add_number(line, "step", (double)info->step) &&
         add_number(line, "train_loss", info->train_loss) &&
         (!with || cJSON_AddStringToObject(line, "train_loss_with", with)) &&
         (!info->validation || report_metrics_add(line, "validation_", task, info->validation)) &&
         add_number(line, "learning_rate", info->learning_rate) &&
         add_number(line, "rows_per_second", info->rows_per_second) && add_number(line, "seconds", info->seconds) &&
         add_layers(line, info) && (!*info->warning || cJSON_AddStringToObject(line, "warning", info->warning));
}

cJSON *run_log_line(descent_task task, const descent_train_options *options, const descent_epoch_info *info) {
  cJSON *line = cJSON_CreateObject();
  if (add_epoch(line, task, options, info)) return line;
  cJSON_Delete(line);
  return NULL;
}

char *run_log_text(const cJSON *line) {
  char *text = cJSON_PrintUnformatted(line);
  char *longer = text ? cJSON_malloc(strlen(text) + 2) : NULL;
  if (longer) strcat(strcpy(longer, text), "\n");
  cJSON_free(text);
  return longer;
}
