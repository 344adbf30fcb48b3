/* How each dense operation computes its product and what follows it. */
#ifndef DESCENT_KERNELS_CHOOSE_H
#define DESCENT_KERNELS_CHOOSE_H

#include "device.h"
#include "layout.h"

/* The choice for a dense operation on some number of rows. */
struct dense_choice {
  int64_t rows;            /* 0: not chosen yet */
  struct product *product; /* of product_choices */
  bool fused;              /* the epilogue does it all; weights: the bias gradient too */
};
enum { CHOICES = 2 }; /* for the captured rows, and for one other number */

/* relu's derivative from bits that the forward product leaves, for a pair of operations in one range: an entry at the
 * forward and at the backward_input operation each, and one at the weights' operation of the same dZ. */
struct masked_choice {
  struct product *product; /* NULL: not chosen */
  int partner;             /* forward: its backward_input; the others: the forward operation */
  void *mask;              /* (batch) rows of mask_ld bits */
  int64_t bytes;           /* of the mask, at the forward operation, which owns it; else 0 */
  bool fused;              /* weights: the bias gradient too */
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

/* Chooses for every dense operation of the plan at its captured rows. It runs before the buffers are allocated, since
 * algorithms are tried on memory of their own; then choose_take allocates the masks. */
descent_status choose_prepare(struct product_choices *choices, const struct backend_device *device,
                              const struct device_buffers *buffers);
descent_status choose_take(struct product_choices *choices, struct device_memory *memory);
void choose_release(struct product_choices *choices);
/* The rows that the captured range of this op computes. */
int64_t choose_captured_rows(const struct plan *plan, int op);
/* The choice for this dense op on so many rows. */
descent_status choose_dense(struct product_choices *choices, int op, int64_t rows, const struct dense_choice **choice);
/* The choice with a mask for this op, where it was made and the range has all of its operations; else NULL. */
const struct masked_choice *choose_masked(const struct product_choices *choices, struct plan_range range, int op,
                                          int64_t rows);

#endif
