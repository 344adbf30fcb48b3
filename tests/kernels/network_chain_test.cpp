/* Networks in one kernel: every A, Z, dZ, J and P of every variant is within the bound that follows from the operands that
 * the launch has stored; whole numbers give exactly what the kernels of single layers give; nothing beyond column n and the
 * step's rows is read or written. */
#include <cmath>
#include <memory>
#include <string>

#include "passes.h"

namespace {

enum Arithmetic { FP32, TF32, BF16 };
enum Weights { ONES, MIXED, TINY, HUGE_ONES, ZERO };

struct Case {
  std::vector<int> widths; /* inputs, then each layer's units */
  int64_t rows, valid;
  Arithmetic arithmetic;
  descent_loss loss;
  int activation, turn; /* of the first hidden layer; how far the next ones are from it */
  descent_activation output;
  bool drops;
  float smoothing;
  Weights weights;
};

const descent_loss kBinary = DESCENT_LOSS_BINARY_CROSS_ENTROPY, kSoftmax = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                   kSquared = DESCENT_LOSS_MEAN_SQUARED_ERROR;

const double u = 0x1p-24;

/* Of rows padded to whole 16 bytes, and of another 16. */
int64_t padded(int64_t n, enum element element) {
  const int64_t unit = element == ELEMENT_F32 ? 4 : 8;
  return (n + unit - 1) / unit * unit + unit;
}

struct Random {
  explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15U + 1) {}
  uint32_t next() {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<uint32_t>(state >> 33);
  }
  float uniform() { return static_cast<float>(next() >> 7) * 0x1p-23F - 1; } /* in [-1, 1) */
  uint64_t state;
};

/* (rows, n), with NaN behind column n. */
struct Operand : Matrix {
  Operand(int64_t rows, int64_t n, enum element element_) : Matrix(rows, padded(n, element_), element_) {
    for (int64_t i = 0; i < rows * ld; i++) set(i, NAN);
  }
  void set(int64_t i, float x) {
    const auto at = static_cast<size_t>(i);
    floats.host[at] = x;
    halves.host[at] = bf16_from_float(x);
  }
  template <class DRAW>
  void fill(int64_t rows, int64_t n, DRAW draw) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < n; j++) set(r * ld + j, draw());
    store();
  }
};

/* The rows and columns that a result may have written are `rows` and `n`. */
struct Result : Matrix {
  Result(int64_t rows_, int64_t n_, enum element element_)
      : Matrix(rows_ + 2, padded(n_, element_), element_), rows(rows_), n(n_) {}
  void expect_rest_untouched() const {
    for (int64_t r = 0; r < rows + 2; r++)
      for (int64_t j = r < rows ? n : 0; j < ld; j++) ASSERT_EQ(at(r, j), kUntouched) << r << ", " << j;
  }
  void expect_untouched() const {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < n; j++) ASSERT_EQ(at(r, j), kUntouched) << r << ", " << j;
  }
  int64_t rows, n;
};

double g(descent_activation activation, double z) {
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: break;
    case DESCENT_ACTIVATION_SIGMOID: return 1 / (1 + std::exp(-z));
    case DESCENT_ACTIVATION_TANH: return std::tanh(z);
    case DESCENT_ACTIVATION_RELU: return z < 0 ? 0 : z;
    case DESCENT_ACTIVATION_LEAKY_RELU: return z < 0 ? static_cast<double>(0.01F) * z : z;
    case DESCENT_ACTIVATION_GELU: return z * 0.5 * std::erfc(-z * M_SQRT1_2);
    case DESCENT_ACTIVATION_SILU: return z / (1 + std::exp(-z));
  }
  return z;
}

/* g' from x, which is z where slope_is_from_z, else g(z). */
double slope(descent_activation activation, double x) {
  const double s = 1 / (1 + std::exp(-x));
  switch (activation) {
    case DESCENT_ACTIVATION_IDENTITY: break;
    case DESCENT_ACTIVATION_SIGMOID: return x * (1 - x);
    case DESCENT_ACTIVATION_TANH: return (1 - x) * (1 + x);
    case DESCENT_ACTIVATION_RELU: return x > 0 ? 1 : 0;
    case DESCENT_ACTIVATION_LEAKY_RELU: return x > 0 ? 1 : static_cast<double>(0.01F);
    case DESCENT_ACTIVATION_GELU:
      return 0.5 * std::erfc(-x * M_SQRT1_2) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case DESCENT_ACTIVATION_SILU: return s * (1 + x * (1 - s));
  }
  return 1;
}

/* A value and the largest error that a computation of it may have. */
struct Bounded {
  double value, error;
};

struct Layer {
  Layer(int64_t rows, int n_in_, int n_out_, enum element element)
      : n_in(n_in_),
        n_out(n_out_),
        W(n_out_, n_in_, element),
        bias(1, n_out_, element),
        A(rows, n_out_, element),
        Z(rows, n_out_, element),
        dZ(rows, n_out_, element) {}
  int n_in, n_out;
  descent_activation activation = DESCENT_ACTIVATION_IDENTITY;
  uint32_t threshold = 0;
  Operand W, bias;
  Result A, Z, dZ;
};

/* A network with its data, on the device; whole: small whole numbers, few of them not 0. */
class Network {
 public:
  Network(const Case &case_, bool whole)
      : c(case_),
        element(c.arithmetic == BF16 ? ELEMENT_BF16 : ELEMENT_F32),
        last(static_cast<int>(c.widths.size()) - 2),
        n(c.widths.back()),
        X(c.rows, c.widths[0], element),
        n_y(c.loss == kSquared ? n : 1),
        y(c.rows * n_y, NAN),
        w(c.rows, NAN),
        scalars(std::vector<double>(SCALAR_SLOTS, 0)),
        counters(COUNTERS, 0),
        logits(c.rows, n, ELEMENT_F32),
        P(c.rows * n + 1, kUntouched),
        y_shift(n, 0.25F),
        y_scale(n, 0.5F) {
    Random random(static_cast<uint64_t>(c.rows) + 7);
    const auto draw = [&] {
      return !whole              ? random.uniform()
             : random.next() % 4 ? 0
                                 : static_cast<float>(static_cast<int>(random.next() % 3)) - 1;
    };
    X.fill(c.valid, c.widths[0], draw); /* further rows are NaN */
    X.store();
    for (int i = 0; i <= last; i++) {
      const int n_in = c.widths[static_cast<size_t>(i)], n_out = c.widths[static_cast<size_t>(i) + 1];
      layers.push_back(std::make_unique<Layer>(c.rows, n_in, n_out, element));
      Layer &layer = *layers.back();
      const float scale = whole ? 1 : 2 / std::sqrt(static_cast<float>(n_in));
      layer.W.fill(n_out, n_in, [&] { return scale * draw(); });
      layer.bias.fill(1, n_out, draw);
      layer.activation =
          i == last ? c.output : static_cast<descent_activation>((c.activation + i * c.turn) % N_ACTIVATIONS);
      layer.threshold = c.drops && i < last ? rng_drop_threshold(p) : 0;
    }
    for (int64_t r = 0; r < c.valid; r++) {
      for (int64_t k = 0; k < n_y; k++)
        y.host[static_cast<size_t>(r * n_y + k)] = c.loss == kBinary ? static_cast<float>(random.next() % 2)
                                                   : c.loss == kSoftmax
                                                       ? static_cast<float>(random.next() % static_cast<unsigned>(n))
                                                       : draw();
      const float of_row = static_cast<float>(random.next() % 4) / 2;
      w.host[static_cast<size_t>(r)] = c.weights == ONES    ? 1
                                       : c.weights == MIXED ? of_row
                                       : c.weights == TINY  ? of_row * 0x1p-120F
                                       : c.weights == ZERO  ? 0
                                                            : 0x1p100F;
      weight_sum += static_cast<double>(w.host[static_cast<size_t>(r)]);
    }
    y.store(), w.store();
    scalars.host[SCALAR_WEIGHT_SUM] = weight_sum, scalars.host[SCALAR_LOSS] = NAN;
    scalars.store();
    step_state now{};
    now.current.number = 3, now.current.rows = c.valid;
    state = std::make_unique<Buffer<step_state>>(std::vector<step_state>{now});
    network_launch shape = launch(NETWORK_CHAIN);
    partials = std::make_unique<Buffer<char>>(std::vector<char>(network_partials(&shape)));
  }

  network_launch launch(network_kind kind) {
    network_launch l{};
    l.kind = kind, l.state = state ? state->data : nullptr, l.X = X.matrix();
    l.layers = last + 1, l.rows = c.rows, l.seed = seed, l.tf32 = c.arithmetic == TF32, l.loss = c.loss;
    for (int i = 0; i <= last; i++) {
      Layer &from = *layers[static_cast<size_t>(i)];
      network_layer &to = l.layer[i];
      to.W = from.W.matrix(), to.bias = from.bias.matrix().data, to.bias_element = element;
      to.n_in = from.n_in, to.n_out = from.n_out, to.activation = from.activation, to.threshold = from.threshold;
      to.dropout_scale = from.threshold ? scale() : 1, to.keep_probability = from.threshold ? 1 - p : 1;
      if (kind != NETWORK_CHAIN) continue;
      to.dZ = from.dZ.matrix();
      if (i < last) to.A = from.A.matrix();
      if (i < last && slope_is_from_z(from.activation)) to.Z = from.Z.matrix();
    }
    if (kind == NETWORK_FORWARD) {
      l.A = logits.matrix(), l.P = P.data;
      if (c.loss == kSquared) l.y_shift = y_shift.data, l.y_scale = y_scale.data;
    } else {
      l.y = y.data, l.w = w.data, l.scalars = scalars.data, l.label_smoothing = c.smoothing;
      l.partials = partials ? partials->data : nullptr, l.counters = counters.data;
    }
    return l;
  }

  void fetch() {
    for (auto &layer : layers) layer->A.fetch(), layer->Z.fetch(), layer->dZ.fetch();
    scalars.fetch(), logits.fetch(), P.fetch();
    ASSERT_EQ(counters.fetch(), std::vector<unsigned>(COUNTERS, 0));
  }

  static float scale() { return static_cast<float>(1 / (1 - static_cast<double>(p))); }
  bool keeps(int i, int64_t r, int64_t j) const {
    const Layer &layer = *layers[static_cast<size_t>(i)];
    return !layer.threshold ||
           rng_keep(seed, static_cast<uint32_t>(i) + 1, 3, static_cast<uint64_t>(r * layer.n_out + j), layer.threshold);
  }

  /* ---- bounds ---- */

  /* After rounding to the operands' element. */
  double after_rounding(Bounded x) const {
    return element == ELEMENT_BF16 ? x.error + 0x1p-8 * (std::fabs(x.value) + x.error) + 0x1p-134 : x.error;
  }

  /* Row r of the operand times the rows of W, or, backward, its columns. */
  std::vector<Bounded> product(const Matrix &left, int64_t r, const Layer &layer, bool backward) const {
    const int k = backward ? layer.n_out : layer.n_in, columns = backward ? layer.n_in : layer.n_out;
    std::vector<double> value(static_cast<size_t>(columns)), absolute(static_cast<size_t>(columns));
    for (int i = 0; i < k; i++) {
      const auto x = static_cast<double>(left.at(r, i));
      for (int j = 0; j < columns; j++) {
        const double term = x * static_cast<double>(backward ? layer.W.at(i, j) : layer.W.at(j, i));
        value[static_cast<size_t>(j)] += term, absolute[static_cast<size_t>(j)] += std::fabs(term);
      }
    }
    const double unit = c.arithmetic == FP32 ? u : 2 * u;           /* tensor cores may truncate */
    const double cut = c.arithmetic == TF32 ? 0x1p-9 + 0x1p-20 : 0; /* (1 + 2^-10)^2 - 1 */
    const double lost = k * unit / (1 - k * unit);
    std::vector<Bounded> all;
    for (size_t j = 0; j < value.size(); j++)
      all.push_back({value[j], (cut + lost * (1 + cut)) * absolute[j] + k * 0x1p-126});
    return all;
  }

  /* Z of a row, in float32. */
  std::vector<Bounded> logits_of(int i, int64_t r) const {
    const Layer &layer = *layers[static_cast<size_t>(i)];
    const Matrix &left = i == 0 ? static_cast<const Matrix &>(X) : layers[static_cast<size_t>(i) - 1]->A;
    std::vector<Bounded> Z = product(left, r, layer, false);
    for (int j = 0; j < layer.n_out; j++) {
      Bounded &z = Z[static_cast<size_t>(j)];
      z.value += static_cast<double>(layer.bias.at(0, j));
      z.error += u * (std::fabs(z.value) + z.error);
    }
    return Z;
  }

  /* g(z): g' is at most 1.13 (gelu). */
  Bounded activated(descent_activation activation, Bounded z, bool coarse) const {
    const double a = g(activation, z.value), size = std::fmax(std::fabs(z.value), std::fabs(a)) + z.error;
    const bool is_exact = activation == DESCENT_ACTIVATION_IDENTITY || activation == DESCENT_ACTIVATION_RELU;
    const double formula = is_exact ? 0 : coarse && activation == DESCENT_ACTIVATION_TANH ? 0x1p-11 + 4 * u : 4 * u;
    return {a, 1.13 * z.error + formula * size};
  }

  void expect_near(float found, Bounded expected, int i, int64_t r, int64_t j, const char *what) const {
    ASSERT_LE(std::fabs(static_cast<double>(found) - expected.value), expected.error)
        << what << " of layer " << i + 1 << ", " << r << ", " << j << ": " << found << " for " << expected.value;
  }

  void expect_hidden(int i) const {
    const Layer &layer = *layers[static_cast<size_t>(i)];
    const bool has_Z = slope_is_from_z(layer.activation);
    for (int64_t r = 0; r < c.valid; r++) {
      const std::vector<Bounded> Z = logits_of(i, r);
      for (int64_t j = 0; j < layer.n_out; j++) {
        const Bounded z = Z[static_cast<size_t>(j)];
        if (has_Z) expect_near(layer.Z.at(r, j), {z.value, after_rounding(z)}, i, r, j, "Z");
        Bounded a = activated(layer.activation, z, element == ELEMENT_BF16);
        if (layer.threshold) {
          const double factor = keeps(i, r, j) ? static_cast<double>(scale()) : 0;
          a = {a.value * factor, (a.error + 2 * u * (std::fabs(a.value) + a.error)) * factor};
        }
        expect_near(layer.A.at(r, j), {a.value, after_rounding(a)}, i, r, j, "A");
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }

  void expect_backward(int i) const {
    const Layer &layer = *layers[static_cast<size_t>(i)], &above = *layers[static_cast<size_t>(i) + 1];
    const bool from_z = slope_is_from_z(layer.activation);
    for (int64_t r = 0; r < c.valid; r++) {
      const std::vector<Bounded> products = product(above.dZ, r, above, true);
      for (int64_t j = 0; j < layer.n_out; j++) {
        const Bounded sum = products[static_cast<size_t>(j)];
        const double x = from_z            ? static_cast<double>(layer.Z.at(r, j))
                         : layer.threshold ? static_cast<double>(layer.A.at(r, j)) * (1 - static_cast<double>(p))
                                           : static_cast<double>(layer.A.at(r, j));
        const double factor = !layer.threshold ? 1 : keeps(i, r, j) ? static_cast<double>(scale()) : 0;
        const double s = slope(layer.activation, x) * factor, value = sum.value * s;
        const double relu =
            layer.activation == DESCENT_ACTIVATION_RELU || layer.activation == DESCENT_ACTIVATION_IDENTITY;
        const double error =
            std::fabs(s) * sum.error + (relu != 0 ? 0 : 8 * u * factor) * (std::fabs(sum.value) + sum.error);
        const Bounded expected = {value, error + 4 * u * (std::fabs(value) + error)};
        expect_near(layer.dZ.at(r, j), {value, after_rounding(expected)}, i, r, j, "dZ");
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }

  /* The logits of the forward kernel are of the hidden A that this one stored. */
  void expect_outputs() const {
    for (int64_t r = 0; r < c.valid; r++) {
      const std::vector<Bounded> Z = logits_of(last, r);
      for (int64_t j = 0; j < n; j++) {
        expect_near(logits.at(r, j), activated(c.output, Z[static_cast<size_t>(j)], false), last, r, j, "A");
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }

  /* Probabilities of a row's logits. */
  std::vector<Bounded> probabilities(int64_t r, double *log_sum, double *range) const {
    double max = -INFINITY, min = INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
      max = std::fmax(max, static_cast<double>(logits.at(r, j))),
      min = std::fmin(min, static_cast<double>(logits.at(r, j)));
    std::vector<Bounded> all;
    for (int64_t j = 0; j < n; j++) all.push_back({std::exp(static_cast<double>(logits.at(r, j)) - max), 0});
    for (const Bounded &e : all) sum += e.value;
    /* An exponential is off by 1.7 u, and by its argument's rounding; sums and the quotient round too. */
    const double relative = (2 * (max - min) + n + 8) * u;
    for (Bounded &e : all) e.value /= sum, e.error = relative * e.value + 0x1p-126;
    *log_sum = max + std::log(sum), *range = max - min;
    return all;
  }

  void expect_slope(int64_t r, int64_t j, Bounded dZ) const {
    expect_near(layers[static_cast<size_t>(last)]->dZ.at(r, j), {dZ.value, after_rounding(dZ)}, last, r, j, "dZ");
  }

  void expect_loss() const {
    double J = 0, error = 0;
    for (int64_t r = 0; r < c.valid; r++) {
      const auto weight = static_cast<double>(w.host[static_cast<size_t>(r)]), s = static_cast<double>(c.smoothing);
      const double f = weight_sum == 0 ? 0 : weight / weight_sum;
      const auto target = static_cast<double>(y.host[static_cast<size_t>(r * n_y)]);
      double L = 0, off = 0;
      if (c.loss == kSoftmax) {
        double log_sum = 0, range = 0;
        const std::vector<Bounded> p_r = probabilities(r, &log_sum, &range);
        L = log_sum;
        for (int64_t j = 0; j < n; j++) {
          const double q = (static_cast<double>(j) == target ? 1 - s : 0) + s / n;
          const Bounded e = p_r[static_cast<size_t>(j)];
          L -= q * static_cast<double>(logits.at(r, j));
          expect_slope(r, j, {(e.value - q) * f, (e.error + 6 * u * (e.value + q)) * f + 0x1p-126});
          if (testing::Test::HasFatalFailure()) return;
        }
        off = (n + 20) * u * (1 + range + std::fabs(L));
      } else if (c.loss == kBinary) {
        const auto z = static_cast<double>(logits.at(r, 0));
        const double t = target * (1 - s) + s / 2, a = g(DESCENT_ACTIVATION_SIGMOID, z);
        L = std::fmax(z, 0) - t * z + std::log1p(std::exp(-std::fabs(z)));
        expect_slope(r, 0, {(a - t) * f, 8 * u * (a + t) * f + 0x1p-126});
        off = 8 * u * (std::fabs(z) + 1);
      } else {
        const std::vector<Bounded> Z = logits_of(last, r);
        for (int64_t j = 0; j < n; j++) {
          const Bounded z = Z[static_cast<size_t>(j)], a = activated(c.output, z, false);
          const double e = a.value - static_cast<double>(y.host[static_cast<size_t>(r * n + j)]);
          const double e_error = a.error + u * (std::fabs(e) + a.error),
                       from = slope_is_from_z(c.output) ? z.value : a.value;
          const double d = slope(c.output, from), d_error = 2 * (z.error + a.error) + 8 * u; /* |g''| is below 2 */
          L += e * e / n, off += (2 * std::fabs(e) * e_error + e_error * e_error + (n + 2) * u * e * e) / n;
          const bool jumps = c.output == DESCENT_ACTIVATION_RELU || c.output == DESCENT_ACTIVATION_LEAKY_RELU;
          if (jumps && std::fabs(z.value) <= z.error) continue;
          const double slope_error = jumps || c.output == DESCENT_ACTIVATION_IDENTITY ? u : d_error;
          const double value = e * d * f * 2 / n;
          const double lost = (e_error * (std::fabs(d) + slope_error) + std::fabs(e) * slope_error) * f * 2 / n;
          expect_slope(r, j, {value, lost + 8 * u * (std::fabs(value) + lost) + 0x1p-126});
          if (testing::Test::HasFatalFailure()) return;
        }
      }
      J += f * L, error += f * off;
    }
    if (weight_sum == 0)
      EXPECT_EQ(scalars.host[SCALAR_LOSS], 0);
    else
      EXPECT_LE(std::fabs(scalars.host[SCALAR_LOSS] - J), error + 0x1p-40 * std::fabs(J))
          << scalars.host[SCALAR_LOSS] << " for " << J;
  }

  void expect_predictions() const {
    for (int64_t r = 0; r < c.rows; r++) {
      double log_sum = 0, range = 0;
      std::vector<Bounded> p_r;
      if (r < c.valid && c.loss == kSoftmax) p_r = probabilities(r, &log_sum, &range);
      for (int64_t j = 0; j < n; j++) {
        const float found = P.host[static_cast<size_t>(r * n + j)];
        if (r >= c.valid) {
          ASSERT_EQ(found, kUntouched);
          continue;
        }
        const auto a = static_cast<double>(logits.at(r, j));
        const double of_loss = c.loss == kBinary ? g(DESCENT_ACTIVATION_SIGMOID, a) : a / 0.5 + 0.25;
        expect_near(found,
                    c.loss == kSoftmax ? p_r[static_cast<size_t>(j)] : Bounded{of_loss, 4 * u * (2 * std::fabs(a) + 1)},
                    last, r, j, "P");
        if (testing::Test::HasFatalFailure()) return;
      }
    }
    ASSERT_EQ(P.host.back(), kUntouched);
  }

  /* Of the launch of every layer's results. */
  void expect_rest_untouched() const {
    for (int i = 0; i <= last; i++) {
      const Layer &layer = *layers[static_cast<size_t>(i)];
      layer.A.expect_rest_untouched(), layer.Z.expect_rest_untouched(), layer.dZ.expect_rest_untouched();
      if (i == last) layer.A.expect_untouched();
      if (i == last || !slope_is_from_z(layer.activation)) layer.Z.expect_untouched();
      for (int64_t r = c.valid; r < c.rows; r++)
        for (int64_t j = 0; j < layer.n_out; j++) ASSERT_EQ(layer.dZ.at(r, j), 0.0F) << r << ", " << j;
    }
    logits.expect_rest_untouched();
  }

  /* ---- against another way to compute the same ---- */

  void expect_same(const Network &other, int hidden) const {
    EXPECT_EQ(scalars.host[SCALAR_LOSS], other.scalars.host[SCALAR_LOSS]);
    for (int i = 0; i <= last; i++) {
      const Layer &layer = *layers[static_cast<size_t>(i)], &same = *other.layers[static_cast<size_t>(i)];
      for (int64_t r = 0; r < c.rows; r++)
        for (int64_t j = 0; j < layer.n_out; j++) {
          ASSERT_EQ(layer.dZ.at(r, j), same.dZ.at(r, j)) << "dZ of layer " << i + 1 << ", " << r << ", " << j;
          if (r >= c.valid || i >= hidden) continue;
          ASSERT_EQ(layer.A.at(r, j), same.A.at(r, j)) << "A of layer " << i + 1 << ", " << r << ", " << j;
          ASSERT_EQ(layer.Z.at(r, j), same.Z.at(r, j)) << "Z of layer " << i + 1 << ", " << r << ", " << j;
        }
    }
  }

  /* Layers, loss and dZ of NETWORK_CHAIN, by the kernels of single layers. */
  void compute_layer_by_layer() {
    network_launch whole = launch(NETWORK_CHAIN);
    for (int i = 0; i < last; i++) {
      fused_forward_launch l{};
      const network_layer &at = whole.layer[i];
      l.A_in = i == 0 ? whole.X : whole.layer[i - 1].A, l.W = at.W, l.n_in = at.n_in, l.tf32 = whole.tf32;
      l.pass.state = whole.state, l.pass.bias = at.bias, l.pass.bias_element = at.bias_element;
      l.pass.Z = at.Z, l.pass.A = at.A, l.pass.rows = c.rows, l.pass.n = at.n_out, l.pass.activation = at.activation;
      l.pass.Z.element = element, l.pass.seed = seed, l.pass.layer = static_cast<uint32_t>(i) + 1;
      l.pass.threshold = at.threshold, l.pass.dropout_scale = at.dropout_scale;
      ASSERT_EQ(launch_fused_forward(&l, nullptr), cudaSuccess);
    }
    fetch();
    for (int64_t r = 0; r < c.valid; r++) {
      const std::vector<Bounded> Z = logits_of(last, r);
      for (int64_t j = 0; j < n; j++)
        logits.floats.host[static_cast<size_t>(r * logits.ld + j)] =
            static_cast<float>(Z[static_cast<size_t>(j)].value);
    }
    logits.store();
    Buffer<char> scratch(std::vector<char>(loss_scratch(c.rows)));
    loss_launch loss{};
    loss.state = whole.state, loss.A = loss.Z = logits.matrix(), loss.y = y.data, loss.w = w.data;
    loss.scalars = scalars.data, loss.dZ = whole.layer[last].dZ, loss.rows = c.rows, loss.n = n, loss.loss = c.loss;
    loss.activation = c.output, loss.scratch = {scratch.data, counters.data};
    ASSERT_EQ(launch_loss(&loss, nullptr), cudaSuccess);
    for (int i = last - 1; i >= 0; i--) {
      fused_input_launch l{};
      const network_layer &at = whole.layer[i], &above = whole.layer[i + 1];
      l.dZ_above = above.dZ, l.W = above.W, l.n_out = above.n_out, l.tf32 = whole.tf32;
      l.pass.state = whole.state, l.pass.dZ = at.dZ, l.pass.A = at.A, l.pass.Z = at.Z, l.pass.rows = c.rows;
      l.pass.n = at.n_out, l.pass.activation = at.activation, l.pass.seed = seed;
      l.pass.layer = static_cast<uint32_t>(i) + 1, l.pass.threshold = at.threshold;
      l.pass.dropout_scale = at.dropout_scale, l.pass.keep_probability = at.keep_probability;
      ASSERT_EQ(launch_fused_input(&l, nullptr), cudaSuccess);
    }
    fetch();
  }

  static constexpr float p = 0.5F; /* the scale 2 is exact */
  static constexpr uint64_t seed = 7;
  Case c;
  enum element element;
  int last, n;
  Operand X;
  int64_t n_y;
  Buffer<float> y, w;
  double weight_sum = 0;
  Buffer<double> scalars;
  Buffer<unsigned> counters;
  std::unique_ptr<Buffer<step_state>> state;
  std::unique_ptr<Buffer<char>> partials;
  std::vector<std::unique_ptr<Layer>> layers;
  Result logits;
  Buffer<float> P, y_shift, y_scale;
};

/* The variants that take NETWORK_CHAIN; of NETWORK_FORWARD these are the last ones. */
template <class USE>
void each_variant(Network &network, network_kind kind, USE use) {
  network_launch chain = network.launch(NETWORK_CHAIN), launch = network.launch(kind);
  char reason[128] = "";
  const int count = network_variants(&chain, reason, sizeof reason), n = network_variants(&launch, nullptr, 0);
  ASSERT_GT(count, 0) << reason;
  ASSERT_GE(n, count);
  for (launch.variant = n - count; launch.variant < n && !testing::Test::HasFatalFailure(); launch.variant++) {
    SCOPED_TRACE("variant " + std::to_string(launch.variant));
    use(launch);
  }
  launch.variant = n;
  EXPECT_EQ(launch_network(&launch, nullptr), cudaErrorInvalidValue);
}

class Chain : public testing::TestWithParam<Case> {};

TEST_P(Chain, EveryResultIsWithinTheBoundOfItsOwnOperands) {
  Network network(GetParam(), false);
  each_variant(network, NETWORK_CHAIN, [&](network_launch &chain) {
    ASSERT_EQ(launch_network(&chain, nullptr), cudaSuccess);
    each_variant(network, NETWORK_FORWARD, [&](network_launch &forward) {
      ASSERT_EQ(launch_network(&forward, nullptr), cudaSuccess);
      network.fetch();
      network.expect_rest_untouched();
      for (int i = 0; i < network.last; i++) network.expect_hidden(i);
      network.expect_outputs();
      network.expect_loss();
      for (int i = network.last - 1; i >= 0; i--) network.expect_backward(i);
      network.expect_predictions();
    });
  });
}

/* Blocks, warps and copies in another order. */
TEST_P(Chain, GivesTheSameBitsEachTime) {
  Network network(GetParam(), false), again(GetParam(), false);
  network_launch first = network.launch(NETWORK_CHAIN), second = again.launch(NETWORK_CHAIN);
  ASSERT_EQ(launch_network(&first, nullptr), cudaSuccess);
  ASSERT_EQ(launch_network(&second, nullptr), cudaSuccess);
  network.fetch(), again.fetch();
  network.expect_same(again, network.last);
}

/* A row that is not finite makes J so, and changes no other row. */
TEST(Chain, KeepsARowThatIsNotFiniteToItself) {
  for (const Arithmetic arithmetic : {FP32, BF16})
    for (const descent_loss loss : {kSoftmax, kSquared}) {
      const Case c{
          {9, 40, 33, 5}, 70,   69,  arithmetic, loss, DESCENT_ACTIVATION_LEAKY_RELU, 1, DESCENT_ACTIVATION_IDENTITY,
          false,          0.1F, ONES};
      Network finite(c, false), network(c, false);
      network.X.set(20 * network.X.ld + 3, INFINITY), network.X.set(21 * network.X.ld + 8, NAN);
      network.X.store();
      network_launch expected = finite.launch(NETWORK_CHAIN), launch = network.launch(NETWORK_CHAIN);
      ASSERT_EQ(launch_network(&expected, nullptr), cudaSuccess);
      ASSERT_EQ(launch_network(&launch, nullptr), cudaSuccess);
      finite.fetch(), network.fetch();
      EXPECT_TRUE(std::isfinite(finite.scalars.host[SCALAR_LOSS]));
      EXPECT_FALSE(std::isfinite(network.scalars.host[SCALAR_LOSS]));
      for (size_t i = 0; i < network.layers.size(); i++)
        for (int64_t r = 0; r < c.rows; r++)
          for (int64_t j = 0; j < network.layers[i]->n_out; j++) {
            if (r != 20 && r != 21) {
              ASSERT_EQ(network.layers[i]->dZ.at(r, j), finite.layers[i]->dZ.at(r, j)) << i << ", " << r << ", " << j;
            }
          }
    }
}

/* The loss of finite logits whose difference exceeds the largest float32. */
TEST(Chain, HasAFiniteLossOfFiniteLogits) {
  const Case c{{4, 3}, 1, 1, FP32, kSoftmax, 0, 0, DESCENT_ACTIVATION_IDENTITY, false, 0, ONES};
  Network network(c, true);
  for (int64_t k = 0; k < 4; k++) network.X.set(k, k == 0);
  const float logits[] = {3e38F, -3e38F, 0};
  for (int64_t j = 0; j < 3; j++)
    for (int64_t k = 0; k < 4; k++) network.layers[0]->W.set(j * network.layers[0]->W.ld + k, k == 0 ? logits[j] : 0);
  network.layers[0]->bias.fill(1, 3, [] { return 0.0F; });
  network.X.store(), network.layers[0]->W.store();
  network.y.host[0] = 1;
  network.y.store();
  network_launch launch = network.launch(NETWORK_CHAIN);
  ASSERT_EQ(launch_network(&launch, nullptr), cudaSuccess);
  network.fetch();
  EXPECT_NEAR(network.scalars.host[SCALAR_LOSS], 6e38, 6e38 * 0x1p-22);
}

/* A launch of 3 layers of 100 units, without data. */
network_launch shape_of_three() {
  network_launch l{};
  l.kind = NETWORK_CHAIN, l.layers = 3, l.rows = 100, l.X = {nullptr, 104, ELEMENT_BF16};
  for (network_layer &at : l.layer) {
    at.n_in = at.n_out = 100, at.activation = DESCENT_ACTIVATION_SILU;
    at.W = at.A = at.Z = at.dZ = {nullptr, 104, ELEMENT_BF16};
  }
  return l;
}

TEST(ChainVariants, SayWhyThereIsNone) {
  const struct {
    const char *reason;
    void (*change)(network_launch &);
  } refusals[] = {
      {"layer 2 has 321 outputs, more than 320", [](network_launch &l) { l.layer[1].n_out = l.layer[2].n_in = 321; }},
      {"the network has 784 inputs, more than 320", [](network_launch &l) { l.layer[0].n_in = 784; }},
      {"13 layers, more than 12", [](network_launch &l) { l.layers = 13; }},
      {"layer 3 does not follow the one before it", [](network_launch &l) { l.layer[2].n_in = 99; }},
      {"X has rows that are not whole 16-byte units", [](network_launch &l) { l.X.ld = 100; }},
      {"layer 1 has rows that are not whole 16-byte units of one type",
       [](network_launch &l) { l.layer[0].W.ld = 100; }},
      {"layer 2 has rows that are not whole 16-byte units of one type",
       [](network_launch &l) { l.layer[1].A.ld = 100; }},
      {"layer 2 has rows that are not whole 16-byte units of one type",
       [](network_launch &l) { l.layer[1].Z.ld = 100; }},
      {"layer 3 has rows that are not whole 16-byte units of one type",
       [](network_launch &l) { l.layer[2].dZ.element = ELEMENT_F32; }},
      {"the outputs have rows that are not whole 16-byte units of float32",
       [](network_launch &l) {
         l.kind = NETWORK_FORWARD, l.A = {&l, 102, ELEMENT_F32};
       }},
  };
  network_launch fits = shape_of_three();
  EXPECT_GT(network_variants(&fits, nullptr, 0), 0);
  for (const auto &refusal : refusals) {
    network_launch l = shape_of_three();
    refusal.change(l);
    char reason[128] = "";
    EXPECT_EQ(network_variants(&l, reason, sizeof reason), 0) << refusal.reason;
    EXPECT_STREQ(reason, refusal.reason);
    EXPECT_EQ(network_variants(&l, nullptr, 0), 0);
    EXPECT_EQ(launch_network(&l, nullptr), cudaErrorInvalidValue);
  }
}

class ExactChain : public testing::TestWithParam<Case> {};

/* Sums of whole numbers are exact in any order, and so are the gradients of a squared error of as many weights and
 * outputs as a power of two. */
TEST_P(ExactChain, GivesTheBitsOfTheKernelsOfSingleLayers) {
  Network expected(GetParam(), true);
  expected.compute_layer_by_layer();
  each_variant(expected, NETWORK_CHAIN, [&](network_launch &shape) {
    Network network(GetParam(), true);
    network_launch launch = network.launch(NETWORK_CHAIN);
    launch.variant = shape.variant;
    ASSERT_EQ(launch_network(&launch, nullptr), cudaSuccess);
    network.fetch();
    network.expect_same(expected, network.last);
    network.expect_rest_untouched();
  });
}

/* Widths on each side of a warp's columns, a chunk and a tile's; every activation, loss, weight, dropout and smoothing,
 * with each arithmetic. */
std::vector<Case> cases() {
  const struct {
    std::vector<int> widths;
    int64_t rows, valid;
  } shapes[] = {
      {{1, 1}, 1, 1},
      {{3, 2, 1}, 127, 120},
      {{17, 16, 17, 33, 3}, 128, 128},
      {{28, 100, 128, 64, 10}, 129, 129},
      {{63, 64, 65, 1}, 130, 60},
      {{256, 255, 256, 128}, 131, 100},
      {{28, 300, 300, 1}, 70, 70},
      {{320, 320, 320}, 129, 128},
      {{100, 7, 320, 33}, 65, 65},
      {{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4}, 40, 33},
      {{33, 200, 129, 80, 20}, 260, 250},
      {{5, 96, 1}, 33, 33},
      {{40, 2}, 64, 0},
  };
  std::vector<Case> all;
  int turn = 0;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16}) {
      const descent_loss losses[] = {shape.widths.back() == 1 ? kBinary : kSoftmax, kSquared};
      Case c{shape.widths,
             shape.rows,
             shape.valid,
             arithmetic,
             losses[turn % 2],
             turn * 3 % N_ACTIVATIONS,
             turn % 3,
             DESCENT_ACTIVATION_IDENTITY,
             turn / 2 % 2 == 1,
             turn % 4 == 2 ? 0.1F : 0,
             static_cast<Weights>(turn % 5)};
      if (c.loss == kSquared && turn % 3 != 0) c.output = static_cast<descent_activation>(turn / 2 % N_ACTIVATIONS);
      all.push_back(c);
      turn++;
    }
#ifndef __SANITIZE_ADDRESS__ /* a minute */
  /* Blocks of several tiles, the last of fewer. */
  all.push_back({{3, 40, 2},
                 65700,
                 65600,
                 BF16,
                 kSoftmax,
                 DESCENT_ACTIVATION_RELU,
                 0,
                 DESCENT_ACTIVATION_IDENTITY,
                 true,
                 0.1F,
                 MIXED});
  all.push_back(
      {{3, 4}, 33000, 32900, TF32, kSquared, DESCENT_ACTIVATION_RELU, 0, DESCENT_ACTIVATION_SIGMOID, true, 0, MIXED});
#endif
  return all;
}

std::string name(const testing::TestParamInfo<Case> &info) {
  const Case &c = info.param;
  const char *const arithmetics[] = {"_fp32_", "_tf32_", "_bf16_"};
  std::string text = std::to_string(c.rows) + "x";
  for (const int width : c.widths) text += std::to_string(width) + "_";
  return std::to_string(info.index) + "_" + text + arithmetics[c.arithmetic] + descent_loss_name(c.loss) +
         (c.drops ? "_dropout" : "");
}

std::vector<Case> exact_cases() {
  const struct {
    std::vector<int> widths;
    int64_t rows, valid;
  } shapes[] = {{{1, 1}, 1, 1},
                {{17, 100, 65, 4}, 129, 128},
                {{128, 28, 128, 1}, 130, 64},
                {{300, 255, 16}, 70, 64},
                {{33, 320, 300, 2}, 100, 32}};
  std::vector<Case> all;
  int turn = 0;
  for (const auto &shape : shapes)
    for (const Arithmetic arithmetic : {FP32, TF32, BF16}) {
      all.push_back({shape.widths, shape.rows, shape.valid, arithmetic, kSquared,
                     turn % 2 ? DESCENT_ACTIVATION_RELU : DESCENT_ACTIVATION_IDENTITY, 0, DESCENT_ACTIVATION_IDENTITY,
                     turn / 2 % 2 == 0, 0, ONES});
      turn++;
    }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Networks, ExactChain, testing::ValuesIn(exact_cases()), name);
INSTANTIATE_TEST_SUITE_P(Networks, Chain, testing::ValuesIn(cases()), name);

}  // namespace
