// How far an exported network may be from the network: what rounding in float32 does on the way, estimated row by row
// from the network's own numbers. tests/python/onnx_test.py holds the same estimate for graphs.
#ifndef DESCENT_TESTS_EXPORT_BOUNDS_H
#define DESCENT_TESTS_EXPORT_BOUNDS_H

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "internal.h"

extern "C" {
#include "backend/reference/reference.h"
}

// Rounding errors are taken as independent and of mean 0, each within u = 2^-24 of its result: then they add up as
// squares do (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"). Worst cases, where all
// point the same way, exceed that by the square root of the terms, and grow with each layer until they allow anything.
// Two evaluations count as equal within kExportErrors such errors: errors that all point the same way in a sum of a
// thousand terms would take 32.
constexpr double kExportErrors = 64, kUnit = 0x1p-24;

struct Estimate {
  double value;  // exact
  double error;  // of one evaluation in float32: the root of the sum of squares
};

// The smallest float32 is what results below the normal range may be off by.
inline double Rounding(double value, double units) { return kUnit * units * std::fabs(value) + FLT_TRUE_MIN; }

// One evaluation of g from a float32 argument is off by 4 u of its result; of its argument for gelu, which is
// written (z / 2) (1 + erf(z / sqrt 2)).
inline Estimate EstimateActivation(descent_activation g, Estimate z) {
  if (g == DESCENT_ACTIVATION_IDENTITY) return z;
  const double a = reference_activate(g, z.value), slope = reference_slope(g, a, z.value);
  return {a, std::hypot(slope * z.error, Rounding(g == DESCENT_ACTIVATION_GELU ? z.value : a, 4))};
}

// z = w . a + b. The partial sums, each rounded, are a walk to z whose steps are the terms: about as far from 0 as its
// end, or as the root of the sum of its squared steps, whichever is more.
inline Estimate EstimateUnit(const float *w, const std::vector<Estimate> &a, double b) {
  double sum = b, squares = b * b, errors = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const double weight = static_cast<double>(w[i]), term = weight * a[i].value, error = weight * a[i].error;
    sum += term;
    squares += term * term;
    errors += error * error;
  }
  const double walk = std::max(squares, sum * sum) * static_cast<double>(a.size() + 1) + squares;
  return {sum, std::sqrt(errors + kUnit * kUnit * walk) + FLT_TRUE_MIN};
}

// p_k = exp(z_k - max) / sum: dp_k = p_k (dz_k - sum p_j dz_j); the difference is rounded, which its exponential feels
// as a relative error, then exp, the sum and the division.
inline void EstimateSoftmax(std::vector<Estimate> *z) {
  double most = -INFINITY, sum = 0, shared = 0;
  for (const Estimate &e : *z) most = std::max(most, e.value);
  for (const Estimate &e : *z) sum += std::exp(e.value - most);
  for (const Estimate &e : *z) shared += std::pow(std::exp(e.value - most) / sum * e.error, 2);
  for (Estimate &e : *z) {
    const double away = std::min(most - e.value, 110.0), p = std::exp(e.value - most) / sum;
    const double relative =
        std::hypot(e.error, std::sqrt(shared)) + kUnit * (away + 4 + std::sqrt(static_cast<double>(z->size())));
    e = {p, p * relative + FLT_TRUE_MIN};
  }
}

// One row x (inputs) through the network; the estimates mean what descent_predict gives.
inline std::vector<Estimate> EstimateOutputs(const descent_network *network, const float *x) {
  std::vector<Estimate> A(static_cast<size_t>(network->inputs)), next;
  for (size_t j = 0; j < A.size(); j++) {
    const double value = static_cast<double>(network->fill && std::isnan(x[j]) ? network->fill[j] : x[j]);
    const double a = (value - static_cast<double>(network->shift[j])) * static_cast<double>(network->scale[j]);
    A[j] = {a, Rounding(a, 2)};
  }
  for (int32_t l = 0; l < network->n_layers; l++) {
    const network_layer &layer = network->layers[l];
    const float *W = network->parameters + layer.at.W, *b = network->parameters + layer.at.b;
    next.clear();
    for (int64_t j = 0; j < layer.n_out; j++)
      next.push_back(
          EstimateActivation(layer.activation, EstimateUnit(W + j * layer.n_in, A, static_cast<double>(b[j]))));
    A.swap(next);
  }
  switch (network->loss) {
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: A[0] = EstimateActivation(DESCENT_ACTIVATION_SIGMOID, A[0]); break;
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: EstimateSoftmax(&A); break;
    case DESCENT_LOSS_MEAN_SQUARED_ERROR:
      for (size_t k = 0; k < A.size(); k++) {
        const double scale = static_cast<double>(network->y_scale[k]), scaled = A[k].value / scale;
        const double value = scaled + static_cast<double>(network->y_shift[k]);
        A[k] = {value, A[k].error / scale + Rounding(scaled, 1) + Rounding(value, 1)};
      }
  }
  return A;
}

// The mean over an ensemble's members. The members share rounding errors of the inputs, so theirs are taken to point the
// same way; the sum of the members walks as in EstimateUnit, to at most the sum of the sizes, and the division rounds.
// Values of regression are averaged before they are shifted.
inline std::vector<Estimate> EstimateMeans(const descent_network *network, const float *x) {
  const double count = static_cast<double>(network->members);
  std::vector<Estimate> mean(static_cast<size_t>(network_outputs(network)));
  std::vector<double> size(mean.size());
  for (int64_t member = 0; member < network->members; member++) {
    const descent_network view = network_view_member(network, member);
    const std::vector<Estimate> outputs = EstimateOutputs(&view, x);
    for (size_t k = 0; k < mean.size(); k++) {
      mean[k].value += outputs[k].value / count;
      mean[k].error += outputs[k].error / count;
      size[k] += std::fabs(outputs[k].value - static_cast<double>(network->y_shift[k])) / count;
    }
  }
  for (size_t k = 0; k < mean.size() && network->members > 1; k++)
    mean[k].error += Rounding(size[k], std::sqrt(count) + 1);
  return mean;
}

#endif
