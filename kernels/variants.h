/* Trials of a custom kernel's variants in separate device memory, and their times. A trial guards against a device or a
 * compiler that the tests have not seen, at the cost of a few launches; it does not prove a kernel correct. */
#ifndef DESCENT_KERNELS_VARIANTS_H
#define DESCENT_KERNELS_VARIANTS_H

#include "facts.h"
#include "product.h"

/* A matrix or vector of a launch. */
enum part_use {
  PART_READ,    /* holds ones, or random values */
  PART_ONES,    /* holds ones */
  PART_GIVEN,   /* holds `given` */
  PART_WRITTEN, /* a result */
  PART_UPDATED, /* a result that holds ones, or random values, at first */
  PART_GROWN,   /* a result that holds ones at first */
  PART_AROUND,  /* of which results are parts, and the rest may stay as it is */
};
struct variant_part {
  size_t member; /* where its address is in the launch; not of a part of another one */
  int64_t rows, n, ld;
  enum element element;
  enum part_use use;
  const void *given; /* (rows, ld) on the host */
  int within;        /* the number, from 1, of the earlier part that it is a part of; 0: none */
  int64_t offset;    /* elements from its beginning */
};
enum { MOST_PARTS = 64 };

/* What launches share beside the parts, in the trial's memory. */
struct variant_place {
  struct step_state *state; /* a step of all rows */
  double *scalars;          /* SCALAR_WEIGHT_SUM is the number of rows */
  struct scratch scratch;   /* zeros at first */
  void *own;                /* for this variant alone, zeros at first */
  bool again;               /* the second of two launches whose results are compared */
};

/* A kernel's variants on one launch. */
struct variant_work {
  const char *key; /* everything that the time depends on besides GPU and library version, as one line of text */
  int variants;
  int64_t rows;         /* of the step */
  size_t partials, own; /* bytes of the scratch's partials; of the place's own memory */
  const void *launch;
  size_t launch_bytes;
  struct variant_part parts[MOST_PARTS];
  int n_parts;
  /* Enqueues the variant. `launch`: a copy, whose parts have their addresses. */
  cudaError_t (*run)(void *launch, const struct variant_place *place, int variant, cudaStream_t stream);
  /* What the part holds after a launch on ones; false if that is not a whole number that every order of summation gives
   * exactly. */
  bool (*whole)(const void *launch, const struct variant_part *part, float *expected);
};
/* Whole numbers up to here are exact in the element. */
int64_t variants_exact(enum element element);

/* True if the variant passes its trial: it is launched, gives the same bits twice, and is exact on ones where its
 * results are whole numbers. */
descent_status variants_pass(const struct product_library *library, const struct variant_work *work, int variant,
                             cudaStream_t stream, bool *passes);
/* The variant remembered for this key, else the fastest of those that pass, timed and then remembered, and the seconds
 * of one launch; -1: none passes. */
descent_status variants_fastest(struct product_library *library, const struct variant_work *work, cudaStream_t stream,
                                int *variant, double *seconds);

#endif
