/* The gradient's accumulation, its norm and the update rules, over the flat parameter buffer. */
#include <math.h>
#include <stddef.h>

#include "backend/formulas.h"
#include "backend/reference/reference.h"
#include "plan/operations.h"

void reference_accumulate(struct backend_program *program, const struct plan_accumulate *op) {
  double *gradients = reference_values(program, op->gradients);
  double *kept_gradients = reference_values(program, op->kept_gradients);
  for (int64_t i = 0; i < op->n; i++)
    if (op->adds)
      gradients[i] += kept_gradients[i];
    else
      kept_gradients[i] = gradients[i];
}

void reference_combine(struct backend_program *program, const struct plan_combine *op, const struct plan_step *step) {
  double *gradients = reference_values(program, op->gradients);
  double *partial = reference_values(program, op->partial_gradients);
  for (int64_t i = 0; i < op->n; i++) plan_combine_value(step, &gradients[i], partial + i, op->n);
  plan_combine_value(step, &reference_values(program, op->scalars)[SCALAR_LOSS],
                     reference_values(program, op->partial_losses), 1);
}

void reference_gradient_norm(struct backend_program *program, const struct plan_gradient_norm *op,
                             const struct plan_step *step) {
  const struct plan *plan = program->plan;
  const double *gradients = reference_values(program, op->gradients);
  double *scalars = reference_values(program, op->scalars);
  double *layers = reference_values(program, op->layer_statistics); /* (layers, LAYER_SLOTS) or NULL */

  double squares = 0;
  for (int l = 0; l < plan->layers; l++) {
    double layer_squares = 0;
    for (int64_t i = plan->segments[l].begin; i < plan->segments[l].end; i++)
      layer_squares += gradients[i] * gradients[i];
    if (layers) layers[l * LAYER_SLOTS + LAYER_GRADIENT] = sqrt(layer_squares);
    squares += layer_squares;
  }
  const double norm = sqrt(squares);
  scalars[SCALAR_GRADIENT_NORM] = norm;
  scalars[SCALAR_CLIP] = formula_clip_factor(op->clip_norm, norm);
  const bool bad = !isfinite(norm) || !isfinite(scalars[SCALAR_LOSS]);
  if (bad && scalars[SCALAR_BAD_STEP] == 0) scalars[SCALAR_BAD_STEP] = (double)step->number;
}

/* The coefficients of all elements at this step. */
static struct update_coefficients_f64 coefficients_at(const struct plan_update *op, const struct plan_step *step,
                                                      const double *scalars) {
  struct update_coefficients_f64 coefficients = update_coefficients_of_f64(op);
  coefficients.clip_factor = scalars[SCALAR_CLIP];
  coefficients.step = update_factors_of_f64(op, step);
  return coefficients;
}

void reference_trust_ratio(struct backend_program *program, const struct plan_update *op,
                           const struct plan_step *step) {
  const struct plan *plan = program->plan;
  const double *gradients = reference_values(program, op->gradients), *scalars = reference_values(program, op->scalars);
  const double *w = reference_values(program, op->parameters);
  const double *moment1 = reference_values(program, op->moment1), *moment2 = reference_values(program, op->moment2);
  double *layers = reference_values(program, op->layer_statistics);
  const enum update_rule rule = update_rule_of(op);
  const struct update_coefficients_f64 coefficients = coefficients_at(op, step, scalars);
  if (scalars[SCALAR_BAD_STEP] != 0) return;

  for (int l = 0; l < plan->layers; l++) {
    double squares = 0, term_squares = 0;
    for (int64_t i = plan->segments[l].W; i < plan->segments[l].b; i++) {
      const double term = formula_trust_term_f64(rule, &coefficients, w[i], gradients[i], moment1 ? moment1[i] : 0,
                                                 moment2 ? moment2[i] : 0);
      squares += w[i] * w[i];
      term_squares += term * term;
    }
    layers[l * LAYER_SLOTS + LAYER_TRUST] =
        formula_trust_ratio(rule, op->trust_coefficient, op->weight_decay, sqrt(squares), sqrt(term_squares));
  }
}

void reference_update(struct backend_program *program, const struct plan_update *op, const struct plan_step *step) {
  const struct plan *plan = program->plan;
  const double *gradients = reference_values(program, op->gradients), *scalars = reference_values(program, op->scalars);
  double *parameters = reference_values(program, op->parameters);
  double *moment1 = reference_values(program, op->moment1), *moment2 = reference_values(program, op->moment2);
  double *layers = reference_values(program, op->layer_statistics);
  const enum update_rule rule = update_rule_of(op);
  const struct update_coefficients_f64 coefficients = coefficients_at(op, step, scalars);
  const struct update_coefficients_f64 of_b = update_coefficients_of_b_f64(coefficients);
  if (scalars[SCALAR_BAD_STEP] != 0) return;

  for (int l = 0; l < plan->layers; l++) {
    struct update_coefficients_f64 of_W = coefficients;
    if (update_has_trust_ratio(rule))
      of_W = update_coefficients_of_W_f64(coefficients, layers[l * LAYER_SLOTS + LAYER_TRUST]);
    double change = 0, before = 0; /* sums of squares */
    for (int64_t i = plan->segments[l].begin; i < plan->segments[l].end; i++) {
      const double w = parameters[i];
      double none = 0; /* in place of a moment that the rule does not use */
      parameters[i] = formula_update_f64(rule, i < plan->segments[l].b ? &of_W : &of_b, w, gradients[i],
                                         moment1 ? &moment1[i] : &none, moment2 ? &moment2[i] : &none);
      change += (parameters[i] - w) * (parameters[i] - w);
      before += w * w;
    }
    if (!op->measure) continue;
    layers[l * LAYER_SLOTS + LAYER_UPDATE] = sqrt(change);
    layers[l * LAYER_SLOTS + LAYER_PARAMETERS] = sqrt(before);
  }
}
