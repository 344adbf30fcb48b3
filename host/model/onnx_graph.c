/* Filling in ONNX's protobuf messages. Lists are allocated at their final size, since messages point to each other. */
#include "model/onnx_graph.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "core/status.h"

enum { NAME = 48, INPUTS = 3, OUTPUTS = 2, ATTRIBUTES = 2, OPSETS = 2, RANK = 3 };

struct node {
  Onnx__NodeProto message;
  char *inputs[INPUTS], *outputs[OUTPUTS];
  Onnx__AttributeProto attributes[ATTRIBUTES], *list[ATTRIBUTES];
};

struct constant {
  Onnx__TensorProto message;
  int64_t dims[RANK];
};

struct value {
  Onnx__ValueInfoProto message;
  Onnx__TypeProto type;
  Onnx__TypeProto__Tensor tensor;
  Onnx__TensorShapeProto shape;
  Onnx__TensorShapeProto__Dimension dims[2], *list[2];
};

struct onnx_graph {
  Onnx__ModelProto model;
  Onnx__GraphProto graph;
  Onnx__OperatorSetIdProto opsets[OPSETS], *opset_list[OPSETS];
  Onnx__StringStringEntryProto properties[ONNX_PROPERTIES], *property_list[ONNX_PROPERTIES];
  struct onnx_room room;
  int64_t names, values;
  char (*name_pool)[NAME]; /* (nodes + constants) */
  struct node *nodes;
  struct constant *constants;
  struct value *value_pool;
  Onnx__NodeProto **node_list;
  Onnx__TensorProto **constant_list;
  Onnx__ValueInfoProto **input_list, **output_list; /* (values) each */
};

/* Casts away const for texts that messages only read. */
static char *unconst(const char *text) { return (char *)(uintptr_t)text; }

static void add_opset(struct onnx_graph *graph, const char *domain, int64_t version) {
  const size_t i = graph->model.n_opset_import++;
  onnx__operator_set_id_proto__init(&graph->opsets[i]);
  graph->opsets[i].domain = unconst(domain);
  graph->opsets[i].has_version = true;
  graph->opsets[i].version = version;
  graph->opset_list[i] = &graph->opsets[i];
}

static void begin(struct onnx_graph *graph) {
  onnx__model_proto__init(&graph->model);
  onnx__graph_proto__init(&graph->graph);
  graph->model.has_ir_version = true;
  graph->model.ir_version = ONNX_IR;
  graph->model.producer_name = unconst("descent");
  graph->model.producer_version = unconst(DESCENT_VERSION);
  graph->model.graph = &graph->graph;
  graph->model.opset_import = graph->opset_list;
  graph->model.metadata_props = graph->property_list;
  graph->graph.name = unconst("network");
  graph->graph.node = graph->node_list;
  graph->graph.initializer = graph->constant_list;
  graph->graph.input = graph->input_list;
  graph->graph.output = graph->output_list;
  add_opset(graph, "", ONNX_OPSET);
}

descent_status onnx_graph_create(struct onnx_room room, struct onnx_graph **graph) {
  static const char what[] = "a graph of operations";
  struct onnx_graph *made = memory_allocate(1, sizeof *made, what);
  if (!made) return DESCENT_ERROR_MEMORY;
  made->room = room;
  made->name_pool = memory_allocate(room.nodes + room.constants, sizeof *made->name_pool, what);
  made->nodes = memory_allocate(room.nodes, sizeof *made->nodes, what);
  made->constants = memory_allocate(room.constants, sizeof *made->constants, what);
  made->value_pool = memory_allocate(room.values, sizeof *made->value_pool, what);
  made->node_list = memory_allocate(room.nodes, sizeof *made->node_list, what);
  made->constant_list = memory_allocate(room.constants, sizeof *made->constant_list, what);
  made->input_list = memory_allocate(room.values, sizeof *made->input_list, what);
  made->output_list = memory_allocate(room.values, sizeof *made->output_list, what);
  if (!made->name_pool || !made->nodes || !made->constants || !made->value_pool || !made->node_list ||
      !made->constant_list || !made->input_list || !made->output_list) {
    onnx_graph_free(made);
    return DESCENT_ERROR_MEMORY;
  }
  begin(made);
  *graph = made;
  return DESCENT_OK;
}

void onnx_graph_free(struct onnx_graph *graph) {
  if (!graph) return;
  free(graph->name_pool);
  free(graph->nodes);
  free(graph->constants);
  free(graph->value_pool);
  free(graph->node_list);
  free(graph->constant_list);
  free(graph->input_list);
  free(graph->output_list);
  free(graph);
}

char *onnx_name(struct onnx_graph *graph, const char *format, long long index) {
  assert(graph->names < graph->room.nodes + graph->room.constants);
  char *name = graph->name_pool[graph->names++];
  snprintf(name, NAME, format, index);
  return name;
}

/* ---- constants -------------------------------------------------------------------------------------------------- */

static struct constant *add_constant(struct onnx_graph *graph, char *name, int type, int rank, const int64_t *dims) {
  const size_t i = graph->graph.n_initializer++;
  assert((int64_t)i < graph->room.constants);
  struct constant *made = &graph->constants[i];
  onnx__tensor_proto__init(&made->message);
  assert(rank <= RANK);
  memcpy(made->dims, dims, (size_t)rank * sizeof *dims);
  made->message.n_dims = (size_t)rank;
  made->message.dims = made->dims;
  made->message.has_data_type = true;
  made->message.data_type = type;
  made->message.name = name;
  graph->constant_list[i] = &made->message;
  return made;
}

static void set_raw(struct constant *constant, const void *data, size_t bytes) {
  constant->message.has_raw_data = true;
  constant->message.raw_data = (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)data};
}

char *onnx_floats(struct onnx_graph *graph, char *name, int rank, int64_t rows, int64_t n, const float *values) {
  const int64_t dims[] = {rows, n};
  struct constant *made =
      add_constant(graph, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, rank, rank == 2 ? dims : dims + 1);
  set_raw(made, values, (size_t)(rows * n) * sizeof *values);
  return name;
}

char *onnx_matrices(struct onnx_graph *graph, char *name, int64_t matrices, int64_t rows, int64_t n,
                    const float *values) {
  const int64_t dims[] = {matrices, rows, n};
  set_raw(add_constant(graph, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 3, dims), values,
          (size_t)(matrices * rows * n) * sizeof *values);
  return name;
}

char *onnx_integers(struct onnx_graph *graph, char *name, int64_t n, const int64_t *values) {
  set_raw(add_constant(graph, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &n), values, (size_t)n * sizeof *values);
  return name;
}

char *onnx_texts(struct onnx_graph *graph, char *name, int64_t n, ProtobufCBinaryData *texts) {
  struct constant *made = add_constant(graph, name, ONNX__TENSOR_PROTO__DATA_TYPE__STRING, 1, &n);
  made->message.n_string_data = (size_t)n;
  made->message.string_data = texts;
  return name;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

char *onnx_node(struct onnx_graph *graph, const char *op, char *output, char *a, char *b, char *c) {
  const size_t i = graph->graph.n_node++;
  assert((int64_t)i < graph->room.nodes);
  struct node *made = &graph->nodes[i];
  onnx__node_proto__init(&made->message);
  made->inputs[0] = a;
  made->inputs[1] = b;
  made->inputs[2] = c;
  made->outputs[0] = output;
  made->message.input = made->inputs;
  while (made->message.n_input < INPUTS && made->inputs[made->message.n_input]) made->message.n_input++;
  made->message.output = made->outputs;
  made->message.n_output = 1;
  made->message.name = output;
  made->message.op_type = unconst(op);
  made->message.attribute = made->list;
  graph->node_list[i] = &made->message;
  return output;
}

static struct node *last_node(struct onnx_graph *graph) { return &graph->nodes[graph->graph.n_node - 1]; }

void onnx_set_inputs(struct onnx_graph *graph, char **inputs, int64_t n) {
  last_node(graph)->message.input = inputs;
  last_node(graph)->message.n_input = (size_t)n;
}

void onnx_set_domain(struct onnx_graph *graph, const char *domain) {
  last_node(graph)->message.domain = unconst(domain);
  if (graph->model.n_opset_import < OPSETS) add_opset(graph, domain, ONNX_ML_OPSET);
}

static Onnx__AttributeProto *add_attribute(struct onnx_graph *graph, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
  struct node *node = last_node(graph);
  assert(node->message.n_attribute < ATTRIBUTES);
  Onnx__AttributeProto *attribute = &node->attributes[node->message.n_attribute];
  onnx__attribute_proto__init(attribute);
  attribute->name = unconst(name);
  attribute->has_type = true;
  attribute->type = type;
  node->list[node->message.n_attribute++] = attribute;
  return attribute;
}

void onnx_set_integer(struct onnx_graph *graph, const char *name, int64_t value) {
  Onnx__AttributeProto *attribute = add_attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  attribute->has_i = true;
  attribute->i = value;
}

void onnx_set_integers(struct onnx_graph *graph, const char *name, const int64_t *values, int64_t n) {
  Onnx__AttributeProto *attribute = add_attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  attribute->n_ints = (size_t)n;
  attribute->ints = (int64_t *)(uintptr_t)values; /* which is only read */
}

void onnx_set_real(struct onnx_graph *graph, const char *name, float value) {
  Onnx__AttributeProto *attribute = add_attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
  attribute->has_f = true;
  attribute->f = value;
}

void onnx_set_texts(struct onnx_graph *graph, const char *name, ProtobufCBinaryData *texts, int64_t n) {
  Onnx__AttributeProto *attribute = add_attribute(graph, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS);
  attribute->n_strings = (size_t)n;
  attribute->strings = texts;
}

/* ---- inputs, outputs, metadata ---------------------------------------------------------------------------------- */

static Onnx__ValueInfoProto *add_value(struct onnx_graph *graph, char *name, int type, int64_t n) {
  assert(graph->values < graph->room.values);
  struct value *made = &graph->value_pool[graph->values++];
  onnx__value_info_proto__init(&made->message);
  onnx__type_proto__init(&made->type);
  onnx__type_proto__tensor__init(&made->tensor);
  onnx__tensor_shape_proto__init(&made->shape);
  for (int d = 0; d < 2; d++) {
    onnx__tensor_shape_proto__dimension__init(&made->dims[d]);
    made->list[d] = &made->dims[d];
  }
  made->dims[0].dim_param = unconst("N");
  made->dims[1].has_dim_value = true;
  made->dims[1].dim_value = n;
  made->shape.dim = made->list;
  made->shape.n_dim = n ? 2 : 1;
  made->tensor.has_elem_type = true;
  made->tensor.elem_type = type;
  made->tensor.shape = &made->shape;
  made->type.tensor_type = &made->tensor;
  made->message.name = name;
  made->message.type = &made->type;
  return &made->message;
}

void onnx_input(struct onnx_graph *graph, char *name, int type, int64_t n, const char *note) {
  Onnx__ValueInfoProto *value = add_value(graph, name, type, n);
  if (note) value->doc_string = unconst(note);
  graph->input_list[graph->graph.n_input++] = value;
}

void onnx_output(struct onnx_graph *graph, char *name, int type, int64_t n) {
  graph->output_list[graph->graph.n_output++] = add_value(graph, name, type, n);
}

void onnx_property(struct onnx_graph *graph, const char *key, char *value) {
  const size_t i = graph->model.n_metadata_props++;
  assert(i < ONNX_PROPERTIES);
  onnx__string_string_entry_proto__init(&graph->properties[i]);
  graph->properties[i].key = unconst(key);
  graph->properties[i].value = value;
  graph->property_list[i] = &graph->properties[i];
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

/* Output of protobuf-c; keeps the first failure. */
struct sink {
  ProtobufCBuffer buffer; /* must be first: protobuf-c passes a pointer to it */
  struct file_writer *writer;
  descent_status status;
};

static void append(ProtobufCBuffer *buffer, size_t bytes, const uint8_t *data) {
  struct sink *sink = (struct sink *)buffer;
  if (sink->status == DESCENT_OK) sink->status = file_write(sink->writer, data, bytes);
}

descent_status onnx_graph_write(struct onnx_graph *graph, const char *path) {
  struct file_writer writer = {0};
  struct sink sink = {.buffer = {append}, .writer = &writer};
  descent_status status;
  const size_t bytes = onnx__model_proto__get_packed_size(&graph->model);
  if (bytes > INT32_MAX)
    return status_set(DESCENT_ERROR_UNSUPPORTED, "%s: not written: %zu bytes exceed the 2 GiB limit of ONNX files",
                      path, bytes);
  TRY(file_create(path, &writer));
  writer.quiet = true;
  onnx__model_proto__pack_to_buffer(&graph->model, &sink.buffer);
  TRY(sink.status);
  TRY(file_commit(&writer));
done:
  file_abandon(&writer);
  return status;
}
