/* How far a float32 execution of one op may be from the exact one: derived bounds, per output value, used by verify and
 * by the conformance tests alike.
 *
 * u = 2^-24 is the unit round-off of float32 and gamma(k) = k u / (1 - k u) bounds k successive roundings in any order
 * of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). */
#ifndef DESCENT_BACKEND_BOUNDS_H
#define DESCENT_BACKEND_BOUNDS_H

#include "backend/backend.h"

/* The outputs of one op: at most this many buffers. */
enum { BOUNDS_MAX_OUTPUTS = 6 };

struct bounds_output {
  int buffer;
  int64_t offset, count; /* the elements that the op writes, for `rows` rows */
  double *exact;         /* (count) the witness's values */
  double *bound; /* (count) |candidate - exact| must not exceed this; derived, never negative; infinite, no claim
                  * at all, where a finite input may overflow float32 on the way */
};

struct bounds {
  int n;
  struct bounds_output outputs[BOUNDS_MAX_OUTPUTS];
};

/* With the op's inputs in place in `witness` (a program of backend_reference), runs the op there once and fills in what
 * it wrote with the bound of each value for a backend that works in float32 from the same inputs. */
descent_status bounds_run(struct backend_program *witness, const struct plan *plan, int op,
                          const struct plan_step *step, struct bounds *bounds);
void bounds_clear(struct bounds *bounds);

#endif
