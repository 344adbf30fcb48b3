/* Tables about the training: metrics, layers, configuration, machine. */
#include "report/page_tables.h"

#include <inttypes.h>
#include <math.h>

#include "report/markup.h"
#include "report/text.h"

void page_pair(FILE *out, const char *name, const char *text) {
  fputs("<tr><th>", out);
  markup_text(out, name);
  fputs("</th><td>", out);
  markup_text(out, text);
  fputs("</td></tr>\n", out);
}

static void write_number(FILE *out, double value) {
  char text[TEXT_SIZE];
  fprintf(out, "<td class=\"n\">%s</td>", isnan(value) ? "-" : text_loss(value, text));
}

void page_warnings(FILE *out, const struct page *p) {
  const cJSON *warning;
  if (cJSON_GetArraySize(p->warnings) == 0) return;
  fputs("<div class=\"alert warn\"><b>Warnings", out);
  if (page_of_several(p)) fprintf(out, " of %s", p->runs[0].name);
  fputs("</b><ul>\n", out);
  cJSON_ArrayForEach(warning, p->warnings) {
    const cJSON *epoch = cJSON_GetObjectItem(warning, "epoch"), *text = cJSON_GetObjectItem(warning, "text");
    if (!cJSON_IsNumber(epoch) || !cJSON_IsString(text)) continue;
    fprintf(out, "<li>epoch %.0f: ", epoch->valuedouble);
    markup_text(out, text->valuestring);
    fputs("</li>\n", out);
  }
  fputs("</ul></div>\n", out);
}

static void write_measure(void *user, const char *name, const double *values, int n) {
  FILE *out = user;
  fputs("<tr><th>", out);
  markup_text(out, name);
  fputs("</th>", out);
  for (int c = 0; c < n; c++) write_number(out, values[c]);
  fputs("</tr>\n", out);
}

void page_measures(FILE *out, const struct page *p) {
  char text[TEXT_SIZE];
  fputs("<div class=\"card\"><table><thead><tr><th></th>", out);
  for (int c = 0; c < p->n_columns; c++) fprintf(out, "<th class=\"n\">%s</th>", p->columns[c].title);
  fputs("</tr></thead><tbody>\n<tr><th>rows</th>", out);
  for (int c = 0; c < p->n_columns; c++)
    fprintf(out, "<td class=\"n\">%s</td>", text_count(p->columns[c].metrics->rows, text));
  fputs("</tr>\n", out);
  report_metrics_rows(p->network, p->columns, p->n_columns, write_measure, out);
  fputs("</tbody></table></div>\n", out);
}

void page_members(FILE *out, const struct measures_table *table) {
  fprintf(out, "<h3>Networks on the %s rows</h3>\n<div class=\"card\"><table><thead><tr><th></th>", table->title);
  for (int m = 0; m < table->n_measures; m++) fprintf(out, "<th class=\"n\">%s</th>", table->names[m]);
  fputs("</tr></thead><tbody>\n", out);
  for (int64_t r = 0; r < table->n_rows; r++) {
    fprintf(out, "<tr><th>%s</th>", table->rows[r].name);
    for (int m = 0; m < table->n_measures; m++) write_number(out, table->rows[r].values[m]);
    fputs("</tr>\n", out);
  }
  fputs("</tbody></table></div>\n", out);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

enum { LAYERS_LISTED = 40 };

static void write_layer(FILE *out, const struct page *p, int32_t layer) {
  char text[TEXT_SIZE];
  const int64_t n_in = descent_network_width(p->network, layer - 1), n_out = descent_network_width(p->network, layer);
  const int64_t last = p->history->points - 1;
  fprintf(out,
          "<tr><th>layer %" PRId32 "</th><td class=\"n\">%" PRId64 " &rarr; %" PRId64
          "</td><td>%s</td><td class=\"n\">%s</td>",
          layer, n_in, n_out, descent_activation_name(descent_network_activation(p->network, layer)),
          text_count(n_in * n_out + n_out, text));
  for (int number = 0; number < HISTORY_LAYER_NUMBERS; number++)
    write_number(out, last >= 0 ? history_layer(p->history, last, layer, (enum history_layer)number) : NAN);
  fputs("</tr>\n", out);
}

void page_layers(FILE *out, const struct page *p) {
  const int32_t layers = descent_network_layers(p->network);
  fputs(
      "<div class=\"card\"><table><thead><tr><th></th><th class=\"n\">shape</th><th>activation</th>"
      "<th class=\"n\">parameters</th><th class=\"n\">gradient norm</th><th class=\"n\">update-to-weight ratio</th>"
      "<th class=\"n\">mean</th><th class=\"n\">std. deviation</th><th class=\"n\">dead "
      "units</th></tr></thead><tbody>\n",
      out);
  for (int32_t l = 1; l <= layers; l++) {
    if (layers > LAYERS_LISTED && l == LAYERS_LISTED / 2) {
      const int32_t left_out = layers - LAYERS_LISTED + 1;
      fprintf(out, "<tr><td colspan=\"9\">%" PRId32 " more layers</td></tr>\n", left_out);
      l += left_out - 1;
      continue;
    }
    write_layer(out, p, l);
  }
  fputs(
      "</tbody></table></div>\n"
      "<p class=\"note\">Norms, activations and dead units of the last full batch of the last epoch.</p>\n",
      out);
}

/* ---- configuration and machine ---------------------------------------------------------------------------------- */

static void write_option(FILE *out, const char *name, const char *value) {
  fputs("<div><dt>", out);
  markup_text(out, name);
  fputs("</dt><dd>", out);
  markup_text(out, value);
  fputs("</dd></div>\n", out);
}

void page_configuration(FILE *out, const struct page *p) {
  const cJSON *option;
  fputs("<div class=\"card\"><dl>\n", out);
  write_option(out, "network", p->shape);
  write_option(out, "loss", descent_loss_name(descent_network_loss(p->network)));
  cJSON_ArrayForEach(option, p->options) {
    if (cJSON_IsString(option)) {
      write_option(out, option->string, option->valuestring);
    } else if (cJSON_IsNumber(option)) {
      char text[40];
      snprintf(text, sizeof text, "%.10g", option->valuedouble);
      write_option(out, option->string, text);
    } else if (cJSON_IsBool(option)) {
      write_option(out, option->string, cJSON_IsTrue(option) ? "yes" : "no");
    }
  }
  fputs("</dl></div>\n", out);
}

void page_machine(FILE *out, const struct page *p) {
  char text[TEXT_SIZE], line[TEXT_SIZE + 64];
  fputs("<div class=\"card\"><table class=\"pairs\"><tbody>\n", out);
  page_pair(out, "device", descent_device_description(p->device));
  if (*descent_device_note(p->device)) page_pair(out, "", descent_device_note(p->device));
  page_pair(out, "precision", descent_precision_name(p->train->precision));
  const double speed = history_speed(p->history);
  if (speed > 0 && isfinite(speed)) {
    snprintf(line, sizeof line, "%s rows per second", text_scaled(speed, text));
    page_pair(out, "training speed", line);
  }
  if (speed > 0 && isfinite(speed) && !page_of_several(p)) {
    const double flops = 6 * speed * (double)descent_network_parameters(p->network);
    snprintf(line, sizeof line, "about %s floating-point operations per second (6 per parameter and row)",
             text_scaled(flops, text));
    page_pair(out, "arithmetic", line);
  }
  static const char *const ends[] = {"all epochs completed", "early stopping", "on request"};
  page_pair(out, page_of_several(p) ? "steps of all networks" : "steps", text_count(p->result->steps, text));
  if (!p->failure) {
    page_pair(out, "training time", text_duration(p->result->seconds, text));
    if (!page_of_several(p)) page_pair(out, "stopped", ends[p->result->stop]);
  }
  page_pair(out, "model", p->model_path);
  fputs("</tbody></table></div>\n", out);
}
