/* An ONNX model being put together. All memory is taken at the start, so that the calls in between cannot fail; names,
 * values and texts handed in are borrowed until the model is written. */
#ifndef DESCENT_MODEL_ONNX_GRAPH_H
#define DESCENT_MODEL_ONNX_GRAPH_H

#include <descent/descent.h>
#include <onnx.pb-c.h>

enum { ONNX_IR = 8, ONNX_OPSET = 17, ONNX_ML_OPSET = 3 };
#define ONNX_ML_DOMAIN "ai.onnx.ml"

/* The most there will be of each. */
struct onnx_room {
  int64_t nodes, constants, values; /* values: inputs and outputs of the graph */
};

struct onnx_graph;
descent_status onnx_graph_create(struct onnx_room room, struct onnx_graph **graph);
void onnx_graph_free(struct onnx_graph *graph);

/* The name of an intermediate value, "layers.0.z" of ("layers.%lld.z", 0); valid as long as the graph. */
char *onnx_name(struct onnx_graph *graph, const char *format, long long index);

/* Constants, by their names: floats of shape (), (n) or (rows, n) as rank is 0, 1 or 2; integers and texts (n). */
char *onnx_floats(struct onnx_graph *graph, char *name, int rank, int64_t rows, int64_t n, const float *values);
char *onnx_integers(struct onnx_graph *graph, char *name, int64_t n, const int64_t *values);
char *onnx_texts(struct onnx_graph *graph, char *name, int64_t n, ProtobufCBinaryData *texts);

/* Node `op` with up to 3 inputs, ended by NULL, and one output named `output`, which is returned. */
char *onnx_node(struct onnx_graph *graph, const char *op, char *output, char *a, char *b, char *c);
/* The node made last: its inputs instead (borrowed), its domain, an attribute. */
void onnx_set_inputs(struct onnx_graph *graph, char **inputs, int64_t n);
void onnx_set_domain(struct onnx_graph *graph, const char *domain);
void onnx_set_integer(struct onnx_graph *graph, const char *name, int64_t value);
void onnx_set_real(struct onnx_graph *graph, const char *name, float value);
void onnx_set_texts(struct onnx_graph *graph, const char *name, ProtobufCBinaryData *texts, int64_t n);

/* An input or output (N, n), or (N) where n is 0; `type` is one of TensorProto's data types, `note` a text or NULL. */
void onnx_input(struct onnx_graph *graph, char *name, int type, int64_t n, const char *note);
void onnx_output(struct onnx_graph *graph, char *name, int type, int64_t n);
/* A line of the model's metadata; there is room for ONNX_PROPERTIES. */
enum { ONNX_PROPERTIES = 10 };
void onnx_property(struct onnx_graph *graph, const char *key, char *value);

/* Writes the file through a temporary one beside it. ERROR_WRITE; ERROR_UNSUPPORTED beyond the 2 GiB that a message of
 * this kind may have. */
descent_status onnx_graph_write(struct onnx_graph *graph, const char *path);

#endif
