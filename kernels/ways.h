/* The ways to compute a dense operation, with their seconds. */
#ifndef DESCENT_KERNELS_WAYS_H
#define DESCENT_KERNELS_WAYS_H

#include "dense.h"
#include "device.h"

/* A product of the library, with its epilogue and a pass for what that leaves; or one custom kernel for everything. */
struct dense_way {
  const struct product *product; /* NULL: the custom kernel */
  bool fused;                    /* forward: the epilogue adds the bias; weights: it sums the bias gradient */
  int variant;                   /* of the custom kernel */
  void *mask; /* written at the forward operation, read at the backward_input operation; NULL: no mask */
};

/* Its seconds: of the product or the custom kernel, 0 where that is not timed; of the passes beside the product. */
struct timed_way {
  struct dense_way way;
  double timed, passes;
};
struct way_list {
  struct timed_way at[2 + MOST_CANDIDATES];
  int n;
};

/* An operation on some number of rows. */
struct dense_work {
  const struct plan_op *op;
  int index;
  struct custom_launch launch;
  struct product_shape shape;
  double unit; /* bytes of a matrix of (rows, n) of the result, or of dZ of the weights */
};

struct shape_product {
  struct product_shape shape;
  struct product *product; /* NULL: the library has none */
};
struct custom_time {
  char key[TUNE_KEY];
  int variant; /* the fastest; -1: none passes */
  double seconds;
};

/* What a plan's operations share: each shape is measured once. */
struct way_table {
  const struct backend_device *device;
  const struct plan *plan;
  const struct device_buffers *buffers;
  struct shape_product *products;
  int n_products, room_products;
  struct custom_time *custom_times; /* (n_ops + 1) */
  int n_own_times;
};

descent_status ways_prepare(struct way_table *table, const struct backend_device *device,
                            const struct device_buffers *buffers);
void ways_release(struct way_table *table);
bool ways_draw(const struct way_table *table); /* DESCENT_CUDA_CHOOSE: the way is drawn */

/* The op after this input's that computes the same dZ's weight gradients; -1: none. */
int ways_weights_behind(const struct plan *plan, int op);
void ways_describe(const struct way_table *table, int op, int64_t rows, struct dense_work *work);
/* The ways without a mask; ERROR_UNSUPPORTED if there are none: the last error names the shape. `with_custom`: custom kernels
 * too; where ways are drawn, they have yet to pass their trials. `has_sums`: a pass that runs anyway sums the columns
 * of dZ. */
descent_status ways_list(struct way_table *table, const struct dense_work *work, bool with_custom, bool has_sums,
                         struct way_list *list);
/* A variant of the operation's custom kernel, and its seconds: the fastest where the plan is timed, drawn where ways are,
 * else the first that passes its trial. -1: none does. */
descent_status ways_custom(struct way_table *table, const struct custom_launch *launch, int *variant, double *seconds);
/* Estimated seconds of a pass over so many bytes. */
double ways_pass_seconds(const struct backend_device *device, double bytes);
bool ways_are_timed(const struct way_list *list);
/* The operation's product with this epilogue; NULL when the library has none. */
descent_status ways_product(struct way_table *table, const struct dense_work *work, enum epilogue epilogue,
                            int64_t mask_ld, const struct product **product);

#endif
