/* How each dense operation is computed. */
#ifndef DESCENT_KERNELS_CHOOSE_H
#define DESCENT_KERNELS_CHOOSE_H

#include "ways.h"

/* The choice for a dense operation on some number of rows. */
struct dense_choice {
  int64_t rows; /* 0: not chosen yet */
  struct dense_way way;
  double seconds; /* as timed, with the estimated pass; 0: not timed */
};
enum { CHOICES = 2 }; /* for the captured rows, and for one other number */

/* relu's derivative from a bit mask that the forward product writes. Three operations of one range take part, each with
 * an entry: the forward operation, the backward_input that reads the mask, and the weights' operation of the same
 * dZ. */
struct masked_choice {
  bool taken;
  struct dense_way way; /* its mask: (batch) rows of mask_ld bits */
  int partner;          /* forward: its backward_input; the others: the forward operation */
  int64_t bytes;        /* of the mask, at the forward operation, which owns it; else 0 */
  double seconds;       /* of the three operations, at the forward operation; else 0 */
};

struct product_choices {
  struct way_table ways;
  struct dense_choice (*dense)[CHOICES]; /* (n_ops) */
  struct masked_choice *masked;          /* (n_ops) */
  size_t scratch;                        /* bytes that the custom kernels in use need */
};

/* Chooses for every dense operation of the plan at its captured rows. Call it before the buffers are allocated, since
 * trials allocate their own memory; then choose_take allocates the masks. */
descent_status choose_prepare(struct product_choices *choices, const struct backend_device *device,
                              const struct device_buffers *buffers);
descent_status choose_take(struct product_choices *choices, struct device_memory *memory);
void choose_release(struct product_choices *choices);
/* The number of rows at which the range of this op is captured. */
int64_t choose_captured_rows(const struct plan *plan, int op);
/* How this dense op of the range is computed on `rows` rows. */
descent_status choose_way(struct product_choices *choices, struct plan_range range, int op, int64_t rows,
                          struct dense_way *way);
/* The same on the captured rows, as `path` of struct backend. */
void choose_path(struct product_choices *choices, struct plan_range range, int op, char text[BACKEND_PATH]);
/* Of a dense operation of the range in whole batches, with its pass; 0: not timed. */
double choose_seconds(const struct product_choices *choices, struct plan_range range, int op);
/* Bytes of a workspace that suffice for every product chosen so far. */
int64_t choose_workspace(const struct product_choices *choices);

/* A number in which two compilations of a plan differ where dense ops of the range are computed in other ways. */
uint32_t choose_digest(const struct product_choices *choices, struct plan_range range);

#endif
