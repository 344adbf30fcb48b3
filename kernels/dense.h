/* Dense operations of a plan on its buffers: as one kernel, whose element-wise part is also the pass behind a product,
 * and as a product. */
#ifndef DESCENT_KERNELS_DENSE_H
#define DESCENT_KERNELS_DENSE_H

#include "custom.h"
#include "layout.h"

/* On `rows` rows, without state, scratch and the input's bias gradient; before layout_take without data. */
void dense_launch(const struct device_buffers *buffers, const struct plan_op *op, int64_t rows,
                  struct custom_launch *launch);
/* The plain product. All bytes are set, so shapes compare as bytes. */
void dense_shape(const struct custom_launch *launch, struct product_shape *shape);
/* With the vector that the product's epilogue reads or writes if it is `fused`. */
struct product_operands dense_operands(const struct custom_launch *launch, bool fused, void *mask);

#endif
