/* The forward pass, loss and gradients of a network in intervals: each contains what exact arithmetic gives from the
 * same stored parameters, and what a float32 computation that rounds where kernels.h says may give. Sums of products
 * have one rounding per term, of twice the unit on tensor cores, which may truncate (verify/bounds.h). */
#ifndef DESCENT_TESTS_NETWORK_ORACLE_H
#define DESCENT_TESTS_NETWORK_ORACLE_H

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "core/terms.h"
extern "C" {
#include "verify/bounds_internal.h"
}

namespace network_oracle {

enum Arithmetic { FP32, TF32, BF16 };
typedef std::vector<interval> Row;

struct Layer {
  int n_in, n_out;
  descent_activation activation;
  double dropout;
  std::vector<double> W, b; /* (n_out, n_in), (n_out) */
};

struct Network {
  Arithmetic arithmetic;
  std::vector<Layer> layers;
  descent_loss loss;
  double smoothing;
  uint64_t seed, number;
  int64_t batch_row; /* of the first row within the step, for masks */
};

struct Batch {
  int64_t rows; /* of the step */
  std::vector<double> X, y, w;
  double weight_sum;
};

struct Gradients {
  std::vector<Row> dW, db; /* of each layer */
  interval J;
};

inline interval hull(double lo, double hi) { return {lo, hi}; }
inline double magnitude(interval x) { return std::fmax(std::fabs(x.lo), std::fabs(x.hi)); }

inline interval stored(Arithmetic arithmetic, interval x) { return arithmetic == BF16 ? interval_to_bf16(x) : x; }

/* A factor as a product reads it. */
inline interval factor(Arithmetic arithmetic, interval x) {
  if (arithmetic != TF32) return x;
  const double error = std::fmax(interval_tf32_error(x.lo), interval_tf32_error(x.hi));
  return {x.lo - error, x.hi + error};
}

/* A sum of products that grows term by term. */
class Sum {
 public:
  explicit Sum(Arithmetic arithmetic) : arithmetic_(arithmetic) {}
  void add(interval x, interval y) {
    const interval p = interval_times(factor(arithmetic_, x), factor(arithmetic_, y));
    lo_ += p.lo, hi_ += p.hi, absolute_ += magnitude(p);
    terms_++;
  }
  /* Plain sums: of values that are not multiplied. */
  void add(interval x) { lo_ += x.lo, hi_ += x.hi, absolute_ += magnitude(x), terms_++; }
  interval value() const {
    const double roundings = (arithmetic_ == FP32 ? 1 : 2) * (terms_ + 1);
    const double error = interval_gamma(roundings) * absolute_ + terms_ * INTERVAL_ETA;
    return {lo_ - error, hi_ + error};
  }

 private:
  Arithmetic arithmetic_;
  double lo_ = 0, hi_ = 0, absolute_ = 0, terms_ = 0;
};

inline double mask(const Network &network, size_t layer, int64_t index) {
  const double p = network.layers[layer].dropout;
  if (p == 0) return 1;
  index += network.batch_row * network.layers[layer].n_out;
  const bool keep = rng_keep(network.seed, static_cast<uint32_t>(layer) + 1, network.number,
                             static_cast<uint64_t>(index), rng_drop_threshold(p));
  return keep ? static_cast<double>(static_cast<float>(1 / (1 - p))) : 0;
}

inline interval dropped(interval x, double scale) {
  return scale == 0 || scale == 1 ? hull(x.lo * scale, x.hi * scale) : interval_mul(x, interval_exact(scale));
}

/* The values of one row, layer by layer; Z as stored. */
struct Passed {
  std::vector<Row> A, Z; /* A[0] = X, A[l] after layer l from 1; Z[l] */
};

/* Row -1 stands for one beyond the step's: X is 0. */
inline Passed forward(const Network &network, const Batch &batch, int64_t r) {
  Passed at;
  const int n_x = network.layers[0].n_in;
  Row row;
  for (int i = 0; i < n_x; i++) row.push_back(interval_exact(r < 0 ? 0 : batch.X[static_cast<size_t>(r * n_x + i)]));
  at.A.push_back(row), at.Z.emplace_back();
  for (size_t l = 0; l < network.layers.size(); l++) {
    const Layer &layer = network.layers[l];
    const bool output = l + 1 == network.layers.size();
    Row A, Z;
    for (int j = 0; j < layer.n_out; j++) {
      Sum sum(network.arithmetic);
      for (int i = 0; i < layer.n_in; i++)
        sum.add(at.A[l][static_cast<size_t>(i)], interval_exact(layer.W[static_cast<size_t>(j * layer.n_in + i)]));
      const interval z = interval_add(sum.value(), interval_exact(layer.b[static_cast<size_t>(j)]));
      interval a = network.arithmetic == BF16 && !output ? bounds_activation_approximate(layer.activation, z)
                                                         : bounds_activation(layer.activation, z);
      a = dropped(a, mask(network, l, r * layer.n_out + j));
      A.push_back(output ? a : stored(network.arithmetic, a));
      Z.push_back(output ? z : stored(network.arithmetic, z));
    }
    at.A.push_back(A), at.Z.push_back(Z);
  }
  return at;
}

/* exp(z - max) of a row over their sum: the rounding of a difference becomes a relative error of exp; 2 for exp, n for
 * the sum, 3 for its inverse and the product. Below e^-104 it may be 0. */
inline Row softmax(const Row &z) {
  Row p;
  double max = -INFINITY, least = INFINITY;
  for (const interval &x : z) max = std::fmax(max, x.hi), least = std::fmin(least, x.lo);
  for (size_t k = 0; k < z.size(); k++) {
    double others_lo = 0, others_hi = 0;
    for (size_t i = 0; i < z.size(); i++)
      if (i != k) others_lo += std::exp(z[i].lo - max), others_hi += std::exp(z[i].hi - max);
    const double lo = std::exp(z[k].lo - max), hi = std::exp(z[k].hi - max);
    const double relative = interval_gamma(2 * std::fmin(max - least, 104) + static_cast<double>(z.size()) + 9);
    const interval exact = {lo / (lo + others_hi), hi / (hi + others_lo)};
    p.push_back({exact.lo * (1 - relative) - 0x1p-149, exact.hi * (1 + relative) + 0x1p-149});
  }
  return p;
}

/* P of a row, from A of the output layer. */
inline Row predictions(const Network &network, const Row &A, const std::vector<float> &shift,
                       const std::vector<float> &scale) {
  if (network.loss == DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY) return softmax(A);
  Row P;
  for (size_t k = 0; k < A.size(); k++)
    P.push_back(network.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY
                    ? bounds_activation(DESCENT_ACTIVATION_SIGMOID, A[k])
                    : interval_add(interval_div(A[k], interval_exact(static_cast<double>(scale[k]))),
                                   interval_exact(static_cast<double>(shift[k]))));
  return P;
}

/* w over the sum of weights: the sum, its inverse and two products are rounded. */
inline interval share(const Batch &batch, int64_t r) {
  if (batch.weight_sum == 0) return interval_exact(0);
  return interval_rounded(interval_exact(batch.w[static_cast<size_t>(r)] / batch.weight_sum), 5);
}

/* The targets (1 - s) [hit] + s / n. */
inline interval target(bool hit, double s, double n) {
  if (s == 0) return interval_exact(hit ? 1 : 0);
  return interval_rounded(interval_exact((hit ? 1 - s : 0) + s / n), 4);
}

/* L of a row (of squared errors, its mean); dZ (n). */
inline interval loss(const Network &network, const Batch &batch, int64_t r, const Passed &at, Row *dZ) {
  const Row &A = at.A.back(), &Z = at.Z.back();
  const auto n = static_cast<double>(A.size());
  const interval f = share(batch, r);
  const double s = network.smoothing;
  interval L = {0, 0};
  dZ->clear();
  switch (network.loss) {
    case DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY: {
      const auto y = static_cast<size_t>(batch.y[static_cast<size_t>(r)]);
      const Row p = softmax(A);
      double max = -INFINITY, lo = 0, hi = 0, size = 1;
      for (const interval &z : A) max = std::fmax(max, z.hi), size = std::fmax(size, magnitude(z));
      for (const interval &z : A) lo += std::exp(z.lo - max), hi += std::exp(z.hi - max);
      L = {max + std::log(lo), max + std::log(hi)};
      for (size_t k = 0; k < A.size(); k++) {
        const double q = (k == y ? 1 - s : 0) + s / n;
        L.lo -= q * A[k].hi, L.hi -= q * A[k].lo;
        dZ->push_back(interval_mul(interval_sub(p[k], target(k == y, s, n)), f));
      }
      const double error = interval_gamma(2 * n + 12) * (4 * size + std::log(n) + 1);
      L = {std::fmax(L.lo - error, 0), L.hi + error};
      break;
    }
    case DESCENT_LOSS_BINARY_CROSS_ENTROPY: {
      const interval z = A[0], t = target(batch.y[static_cast<size_t>(r)] != 0, s, 2);
      const interval p = bounds_activation(DESCENT_ACTIVATION_SIGMOID, z);
      dZ->push_back(interval_mul(interval_sub(p, t), f));
      const auto exact = [](double x, double q) {
        return std::fmax(x, 0) - q * x + std::log1p(std::exp(-std::fabs(x)));
      };
      const double q = (batch.y[static_cast<size_t>(r)] != 0 ? 1 - s : 0) + s / 2; /* |dL/dz| <= 1 */
      const double middle = exact((z.lo + z.hi) / 2, q),
                   error = (z.hi - z.lo) / 2 + interval_gamma(12) * (magnitude(z) + 1);
      L = {std::fmax(middle - error, 0), middle + error};
      break;
    }
    case DESCENT_LOSS_MEAN_SQUARED_ERROR: {
      const descent_activation g = network.layers.back().activation;
      for (size_t k = 0; k < A.size(); k++) {
        const interval error = interval_sub(A[k], interval_exact(batch.y[static_cast<size_t>(r) * A.size() + k]));
        const double least = error.lo <= 0 && error.hi >= 0 ? 0 : std::fmin(std::fabs(error.lo), std::fabs(error.hi));
        L.lo += least * least, L.hi += magnitude(error) * magnitude(error);
        const interval twice = interval_rounded(interval_times(f, interval_exact(2 / n)), 2);
        interval d = interval_mul(error, twice);
        if (g != DESCENT_ACTIVATION_IDENTITY) d = interval_mul(d, bounds_slope(g, A[k], Z[k]));
        dZ->push_back(d);
      }
      L = interval_widened({L.lo / n, L.hi / n}, interval_gamma(n + 3), 1);
      break;
    }
  }
  for (interval &d : *dZ) d = stored(network.arithmetic, d);
  return L;
}

/* dZ of layer l - 1 from that of layer l. */
inline Row backward(const Network &network, int64_t r, const Passed &at, size_t l, const Row &dZ) {
  const Layer &layer = network.layers[l], &below = network.layers[l - 1];
  Row next;
  for (int i = 0; i < layer.n_in; i++) {
    const auto column = static_cast<size_t>(i);
    Sum sum(network.arithmetic);
    for (int j = 0; j < layer.n_out; j++)
      sum.add(dZ[static_cast<size_t>(j)], interval_exact(layer.W[static_cast<size_t>(j * layer.n_in + i)]));
    const double scale = mask(network, l - 1, r * layer.n_in + i);
    interval a = at.A[l][column];
    if (below.dropout > 0) a = interval_rounded(interval_times(a, interval_exact(1 - below.dropout)), 2);
    interval d = sum.value();
    if (below.activation != DESCENT_ACTIVATION_IDENTITY)
      d = interval_mul(d, bounds_slope(below.activation, a, at.Z[l][column]));
    next.push_back(stored(network.arithmetic, dropped(d, scale)));
  }
  return next;
}

inline Gradients gradients(const Network &network, const Batch &batch) {
  std::vector<std::vector<Sum>> dW, db;
  for (const Layer &layer : network.layers) {
    dW.emplace_back(layer.W.size(), Sum(network.arithmetic));
    db.emplace_back(layer.b.size(), Sum(network.arithmetic));
  }
  interval J = {0, 0};
  for (int64_t r = 0; r < batch.rows; r++) {
    const Passed at = forward(network, batch, r);
    Row dZ;
    const interval L = loss(network, batch, r, at, &dZ);
    const interval weighted = interval_times(L, interval_exact(batch.w[static_cast<size_t>(r)]));
    J.lo += weighted.lo, J.hi += weighted.hi;
    for (size_t l = network.layers.size(); l-- > 0;) {
      const Layer &layer = network.layers[l];
      for (int j = 0; j < layer.n_out; j++) {
        db[l][static_cast<size_t>(j)].add(dZ[static_cast<size_t>(j)]);
        for (int i = 0; i < layer.n_in; i++)
          dW[l][static_cast<size_t>(j * layer.n_in + i)].add(dZ[static_cast<size_t>(j)],
                                                             at.A[l][static_cast<size_t>(i)]);
      }
      if (l > 0) dZ = backward(network, r, at, l, dZ);
    }
  }
  Gradients all;
  for (size_t l = 0; l < network.layers.size(); l++) {
    all.dW.emplace_back(), all.db.emplace_back();
    for (const Sum &sum : dW[l]) all.dW[l].push_back(sum.value());
    for (const Sum &sum : db[l]) all.db[l].push_back(sum.value());
  }
  const double sum = batch.weight_sum, relative = interval_gamma64(static_cast<double>(batch.rows) + 8);
  all.J = sum == 0 ? hull(0, 0) : interval_widened({J.lo / sum, J.hi / sum}, relative, 0);
  return all;
}

/* Without intervals: where every sum is exact and nothing has to be rounded. Layers are linear or relu, J is the mean
 * squared error. Gradients as single points. */
inline Gradients exact_gradients(const Network &network, const Batch &batch) {
  Gradients all;
  for (const Layer &layer : network.layers) {
    all.dW.emplace_back(layer.W.size(), interval{0, 0});
    all.db.emplace_back(layer.b.size(), interval{0, 0});
  }
  all.J = {0, 0};
  const auto add = [](interval *sum, double x) { sum->lo += x, sum->hi += x; };
  const auto n = static_cast<size_t>(network.layers.back().n_out);
  for (int64_t r = 0; r < batch.rows; r++) {
    std::vector<std::vector<double>> A = {{}};
    const auto n_x = static_cast<size_t>(network.layers[0].n_in), row = static_cast<size_t>(r);
    A[0].assign(batch.X.begin() + static_cast<int64_t>(row * n_x),
                batch.X.begin() + static_cast<int64_t>((row + 1) * n_x));
    for (size_t l = 0; l < network.layers.size(); l++) {
      const Layer &layer = network.layers[l];
      std::vector<double> next;
      for (int j = 0; j < layer.n_out; j++) {
        double z = layer.b[static_cast<size_t>(j)];
        for (int i = 0; i < layer.n_in; i++)
          z += A[l][static_cast<size_t>(i)] * layer.W[static_cast<size_t>(j * layer.n_in + i)];
        if (layer.activation == DESCENT_ACTIVATION_RELU) z = std::fmax(z, 0);
        next.push_back(z * mask(network, l, r * layer.n_out + j));
      }
      A.push_back(next);
    }
    std::vector<double> dZ;
    for (size_t k = 0; k < n; k++) {
      const double error = A.back()[k] - batch.y[row * n + k];
      add(&all.J, batch.w[row] * error * error / static_cast<double>(n) / batch.weight_sum);
      dZ.push_back(error * 2 / static_cast<double>(n) * batch.w[row] / batch.weight_sum);
    }
    for (size_t l = network.layers.size(); l-- > 0;) {
      const Layer &layer = network.layers[l];
      std::vector<double> below(static_cast<size_t>(layer.n_in), 0.0);
      for (int j = 0; j < layer.n_out; j++) {
        add(&all.db[l][static_cast<size_t>(j)], dZ[static_cast<size_t>(j)]);
        for (int i = 0; i < layer.n_in; i++) {
          const auto ji = static_cast<size_t>(j * layer.n_in + i);
          add(&all.dW[l][ji], dZ[static_cast<size_t>(j)] * A[l][static_cast<size_t>(i)]);
          below[static_cast<size_t>(i)] += dZ[static_cast<size_t>(j)] * layer.W[ji];
        }
      }
      if (l == 0) break;
      for (int i = 0; i < layer.n_in; i++) {
        double &d = below[static_cast<size_t>(i)];
        if (network.layers[l - 1].activation == DESCENT_ACTIVATION_RELU && A[l][static_cast<size_t>(i)] <= 0) d = 0;
        d *= mask(network, l - 1, r * layer.n_in + i);
      }
      dZ = below;
    }
  }
  return all;
}

}  // namespace network_oracle

#endif
