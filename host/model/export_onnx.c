/* Exports a network as an ONNX graph from raw columns to the output of descent_predict.
 *
 * When every column is a number the input is `X` (N, inputs); otherwise each column is an input of its name, (N, 1)
 * floats, or strings for categories. The graph replaces missing values and normalises the inputs. Its outputs are
 * `label` (N) and `probabilities` (N, K), or `prediction` (N, targets). Intermediate values are named after the tensors
 * of the model file.
 *
 * The members of an ensemble are computed side by side: the first layer of all is one product, since they have the same
 * inputs, and every later one a product of stacks of matrices. With one branch per member the file is larger, and each
 * node has a cost that few rows do not outweigh.
 *
 * Categories use OneHotEncoder of ai.onnx.ml, since ai.onnx cannot compare strings before opset 19. */
#include "model/export.h"

#ifndef DESCENT_FORMATS_BUILT
#include "core/left_out.h"

descent_status export_onnx(const descent_network *network, const char *path) {
  (void)network;
  return format_left_out(path, "write ONNX");
}

#else
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"
#include "model/onnx_graph.h"

enum {
  FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
  INT64 = ONNX__TENSOR_PROTO__DATA_TYPE__INT64,
  STRING = ONNX__TENSOR_PROTO__DATA_TYPE__STRING
};
enum { NODES_PER_LAYER = 7, NODES_PER_FEATURE = 8, OTHER = 24 }; /* upper bounds */

static const float half = 0.5f, one = 1, root_half = 0x1.6a09e6p-1f;
static const int64_t axis = 1, members_axis = 0, members_first[] = {1, 0, 2};

struct exporter {
  const descent_network *network;
  struct onnx_graph *graph;
  char **columns;             /* (features) names of inputs, from malloc */
  char **pieces;              /* (2 features) values that are concatenated to the matrix of inputs */
  ProtobufCBinaryData *texts; /* class names, then each column's categories and its text for missing cells */
  float *stacks, *next_stack; /* (parameters) an ensemble's, layer by layer; and the first that is free */
  int64_t unstacked[3];       /* the shape that divides the first layer's outputs among the members */
  float *offsets;             /* (2 inputs + 2 outputs) the halves of the offsets of both */
  cJSON *schema;
  char *properties[ONNX_PROPERTIES]; /* from cJSON */
};

/* Casts away const for a literal name, which the graph only reads. */
static char *literal(const char *name) { return (char *)(uintptr_t)name; }

static char *numbered(struct exporter *e, const char *format, int64_t i) { return onnx_name(e->graph, format, i); }

/* ---- columns ---------------------------------------------------------------------------------------------------- */

/* Whether the graph uses this name for another value. */
static bool is_taken(const char *name) {
  static const char *const prefixes[] = {"layers.", "columns.", "preprocessing.", "output."};
  static const char *const outputs[] = {"label", "probabilities", "prediction"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
  for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
    if (strcmp(name, outputs[i]) == 0) return true;
  return false;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names the inputs after their columns, or "column_3"; appends "_" to a name that is taken. */
static descent_status name_columns(struct exporter *e, const char *path) {
  const struct schema *schema = &e->network->schema;
  const int64_t n = schema->n_features;
  descent_status status = DESCENT_OK;
  char **sorted = NULL;
  for (int64_t c = 0; c < n; c++) {
    const char *name = schema->features[c].name;
    const int wrote = name && *name ? asprintf(&e->columns[c], "%s%s", name, is_taken(name) ? "_" : "")
                                    : asprintf(&e->columns[c], "column_%lld", (long long)c);
    if (wrote < 0) {
      e->columns[c] = NULL;
      TRY(status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for column names", path));
    }
  }
  sorted = memory_allocate(n, sizeof *sorted, "column names");
  if (!sorted) TRY(DESCENT_ERROR_MEMORY);
  memcpy(sorted, e->columns, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare_names);
  for (int64_t c = 1; c < n; c++)
    if (strcmp(sorted[c - 1], sorted[c]) == 0)
      TRY(status_set(DESCENT_ERROR_UNSUPPORTED, "%s: not written: two columns would become inputs named '%s'", path,
                     sorted[c]));
done:
  free(sorted);
  return status;
}

static ProtobufCBinaryData text_bytes(const char *text) {
  return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

/* (N, n): the column one-hot encoded by `texts` (n). */
static char *one_hot(struct exporter *e, const char *encoded, const char *squeezed, int64_t c,
                     ProtobufCBinaryData *texts, int64_t n) {
  char *raw = onnx_node(e->graph, "OneHotEncoder", numbered(e, encoded, c), e->columns[c], NULL, NULL); /* (N, 1, n) */
  onnx_set_domain(e->graph, ONNX_ML_DOMAIN);
  onnx_set_texts(e->graph, "cats_strings", texts, n);
  onnx_set_integer(e->graph, "zeros", 1);
  return onnx_node(e->graph, "Squeeze", numbered(e, squeezed, c), raw, literal("preprocessing.axis"), NULL);
}

/* The text for a missing cell of a categorical column: empty, unless that is a category. */
static const char *missing_text(const struct feature *feature) {
  return *feature->categories[0] ? "" : "\x7f"; /* categories are in ascending order */
}

/* Encodes a column of categories, with its indicator if it has one. `fill` (categories) replaces a missing cell; or
 * NULL. */
static void add_categories(struct exporter *e, const struct feature *feature, int64_t c, const float *fill,
                           ProtobufCBinaryData *texts, int64_t *pieces) {
  const int64_t n = feature->n_categories;
  for (int64_t k = 0; k < n; k++) texts[k] = text_bytes(feature->categories[k]);
  texts[n] = text_bytes(missing_text(feature));
  onnx_input(e->graph, e->columns[c], STRING, 1,
             texts[n].len ? "categories; any other text is none of them"
                          : "categories; an empty text counts as missing, any other is none of them");
  char *hot = one_hot(e, "columns.%lld.encoded", "columns.%lld.onehot", c, texts, n);
  char *missing = fill || feature->indicator
                      ? one_hot(e, "columns.%lld.encoded_missing", "columns.%lld.missing", c, texts + n, 1)
                      : NULL;
  if (fill) {
    char *replacement = onnx_floats(e->graph, numbered(e, "columns.%lld.fill", c), 1, 1, n, fill);
    replacement = onnx_node(e->graph, "Mul", numbered(e, "columns.%lld.instead", c), missing, replacement, NULL);
    hot = onnx_node(e->graph, "Add", numbered(e, "columns.%lld.filled", c), hot, replacement, NULL);
  }
  e->pieces[(*pieces)++] = hot;
  if (feature->indicator) e->pieces[(*pieces)++] = missing;
}

static void add_numbers(struct exporter *e, const struct feature *feature, int64_t c, int64_t *pieces) {
  onnx_input(e->graph, e->columns[c], FLOAT, 1, NULL);
  e->pieces[(*pieces)++] = e->columns[c];
  if (!feature->indicator) return;
  char *is_missing = onnx_node(e->graph, "IsNaN", numbered(e, "columns.%lld.is_missing", c), e->columns[c], NULL, NULL);
  e->pieces[(*pieces)++] = onnx_node(e->graph, "Cast", numbered(e, "columns.%lld.missing", c), is_missing, NULL, NULL);
  onnx_set_integer(e->graph, "to", FLOAT);
}

/* X (N, inputs) from one input per column. */
static char *add_columns(struct exporter *e, ProtobufCBinaryData *texts) {
  const struct schema *schema = &e->network->schema;
  const float *fill = e->network->fill;
  int64_t pieces = 0;
  onnx_integers(e->graph, literal("preprocessing.axis"), 1, &axis);
  for (int64_t c = 0, j = 0; c < schema->n_features; j += feature_inputs(&schema->features[c++])) {
    const struct feature *feature = &schema->features[c];
    if (!feature->categories) {
      add_numbers(e, feature, c, &pieces);
      continue;
    }
    add_categories(e, feature, c, fill ? fill + j : NULL, texts, &pieces);
    texts += feature->n_categories + 1;
  }
  char *X = onnx_node(e->graph, "Concat", literal("preprocessing.inputs"), NULL, NULL, NULL);
  onnx_set_inputs(e->graph, e->pieces, pieces);
  onnx_set_integer(e->graph, "axis", 1);
  return X;
}

/* The offsets of n values as the sum of two floats, which holds 48 bits of them, at `halves` (2 n). Adds them to the
 * value by `op`, the larger half first for Sub, which is then exact near the offset, and last for Add. */
static char *apply_offsets(struct exporter *e, const char *op, char *value, const double *offsets, int64_t n,
                           float *halves, char *const names[4]) {
  for (int64_t i = 0; i < n; i++) halves[i] = (float)offsets[i], halves[n + i] = export_offset_low(offsets[i]);
  char *high = onnx_floats(e->graph, names[0], 1, 1, n, halves),
       *low = onnx_floats(e->graph, names[1], 1, 1, n, halves + n);
  const bool subtracts = *op == 'S';
  value = onnx_node(e->graph, op, names[2], value, subtracts ? high : low, NULL);
  return onnx_node(e->graph, op, names[3], value, subtracts ? low : high, NULL);
}

static char *subtract_offsets(struct exporter *e, char *X) {
  char *const names[] = {literal("preprocessing.offset"), literal("preprocessing.offset_low"),
                         literal("preprocessing.difference"), literal("preprocessing.difference_low")};
  const struct schema *schema = &e->network->schema;
  if (!schema->offsets) return X;
  return apply_offsets(e, "Sub", X, schema->offsets, e->network->inputs, e->offsets, names);
}

/* NaN is a missing number. */
static char *replace_missing(struct exporter *e, char *X) {
  if (!e->network->fill) return X;
  char *fill = onnx_floats(e->graph, literal("preprocessing.fill"), 1, 1, e->network->inputs, e->network->fill);
  char *missing = onnx_node(e->graph, "IsNaN", literal("preprocessing.missing"), X, NULL, NULL);
  return onnx_node(e->graph, "Where", literal("preprocessing.filled"), missing, fill, X);
}

/* ---- the network ------------------------------------------------------------------------------------------------ */

static char *normalise(struct exporter *e, char *X) {
  const descent_network *network = e->network;
  if (network->normalize == DESCENT_NORMALIZE_NONE) return X;
  char *shift = onnx_floats(e->graph, literal("preprocessing.shift"), 1, 1, network->inputs, network->shift);
  char *scale = onnx_floats(e->graph, literal("preprocessing.scale"), 1, 1, network->inputs, network->scale);
  X = onnx_node(e->graph, "Sub", literal("preprocessing.shifted"), X, shift, NULL);
  return onnx_node(e->graph, "Mul", literal("preprocessing.normalised"), X, scale, NULL);
}

/* z Phi(z) = (z / 2) (1 + erf(z / sqrt 2)). */
static char *gelu(struct exporter *e, int32_t l, char *z) {
  struct onnx_graph *g = e->graph;
  char *t = onnx_node(g, "Mul", numbered(e, "layers.%lld.t", l), z, literal("layers.root_half"), NULL);
  char *erf = onnx_node(g, "Erf", numbered(e, "layers.%lld.erf", l), t, NULL, NULL);
  char *twice = onnx_node(g, "Add", numbered(e, "layers.%lld.phi", l), erf, literal("layers.one"), NULL);
  char *halved = onnx_node(g, "Mul", numbered(e, "layers.%lld.half", l), z, literal("layers.half"), NULL);
  return onnx_node(g, "Mul", numbered(e, "layers.%lld.a", l), halved, twice, NULL);
}

static char *activate(struct exporter *e, int32_t l, descent_activation activation, char *z) {
  struct onnx_graph *g = e->graph;
  const char *op = NULL;
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: return z;
    case DESCENT_ACTIVATION_SIGMOID: op = "Sigmoid"; break;
    case DESCENT_ACTIVATION_TANH: op = "Tanh"; break;
    case DESCENT_ACTIVATION_RELU: op = "Relu"; break;
    case DESCENT_ACTIVATION_LEAKY_RELU: op = "LeakyRelu"; break;
    case DESCENT_ACTIVATION_GELU: return gelu(e, l, z);
    case DESCENT_ACTIVATION_SILU: {
      char *s = onnx_node(g, "Sigmoid", numbered(e, "layers.%lld.sigmoid", l), z, NULL, NULL);
      return onnx_node(g, "Mul", numbered(e, "layers.%lld.a", l), z, s, NULL);
    }
  }
  char *a = onnx_node(g, op, numbered(e, "layers.%lld.a", l), z, NULL, NULL);
  if (activation == DESCENT_ACTIVATION_LEAKY_RELU) onnx_set_real(g, "alpha", 0.01f);
  return a;
}

static bool has_gelu(const descent_network *network) {
  for (int32_t l = 0; l < network->n_layers; l++)
    if (network->layers[l].activation == DESCENT_ACTIVATION_GELU) return true;
  return false;
}

/* The members' (rows, cols) matrices at offset `at` of their parameters, one after another, or their transposes. */
static const float *stack(struct exporter *e, int64_t at, int64_t rows, int64_t cols, bool transposed) {
  const float *stacked = e->next_stack;
  for (int64_t member = 0; member < e->network->members; member++) {
    const float *from = e->network->parameters + member * e->network->n_parameters + at;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < cols; j++) e->next_stack[transposed ? j * rows + i : i * cols + j] = from[i * cols + j];
    e->next_stack += rows * cols;
  }
  return stacked;
}

/* Of all members from the inputs that they share: (N, members n_out), which becomes (members, N, n_out). */
static char *add_first_layers(struct exporter *e, char *X) {
  struct onnx_graph *g = e->graph;
  const struct network_layer *layer = &e->network->layers[0];
  const int64_t members = e->network->members, n = layer->n_out;
  char *W = onnx_floats(g, literal("layers.0.weight"), 2, members * n, layer->n_in,
                        stack(e, layer->at.W, n, layer->n_in, false));
  char *b = onnx_floats(g, literal("layers.0.bias"), 1, 1, members * n, stack(e, layer->at.b, 1, n, false));
  char *z = onnx_node(g, "Gemm", literal("layers.0.z"), X, W, b);
  onnx_set_integer(g, "transB", 1);
  char *A = activate(e, 0, layer->activation, z);
  e->unstacked[0] = -1, e->unstacked[1] = members, e->unstacked[2] = n;
  char *shape = onnx_integers(g, literal("layers.shape"), 3, e->unstacked);
  char *unstacked = onnx_node(g, "Reshape", literal("layers.unstacked"), A, shape, NULL);
  A = onnx_node(g, "Transpose", literal("layers.members"), unstacked, NULL, NULL);
  onnx_set_integers(g, "perm", members_first, 3);
  return A;
}

/* Layer l of all members, from 0: (members, N, n_in) to (members, N, n_out). */
static char *add_member_layers(struct exporter *e, int32_t l, char *A) {
  struct onnx_graph *g = e->graph;
  const struct network_layer *layer = &e->network->layers[l];
  const int64_t members = e->network->members;
  char *W = onnx_matrices(g, numbered(e, "layers.%lld.weight", l), members, layer->n_in, layer->n_out,
                          stack(e, layer->at.W, layer->n_out, layer->n_in, true));
  char *b = onnx_matrices(g, numbered(e, "layers.%lld.bias", l), members, 1, layer->n_out,
                          stack(e, layer->at.b, 1, layer->n_out, false));
  char *product = onnx_node(g, "MatMul", numbered(e, "layers.%lld.product", l), A, W, NULL);
  char *z = onnx_node(g, "Add", numbered(e, "layers.%lld.z", l), product, b, NULL);
  return activate(e, l, layer->activation, z);
}

/* (N, n) from (members, N, n). */
static char *add_mean(struct exporter *e, char *name, char *values) {
  onnx_node(e->graph, "ReduceMean", name, values, NULL, NULL);
  onnx_set_integers(e->graph, "axes", &members_axis, 1);
  onnx_set_integer(e->graph, "keepdims", 0);
  return name;
}

static char *add_layer(struct exporter *e, int32_t l, char *A) {
  struct onnx_graph *g = e->graph;
  const struct network_layer *layer = &e->network->layers[l];
  const float *parameters = e->network->parameters;
  char *W =
      onnx_floats(g, numbered(e, "layers.%lld.weight", l), 2, layer->n_out, layer->n_in, parameters + layer->at.W);
  char *b = onnx_floats(g, numbered(e, "layers.%lld.bias", l), 1, 1, layer->n_out, parameters + layer->at.b);
  char *z = onnx_node(g, "Gemm", numbered(e, "layers.%lld.z", l), A, W, b);
  onnx_set_integer(g, "transB", 1);
  return activate(e, l, layer->activation, z);
}

/* The last layer's values: (N, n), or of an ensemble (members, N, n). */
static char *add_layers(struct exporter *e, char *A) {
  struct onnx_graph *g = e->graph;
  const descent_network *network = e->network;
  if (has_gelu(network)) {
    onnx_floats(g, literal("layers.root_half"), 0, 1, 1, &root_half);
    onnx_floats(g, literal("layers.half"), 0, 1, 1, &half);
    onnx_floats(g, literal("layers.one"), 0, 1, 1, &one);
  }
  if (network->members == 1) {
    for (int32_t l = 0; l < network->n_layers; l++) A = add_layer(e, l, A);
  } else {
    A = add_first_layers(e, A);
    for (int32_t l = 1; l < network->n_layers; l++) A = add_member_layers(e, l, A);
  }
  return A;
}

/* ---- outputs ---------------------------------------------------------------------------------------------------- */

/* `label` from the class index (N): the class's name where classes have names. */
static void add_label(struct exporter *e, char *index, ProtobufCBinaryData *texts) {
  const struct schema *schema = &e->network->schema;
  if (!schema->class_names) {
    onnx_node(e->graph, "Identity", literal("label"), index, NULL, NULL);
    onnx_output(e->graph, literal("label"), INT64, 0);
    return;
  }
  for (int64_t k = 0; k < schema->classes; k++) texts[k] = text_bytes(schema->class_names[k]);
  char *names = onnx_texts(e->graph, literal("output.class_names"), schema->classes, texts);
  onnx_node(e->graph, "Gather", literal("label"), names, index, NULL);
  onnx_output(e->graph, literal("label"), STRING, 0);
}

/* Class 1 for probabilities >= 1/2, as in the library; ArgMax would give a tie to class 0. */
static char *binary_outputs(struct exporter *e, char *A) {
  struct onnx_graph *g = e->graph;
  const bool ensemble = e->network->members > 1;
  char *p = onnx_node(g, "Sigmoid", literal(ensemble ? "output.members" : "output.probability"), A, NULL, NULL);
  if (ensemble) p = add_mean(e, literal("output.probability"), p); /* (N, 1) */
  char *ones = onnx_floats(g, literal("output.one"), 0, 1, 1, &one);
  char *rest = onnx_node(g, "Sub", literal("output.rest"), ones, p, NULL);
  onnx_node(g, "Concat", literal("probabilities"), rest, p, NULL);
  onnx_set_integer(g, "axis", 1);
  char *halves = onnx_floats(g, literal("output.half"), 0, 1, 1, &half);
  char *is_one = onnx_node(g, "GreaterOrEqual", literal("output.is_one"), p, halves, NULL);
  char *cast = onnx_node(g, "Cast", literal("output.cast"), is_one, NULL, NULL);
  onnx_set_integer(g, "to", INT64);
  char *axes = onnx_integers(g, literal("output.axis"), 1, &axis);
  return onnx_node(g, "Squeeze", literal("output.index"), cast, axes, NULL);
}

static char *class_outputs(struct exporter *e, char *A) {
  const bool ensemble = e->network->members > 1;
  char *p = onnx_node(e->graph, "Softmax", literal(ensemble ? "output.members" : "probabilities"), A, NULL, NULL);
  onnx_set_integer(e->graph, "axis", ensemble ? 2 : 1);
  if (ensemble) add_mean(e, literal("probabilities"), p);
  char *index = onnx_node(e->graph, "ArgMax", literal("output.index"), literal("probabilities"), NULL, NULL);
  onnx_set_integer(e->graph, "axis", 1);
  onnx_set_integer(e->graph, "keepdims", 0);
  return index;
}

static void regression_outputs(struct exporter *e, char *A) {
  const int64_t n = network_outputs(e->network);
  char *scale = onnx_floats(e->graph, literal("preprocessing.target_scale"), 1, 1, n, e->network->y_scale);
  char *shift = onnx_floats(e->graph, literal("preprocessing.target_shift"), 1, 1, n, e->network->y_shift);
  if (e->network->members > 1) A = add_mean(e, literal("output.mean"), A);
  A = onnx_node(e->graph, "Div", literal("output.scaled"), A, scale, NULL);
  if (e->network->schema.target_offsets) {
    char *const names[] = {literal("preprocessing.target_offset"), literal("preprocessing.target_offset_low"),
                           literal("output.low"), literal("prediction")};
    A = onnx_node(e->graph, "Add", literal("output.difference"), A, shift, NULL);
    apply_offsets(e, "Add", A, e->network->schema.target_offsets, n, e->offsets + 2 * e->network->inputs, names);
  } else {
    onnx_node(e->graph, "Add", literal("prediction"), A, shift, NULL);
  }
  onnx_output(e->graph, literal("prediction"), FLOAT, n);
}

static void add_outputs(struct exporter *e, char *A) {
  char *index = NULL;
  switch (e->network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: index = binary_outputs(e, A); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: index = class_outputs(e, A); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: regression_outputs(e, A); return;
  }
  add_label(e, index, e->texts);
  onnx_output(e->graph, literal("probabilities"), FLOAT, e->network->classes);
}

/* Adds what the graph cannot express, names and categories, as JSON values by the keys of the model file. */
static descent_status add_metadata(struct exporter *e, const char *path) {
  const cJSON *member;
  descent_status status;
  int n = 0;
  onnx_property(e->graph, "task", literal(descent_task_name(descent_network_task(e->network))));
  e->schema = cJSON_CreateObject();
  if (!e->schema) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for its metadata", path);
  TRY(schema_write(path, &e->network->schema, e->schema));
  cJSON_ArrayForEach(member, e->schema) {
    e->properties[n] = cJSON_PrintUnformatted(member);
    if (!e->properties[n]) TRY(status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for its metadata", path));
    onnx_property(e->graph, member->string, e->properties[n++]);
  }
done:
  return status;
}

/* ---- export ----------------------------------------------------------------------------------------------------- */

static descent_status begin(struct exporter *e) {
  const struct schema *schema = &e->network->schema;
  const int64_t features = schema->n_features, nodes = NODES_PER_LAYER * (int64_t)e->network->n_layers;
  int64_t texts = schema->classes;
  for (int64_t c = 0; c < features; c++) texts += schema->features[c].n_categories + 1;
  descent_status status;
  e->columns = memory_allocate(features, sizeof *e->columns, "column names");
  e->pieces = memory_allocate(2 * features, sizeof *e->pieces, "columns");
  e->texts = memory_allocate(texts, sizeof *e->texts, "categories");
  e->offsets = memory_allocate(2 * (e->network->inputs + network_outputs(e->network)), sizeof *e->offsets, "offsets");
  e->stacks = e->next_stack = memory_allocate(e->network->members > 1 ? descent_network_parameters(e->network) : 0,
                                              sizeof *e->stacks, "the members' parameters side by side");
  if (!e->columns || !e->pieces || !e->texts || !e->offsets || !e->stacks) return DESCENT_ERROR_MEMORY;
  TRY(onnx_graph_create((struct onnx_room){.nodes = nodes + NODES_PER_FEATURE * features + OTHER,
                                           .constants = nodes + NODES_PER_FEATURE * features + OTHER,
                                           .values = features + OTHER},
                        &e->graph));
done:
  return status;
}

static void end(struct exporter *e) {
  onnx_graph_free(e->graph);
  memory_free_texts(e->columns, e->network->schema.n_features);
  free(e->pieces);
  free(e->texts);
  free(e->offsets);
  free(e->stacks);
  cJSON_Delete(e->schema);
  for (int i = 0; i < ONNX_PROPERTIES; i++) cJSON_free(e->properties[i]);
}

descent_status export_onnx(const descent_network *network, const char *path) {
  struct exporter e = {.network = network};
  descent_status status;
  char *X = literal("X");
  TRY(begin(&e));
  if (export_is_matrix(network)) {
    onnx_input(e.graph, X, FLOAT, network->inputs, NULL);
  } else {
    TRY(name_columns(&e, path));
    X = add_columns(&e, e.texts + network->schema.classes);
  }
  add_outputs(&e, add_layers(&e, normalise(&e, replace_missing(&e, subtract_offsets(&e, X)))));
  TRY(add_metadata(&e, path));
  TRY(onnx_graph_write(e.graph, path));
done:
  end(&e);
  return status;
}
#endif
