/* Construction of an ONNX model. All memory is allocated by onnx_graph_create, so that the other calls cannot fail.
 * Names, values and texts are borrowed until the model is written. */
#ifndef DESCENT_MODEL_ONNX_GRAPH_H
#define DESCENT_MODEL_ONNX_GRAPH_H

#include <descent/descent.h>
#include <onnx.pb-c.h>

enum { ONNX_IR = 8, ONNX_OPSET = 17, ONNX_ML_OPSET = 3 };
#define ONNX_ML_DOMAIN "ai.onnx.ml"

/* The maximum number of each. */
struct onnx_room {
  int64_t nodes, constants, values; /* values: inputs and outputs of the graph */
};

struct onnx_graph;
descent_status onnx_graph_create(struct onnx_room room, struct onnx_graph **graph);
void onnx_graph_free(struct onnx_graph *graph);

/* A name for an intermediate value: "layers.0.z" for ("layers.%lld.z", 0). The graph owns it. */
char *onnx_name(struct onnx_graph *graph, const char *format, long long index);

/* Add a constant and return its name: floats of shape (), (n) or (rows, n) for rank 0, 1 or 2; integers and texts
 * (n). */
char *onnx_floats(struct onnx_graph *graph, char *name, int rank, int64_t rows, int64_t n, const float *values);
/* Shape (matrices, rows, n). */
char *onnx_matrices(struct onnx_graph *graph, char *name, int64_t matrices, int64_t rows, int64_t n,
                    const float *values);
char *onnx_integers(struct onnx_graph *graph, char *name, int64_t n, const int64_t *values);
char *onnx_texts(struct onnx_graph *graph, char *name, int64_t n, ProtobufCBinaryData *texts);

/* Adds node `op` with up to 3 inputs, NULL after the last, and one output named `output`, which is returned. */
char *onnx_node(struct onnx_graph *graph, const char *op, char *output, char *a, char *b, char *c);
/* Set the inputs (borrowed), the domain or an attribute (lists are borrowed) of the node added last. */
void onnx_set_inputs(struct onnx_graph *graph, char **inputs, int64_t n);
void onnx_set_domain(struct onnx_graph *graph, const char *domain);
void onnx_set_integer(struct onnx_graph *graph, const char *name, int64_t value);
void onnx_set_integers(struct onnx_graph *graph, const char *name, const int64_t *values, int64_t n);
void onnx_set_real(struct onnx_graph *graph, const char *name, float value);
void onnx_set_texts(struct onnx_graph *graph, const char *name, ProtobufCBinaryData *texts, int64_t n);

/* Add an input or output of shape (N, n), or (N) when n is 0. `type` is a TensorProto data type, `note` a text or
 * NULL. */
void onnx_input(struct onnx_graph *graph, char *name, int type, int64_t n, const char *note);
void onnx_output(struct onnx_graph *graph, char *name, int type, int64_t n);
/* Adds an entry of the model's metadata, at most ONNX_PROPERTIES. */
enum { ONNX_PROPERTIES = 16 };
void onnx_property(struct onnx_graph *graph, const char *key, char *value);

/* Writes the file atomically. ERROR_WRITE; ERROR_UNSUPPORTED beyond protobuf's limit of 2 GiB. */
descent_status onnx_graph_write(struct onnx_graph *graph, const char *path);

#endif
