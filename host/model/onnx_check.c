/* A small interpreter of ONNX graphs. The file may be anybody's: every shape is looked at before it is relied on. */
#include "model/onnx_check.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/memory.h"
#include "core/status.h"
#include "model/onnx_graph.h"
#include "model/onnx_ops.h"

struct onnx_model {
  const char *path; /* borrowed */
  Onnx__ModelProto *message;
  struct onnx_value *values; /* (room) constants first, then what a run computes */
  size_t n_constants, n_values, room;
  void *by_name; /* tsearch's tree of values */
};

static int compare_names(const void *a, const void *b) {
  return strcmp(((const struct onnx_value *)a)->name, ((const struct onnx_value *)b)->name);
}

/* The next value, under its name, which no other has. */
static descent_status add_value(struct onnx_model *model, const char *name, struct onnx_value **value) {
  if (model->n_values == model->room) return status_set(DESCENT_ERROR_MODEL, "%s: too many values", model->path);
  struct onnx_value *made = &model->values[model->n_values];
  *made = (struct onnx_value){.name = name};
  struct onnx_value *const *found = tsearch(made, &model->by_name, compare_names);
  if (!found) return status_set(DESCENT_ERROR_MEMORY, "%s: out of memory for its values", model->path);
  if (*found != made) return status_set(DESCENT_ERROR_MODEL, "%s: two values are called '%.60s'", model->path, name);
  model->n_values++;
  *value = made;
  return DESCENT_OK;
}

const struct onnx_value *onnx_model_value(const struct onnx_model *model, const char *name) {
  const struct onnx_value key = {.name = name};
  struct onnx_value *const *found = tfind(&key, &model->by_name, compare_names);
  return found ? *found : NULL;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static descent_status read_error(const char *path, int error) { return status_cannot_read(path, error); }

static descent_status read_file(const char *path, uint8_t **bytes, int64_t *size) {
  struct stat info;
  descent_status status = DESCENT_OK;
  FILE *stream = NULL;
  if (stat(path, &info)) TRY(read_error(path, errno));
  if (!S_ISREG(info.st_mode)) TRY(read_error(path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL)); /* a pipe would wait */
  if (!(stream = fopen(path, "rb"))) TRY(read_error(path, errno));
  if (info.st_size > INT32_MAX) TRY(status_set(DESCENT_ERROR_MODEL, "%s: larger than an ONNX file can be", path));
  *size = info.st_size;
  *bytes = memory_allocate(*size, 1, "an ONNX file");
  if (!*bytes) TRY(DESCENT_ERROR_MEMORY);
  errno = 0;
  if (fread(*bytes, 1, (size_t)*size, stream) != (size_t)*size) TRY(read_error(path, errno ? errno : EIO));
done:
  if (stream) fclose(stream);
  return status;
}

/* A constant as a matrix; its values stay where protobuf-c has put them, aligned as from malloc. */
static descent_status add_constant(struct onnx_model *model, const Onnx__TensorProto *tensor) {
  struct onnx_value *value;
  int64_t count = 1;
  descent_status status;
  if (!tensor->name || tensor->n_dims > 2) TRY(status_set(DESCENT_ERROR_MODEL, "%s: not a constant", model->path));
  TRY(add_value(model, tensor->name, &value));
  for (size_t d = 0; d < tensor->n_dims; d++)
    if (!size_product(count, tensor->dims[d], &count)) TRY(status_set(DESCENT_ERROR_MODEL, "%s: a size", model->path));
  value->rows = tensor->n_dims == 2 ? tensor->dims[0] : 1;
  value->n = tensor->n_dims == 2 ? tensor->dims[1] : count;
  const size_t element = tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64 ? sizeof(int64_t) : sizeof(float);
  if (tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING) {
    value->texts = tensor->string_data;
    if (tensor->n_string_data == (size_t)count) return DESCENT_OK;
  } else if (tensor->raw_data.len / element == (size_t)count && tensor->raw_data.len % element == 0) {
    /* Integers are sizes and axes only: the operations here need none of them. */
    value->numbers = element == sizeof(float) ? (const float *)(const void *)tensor->raw_data.data : NULL;
    return DESCENT_OK;
  }
  status =
      status_set(DESCENT_ERROR_MODEL, "%s: constant '%.60s': values do not fit its shape", model->path, value->name);
done:
  return status;
}

static bool imports(const Onnx__ModelProto *message, const char *domain, int64_t version) {
  for (size_t i = 0; i < message->n_opset_import; i++) {
    const Onnx__OperatorSetIdProto *set = message->opset_import[i];
    if (set->version == version && strcmp(set->domain ? set->domain : "", domain) == 0) return true;
  }
  return false;
}

static descent_status index_constants(struct onnx_model *model) {
  const Onnx__GraphProto *graph = model->message->graph;
  descent_status status;
  if (!graph) return status_set(DESCENT_ERROR_MODEL, "%s: has no graph", model->path);
  if (model->message->ir_version != ONNX_IR || !imports(model->message, "", ONNX_OPSET))
    return status_set(DESCENT_ERROR_MODEL, "%s: not of IR version %d and operator set %d", model->path, ONNX_IR,
                      ONNX_OPSET);
  model->room = graph->n_initializer + graph->n_input;
  for (size_t i = 0; i < graph->n_node; i++) model->room += graph->node[i]->n_output;
  model->values = memory_allocate((int64_t)model->room, sizeof *model->values, "the values of a graph");
  if (!model->values) return DESCENT_ERROR_MEMORY;
  for (size_t i = 0; i < graph->n_initializer; i++) TRY(add_constant(model, graph->initializer[i]));
  model->n_constants = model->n_values;
  status = DESCENT_OK;
done:
  return status;
}

descent_status onnx_model_open(const char *path, struct onnx_model **model) {
  uint8_t *bytes = NULL;
  int64_t size;
  descent_status status = DESCENT_OK;
  struct onnx_model *opened = memory_allocate(1, sizeof *opened, "an ONNX model");
  if (!opened) return DESCENT_ERROR_MEMORY;
  opened->path = path;
  TRY(read_file(path, &bytes, &size));
  opened->message = onnx__model_proto__unpack(NULL, (size_t)size, bytes);
  if (!opened->message) TRY(status_set(DESCENT_ERROR_MODEL, "%s: not an ONNX model", path));
  TRY(index_constants(opened));
  *model = opened;
  opened = NULL;
done:
  free(bytes);
  onnx_model_close(opened);
  return status;
}

/* Leaves the constants only. */
static void forget_run(struct onnx_model *model) {
  for (; model->n_values > model->n_constants; model->n_values--) {
    struct onnx_value *value = &model->values[model->n_values - 1];
    tdelete(value, &model->by_name, compare_names);
    free(value->owned);
  }
}

void onnx_model_close(struct onnx_model *model) {
  if (!model) return;
  model->n_constants = 0;
  forget_run(model);
  free(model->values);
  onnx__model_proto__free_unpacked(model->message, NULL);
  free(model);
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

int64_t onnx_model_inputs(const struct onnx_model *model) { return (int64_t)model->message->graph->n_input; }

static descent_status run_node(struct onnx_model *model, const Onnx__NodeProto *node) {
  const char *op = node->op_type ? node->op_type : "";
  const struct onnx_value **inputs = NULL;
  struct onnx_value *output;
  descent_status status = DESCENT_OK;
  inputs = memory_allocate((int64_t)node->n_input, sizeof *inputs, "an operation's inputs");
  if (!inputs) return DESCENT_ERROR_MEMORY;
  for (size_t i = 0; i < node->n_input; i++) {
    inputs[i] = onnx_model_value(model, node->input[i]);
    if (!inputs[i])
      TRY(status_set(DESCENT_ERROR_MODEL, "%s: %.40s reads '%.60s', which is nowhere", model->path, op,
                     node->input[i]));
  }
  if (node->n_output != 1) TRY(status_set(DESCENT_ERROR_MODEL, "%s: %.40s has several outputs", model->path, op));
  TRY(add_value(model, node->output[0], &output));
  status = onnx_op_run(node, inputs, output);
  if (status == DESCENT_ERROR_MODEL)
    status_set(status, "%s: '%.60s': %s", model->path, output->name, descent_last_error());
done:
  free(inputs);
  return status;
}

descent_status onnx_model_run(struct onnx_model *model, const struct onnx_value *inputs) {
  const Onnx__GraphProto *graph = model->message->graph;
  struct onnx_value *value;
  descent_status status = DESCENT_OK;
  forget_run(model);
  for (size_t i = 0; i < graph->n_input; i++) {
    const char *name = graph->input[i]->name;
    TRY(add_value(model, name ? name : "", &value));
    *value = inputs[i];
    value->name = name ? name : "";
    value->owned = NULL;
  }
  for (size_t i = 0; i < graph->n_node; i++) TRY(run_node(model, graph->node[i]));
done:
  return status;
}
