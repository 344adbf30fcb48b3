/* The gradient's norm and the update rules, over the flat parameter buffer. */
#include <math.h>
#include <stddef.h>

#include "backend/reference/reference.h"

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
  scalars[SCALAR_CLIP] = op->clip > 0 ? fmin(1, op->clip / (norm + 1e-6)) : 1;
  const bool bad = !isfinite(norm) || !isfinite(scalars[SCALAR_LOSS]);
  if (bad && scalars[SCALAR_BAD_STEP] == 0) scalars[SCALAR_BAD_STEP] = (double)step->number;
}

/* One parameter's update from its clipped gradient; v and s may be NULL where the rule keeps no such moment. */
static double updated(const struct plan_update *o, const struct plan_step *step, double w, double g, double *v,
                      double *s) {
  const double alpha = step->learning_rate, t = (double)step->number;
  const double decayed = w - alpha * o->weight_decay * w;
  g += o->l2 * w;
  switch (o->optimizer) {
    case DESCENT_OPTIMIZER_GD: return decayed - alpha * g;
    case DESCENT_OPTIMIZER_SGD:
      if (!v) return decayed - alpha * g;
      *v = o->momentum * *v + g;
      return decayed - alpha * (o->nesterov ? g + o->momentum * *v : *v);
    case DESCENT_OPTIMIZER_RMSPROP: {
      *s = o->rho * *s + (1 - o->rho) * g * g;
      const double d = g / (sqrt(*s) + o->epsilon);
      if (!v) return decayed - alpha * d;
      *v = o->momentum * *v + d;
      return decayed - alpha * *v;
    }
    case DESCENT_OPTIMIZER_ADAM:
    case DESCENT_OPTIMIZER_ADAMW:
      *v = o->beta1 * *v + (1 - o->beta1) * g;
      *s = o->beta2 * *s + (1 - o->beta2) * g * g;
      return decayed - alpha / (1 - pow(o->beta1, t)) * *v / (sqrt(*s) / sqrt(1 - pow(o->beta2, t)) + o->epsilon);
  }
  return NAN;
}

void reference_update(struct backend_program *program, const struct plan_update *op, const struct plan_step *step) {
  const struct plan *plan = program->plan;
  const double *gradients = reference_values(program, op->gradients), *scalars = reference_values(program, op->scalars);
  double *parameters = reference_values(program, op->parameters);
  double *moment1 = reference_values(program, op->moment1), *moment2 = reference_values(program, op->moment2);
  double *layers = reference_values(program, op->layer_statistics);
  if (scalars[SCALAR_BAD_STEP] != 0) return;

  for (int l = 0; l < plan->layers; l++) {
    double change = 0, before = 0; /* sums of squares */
    for (int64_t i = plan->segments[l].begin; i < plan->segments[l].end; i++) {
      const double w = parameters[i], g = scalars[SCALAR_CLIP] * gradients[i];
      parameters[i] = updated(op, step, w, g, moment1 ? &moment1[i] : NULL, moment2 ? &moment2[i] : NULL);
      change += (parameters[i] - w) * (parameters[i] - w);
      before += w * w;
    }
    if (!op->measure) continue;
    layers[l * LAYER_SLOTS + LAYER_UPDATE] = sqrt(change);
    layers[l * LAYER_SLOTS + LAYER_PARAMETERS] = sqrt(before);
  }
}
