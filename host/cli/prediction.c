/* Names are quoted as RFC 4180 asks for it, numbers have the digits that float32 needs. */
#include "cli/prediction.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/options.h"
#include "report/probability.h"
#include "report/text.h"

/* Would a spreadsheet compute a cell of this text? Not that of a number, whatever its sign. */
static bool is_formula(const char *text) {
  double value;
  return *text && strchr("=+-@\t\r\n", *text) && !option_real(text, &value);
}

static void write_piece(const struct prediction_writer *p, const char *text, size_t length) {
  if (p->terminal)
    text_write(p->stream, text, length);
  else
    fwrite(text, 1, length, p->stream);
}

/* One CSV cell made of two texts, quoted when RFC 4180 asks for it. */
static void write_cell(const struct prediction_writer *p, const char *before, const char *text) {
  FILE *out = p->stream;
  const bool quoted = strpbrk(text, ",\"\r\n");
  if (quoted) fputc('"', out);
  if (p->guard_formulas && !*before && is_formula(text)) fputc('\'', out);
  fputs(before, out);
  for (const char *quote; (quote = strchr(text, '"')); text = quote + 1) {
    write_piece(p, text, (size_t)(quote + 1 - text));
    fputc('"', out);
  }
  write_piece(p, text, strlen(text));
  if (quoted) fputc('"', out);
}

static const char *class_name(const descent_network *network, int64_t k, char index[24]) {
  const char *name = descent_network_class_name(network, k);
  if (name) return name;
  snprintf(index, 24, "%" PRId64, k);
  return index;
}

/* The names of a column for each target, each after a comma, the first one after `separator`. */
static void write_target_names(const struct prediction_writer *p, const char *word, const char *separator) {
  char index[24];
  const int64_t outputs = descent_network_outputs(p->network);
  for (int64_t k = 0; k < outputs; k++, separator = ",") {
    const char *target = outputs > 1 ? descent_network_target_name(p->network, k) : NULL;
    char before[32];
    fputs(separator, p->stream);
    snprintf(before, sizeof before, "%s%s", word, outputs > 1 && (k || target) ? "_" : "");
    if (!target) snprintf(index, sizeof index, "%" PRId64, k);
    write_cell(p, before, target ? target : outputs > 1 && k ? index : "");
  }
}

/* The same for each class. */
static void write_class_names(const struct prediction_writer *p, const char *before, const char *separator) {
  char index[24];
  for (int64_t k = 0; k < descent_network_classes(p->network); k++, separator = ",") {
    fputs(separator, p->stream);
    write_cell(p, before, class_name(p->network, k, index));
  }
}

void prediction_write_header(const struct prediction_writer *p) {
  const bool raw = p->kind == PREDICTION_RAW;
  const int64_t classes = descent_network_classes(p->network);
  if (classes == 0 || (classes == 2 && raw)) {
    write_target_names(p, raw ? "raw" : "prediction", "");
    if (p->spread) write_target_names(p, "std", ",");
  } else {
    const bool named = p->kind == PREDICTION_ALL || p->kind == PREDICTION_CLASSES;
    if (named) fputs("prediction", p->stream);
    if (p->kind != PREDICTION_CLASSES) write_class_names(p, raw ? "raw_" : "probability_", named ? "," : "");
    if (p->spread) write_class_names(p, "std_", ",");
  }
  fputc('\n', p->stream);
}

/* Whether the targets are far from 0 for their spread, so that the float32 of descent_predict is too coarse for them. */
static bool targets_are_far(const descent_network *network) {
  for (int64_t k = 0; descent_network_classes(network) == 0 && k < descent_network_outputs(network); k++) {
    double shift, scale;
    descent_network_target_scaling(network, k, &shift, &scale);
    if (fabs(shift) > 256 * scale) return true;
  }
  return false;
}

/* The value of a target, or if they are far its raw output, with as many digits as float32 gives that. */
static void write_value(const struct prediction_writer *p, int64_t k, double given) {
  enum { FLOAT = 9, DOUBLE = 17 }; /* digits */
  double shift = 0, scale = 1, value = given;
  int digits = FLOAT;
  if (p->far) {
    descent_network_target_scaling(p->network, k, &shift, &scale);
    value = shift + scale * given;
    const double unit = fmax(fabs(scale), fabs(scale * given));
    if (fabs(value) > unit) digits += (int)log10(fabs(value) / unit);
  }
  if (fabs(value) >= 1e9 && fabs(value) < 1e15) digits = (int)fmax(digits, floor(log10(fabs(value))) + 1);
  fprintf(p->stream, "%.*g", digits < DOUBLE ? digits : DOUBLE, value);
}

/* The probabilities of two classes, which come from one output, have the same. */
static void write_spread(const struct prediction_writer *p, const float *spread) {
  const int64_t outputs = descent_network_outputs(p->network), classes = descent_network_classes(p->network);
  for (int64_t k = 0; k < (classes ? classes : outputs); k++)
    fprintf(p->stream, ",%.9g", (double)spread[outputs == 1 ? 0 : k]);
}

void prediction_write_row(const struct prediction_writer *p, const float *values, const float *spread) {
  char index[24];
  FILE *out = p->stream;
  const int64_t outputs = descent_network_outputs(p->network), classes = descent_network_classes(p->network);
  const bool numbers = classes == 0 || p->kind == PREDICTION_RAW;
  const char *separator = "";
  if (!numbers && p->kind != PREDICTION_PROBABILITIES) {
    write_cell(p, "", class_name(p->network, predicted_class(values, outputs, p->threshold), index));
    separator = ",";
  }
  if (numbers) {
    for (int64_t k = 0; k < outputs; k++, separator = ",") {
      fputs(separator, out);
      if (p->kind == PREDICTION_RAW)
        fprintf(out, "%.9g", (double)values[k]);
      else
        write_value(p, k, (double)values[k]);
    }
  } else if (p->kind != PREDICTION_CLASSES) {
    probabilities_from_logits(values, outputs, p->probabilities);
    for (int64_t k = 0; k < classes; k++, separator = ",") fprintf(out, "%s%.9g", separator, p->probabilities[k]);
  }
  if (spread) write_spread(p, spread);
  fputc('\n', out);
}

void prediction_write_missing(const struct prediction_writer *p) {
  const int64_t outputs = descent_network_outputs(p->network), classes = descent_network_classes(p->network);
  const bool numbers = classes == 0 || p->kind == PREDICTION_RAW;
  int64_t cells = numbers ? outputs : p->kind == PREDICTION_CLASSES ? 1 : classes;
  if (!numbers && p->kind == PREDICTION_ALL) cells++;
  fputs(cells == 1 ? "\"\"" : "", p->stream); /* a line without anything counts as none */
  while (--cells > 0) fputc(',', p->stream);
  fputc('\n', p->stream);
}

bool prediction_open(struct prediction_writer *p, const descent_network *network, enum prediction_kind kind,
                     double threshold, bool guard_formulas) {
  const int64_t classes = descent_network_classes(network);
  *p = (struct prediction_writer){
      .network = network, .kind = kind, .threshold = threshold, .guard_formulas = guard_formulas};
  p->far = targets_are_far(network);
  p->raw = kind == PREDICTION_RAW || p->far || classes;
  p->probabilities = calloc((size_t)classes + 1, sizeof *p->probabilities);
  return p->probabilities != NULL;
}

void prediction_close(struct prediction_writer *p) { free(p->probabilities); }
