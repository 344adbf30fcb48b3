/* Exports a network as one C99 file: constants, and a function from a row of the table to the output of
 * descent_predict. An ensemble's constants have one row per member, and the function is a loop over them. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/file.h"
#include "core/status.h"
#include "core/terms.h"
#include "model/c_source.h"
#include "model/export.h"

/* g(a[i]) in C; NULL for the identity. */
static const char *formula_of(descent_activation activation) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: break;
    case DESCENT_ACTIVATION_SIGMOID: return "sigmoid(a[i])";
    case DESCENT_ACTIVATION_TANH: return "tanhf(a[i])";
    case DESCENT_ACTIVATION_RELU: return "a[i] < 0 ? 0 : a[i]";
    case DESCENT_ACTIVATION_LEAKY_RELU: return "a[i] < 0 ? 0.01f * a[i] : a[i]";
    case DESCENT_ACTIVATION_GELU: return "0.5f * a[i] * erfcf(-0x1.6a09e6p-1f * a[i])";
    case DESCENT_ACTIVATION_SILU: return "a[i] * sigmoid(a[i])";
  }
  return NULL;
}

static bool uses(const descent_network *network, descent_activation activation) {
  for (int32_t l = 0; l < network->n_layers; l++)
    if (network->layers[l].activation == activation) return true;
  return false;
}

static int64_t columns(const descent_network *network) {
  return export_is_matrix(network) ? network->inputs : network->schema.n_features;
}

static int64_t widest(const descent_network *network) {
  int64_t width = network->inputs;
  for (int32_t l = 0; l < network->n_layers; l++)
    if (network->layers[l].n_out > width) width = network->layers[l].n_out;
  return width;
}

/* ---- the comment at the top ------------------------------------------------------------------------------------- */

static void describe_column(FILE *out, const struct feature *feature, int64_t c) {
  fprintf(out, " *   x[%" PRId64 "]", c);
  if (feature && feature->name) {
    fputc(' ', out);
    c_quoted(out, feature->name);
  }
  if (feature && feature->categories) fputs(", the number of its category (any other number: none of them):", out);
  fputc('\n', out);
  for (int64_t k = 0; feature && k < feature->n_categories; k++) {
    fprintf(out, " *     %" PRId64 " ", k);
    c_quoted(out, feature->categories[k]);
    fputc('\n', out);
  }
}

static void describe_output(FILE *out, const descent_network *network, int64_t k) {
  const struct schema *schema = &network->schema;
  const bool probability = network->classes > 0;
  const int64_t class_index = network->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : k;
  const char *name = NULL;
  if (probability && schema->class_names) name = schema->class_names[class_index];
  if (!probability && schema->target_names) name = schema->target_names[k];
  fprintf(out, " *   y[%" PRId64 "] ", k);
  if (probability)
    fprintf(out, "the probability of class %" PRId64, class_index);
  else
    fputs("the value of the target", out);
  if (name) {
    fputs(", ", out);
    c_quoted(out, name);
  }
  fputc('\n', out);
}

static void write_comment(FILE *out, const descent_network *network) {
  const struct schema *schema = &network->schema;
  const int64_t floats = 2 * widest(network) + (network->members > 1 ? network->inputs : 0);
  if (network->members > 1)
    fprintf(out, "/* An ensemble of %" PRId64 " networks of %" PRId64, network->members, network->inputs);
  else
    fprintf(out, "/* A network of %" PRId64, network->inputs);
  for (int32_t l = 0; l < network->n_layers; l++) fprintf(out, "-%" PRId64, network->layers[l].n_out);
  fprintf(out,
          " units as C99, written by descent " DESCENT_VERSION
          ". It needs only the C math library\n"
          " * (-lm), keeps no state and uses %" PRId64
          " bytes of stack.\n"
          " *\n"
          " * predict(x, y): x has %" PRId64 " numbers, an unnormalised row of the table%s:\n",
          floats * (int64_t)sizeof(float), columns(network), network->fill ? ", NAN where a cell is missing" : "");
  for (int64_t c = 0; c < columns(network); c++) describe_column(out, schema_feature(schema, c), c);
  fprintf(out, " *\n * y gets %" PRId64 "%s:\n", network_outputs(network),
          network->members > 1 ? ", means over the members" : "");
  for (int64_t k = 0; k < network_outputs(network); k++) describe_output(out, network, k);
  if (network->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY && schema->class_names) {
    fputs(" * The class is 1 if y[0] >= 0.5, else 0, ", out);
    c_quoted(out, schema->class_names[0]);
    fputs(".\n", out);
  }
  fputs(" */\n#include <math.h>\n\nvoid predict(const float *x, float *y);\n\n", out);
}

/* ---- constants and functions ------------------------------------------------------------------------------------ */

/* Offsets as sums of two floats, which hold 48 bits of them. */
static void write_offsets(FILE *out, const char *name, const double *offsets, int64_t n) {
  for (int low = 0; low < 2; low++) {
    fprintf(out, "static const float %s_%s[%" PRId64 "] = {", name, low ? "low" : "high", n);
    for (int64_t i = 0; i < n; i++) {
      fputs(i ? ", " : "", out);
      c_float(out, low ? export_offset_low(offsets[i]) : (float)offsets[i]);
    }
    fputs("};\n", out);
  }
}

/* A constant of a layer, with a row for each member of an ensemble. `values`: of member 0. */
static void write_parameters(FILE *out, const descent_network *network, char letter, int32_t layer, const float *values,
                             int64_t n) {
  char name[32];
  snprintf(name, sizeof name, "%c%" PRId32, letter, layer);
  if (network->members > 1)
    c_float_rows(out, name, values, network->members, network->n_parameters, n);
  else
    c_floats(out, name, values, n);
}

static void write_constants(FILE *out, const descent_network *network) {
  const int64_t outputs = network_outputs(network);
  if (network->schema.offsets) write_offsets(out, "offset", network->schema.offsets, network->inputs);
  if (network->fill) c_floats(out, "fill", network->fill, network->inputs);
  if (network->normalize != DESCENT_NORMALIZE_NONE) {
    c_floats(out, "shift", network->shift, network->inputs);
    c_floats(out, "scale", network->scale, network->inputs);
  }
  for (int32_t l = 1; l <= network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l - 1];
    fprintf(out, "/* layer %" PRId32 ": (%" PRId64 ", %" PRId64 "), %s */\n", l, layer->n_out, layer->n_in,
            descent_activation_name(layer->activation));
    write_parameters(out, network, 'W', l, network->parameters + layer->at.W, layer->n_out * layer->n_in);
    write_parameters(out, network, 'b', l, network->parameters + layer->at.b, layer->n_out);
  }
  if (loss_is_regression(network->loss)) {
    c_floats(out, "target_shift", network->y_shift, outputs);
    c_floats(out, "target_scale", network->y_scale, outputs);
    if (network->schema.target_offsets) write_offsets(out, "target_offset", network->schema.target_offsets, outputs);
  }
}

static void write_encoding(FILE *out, const descent_network *network) {
  const struct schema *schema = &network->schema;
  fprintf(out, "\n/* Categories per column, 0 for numbers; and whether one more input indicates a missing cell. */\n");
  fprintf(out, "static const int categories[%" PRId64 "] = {", schema->n_features);
  for (int64_t c = 0; c < schema->n_features; c++)
    fprintf(out, "%s%" PRId64, c ? ", " : "", schema->features[c].n_categories);
  fprintf(out, "};\nstatic const char indicator[%" PRId64 "] = {", schema->n_features);
  for (int64_t c = 0; c < schema->n_features; c++) fprintf(out, "%s%d", c ? ", " : "", schema->features[c].indicator);
  fprintf(out,
          "};\n\n"
          "static void encode(const float *x, float *a) {\n"
          "  for (int c = 0; c < %" PRId64
          "; c++) {\n"
          "    if (categories[c] == 0) *a++ = x[c];\n"
          "    for (int k = 0; k < categories[c]; k++) *a++ = isnan(x[c]) ? x[c] : x[c] == (float)k ? 1.0f : 0.0f;\n"
          "    if (indicator[c]) *a++ = isnan(x[c]) ? 1.0f : 0.0f;\n"
          "  }\n"
          "}\n",
          schema->n_features);
}

static void write_functions(FILE *out, const descent_network *network) {
  if (!export_is_matrix(network)) write_encoding(out, network);
  fputs(
      "\n/* z = W a + b; W (n_out, n_in). */\n"
      "static void dense(const float *W, const float *b, long n_in, long n_out, const float *a, float *z) {\n"
      "  for (long j = 0; j < n_out; j++, W += n_in) {\n"
      "    float sum = 0;\n"
      "    for (long i = 0; i < n_in; i++) sum += W[i] * a[i];\n"
      "    z[j] = sum + b[j];\n"
      "  }\n"
      "}\n",
      out);
  if (network->loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY || uses(network, DESCENT_ACTIVATION_SIGMOID) ||
      uses(network, DESCENT_ACTIVATION_SILU))
    fputs("\nstatic float sigmoid(float z) { return z < 0 ? expf(z) / (1 + expf(z)) : 1 / (1 + expf(-z)); }\n", out);
  for (int g = 0; g < N_ACTIVATIONS; g++) { /* each works on n values in place */
    const descent_activation activation = (descent_activation)g;
    if (uses(network, activation) && formula_of(activation))
      fprintf(out, "\nstatic void apply_%s(float *a, long n) {\n  for (long i = 0; i < n; i++) a[i] = %s;\n}\n",
              descent_activation_name(activation), formula_of(activation));
  }
}

/* ---- predict ---------------------------------------------------------------------------------------------------- */

/* Array `e` (n) = exp(a - max), and their sum, in `sum`. */
static void write_exponentials(FILE *out, const char *indent, int64_t n, const char *a, const char *e) {
  fprintf(out,
          "%sfloat max = %s[0], sum = 0;\n"
          "%sfor (long k = 1; k < %" PRId64
          "; k++) max = %s[k] > max ? %s[k] : max;\n"
          "%sfor (long k = 0; k < %" PRId64 "; k++) sum += %s[k] = expf(%s[k] - max);\n",
          indent, a, indent, n, a, a, indent, n, e, a);
}

static void write_outputs(FILE *out, const descent_network *network, const char *a) {
  const int64_t n = network_outputs(network);
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: fprintf(out, "  y[0] = sigmoid(%s[0]);\n", a); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY:
      write_exponentials(out, "  ", n, a, "y");
      fprintf(out, "  for (long k = 0; k < %" PRId64 "; k++) y[k] /= sum;\n", n);
      break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      fprintf(out, "  for (long k = 0; k < %" PRId64 "; k++) y[k] = %s[k] / target_scale[k] + target_shift[k]%s;\n", n,
              a, network->schema.target_offsets ? " + target_offset_low[k] + target_offset_high[k]" : "");
  }
}

/* The row's inputs in array `a`, preprocessed. */
static void write_inputs(FILE *out, const descent_network *network, const char *a) {
  const int64_t n = network->inputs;
  if (export_is_matrix(network))
    fprintf(out, "  for (long j = 0; j < %" PRId64 "; j++) %s[j] = x[j];\n", n, a);
  else
    fprintf(out, "  encode(x, %s);\n", a);
  if (network->schema.offsets)
    fprintf(out, "  for (long j = 0; j < %" PRId64 "; j++) %s[j] = (%s[j] - offset_high[j]) - offset_low[j];\n", n, a,
            a);
  if (network->fill)
    fprintf(out, "  for (long j = 0; j < %" PRId64 "; j++) %s[j] = isnan(%s[j]) ? fill[j] : %s[j];\n", n, a, a, a);
  if (network->normalize != DESCENT_NORMALIZE_NONE)
    fprintf(out, "  for (long j = 0; j < %" PRId64 "; j++) %s[j] = (%s[j] - shift[j]) * scale[j];\n", n, a, a);
}

/* The layers from array `from` to the array that is returned, `to` and `other` in turns. */
static const char *write_layers(FILE *out, const descent_network *network, const char *from, const char *to,
                                const char *other) {
  const char *indent = network->members > 1 ? "    " : "  ", *index = network->members > 1 ? "[m]" : "";
  for (int32_t l = 1; l <= network->n_layers; l++) {
    const struct network_layer *layer = &network->layers[l - 1];
    fprintf(out, "%sdense(W%" PRId32 "%s, b%" PRId32 "%s, %" PRId64 ", %" PRId64 ", %s, %s);\n", indent, l, index, l,
            index, layer->n_in, layer->n_out, from, to);
    if (formula_of(layer->activation))
      fprintf(out, "%sapply_%s(%s, %" PRId64 ");\n", indent, descent_activation_name(layer->activation), to,
              layer->n_out);
    from = to;
    to = other;
    other = from;
  }
  return from;
}

static void write_predict(FILE *out, const descent_network *network) {
  fprintf(out, "\nvoid predict(const float *x, float *y) {\n  float a[%" PRId64 "], z[%" PRId64 "];\n", widest(network),
          widest(network));
  write_inputs(out, network, "a");
  write_outputs(out, network, write_layers(out, network, "a", "z", "a"));
  fputs("}\n", out);
}

/* ---- predict of an ensemble ------------------------------------------------------------------------------------- */

/* Adds a member's output to y. */
static void write_member_outputs(FILE *out, const descent_network *network, const char *a) {
  const int64_t n = network_outputs(network);
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: fprintf(out, "    y[0] += sigmoid(%s[0]);\n", a); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY:
      write_exponentials(out, "    ", n, a, a);
      fprintf(out, "    for (long k = 0; k < %" PRId64 "; k++) y[k] += %s[k] / sum;\n", n, a);
      break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      fprintf(out, "    for (long k = 0; k < %" PRId64 "; k++) y[k] += %s[k];\n", n, a);
  }
}

/* Divides the sums of the members by their number; values of regression are scaled once, after that. */
static void write_means(FILE *out, const descent_network *network) {
  fprintf(out, "  for (long k = 0; k < %" PRId64 "; k++) y[k] = y[k] / %" PRId64 ".0f", network_outputs(network),
          network->members);
  if (loss_is_regression(network->loss))
    fprintf(out, " / target_scale[k] + target_shift[k]%s",
            network->schema.target_offsets ? " + target_offset_low[k] + target_offset_high[k]" : "");
  fputs(";\n", out);
}

static void write_predict_ensemble(FILE *out, const descent_network *network) {
  fprintf(out,
          "\nvoid predict(const float *x, float *y) {\n  float inputs[%" PRId64 "], a[%" PRId64 "], z[%" PRId64 "];\n",
          network->inputs, widest(network), widest(network));
  write_inputs(out, network, "inputs");
  fprintf(out, "  for (long k = 0; k < %" PRId64 "; k++) y[k] = 0;\n  for (long m = 0; m < %" PRId64 "; m++) {\n",
          network_outputs(network), network->members);
  write_member_outputs(out, network, write_layers(out, network, "inputs", "a", "z"));
  fputs("  }\n", out);
  write_means(out, network);
  fputs("}\n", out);
}

descent_status export_c(const descent_network *network, const char *path) {
  struct file_writer writer = {0};
  descent_status status;
  TRY(file_create(path, &writer));
  errno = 0;
  write_comment(writer.stream, network);
  write_constants(writer.stream, network);
  write_functions(writer.stream, network);
  if (network->members > 1)
    write_predict_ensemble(writer.stream, network);
  else
    write_predict(writer.stream, network);
  if (ferror(writer.stream))
    TRY(status_set(DESCENT_ERROR_WRITE, "%s: cannot write: %s", path, strerror(errno ? errno : EIO)));
  TRY(file_commit(&writer));
done:
  file_abandon(&writer);
  return status;
}
