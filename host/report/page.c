/* The page from top to bottom. All text from files or options is written by markup_text. */
#include "report/page.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "report/markup.h"
#include "report/page_tables.h"
#include "report/svg.h"
#include "report/text.h"

const char page_style[] =
    ":root{color-scheme:light dark;--back:#f6f7f9;--card:#fff;--ink:#1b1f27;--soft:#5a6270;--line:#e1e4ea;"
    "--strong:#2563c9;--bad:#b3261e;--bad-back:#fdecea;--warn:#8a5a00;--warn-back:#fff4dc}"
    "@media (prefers-color-scheme:dark){"
    ":root{--back:#0f1319;--card:#171c24;--ink:#e8ebf0;--soft:#9aa3b2;--line:#2a303b;"
    "--strong:#7aa9fa;--bad:#ffb4ab;--bad-back:#3b1715;--warn:#f2c56b;--warn-back:#33280f}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--back);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;overflow-wrap:anywhere}"
    "main{max-width:1120px;margin:0 auto;padding:28px 20px 48px}"
    "header p{margin:4px 0 0;color:var(--soft)}"
    "h1{font-size:26px;line-height:1.25;margin:0}"
    "h2{font-size:18px;margin:36px 0 12px}"
    "h3{font-size:14px;margin:20px 0 8px}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:22px 0 0}"
    ".tile,.card,.charts>div{background:var(--card);border:1px solid var(--line);border-radius:10px}"
    ".tile{padding:12px 14px}.tile b{display:block;font-size:23px;line-height:1.3;font-weight:650}"
    ".tile.main b{color:var(--strong)}.tile span{color:var(--soft);font-size:13px}"
    ".card{padding:6px 16px 10px;overflow-x:auto}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));"
    "gap:12px;align-items:start}"
    ".charts>div{padding:4px 6px}.charts>.card{padding:6px 16px 10px}"
    ".charts+.charts,.card+.charts,.note+.charts{margin-top:12px}.charts svg{display:block;width:100%;height:auto}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:12px;align-items:start}"
    "table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}"
    "th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}"
    "tr:last-child>th,tr:last-child>td{border-bottom:0}"
    "thead th{color:var(--soft);font-weight:500;white-space:nowrap}"
    "tbody th{font-weight:500;min-width:10em}.n{text-align:right;white-space:nowrap;overflow-wrap:normal}"
    "td.n:last-child,th.n:last-child{padding-right:0}.pairs th{width:1%;color:var(--soft);font-weight:400}"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:10px 18px;margin:8px 0}"
    "dt{color:var(--soft);font-size:13px}dd{margin:0}.pairs th{white-space:nowrap}"
    ".share{display:block;min-width:80px;height:8px;border-radius:4px;background:var(--line);overflow:hidden;"
    "margin-top:7px}"
    ".share i{display:block;height:100%;background:var(--strong)}"
    ".note{color:var(--soft);font-size:13px;margin:8px 0 0}"
    ".alert{border-radius:10px;padding:10px 16px;margin:16px 0 0}"
    ".bad{background:var(--bad-back);color:var(--bad)}.warn{background:var(--warn-back);color:var(--warn)}"
    ".warn ul{margin:4px 0 0;padding-left:20px}"
    "footer{margin-top:36px;color:var(--soft);font-size:13px}"
    "@media print{body{background:#fff}.charts>div,.card,.tile{break-inside:avoid}}";

static void write_head(FILE *out, const struct page *p) {
  fputs(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      out);
  markup_label(out, basename(p->model_path), 80);
  fprintf(out, " - training report</title>\n<style>%s%s</style>\n</head>\n<body>\n<main>\n", page_style, svg_style);
}

/* Writes "price, size from ", with names or else positions; nothing when the file defines its targets. */
static void write_targets(FILE *out, const struct page *p) {
  enum { SHOWN = 4 };
  const int64_t targets = descent_dataset_targets(p->data);
  const bool named = descent_dataset_target_name(p->data, 0) != NULL;
  if (!named && !p->target) return;
  if (!named) fputs("column ", out);
  markup_label(out, named ? descent_dataset_target_name(p->data, 0) : p->target, 60);
  for (int64_t k = 1; named && k < targets && k < SHOWN; k++) {
    fputs(", ", out);
    markup_label(out, descent_dataset_target_name(p->data, k), 60);
  }
  if (named && targets > SHOWN) fputs(", ...", out);
  fputs(" from ", out);
}

static void write_alert(FILE *out, const char *kind, const char *title, const char *text) {
  fprintf(out, "<div class=\"alert %s\"><b>%s</b> ", kind, title);
  markup_text(out, text);
  fputs("</div>\n", out);
}

/* A signal can also come when the training is over and its measures are made. */
static void write_interruption(FILE *out, const struct page *p) {
  char text[TEXT_SIZE + 128], count[TEXT_SIZE];
  const bool stopped = p->result->stop == DESCENT_STOP_CALLBACK;
  snprintf(text, sizeof text, "%s%s epoch%s. %s", page_of_several(p) ? "At most " : "",
           text_count(p->result->epochs, count), p->result->epochs == 1 ? " is complete" : "s are complete",
           stopped ? "The model was not measured." : "Not all measures were made.");
  write_alert(out, "warn", stopped ? "The training was stopped by a signal." : "A signal came after the training.",
              text);
}

/* " of member 0" for what is shown of the first of several networks only; "" for one network. */
static const char *whose(const struct page *p, char text[static 64]) {
  snprintf(text, 64, "%s%.50s", page_of_several(p) ? " of " : "", page_of_several(p) ? p->runs[0].name : "");
  return text;
}

static void write_header(FILE *out, const struct page *p) {
  char when[64] = "", count[TEXT_SIZE];
  const time_t now = time(NULL);
  struct tm local;
  if (localtime_r(&now, &local)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
  fputs("<header><h1>Training ", out);
  markup_label(out, basename(p->model_path), 60);
  fputs("</h1><p>", out);
  fputs(descent_network_task(p->network) == DESCENT_TASK_REGRESSION ? "regression of " : "classification of ", out);
  write_targets(out, p);
  markup_label(out, basename(p->data_path), 60);
  if (page_of_several(p))
    fprintf(out, " &middot; ensemble of %s", text_count(descent_network_members(p->network), count));
  fprintf(out, " &middot; %s parameters &middot; %s</p></header>\n",
          text_count(descent_network_parameters(p->network), count), when);
  if (p->failure) write_alert(out, "bad", "The training failed.", p->failure);
  if (p->interrupted) write_interruption(out, p);
  if (p->verdict && *p->verdict->worse) write_alert(out, "bad", "Check the training.", p->verdict->worse);
  if (p->verdict && *p->verdict->seldom) write_alert(out, "warn", "Check the classes.", p->verdict->seldom);
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

static void write_tile(FILE *out, bool first, const char *value, const char *name) {
  fprintf(out, "<div class=\"tile%s\"><b>", first ? " main" : "");
  markup_text(out, value);
  fputs("</b><span>", out);
  markup_text(out, name);
  fputs("</span></div>\n", out);
}

static void write_measure_tile(FILE *out, bool first, const struct metrics_column *column, const char *name,
                               double value) {
  char text[TEXT_SIZE], label[TEXT_SIZE];
  snprintf(label, sizeof label, "%s %s", column->title, name);
  write_tile(out, first, isnan(value) ? "-" : text_loss(value, text), label);
}

static void write_tiles(FILE *out, const struct page *p) {
  char text[TEXT_SIZE], label[TEXT_SIZE];
  const struct metrics_column *last = p->n_columns ? &p->columns[p->n_columns - 1] : NULL;
  fputs("<div class=\"tiles\">\n", out);
  if (last) {
    const descent_metrics *m = last->metrics;
    if (descent_network_task(p->network) == DESCENT_TASK_REGRESSION) {
      write_measure_tile(out, true, last, "RMSE", m->rmse);
      write_measure_tile(out, false, last, "R2", m->r2);
    } else {
      write_measure_tile(out, true, last, "accuracy", m->accuracy);
      write_measure_tile(out, false, last, "balanced accuracy", m->balanced_accuracy);
    }
    if (descent_network_task(p->network) == DESCENT_TASK_BINARY) write_measure_tile(out, false, last, "AUC", m->auc);
    write_measure_tile(out, false, last, "loss", m->loss);
  }
  const descent_fit_result *r = p->result;
  if (page_of_several(p)) {
    write_tile(out, false, text_count(descent_network_members(p->network), text), "networks");
    write_tile(out, false, text_count(r->epochs, text), "epochs of the longest training");
  } else if (r->best_epoch && p->validation) {
    snprintf(label, sizeof label, "best of %" PRId64 " epoch%s", r->epochs, r->epochs == 1 ? "" : "s");
    snprintf(text, sizeof text, "%" PRId64, r->best_epoch);
    write_tile(out, false, text, label);
  } else {
    write_tile(out, false, text_count(p->history->epochs, text), p->history->epochs == 1 ? "epoch" : "epochs");
  }
  const int64_t last_point = p->history->points - 1;
  const double seconds =
      r->seconds > 0 || last_point < 0 ? r->seconds : history_number(p->history, last_point, HISTORY_SECONDS);
  write_tile(out, false, text_duration(seconds, text), "training time");
  fputs("</div>\n", out);
}

/* ---- charts ----------------------------------------------------------------------------------------------------- */

static void write_chart(FILE *out, const struct chart *chart) {
  fputs("<div>", out);
  svg_chart(out, chart);
  fputs("</div>\n", out);
}

static void write_charts(FILE *out, const struct figure *figure, bool matrices) {
  fputs("<div class=\"charts\">\n", out);
  for (int i = 0; i < figure->n; i++)
    if (matrices || !figure->charts[i].classes) write_chart(out, &figure->charts[i]);
  fputs("</div>\n", out);
}

/* The table of metrics with the confusion matrix beside it, and the other charts below. */
static void write_measures(FILE *out, const struct page *p) {
  fputs("<h2>Measures</h2>\n<div class=\"charts\">\n", out);
  page_measures(out, p);
  for (int i = 0; i < p->diagnosis->n; i++)
    if (p->diagnosis->charts[i].classes) write_chart(out, &p->diagnosis->charts[i]);
  fputs("</div>\n", out);
  if (p->members) page_members(out, p->members);
  write_charts(out, p->diagnosis, false);
}

static bool write_course(FILE *out, const struct page *p) {
  const struct curves_run run = {"", p->history};
  char name[64];
  struct figure figure = {0};
  const bool made = curves_add_loss(&figure, p->runs, p->n_runs) && curves_add_measures(&figure, p->runs, p->n_runs) &&
                    curves_add_learning_rate(&figure, &run, 1);
  if (made && p->history->epochs) {
    fputs("<h2>Training curves</h2>\n", out);
    write_charts(out, &figure, true);
    if (page_of_several(p)) fprintf(out, "<p class=\"note\">The learning rate is that%s.</p>\n", whose(p, name));
  }
  figure_clear(&figure);
  return made;
}

static bool write_layers(FILE *out, const struct page *p) {
  const struct curves_run run = {"", p->history};
  struct figure figure = {0};
  const bool made = curves_add_layers(&figure, &run, 1, HISTORY_LAYER_GRADIENT_NORM) &&
                    curves_add_layers(&figure, &run, 1, HISTORY_LAYER_UPDATE_RATIO) &&
                    curves_add_layers(&figure, &run, 1, HISTORY_LAYER_ACTIVATION_STD) &&
                    curves_add_layers(&figure, &run, 1, HISTORY_LAYER_DEAD_FRACTION);
  char name[64];
  fprintf(out, "<h2>Layers%s</h2>\n", whose(p, name));
  page_layers(out, p);
  if (made && p->history->epochs) write_charts(out, &figure, true);
  figure_clear(&figure);
  return made;
}

static bool write_machine(FILE *out, const struct page *p) {
  const struct curves_run run = {"", p->history};
  struct figure figure = {0};
  const bool made = curves_add_speed(&figure, &run, 1);
  char name[64];
  fputs("<h2>Machine and speed</h2>\n<div class=\"charts\">\n", out);
  page_machine(out, p);
  if (figure.n && made) write_chart(out, &figure.charts[0]);
  fputs("</div>\n", out);
  if (page_of_several(p)) fprintf(out, "<p class=\"note\">The training speed is that%s.</p>\n", whose(p, name));
  figure_clear(&figure);
  return made;
}

bool page_write(FILE *out, const struct page *p) {
  write_head(out, p);
  write_header(out, p);
  page_warnings(out, p);
  write_tiles(out, p);
  bool made = write_course(out, p);
  if (p->n_columns) write_measures(out, p);
  made = write_layers(out, p) && made;
  fputs("<h2>Data</h2>\n", out);
  made = page_data(out, p) && made;
  made = write_machine(out, p) && made;
  fputs("<h2>Configuration</h2>\n", out);
  page_configuration(out, p);
  fputs("<footer>Written by Descent ", out);
  markup_text(out, descent_version());
  fputs("</footer>\n</main>\n</body>\n</html>\n", out);
  return made;
}
