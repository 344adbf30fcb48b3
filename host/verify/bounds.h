/* How far an execution of one op in the plan's precision may be from the exact one: derived bounds, per output value,
 * used by verify and by the conformance tests alike.
 *
 * u = 2^-24 is the unit round-off of float32 and gamma(k) = k u / (1 - k u) bounds k successive roundings in any order
 * of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
 *
 * What the precisions allow:
 *   fp32  every operation rounds once to float32.
 *   tf32  a matrix product may read either operand cut off after 11 significant bits, and its sums may truncate rather
 *         than round: their unit is 2 u. The rest is fp32.
 *   bf16  sums as in tf32, over operands that are bf16: those of plan_is_bf16() because what an op writes there is
 *         rounded once more, to the nearest bf16; W because products read the nearest bf16 of it. A result stored as
 *         bf16 may be rounded so before a separate pass adds b (read as it is or as bf16), and may take its tanh within
 *         a relative 2^-11, as hardware does. The rest is fp32. */
#ifndef DESCENT_VERIFY_BOUNDS_H
#define DESCENT_VERIFY_BOUNDS_H

#include "backend/backend.h"

/* The outputs of one op: at most this many buffers. */
enum { BOUNDS_MAX_OUTPUTS = 6 };

struct bounds_output {
  int buffer;
  int64_t offset, count; /* the elements that the op writes, for `rows` rows */
  double *exact;         /* (count) the reference's values */
  double *bound; /* (count) |candidate - exact| must not exceed this; derived, never negative; infinite, no claim
                  * at all, where a finite input may overflow float32 on the way */
};

struct bounds {
  int n;
  struct bounds_output outputs[BOUNDS_MAX_OUTPUTS];
};

/* With the op's inputs in place in `reference` (a program of backend_reference), runs the op there once and fills in
 * what it wrote with the bound of each value for a backend that works in the plan's precision from the same inputs, as
 * it stored them. */
descent_status bounds_run(struct backend_program *reference, const struct plan *plan, int op,
                          const struct plan_step *step, struct bounds *bounds);
void bounds_clear(struct bounds *bounds);

#endif
