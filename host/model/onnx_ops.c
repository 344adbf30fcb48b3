/* ONNX operations as naive loops over matrices, checking shapes first. Their definitions are at onnx.ai, operator set
 * 17, and for OneHotEncoder in ai.onnx.ml 3. */
#include "model/onnx_ops.h"

#include <math.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"

struct call {
  const Onnx__NodeProto *node;
  const struct onnx_value **in;
  struct onnx_value *out;
  float *numbers; /* (out rows, out n) where the output holds numbers */
};

static descent_status refused(const struct call *c, const char *why) {
  return status_set(DESCENT_ERROR_MODEL, "%.40s: %s", c->node->op_type, why);
}

static const Onnx__AttributeProto *attribute(const struct call *c, const char *name) {
  for (size_t i = 0; i < c->node->n_attribute; i++)
    if (c->node->attribute[i]->name && strcmp(c->node->attribute[i]->name, name) == 0) return c->node->attribute[i];
  return NULL;
}

/* An integer that has to have this value. */
static bool has_integer(const struct call *c, const char *name, int64_t value) {
  const Onnx__AttributeProto *found = attribute(c, name);
  return found && found->has_i && found->i == value;
}

static descent_status shape_numbers(struct call *c, int64_t rows, int64_t n) {
  int64_t count;
  if (!size_product(rows, n, &count)) return refused(c, "too large");
  c->numbers = c->out->owned = memory_allocate(count, sizeof *c->numbers, "a value of a graph");
  c->out->rows = rows;
  c->out->n = n;
  c->out->numbers = c->numbers;
  return c->numbers ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

/* ---- element by element ----------------------------------------------------------------------------------------- */

static float add(float a, float b) { return a + b; }
static float subtract(float a, float b) { return a - b; }
static float multiply(float a, float b) { return a * b; }
static float divide(float a, float b) { return a / b; }
static float at_least(float a, float b) { return a >= b; }

static float identity(float a) { return a; }
static float is_nan(float a) { return a != a; }
static float relu(float a) { return a < 0 ? 0 : a; }
static float sigmoid(float a) { return a < 0 ? expf(a) / (1 + expf(a)) : 1 / (1 + expf(-a)); }

static descent_status unary(struct call *c, float (*f)(float)) {
  const struct onnx_value *a = c->in[0];
  descent_status status;
  TRY(shape_numbers(c, a->rows, a->n));
  for (int64_t i = 0; i < a->rows * a->n; i++) c->numbers[i] = f(a->numbers[i]);
done:
  return status;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static bool spreads(const struct onnx_value *a, int64_t rows, int64_t n) {
  return (a->rows == rows || a->rows == 1) && (a->n == n || a->n == 1);
}

/* Element (r, j) of a value that is spread over more rows or columns than it has. */
static float spread(const struct onnx_value *a, int64_t r, int64_t j) {
  return a->numbers[(a->rows == 1 ? 0 : r) * a->n + (a->n == 1 ? 0 : j)];
}

static descent_status binary(struct call *c, float (*f)(float, float)) {
  const struct onnx_value *a = c->in[0], *b = c->in[1];
  const int64_t rows = larger(a->rows, b->rows), n = larger(a->n, b->n);
  descent_status status;
  if (!spreads(a, rows, n) || !spreads(b, rows, n)) return refused(c, "shapes do not fit");
  TRY(shape_numbers(c, rows, n));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t j = 0; j < n; j++) c->numbers[r * n + j] = f(spread(a, r, j), spread(b, r, j));
done:
  return status;
}

static descent_status where(struct call *c) {
  const struct onnx_value *which = c->in[0], *a = c->in[1], *b = c->in[2];
  descent_status status;
  if (!spreads(a, which->rows, which->n) || !spreads(b, which->rows, which->n)) return refused(c, "shapes do not fit");
  TRY(shape_numbers(c, which->rows, which->n));
  for (int64_t r = 0; r < which->rows; r++)
    for (int64_t j = 0; j < which->n; j++)
      c->numbers[r * which->n + j] = spread(which, r, j) != 0 ? spread(a, r, j) : spread(b, r, j);
done:
  return status;
}

static descent_status leaky_relu(struct call *c) {
  const Onnx__AttributeProto *alpha = attribute(c, "alpha");
  descent_status status;
  TRY(unary(c, identity));
  for (int64_t i = 0; i < c->out->rows * c->out->n; i++)
    if (c->numbers[i] < 0) c->numbers[i] *= alpha ? alpha->f : 0.01f;
done:
  return status;
}

/* ---- row by row ------------------------------------------------------------------------------------------------- */

/* A B^T + b. */
static descent_status gemm(struct call *c) {
  const struct onnx_value *A = c->in[0], *W = c->in[1], *b = c->in[2];
  descent_status status;
  if (!has_integer(c, "transB", 1) || A->n != W->n || b->rows != 1 || b->n != W->rows)
    return refused(c, "shapes do not fit");
  TRY(shape_numbers(c, A->rows, W->rows));
  for (int64_t r = 0; r < A->rows; r++)
    for (int64_t j = 0; j < W->rows; j++) {
      const float *a = A->numbers + r * A->n, *w = W->numbers + j * W->n;
      float sum = 0;
      for (int64_t i = 0; i < A->n; i++) sum += a[i] * w[i];
      c->numbers[r * W->rows + j] = sum + b->numbers[j];
    }
done:
  return status;
}

static descent_status softmax(struct call *c) {
  const struct onnx_value *z = c->in[0];
  descent_status status;
  if (!has_integer(c, "axis", 1) || z->n < 1) return refused(c, "not along rows");
  TRY(shape_numbers(c, z->rows, z->n));
  for (int64_t r = 0; r < z->rows; r++) {
    const float *from = z->numbers + r * z->n;
    float *to = c->numbers + r * z->n, most = from[0], sum = 0;
    for (int64_t j = 1; j < z->n; j++) most = from[j] > most ? from[j] : most;
    for (int64_t j = 0; j < z->n; j++) sum += to[j] = expf(from[j] - most);
    for (int64_t j = 0; j < z->n; j++) to[j] /= sum;
  }
done:
  return status;
}

static descent_status arg_max(struct call *c) {
  const struct onnx_value *a = c->in[0];
  descent_status status;
  if (!has_integer(c, "axis", 1) || !has_integer(c, "keepdims", 0) || a->n < 1) return refused(c, "not along rows");
  TRY(shape_numbers(c, a->rows, 1));
  for (int64_t r = 0; r < a->rows; r++) {
    const float *row = a->numbers + r * a->n;
    int64_t best = 0;
    for (int64_t j = 1; j < a->n; j++)
      if (row[j] > row[best]) best = j;
    c->numbers[r] = (float)best;
  }
done:
  return status;
}

static descent_status concat(struct call *c) {
  int64_t n = 0;
  descent_status status;
  if (!has_integer(c, "axis", 1)) return refused(c, "not along rows");
  for (size_t i = 0; i < c->node->n_input; i++)
    if (c->in[i]->rows != c->in[0]->rows || __builtin_add_overflow(n, c->in[i]->n, &n))
      return refused(c, "shapes do not fit");
  TRY(shape_numbers(c, c->in[0]->rows, n));
  float *to = c->numbers;
  for (int64_t r = 0; r < c->in[0]->rows; r++)
    for (size_t i = 0; i < c->node->n_input; to += c->in[i++]->n)
      memcpy(to, c->in[i]->numbers + r * c->in[i]->n, (size_t)c->in[i]->n * sizeof *to);
done:
  return status;
}

/* Texts by their indices. */
static descent_status gather(struct call *c) {
  const struct onnx_value *texts = c->in[0], *index = c->in[1];
  if (!texts->texts || !index->numbers || index->n != 1) return refused(c, "not names by index");
  ProtobufCBinaryData *to = memory_allocate(index->rows, sizeof *to, "labels");
  c->out->owned = to;
  if (!to) return DESCENT_ERROR_MEMORY;
  for (int64_t r = 0; r < index->rows; r++) {
    if (!(index->numbers[r] >= 0 && index->numbers[r] < (float)texts->n)) return refused(c, "no such name");
    to[r] = texts->texts[(int64_t)index->numbers[r]];
  }
  c->out->rows = index->rows;
  c->out->n = 1;
  c->out->texts = to;
  return DESCENT_OK;
}

static bool same_text(ProtobufCBinaryData a, ProtobufCBinaryData b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* (rows, 1) texts to (rows, categories): the axis of 1 in between is no matter here. */
static descent_status one_hot(struct call *c) {
  const struct onnx_value *text = c->in[0];
  const Onnx__AttributeProto *categories = attribute(c, "cats_strings");
  descent_status status;
  if (!text->texts || text->n != 1 || !categories || !has_integer(c, "zeros", 1)) return refused(c, "not of texts");
  const int64_t n = (int64_t)categories->n_strings;
  TRY(shape_numbers(c, text->rows, n));
  for (int64_t r = 0; r < text->rows; r++)
    for (int64_t k = 0; k < n; k++) c->numbers[r * n + k] = same_text(text->texts[r], categories->strings[k]);
done:
  return status;
}

/* ---- by name ---------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name;
  size_t inputs; /* 0: any number from 1 on */
  bool texts;    /* looks by itself at which of its inputs hold numbers */
  float (*unary)(float);
  float (*binary)(float, float);
  descent_status (*run)(struct call *c);
} operations[] = {
    {"Identity", 1, false, identity, NULL, NULL},
    {"Cast", 1, false, identity, NULL, NULL}, /* a truth to a number: they are floats here anyway */
    {"Squeeze", 2, true, identity, NULL, NULL},
    {"IsNaN", 1, false, is_nan, NULL, NULL},
    {"Relu", 1, false, relu, NULL, NULL},
    {"Sigmoid", 1, false, sigmoid, NULL, NULL},
    {"Tanh", 1, false, tanhf, NULL, NULL},
    {"Erf", 1, false, erff, NULL, NULL},
    {"Add", 2, false, NULL, add, NULL},
    {"Sub", 2, false, NULL, subtract, NULL},
    {"Mul", 2, false, NULL, multiply, NULL},
    {"Div", 2, false, NULL, divide, NULL},
    {"GreaterOrEqual", 2, false, NULL, at_least, NULL},
    {"LeakyRelu", 1, false, NULL, NULL, leaky_relu},
    {"Where", 3, false, NULL, NULL, where},
    {"Gemm", 3, false, NULL, NULL, gemm},
    {"Softmax", 1, false, NULL, NULL, softmax},
    {"ArgMax", 1, false, NULL, NULL, arg_max},
    {"Concat", 0, false, NULL, NULL, concat},
    {"Gather", 2, true, NULL, NULL, gather},
    {"OneHotEncoder", 1, true, NULL, NULL, one_hot},
};

descent_status onnx_op_run(const Onnx__NodeProto *node, const struct onnx_value **inputs, struct onnx_value *output) {
  struct call call = {.node = node, .in = inputs, .out = output};
  const char *name = node->op_type ? node->op_type : "";
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (strcmp(operations[i].name, name) != 0) continue;
    if (node->n_input < 1 || (operations[i].inputs && node->n_input != operations[i].inputs))
      return refused(&call, "not as many inputs");
    for (size_t j = 0; j < node->n_input; j++)
      if (!inputs[j]->numbers && (!operations[i].texts || (operations[i].unary && j == 0)))
        return refused(&call, "not of numbers");
    if (operations[i].unary) return unary(&call, operations[i].unary);
    return operations[i].binary ? binary(&call, operations[i].binary) : operations[i].run(&call);
  }
  return status_set(DESCENT_ERROR_MODEL, "unknown operation '%.40s'", name);
}
