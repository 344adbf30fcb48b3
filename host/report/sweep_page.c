/* The page of a sweep, from the best trial down. All texts that come from files and users are written by markup_text. */
#include "report/sweep_page.h"

#include <descent/descent.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "report/markup.h"
#include "report/page.h"
#include "report/svg.h"
#include "report/text.h"

enum { NAME_COLUMNS = 60, ROWS_MOST = 500 };

static void write_head(FILE *out, const struct sweep_page *p) {
  fputs(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
      out);
  markup_label(out, basename(p->model_path), NAME_COLUMNS);
  fprintf(out, " - sweep report</title>\n<style>%s%s%s</style>\n</head>\n<body>\n<main>\n", page_style, svg_style,
          parallel_style);
}

static void write_header(FILE *out, const struct sweep_page *p) {
  char when[64] = "";
  const time_t now = time(NULL);
  struct tm local;
  if (localtime_r(&now, &local)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
  fputs("<header><h1>Sweep for ", out);
  markup_label(out, basename(p->model_path), NAME_COLUMNS);
  fputs("</h1><p>", out);
  markup_label(out, basename(p->data_path), NAME_COLUMNS);
  fputs(" &middot; ", out);
  markup_text(out, p->search);
  fprintf(out, " &middot; %s</p></header>\n", when);
  if (p->interrupted)
    fprintf(out,
            "<div class=\"alert warn\"><b>The sweep was stopped by a signal.</b> %" PRId64
            " trials are not finished.</div>\n",
            p->open);
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

static void write_tile(FILE *out, bool first, const char *value, const char *name) {
  fprintf(out, "<div class=\"tile%s\"><b>", first ? " main" : "");
  markup_text(out, value);
  fputs("</b><span>", out);
  markup_text(out, name);
  fputs("</span></div>\n", out);
}

static int64_t count(const struct sweep_page *p, const char *status) {
  int64_t n = 0;
  for (int64_t i = 0; i < p->n_trials; i++) n += strcmp(p->trials[i].status, status) == 0;
  return n;
}

static void write_tiles(FILE *out, const struct sweep_page *p) {
  char text[TEXT_SIZE], label[TEXT_SIZE];
  const struct sweep_page_trial *best = &p->trials[0];
  fputs("<div class=\"tiles\">\n", out);
  snprintf(label, sizeof label, "best %s", p->measure);
  write_tile(out, true, isnan(best->objective) ? "-" : text_loss(best->objective, text), label);
  snprintf(text, sizeof text, "%" PRId64, best->number);
  write_tile(out, false, text, "best trial");
  write_tile(out, false, text_count(p->n_trials, text), "trials");
  static const char *const others[] = {"stopped early", "dropped", "diverged"};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (count(p, others[i])) write_tile(out, false, text_count(count(p, others[i]), text), others[i]);
  fputs("</div>\n", out);
}

/* ---- charts and tables ------------------------------------------------------------------------------------------ */

static void write_best(FILE *out, const struct sweep_page *p) {
  fputs("<h2>Best trial</h2>\n<div class=\"card\"><table class=\"pairs\">\n", out);
  for (int a = 0; a < p->n_names; a++) {
    fputs("<tr><th>", out);
    markup_text(out, p->names[a]);
    fputs("</th><td>", out);
    markup_text(out, p->trials[0].values[a]);
    fputs("</td></tr>\n", out);
  }
  fputs("<tr><th>model</th><td>", out);
  markup_text(out, p->model_path);
  fprintf(out, "</td></tr>\n<tr><th>%s</th><td><code>", p->same_model ? "trained alone by" : "its options");
  markup_text(out, p->command);
  fputs("</code></td></tr>\n</table></div>\n", out);
}

static void write_configurations(FILE *out, const struct sweep_page *p) {
  fputs("<h2>Configurations</h2>\n<div class=\"card charts\" style=\"display:block\">\n", out);
  parallel_write(out, &p->parallel);
  fputs("</div>\n<p class=\"note\">One line for each trial, from blue (best) to red (worst), the best in bold; ", out);
  fputs("dashed without a result.</p>\n", out);
}

static void write_curves(FILE *out, const struct sweep_page *p) {
  if (p->curves->n == 0) return;
  fputs("<h2>Curves of the best</h2>\n<div class=\"charts\">\n", out);
  for (int i = 0; i < p->curves->n; i++) {
    fputs("<div>", out);
    svg_chart(out, &p->curves->charts[i]);
    fputs("</div>\n", out);
  }
  fputs("</div>\n", out);
}

static void write_row(FILE *out, const struct sweep_page *p, const struct sweep_page_trial *t) {
  char text[TEXT_SIZE];
  fprintf(out, "<tr><td class=\"n\">%" PRId64 "</td><td class=\"n\">%s</td>", t->number,
          isnan(t->objective) ? "-" : text_loss(t->objective, text));
  if (t->best_epoch)
    fprintf(out, "<td class=\"n\">%" PRId64 "</td>", t->best_epoch);
  else
    fputs("<td class=\"n\">-</td>", out);
  fprintf(out, "<td class=\"n\">%" PRId64 "</td><td>", t->epochs);
  markup_text(out, t->status);
  fputs("</td>", out);
  for (int a = 0; a < p->n_names; a++) {
    fputs("<td>", out);
    markup_text(out, t->values[a]);
    fputs("</td>", out);
  }
  if (t->error) {
    fputs("<td>", out);
    markup_text(out, t->error);
    fputs("</td>", out);
  }
  fputs("</tr>\n", out);
}

static void write_trials(FILE *out, const struct sweep_page *p) {
  fputs("<h2>Trials</h2>\n<div class=\"card\"><table>\n<thead><tr><th class=\"n\">trial</th><th class=\"n\">", out);
  markup_text(out, p->measure);
  fputs("</th><th class=\"n\">best epoch</th><th class=\"n\">epochs</th><th>status</th>", out);
  for (int a = 0; a < p->n_names; a++) {
    fputs("<th>", out);
    markup_text(out, p->names[a]);
    fputs("</th>", out);
  }
  fputs("</tr></thead>\n<tbody>\n", out);
  for (int64_t i = 0; i < p->n_trials && i < ROWS_MOST; i++) write_row(out, p, &p->trials[i]);
  fputs("</tbody></table></div>\n", out);
  if (p->n_trials > ROWS_MOST)
    fprintf(out, "<p class=\"note\">The best %d of %" PRId64 " trials.</p>\n", ROWS_MOST, p->n_trials);
}

void sweep_page_write(FILE *out, const struct sweep_page *p) {
  write_head(out, p);
  write_header(out, p);
  write_tiles(out, p);
  write_best(out, p);
  write_configurations(out, p);
  write_curves(out, p);
  write_trials(out, p);
  fputs("<footer>Written by Descent ", out);
  markup_text(out, descent_version());
  fputs("</footer>\n</main>\n</body>\n</html>\n", out);
}
