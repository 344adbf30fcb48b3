/* Derived bounds on the error of one op in the plan's precision, for each output value; used by verify and the
 * conformance tests.
 *
 * u = 2^-24 is the unit round-off of float32 and gamma(k) = k u / (1 - k u) bounds k successive roundings in any order
 * of summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1).
 *
 * What each precision allows:
 *   fp32  every operation rounds once to float32.
 *   tf32  a matrix product may truncate each operand to 11 significant bits, and its sums may truncate instead of
 *         rounding, so that their unit is 2 u. All else is as in fp32.
 *   bf16  sums are as in tf32, over bf16 operands: an op rounds the outputs for which plan_is_bf16() holds once more,
 *         to the nearest bf16, and products read W rounded to the nearest bf16. A result stored as bf16 may be rounded
 *         to bf16 before a separate pass adds b (as float32 or bf16), and its tanh may have a relative error of 2^-11,
 *         as in hardware. All else is as in fp32. */
#ifndef DESCENT_VERIFY_BOUNDS_H
#define DESCENT_VERIFY_BOUNDS_H

#include "backend/backend.h"
#include "verify/interval.h"

/* Most output ranges of one op. */
enum { BOUNDS_MAX_OUTPUTS = 6 };

struct bounds_output {
  int buffer;
  int64_t offset, count; /* the elements that the op writes in this step */
  double *exact;         /* (count) the reference's values */
  double *bound;         /* (count) the largest permitted |candidate - exact|, >= 0; infinite (no check) where a finite
                          * input may overflow float32 in between */
};

struct bounds {
  int n;
  struct bounds_output outputs[BOUNDS_MAX_OUTPUTS];
};

/* Runs the op once in `reference`, a program of backend_reference that holds the op's inputs, and fills `bounds` with
 * its outputs and the bound of each value for a backend that computes in the plan's precision from the same stored
 * inputs. Clear it with bounds_clear. ERROR_MEMORY. */
descent_status bounds_run(struct backend_program *reference, const struct plan *plan, int op,
                          const struct plan_step *step, struct bounds *bounds);
void bounds_clear(struct bounds *bounds);

/* The same of an allreduce over ranks, which one program cannot run: the outputs and bounds of the sums of `inputs` (ranks,
 * n + 1), each rank's gradients and J before it. `bounds` is zeroed, and to be cleared also after an error. */
descent_status bounds_allreduce(const struct backend_program *reference, const struct plan_op *op, const double *inputs,
                                int ranks, struct bounds *bounds);

/* ---- a whole range ----
 * Kernels of several layers show only their results. The values in between are bounded by intervals, propagated from
 * the inputs of the range through its operations. Where a precision allows several ways of rounding, they hold for that
 * of these kernels (kernels.h, "several layers in one kernel") alone, since the hull of several ways would grow with
 * every layer until it says nothing:
 *   tf32  products truncate their operands.
 *   bf16  b is bf16 where A is, and added to the float32 sum; A, Z and dZ are rounded to bf16 once, and g' comes from
 *         the rounded values. db may be summed on tensor cores, as products with 1.
 * In the first layers most intervals that go into a product are a single value, since rounding and truncation are exact.
 * With each layer of 64 units they become about 7 times as wide: beyond four such layers little is bounded. */

/* The intervals of every value of the buffers that a range uses. */
struct range_bounds {
  int n_buffers;
  struct interval **values; /* (n_buffers), each (rows * cols) of the buffer; NULL: not used. Of `scalars` and
                             * `gradients`, what the range's loss and backward operations write; the rest, as before */
};

/* Propagates the range's forward, loss, backward and output operations from the values in `reference`, a program of
 * backend_reference: parameters, constants, and what the gather of this step has written. Other operations are passed
 * over. Clear it with range_bounds_clear, also after an error. ERROR_MEMORY. */
descent_status range_bounds_run(const struct backend_program *reference, struct plan_range range,
                                const struct plan_step *step, struct range_bounds *bounds);
void range_bounds_clear(struct range_bounds *bounds);

#endif
