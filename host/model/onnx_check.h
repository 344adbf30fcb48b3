/* Running an ONNX file of our own again, as a check of what was written: it knows the operations that export_onnx.c
 * emits and no others, one naive loop each, in float32. */
#ifndef DESCENT_MODEL_ONNX_CHECK_H
#define DESCENT_MODEL_ONNX_CHECK_H

#include <descent/descent.h>
#include <onnx.pb-c.h>

/* Every tensor seen as a matrix: (n) is one row of n if it is a constant, n rows of 1 if it has one element per row.
 * Truths and integers are floats, exact up to 2^24; texts are not ended by 0. */
struct onnx_value {
  const char *name;
  int64_t rows, n;
  const float *numbers;             /* (rows, n), or NULL where it holds texts */
  const ProtobufCBinaryData *texts; /* (rows, n), likewise */
  void *owned;
};

struct onnx_model;
/* ERROR_READ; ERROR_MODEL for what is no model of this program's. */
descent_status onnx_model_open(const char *path, struct onnx_model **model);
void onnx_model_close(struct onnx_model *model);

int64_t onnx_model_inputs(const struct onnx_model *model);
/* Computes every value from `inputs` (onnx_model_inputs), in the order of the graph's and all of as many rows; borrowed
 * during the call, their names are not looked at. ERROR_MODEL names the operation that cannot be done. */
descent_status onnx_model_run(struct onnx_model *model, const struct onnx_value *inputs);
/* A value of the last run; NULL when there is none of the name. */
const struct onnx_value *onnx_model_value(const struct onnx_model *model, const char *name);

#endif
