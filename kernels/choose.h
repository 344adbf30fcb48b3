/* How each dense operation computes its product and the element-wise work after it. */
#ifndef DESCENT_KERNELS_CHOOSE_H
#define DESCENT_KERNELS_CHOOSE_H

#include "device.h"
#include "layout.h"

/* The choice for a dense operation on some number of rows. */
struct dense_choice {
  int64_t rows;            /* 0: not chosen yet */
  struct product *product; /* of product_choices */
  bool fused;              /* forward: the epilogue adds the bias; weights: it sums the bias gradient */
};
enum { CHOICES = 2 }; /* for the captured rows, and for one other number */

/* relu's derivative from a bit mask that the forward product writes. Three operations of one range take part, each with
 * an entry: the forward operation, the backward_input that reads the mask, and the weights' operation of the same
 * dZ. */
struct masked_choice {
  struct product *product; /* NULL: not chosen */
  int partner;             /* forward: its backward_input; the others: the forward operation */
  void *mask;              /* (batch) rows of mask_ld bits */
  int64_t bytes;           /* of the mask, at the forward operation, which owns it; else 0 */
  bool fused;              /* weights: the bias gradient too */
};

/* The choice in effect for one run of a range. */
struct product_choice {
  const struct product *product;
  bool fused; /* as above */
  void *mask; /* written at the forward operation, read at the backward_input operation; NULL: no mask */
};

struct shape_product {
  struct product_shape shape;
  struct product *product; /* NULL: the library has none */
};

struct product_choices {
  const struct backend_device *device;
  const struct plan *plan;
  const struct device_buffers *buffers;
  struct dense_choice (*dense)[CHOICES]; /* (n_ops) */
  struct masked_choice *masked;          /* (n_ops) */
  struct shape_product *products;
  int n_products, room_products;
};

/* Chooses for every dense operation of the plan at its captured rows. Call it before the buffers are allocated, since
 * trials allocate their own memory; then choose_take allocates the masks. */
descent_status choose_prepare(struct product_choices *choices, const struct backend_device *device,
                              const struct device_buffers *buffers);
descent_status choose_take(struct product_choices *choices, struct device_memory *memory);
void choose_release(struct product_choices *choices);
/* The number of rows at which the range of this op is captured. */
int64_t choose_captured_rows(const struct plan *plan, int op);
/* How this dense op of the range computes its product on `rows` rows. */
descent_status choose_product(struct product_choices *choices, struct plan_range range, int op, int64_t rows,
                              struct product_choice *choice);

#endif
