/* The operations of the graphs that export_onnx.c writes, on matrices. */
#ifndef DESCENT_MODEL_ONNX_OPS_H
#define DESCENT_MODEL_ONNX_OPS_H

#include "model/onnx_check.h"

/* Fills in shape and values of `output`, whose `owned` the caller frees. ERROR_MODEL for an operation that is not known
 * and for shapes that do not fit. */
descent_status onnx_op_run(const Onnx__NodeProto *node, const struct onnx_value **inputs, struct onnx_value *output);

#endif
