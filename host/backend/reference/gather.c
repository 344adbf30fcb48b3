/* Gather: the step's rows of the source, in the order of the permutation, normalised and weighted. */
#include <math.h>

#include "backend/reference/reference.h"
#include "core/rng.h"
#include "core/status.h"

/* The source row of position t in the order of the step. */
static int64_t source_row(const struct backend_program *program, const struct plan_gather *op,
                          const struct plan_step *step, int64_t t) {
  const int64_t *index = reference_source(program, op->source_index);
  if (op->shuffle && step->order) t = (int64_t)permutation_index(step->order, (uint64_t)t);
  return index ? index[t] : t;
}

static descent_status check_rows(const struct backend_program *program, const struct plan_gather *op,
                                 const struct plan_step *step) {
  const bool indexed = reference_source(program, op->source_index) != NULL;
  const struct reference_buffer *X = &program->buffers[op->source_X];
  const int64_t walked = indexed ? program->buffers[op->source_index].rows : X->rows;
  const int64_t reach = op->shuffle && step->order ? (int64_t)step->order->n : walked;
  if (!X->source) return status_set(DESCENT_ERROR_ARGUMENT, "run: no rows are bound to the source");
  if (reach > walked || step->first_row < 0 || step->rows > reach - step->first_row)
    return status_set(DESCENT_ERROR_ARGUMENT, "run: %lld rows from row %lld: only %lld are bound",
                      (long long)step->rows, (long long)step->first_row, (long long)walked);
  return DESCENT_OK;
}

/* out[j] = (in[j] - shift[j]) * scale[j], where a NaN is fill[j]; fill, shift and scale may be NULL. `in` is element
 * `at` of float32 or bytes. */
static void normalise(const void *in, descent_dtype dtype, int64_t at, const double *fill, const double *shift,
                      const double *scale, double *out, int64_t n) {
  const bool bytes = dtype == DESCENT_DTYPE_U8;
  for (int64_t j = 0; j < n; j++) {
    const double given = bytes ? (double)((const uint8_t *)in)[at + j] : (double)((const float *)in)[at + j];
    const double x = isnan(given) && fill ? fill[j] : given;
    out[j] = (x - (shift ? shift[j] : 0)) * (scale ? scale[j] : 1);
  }
}

static double class_weight(const struct backend_program *program, int buffer, double y) {
  const double *weights = reference_values(program, buffer);
  if (!weights) return 1;
  /* A class outside the table cannot come from a checked dataset. NaN makes such an error visible, where a read outside
   * the table would hide it. */
  return y >= 0 && y < (double)program->plan->buffers[buffer].cols ? weights[(int64_t)y] : NAN;
}

descent_status reference_gather(struct backend_program *program, const struct plan_gather *op,
                                const struct plan_step *step) {
  const void *source_X = reference_source(program, op->source_X);
  const float *source_y = op->y == PLAN_NONE ? NULL : reference_source(program, op->source_y);
  const float *source_w = reference_source(program, op->source_w);
  const double *shift = reference_values(program, op->shift), *scale = reference_values(program, op->scale);
  const double *fill = reference_values(program, op->fill);
  const double *y_shift = reference_values(program, op->y_shift), *y_scale = reference_values(program, op->y_scale);
  double *X = reference_values(program, op->X); /* (rows, n_x) */
  double *y = reference_values(program, op->y); /* (rows, n_y) */
  double *w = reference_values(program, op->w); /* (rows) */
  descent_status status = check_rows(program, op, step);
  if (status != DESCENT_OK) return status;

  double sum = 0;
  for (int64_t r = 0; r < step->rows; r++) {
    const int64_t s = source_row(program, op, step, step->first_row + r);
    normalise(source_X, program->buffers[op->source_X].dtype, s * op->n_x, fill, shift, scale, X + r * op->n_x,
              op->n_x);
    if (!source_y) continue;
    normalise(source_y, DESCENT_DTYPE_F32, s * op->n_y, NULL, y_shift, y_scale, y + r * op->n_y, op->n_y);
    w[r] =
        (source_w ? (double)source_w[s] : 1) * class_weight(program, op->class_weight, (double)source_y[s * op->n_y]);
    sum += w[r];
  }
  if (source_y)
    reference_values(program, op->scalars)[SCALAR_WEIGHT_SUM] = step->weight_sum != 0 ? step->weight_sum : sum;
  return DESCENT_OK;
}
