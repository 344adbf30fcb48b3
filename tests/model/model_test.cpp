// Networks in memory: which can be created, where the parameters are, how weights are drawn, and that bad requests are
// refused by name.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "internal.h"

namespace {

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;

descent_status TryCreate(int64_t inputs, const std::vector<int64_t> &widths,
                         const std::vector<descent_activation> &activations, descent_loss loss, Network *created) {
  descent_network_options options = descent_network_options_default();
  options.inputs = inputs;
  options.layers = static_cast<int32_t>(widths.size());
  options.widths = widths.data();
  options.activations = activations.empty() ? nullptr : activations.data();
  options.loss = loss;
  descent_network *network = nullptr;
  descent_status status = descent_network_create(&options, &network);
  created->reset(network);
  return status;
}

Network Create(int64_t inputs, const std::vector<int64_t> &widths, descent_loss loss,
               const std::vector<descent_activation> &activations = {}) {
  Network network;
  EXPECT_EQ(TryCreate(inputs, widths, activations, loss, &network), DESCENT_OK) << descent_last_error();
  return network;
}

constexpr descent_loss kBinary = DESCENT_LOSS_BINARY_CROSS_ENTROPY;
constexpr descent_loss kClasses = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
constexpr descent_loss kSquared = DESCENT_LOSS_MEAN_SQUARED_ERROR;
constexpr descent_activation kIdentity = DESCENT_ACTIVATION_IDENTITY;
constexpr descent_activation kTanh = DESCENT_ACTIVATION_TANH;

TEST(Network, RefusesWhatItCannotBeAndSaysWhere) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  const struct {
    const char *name;
    int64_t inputs;
    std::vector<int64_t> widths;
    std::vector<descent_activation> activations;
    descent_loss loss;
    descent_status status;
    std::vector<std::string> says;
  } cases[] = {
      {"no inputs", 0, {1}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"input", "0"}},
      {"negative inputs", -3, {1}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"-3"}},
      {"no layers", 4, {}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"0"}},
      {"too many layers", 1, std::vector<int64_t>(10001, 1), {}, kBinary, DESCENT_ERROR_ARGUMENT, {"10001"}},
      {"width 0", 4, {3, 0, 1}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"layer 2", "0"}},
      {"negative width", 4, {-7, 1}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"layer 1", "-7"}},
      {"two outputs for binary", 4, {2}, {}, kBinary, DESCENT_ERROR_ARGUMENT, {"layer 1", "1 output", "2"}},
      {"one class", 4, {3, 1}, {}, kClasses, DESCENT_ERROR_ARGUMENT, {"layer 2", "2 outputs"}},
      {"tanh before a cross-entropy", 4, {1}, {kTanh}, kBinary, DESCENT_ERROR_ARGUMENT, {"layer 1", "tanh"}},
      {"unknown activation",
       4,
       {1},
       {static_cast<descent_activation>(7)},
       kSquared,
       DESCENT_ERROR_ARGUMENT,
       {"layer 1", "7"}},
      {"unknown loss", 4, {1}, {}, static_cast<descent_loss>(3), DESCENT_ERROR_ARGUMENT, {"loss 3"}},
      {"a billion units", 30, {1000000000, 1}, {}, kBinary, DESCENT_ERROR_MEMORY, {"layer 1", "1000000000 x 30", "GB"}},
      {"two billion-wide layers", 30, {1000000000, 1000000000, 1}, {}, kBinary, DESCENT_ERROR_MEMORY, {"layer 2"}},
      {"weights overflow", kHuge, {2, 1}, {}, kBinary, DESCENT_ERROR_MEMORY, {"layer 1"}},
      {"alignment overflows", kHuge, {1}, {}, kBinary, DESCENT_ERROR_MEMORY, {"layer 1"}},
      {"bytes overflow", kHuge / 2, {1}, {}, kBinary, DESCENT_ERROR_MEMORY, {"layer 1"}},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    Network network;
    EXPECT_EQ(TryCreate(c.inputs, c.widths, c.activations, c.loss, &network), c.status);
    EXPECT_EQ(network, nullptr);
    for (const std::string &text : c.says)
      EXPECT_NE(std::string(descent_last_error()).find(text), std::string::npos) << descent_last_error();
  }
}

TEST(Network, RefusesOptionsThatDidNotStartFromTheInitialiser) {
  descent_network_options options = {};
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_create(&options, &network), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_network_create(nullptr, &network), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(network, nullptr);
}

TEST(Network, ReportsItsShapeTaskAndDefaults) {
  const struct {
    descent_loss loss;
    int64_t outputs;
    descent_task task;
    int64_t classes;
  } cases[] = {
      {kBinary, 1, DESCENT_TASK_BINARY, 2},
      {kClasses, 5, DESCENT_TASK_CLASSES, 5},
      {kSquared, 3, DESCENT_TASK_REGRESSION, 0},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(descent_loss_name(c.loss));
    Network network = Create(7, {6, c.outputs}, c.loss);
    ASSERT_NE(network, nullptr);
    EXPECT_EQ(descent_network_inputs(network.get()), 7);
    EXPECT_EQ(descent_network_layers(network.get()), 2);
    EXPECT_EQ(descent_network_outputs(network.get()), c.outputs);
    EXPECT_EQ(descent_network_width(network.get(), 0), 7);
    EXPECT_EQ(descent_network_width(network.get(), 1), 6);
    EXPECT_EQ(descent_network_width(network.get(), 3), 0);
    EXPECT_EQ(descent_network_width(network.get(), -1), 0);
    EXPECT_EQ(descent_network_activation(network.get(), 1), DESCENT_ACTIVATION_RELU);
    EXPECT_EQ(descent_network_activation(network.get(), 2), kIdentity);
    EXPECT_EQ(descent_network_loss(network.get()), c.loss);
    EXPECT_EQ(descent_network_task(network.get()), c.task);
    EXPECT_EQ(descent_network_classes(network.get()), c.classes);
    EXPECT_EQ(descent_network_parameters(network.get()), 7 * 6 + 6 + 6 * c.outputs + c.outputs);
    EXPECT_EQ(descent_network_normalize(network.get()), DESCENT_NORMALIZE_NONE);
    EXPECT_EQ(descent_network_input_name(network.get(), 0), nullptr);
    EXPECT_EQ(descent_network_class_name(network.get(), 0), nullptr);
    EXPECT_EQ(descent_network_target_name(network.get(), 0), nullptr);
    EXPECT_STREQ(descent_network_provenance(network.get()), "");
  }
}

// Marks every parameter of a network and returns which floats of the flat buffer are used.
std::vector<bool> UsedFloats(const descent_network &network) {
  std::vector<bool> used(static_cast<size_t>(network.n_parameters), false);
  for (int32_t l = 0; l < network.n_layers; l++) {
    const network_layer &layer = network.layers[l];
    for (int64_t i = 0; i < layer.n_out * layer.n_in; i++) used[static_cast<size_t>(layer.at.W + i)] = true;
    for (int64_t i = 0; i < layer.n_out; i++) used[static_cast<size_t>(layer.at.b + i)] = true;
  }
  return used;
}

TEST(Network, LaysParametersOutAlignedAdjacentAndWithZeroGaps) {
  const std::vector<std::vector<int64_t>> shapes = {{1}, {3, 5, 1}, {16, 16, 1}, {17, 1}, {1, 1, 1, 1}, {31, 33, 1}};
  for (const auto &widths : shapes) {
    SCOPED_TRACE(::testing::PrintToString(widths));
    Network network = Create(13, widths, kBinary);
    int64_t begin = 0;
    for (int32_t l = 0; l < network->n_layers; l++) {
      const network_layer &layer = network->layers[l];
      EXPECT_EQ(layer.at.begin, begin);
      EXPECT_EQ(layer.at.W, begin);
      EXPECT_EQ(layer.at.W % PARAMETER_ALIGN, 0);
      EXPECT_EQ(layer.at.b % PARAMETER_ALIGN, 0);
      EXPECT_GE(layer.at.b, layer.at.W + layer.n_in * layer.n_out);
      EXPECT_LT(layer.at.b, layer.at.W + layer.n_in * layer.n_out + PARAMETER_ALIGN);
      EXPECT_GE(layer.at.end, layer.at.b + layer.n_out);
      EXPECT_LT(layer.at.end, layer.at.b + layer.n_out + PARAMETER_ALIGN);
      begin = layer.at.end;
    }
    EXPECT_EQ(network->n_parameters, begin);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(network->parameters) % 64, 0u);

    ASSERT_EQ(descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 1), DESCENT_OK);
    for (int32_t l = 1; l <= network->n_layers; l++) {
      std::vector<float> b(static_cast<size_t>(widths[static_cast<size_t>(l - 1)]), 2.0f);
      ASSERT_EQ(descent_network_set_layer(network.get(), l, nullptr, b.data()), DESCENT_OK);
    }
    const std::vector<bool> used = UsedFloats(*network);
    for (size_t i = 0; i < used.size(); i++) EXPECT_EQ(network->parameters[i] != 0, used[i]) << "float " << i;
  }
}

TEST(Network, GivesBackTheLayerThatWasSet) {
  Network network = Create(3, {4, 2}, kClasses);
  std::vector<float> W(12), b(4), W_read(12), b_read(4);
  for (size_t i = 0; i < W.size(); i++) W[i] = static_cast<float>(i) + 0.25f;
  for (size_t i = 0; i < b.size(); i++) b[i] = -static_cast<float>(i) - 1;
  ASSERT_EQ(descent_network_set_layer(network.get(), 1, W.data(), b.data()), DESCENT_OK);
  ASSERT_EQ(descent_network_get_layer(network.get(), 1, W_read.data(), b_read.data()), DESCENT_OK);
  EXPECT_EQ(W, W_read);
  EXPECT_EQ(b, b_read);
  ASSERT_EQ(descent_network_get_layer(network.get(), 1, nullptr, nullptr), DESCENT_OK);
  for (int32_t layer : {-1, 0, 3}) {
    EXPECT_EQ(descent_network_get_layer(network.get(), layer, W.data(), nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(descent_network_set_layer(network.get(), layer, W.data(), nullptr), DESCENT_ERROR_ARGUMENT);
  }
}

TEST(Network, RefusesNonFiniteParametersAndKeepsTheOldOnes) {
  Network network = Create(2, {2, 1}, kBinary);
  ASSERT_EQ(descent_network_initialise(network.get(), DESCENT_INIT_AUTO, 3), DESCENT_OK);
  std::vector<float> before(4), after(4);
  descent_network_get_layer(network.get(), 1, before.data(), nullptr);
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> good_W = {1, 2, 3, 4}, bad_W = {1, 2, bad, 4}, bad_b = {0, bad};
    EXPECT_EQ(descent_network_set_layer(network.get(), 1, bad_W.data(), nullptr), DESCENT_ERROR_ARGUMENT);
    EXPECT_NE(std::string(descent_last_error()).find("W[2]"), std::string::npos) << descent_last_error();
    EXPECT_EQ(descent_network_set_layer(network.get(), 1, good_W.data(), bad_b.data()), DESCENT_ERROR_ARGUMENT);
    descent_network_get_layer(network.get(), 1, after.data(), nullptr);
    EXPECT_EQ(before, after);
  }
}

TEST(Network, KeepsItsOwnCopyOfUtf8Provenance) {
  Network network = Create(2, {1}, kBinary);
  std::string text = "{\"lr\": 0.1, \"note\": \"\xc3\xa9\"}";
  ASSERT_EQ(descent_network_set_provenance(network.get(), text.c_str()), DESCENT_OK);
  EXPECT_EQ(descent_network_set_provenance(network.get(), "caf\xe9"), DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(text, descent_network_provenance(network.get()));
  ASSERT_EQ(descent_network_set_provenance(network.get(), descent_network_provenance(network.get())), DESCENT_OK);
  EXPECT_EQ(text, descent_network_provenance(network.get()));
  ASSERT_EQ(descent_network_set_provenance(network.get(), nullptr), DESCENT_OK);
  EXPECT_STREQ(descent_network_provenance(network.get()), "");
}

// ---- initial weights ------------------------------------------------------------------------------------------------

std::vector<float> DrawnWeights(int64_t n_in, int64_t n_out, descent_activation activation, descent_init init,
                                uint64_t seed, int32_t layer = 1) {
  std::vector<int64_t> widths(static_cast<size_t>(layer), n_in);
  widths.back() = n_out;
  Network network =
      Create(n_in, widths, kSquared, std::vector<descent_activation>(static_cast<size_t>(layer), activation));
  EXPECT_EQ(descent_network_initialise(network.get(), init, seed), DESCENT_OK);
  std::vector<float> W(static_cast<size_t>(n_in * n_out)), b(static_cast<size_t>(n_out), 1);
  descent_network_get_layer(network.get(), layer, W.data(), b.data());
  for (float value : b) EXPECT_EQ(value, 0);
  return W;
}

struct Scheme {
  descent_init init;
  bool normal;
  double (*variance)(double fan_in, double fan_out);
};
const Scheme kSchemes[] = {
    {DESCENT_INIT_XAVIER_UNIFORM, false, [](double n_in, double n_out) { return 2 / (n_in + n_out); }},
    {DESCENT_INIT_XAVIER_NORMAL, true, [](double n_in, double n_out) { return 2 / (n_in + n_out); }},
    {DESCENT_INIT_HE_UNIFORM, false, [](double n_in, double) { return 2 / n_in; }},
    {DESCENT_INIT_HE_NORMAL, true, [](double n_in, double) { return 2 / n_in; }},
    {DESCENT_INIT_LECUN_UNIFORM, false, [](double n_in, double) { return 1 / n_in; }},
    {DESCENT_INIT_LECUN_NORMAL, true, [](double n_in, double) { return 1 / n_in; }},
};

// The definition, one weight at a time: word i of the layer's stream, rounded to float once.
TEST(Initialisation, DrawsEachWeightFromSeedLayerAndIndexAlone) {
  constexpr int64_t kIn = 9, kOut = 7; /* 63 weights: the last block of four is cut */
  for (const Scheme &scheme : kSchemes)
    for (int32_t layer : {1, 3}) {
      SCOPED_TRACE(descent_init_name(scheme.init));
      const uint64_t seed = 0x123456789abcdefULL;
      const std::vector<float> W = DrawnWeights(kIn, kOut, kTanh, scheme.init, seed, layer);
      const double std = std::sqrt(scheme.variance(kIn, kOut));
      for (uint64_t i = 0; i < W.size(); i++) {
        const auto uniform = [&](uint64_t index) {
          return rng_uniform(seed, RNG_WEIGHTS, static_cast<uint32_t>(layer), 0, index);
        };
        const double radius = std::sqrt(-2 * std::log(uniform(i & ~1ULL))), angle = 2 * M_PI * uniform(i | 1);
        const double z = scheme.normal ? radius * (i % 2 ? std::sin(angle) : std::cos(angle))
                                       : std::sqrt(3.0) * (2 * uniform(i) - 1);
        /* float's half unit, and what two roundings of double to double can add to it */
        EXPECT_LE(std::fabs(W[i] - std * z), std::fabs(std * z) * (0x1p-24 + 0x1p-48)) << "weight " << i;
      }
    }
}

// Mean and variance of n draws deviate by z standard errors: sigma / sqrt(n), and sigma^2 sqrt((k - 1) / n) with the
// kurtosis k = 3 (normal) or 9/5 (uniform). 5 of them: once in a million draws, and the seeds are fixed.
TEST(Initialisation, HasMeanZeroAndTheSchemesVariance) {
  constexpr int64_t kIn = 300, kOut = 200;
  constexpr double kN = kIn * kOut;
  for (const Scheme &scheme : kSchemes)
    for (uint64_t seed : {0, 1, 7}) {
      SCOPED_TRACE(std::string(descent_init_name(scheme.init)) + " seed " + std::to_string(seed));
      const double variance = scheme.variance(kIn, kOut), kurtosis = scheme.normal ? 3 : 1.8;
      double sum = 0, squares = 0, largest = 0;
      for (float w : DrawnWeights(kIn, kOut, kTanh, scheme.init, seed)) {
        sum += w;
        squares += static_cast<double>(w) * w;
        largest = std::fmax(largest, std::fabs(w));
      }
      EXPECT_LT(std::fabs(sum / kN), 5 * std::sqrt(variance / kN));
      EXPECT_LT(std::fabs(squares / kN - variance), 5 * variance * std::sqrt((kurtosis - 1) / kN));
      if (scheme.normal)
        EXPECT_GT(largest, 3.5 * std::sqrt(variance)); /* tails exist: P(no |z| > 3.5 in 60000) = 8e-13 */
      else
        EXPECT_LE(largest, std::sqrt(3 * variance) * (1 + 0x1p-24));
    }
}

TEST(Initialisation, AutoPicksByActivation) {
  const struct {
    descent_activation activation;
    descent_init init;
  } cases[] = {
      {DESCENT_ACTIVATION_IDENTITY, DESCENT_INIT_XAVIER_UNIFORM},
      {DESCENT_ACTIVATION_SIGMOID, DESCENT_INIT_XAVIER_UNIFORM},
      {DESCENT_ACTIVATION_TANH, DESCENT_INIT_XAVIER_UNIFORM},
      {DESCENT_ACTIVATION_RELU, DESCENT_INIT_HE_NORMAL},
      {DESCENT_ACTIVATION_LEAKY_RELU, DESCENT_INIT_HE_NORMAL},
      {DESCENT_ACTIVATION_GELU, DESCENT_INIT_HE_NORMAL},
      {DESCENT_ACTIVATION_SILU, DESCENT_INIT_HE_NORMAL},
  };
  static_assert(std::size(cases) == N_ACTIVATIONS, "a row for each");
  for (const auto &c : cases)
    EXPECT_EQ(DrawnWeights(8, 6, c.activation, DESCENT_INIT_AUTO, 5), DrawnWeights(8, 6, c.activation, c.init, 5))
        << descent_activation_name(c.activation);
}

TEST(Initialisation, EqualSeedsGiveEqualBitsAndOthersDoNot) {
  const auto draw = [](uint64_t seed) { return DrawnWeights(8, 6, kTanh, DESCENT_INIT_HE_NORMAL, seed); };
  EXPECT_EQ(draw(42), draw(42));
  EXPECT_NE(draw(42), draw(43));
  EXPECT_NE(draw(42), draw(42 + (1ULL << 32))); /* all 64 bits count */
}

TEST(Initialisation, RefusesAnUnknownScheme) {
  Network network = Create(2, {1}, kBinary);
  EXPECT_EQ(descent_network_initialise(network.get(), static_cast<descent_init>(7), 1), DESCENT_ERROR_ARGUMENT);
}

}  // namespace
