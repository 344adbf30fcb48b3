/* What surrounds the layers of a small step, by one cluster of blocks and by the kernels of the gather, the norm and
 * the update: equal bytes of all that they write, and of what lies around it. */
#include "whole.cuh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

/* ---- device memory between guards ---- */

enum { GUARD = 64, GUARD_BYTE = 0xa5 }; /* elements on each side */

template <typename T>
class Guarded {
 public:
  explicit Guarded(const std::vector<T> &values) : count_(values.size()) {
    std::vector<T> all(count_ + 2 * GUARD);
    memset(static_cast<void *>(all.data()), GUARD_BYTE, all.size() * sizeof(T));
    if (count_) memcpy(static_cast<void *>(&all[GUARD]), values.data(), count_ * sizeof(T));
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void **>(&data_), all.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, all.data(), all.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  explicit Guarded(int64_t count, T value = T()) : Guarded(std::vector<T>(static_cast<size_t>(count), value)) {}
  ~Guarded() { cudaFree(data_); }
  Guarded(const Guarded &) = delete;
  Guarded &operator=(const Guarded &) = delete;
  T *get() const { return data_ + GUARD; }
  void set(size_t i, T value) const {
    EXPECT_EQ(cudaMemcpy(get() + i, &value, sizeof value, cudaMemcpyHostToDevice), cudaSuccess);
  }
  T at(size_t i) const {
    T value;
    EXPECT_EQ(cudaMemcpy(&value, get() + i, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
    return value;
  }
  /* With the guards. */
  std::string bytes() const {
    std::string all((count_ + 2 * GUARD) * sizeof(T), 0);
    EXPECT_EQ(cudaMemcpy(&all[0], data_, all.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    return all;
  }

 private:
  T *data_ = nullptr;
  size_t count_;
};

template <typename T>
testing::AssertionResult equal(const Guarded<T> &a, const Guarded<T> &b) {
  const std::string x = a.bytes(), y = b.bytes();
  for (size_t i = 0; i < x.size(); i++)
    if (x[i] != y[i])
      return testing::AssertionFailure() << "differs in element " << static_cast<int64_t>(i / sizeof(T)) - GUARD;
  return testing::AssertionSuccess();
}

/* ---- kernels ---- */

template <enum element ELEMENT>
__global__ void gather_by_cluster(struct gather_launch l) {
  GRID_BEGIN();
  whole_gather<ELEMENT>(l, blockIdx.x, gridDim.x);
  CLUSTER_SYNC();
  if (blockIdx.x == 0 && threadIdx.x == 0) whole_advance(l);
}

__global__ void end_by_cluster(struct whole_step whole) {
  GRID_BEGIN();
  whole_norm_and_update(whole, blockIdx.x, gridDim.x);
}

/* In place of the layers: gradients and a loss that follow from all that the gather writes. */
__device__ void layers(const struct whole_step &whole, float *gradients, int64_t n, int64_t thread, int64_t threads) {
  const struct gather_launch &l = whole.gather;
  const int64_t rows = l.state->current.rows;
  for (int64_t i = thread; i < n; i += threads) {
    const int64_t r = i % rows;
    const float x = l.X.element == ELEMENT_F32
                        ? static_cast<const float *>(l.X.data)[r * l.X.ld + i % l.n_x]
                        : bf16_value(static_cast<const uint16_t *>(l.X.data)[r * l.X.ld + i % l.n_x]);
    gradients[i] = x * l.w[r] + l.y[r * l.n_y];
  }
  if (thread == 0)
    whole.norm.scalars[SCALAR_LOSS] = whole.norm.scalars[SCALAR_WEIGHT_SUM] / static_cast<double>(l.w[0]);
}

template <enum element ELEMENT>
__global__ void step_by_cluster(struct whole_step whole, float *gradients, int64_t n) {
  GRID_BEGIN();
  whole_gather<ELEMENT>(whole.gather, blockIdx.x, gridDim.x);
  CLUSTER_SYNC();
  layers(whole, gradients, n, blockIdx.x * BLOCK + threadIdx.x, gridDim.x * BLOCK);
  whole_norm_and_update(whole, blockIdx.x, gridDim.x);
}

__global__ void layers_alone(struct whole_step whole, float *gradients, int64_t n) {
  GRID_BEGIN();
  layers(whole, gradients, n, blockIdx.x * BLOCK + threadIdx.x, gridDim.x * BLOCK);
}

/* ---- the gather ---- */

enum Part {
  FILL = 1,
  NORMALISED = 2,
  WEIGHTS = 4,
  CLASS_WEIGHTS = 8,
  INDEX = 16,
  SHUFFLED = 32,
  UNBOUND_Y = 64,
  QUEUED = 128,
  PARTS = 256
};
enum { CLASSES = 5, STEPS = 3, MORE_ROWS = 7 }; /* rows of the sources beyond the step's */

struct Shape {
  int64_t rows, n_x, ld, n_y;
  enum element element;
  enum input_form form;
};

/* What a gather reads. */
class Sources {
 public:
  Sources(const Shape &shape, unsigned parts, unsigned seed)
      : parts_(parts),
        rows_(shape.rows + MORE_ROWS),
        random_(seed),
        floats_(floats_of(shape)),
        bytes_(bytes_of((shape.rows + MORE_ROWS) * shape.n_x)),
        y_(targets_of((shape.rows + MORE_ROWS) * shape.n_y)),
        w_(weights_of(shape.rows + MORE_ROWS)),
        fill_(draws(shape.n_x)),
        shift_(draws(shape.n_x)),
        scale_(draws(shape.n_x)),
        y_shift_(draws(shape.n_y)),
        y_scale_(draws(shape.n_y)),
        class_weight_(weights_of(CLASSES)),
        index_(index_of(shape.rows + MORE_ROWS)),
        queue_(steps_of(shape.rows)),
        table_(std::vector<source_table>{table_of(shape)}) {}

  /* All but what is written. */
  struct gather_launch launch(const Shape &shape) const {
    gather_launch l{};
    if (has(QUEUED)) l.queue = queue_.get();
    l.sources = table_.get();
    if (has(FILL)) l.fill = fill_.get();
    if (has(NORMALISED))
      l.shift = shift_.get(), l.scale = scale_.get(), l.y_shift = y_shift_.get(), l.y_scale = y_scale_.get();
    if (has(CLASS_WEIGHTS)) l.class_weight = class_weight_.get(), l.classes = CLASSES;
    l.n_x = shape.n_x, l.n_y = shape.n_y, l.rows = shape.rows, l.shuffle = has(SHUFFLED);
    return l;
  }
  struct device_step step(size_t i) const {
    return queue_.at(i);
  }
  void break_weights() const {
    for (int64_t i = 0; i < rows_; i++) w_.set(static_cast<size_t>(i), INFINITY);
  }

 private:
  bool has(Part part) const { return parts_ & part; }
  float draw() { return static_cast<float>(static_cast<int>(random_() % 2001) - 1000) / 256; }
  std::vector<float> draws(int64_t n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float &each : x) each = draw();
    return x;
  }
  /* Missing cells, infinities, halves of bf16's unit; rows that are normalised already have more bits than a bf16. */
  std::vector<float> floats_of(const Shape &shape) {
    static const float specials[] = {NAN, INFINITY, -INFINITY, -0.0F, 1e-42F, 3.3e38F, 1.00390625F, 65536.5F};
    std::vector<float> x(static_cast<size_t>((shape.rows + MORE_ROWS) * std::max(shape.n_x, shape.ld)));
    for (float &each : x) each = random_() % 8 ? draw() + draw() / 4096 : specials[random_() % 8];
    return x;
  }
  std::vector<uint8_t> bytes_of(int64_t n) {
    std::vector<uint8_t> x(static_cast<size_t>(n));
    for (uint8_t &each : x) each = static_cast<uint8_t>(random_());
    return x;
  }
  std::vector<float> targets_of(int64_t n) {
    std::vector<float> y = draws(n);
    for (float &each : y)
      if (has(CLASS_WEIGHTS)) each = static_cast<float>(random_() % CLASSES);
    return y;
  }
  /* Of sizes whose sum depends on its order. */
  std::vector<float> weights_of(int64_t n) {
    std::vector<float> w = draws(n);
    for (float &each : w) each = std::exp2(each * 12);
    return w;
  }
  std::vector<int64_t> index_of(int64_t n) {
    std::vector<int64_t> index(static_cast<size_t>(n));
    for (int64_t &each : index) each = static_cast<int64_t>(random_() % static_cast<uint64_t>(n));
    return index;
  }
  std::vector<device_step> steps_of(int64_t rows) {
    std::vector<device_step> steps(STEPS);
    for (size_t i = 0; i < STEPS; i++) {
      steps[i].number = static_cast<int64_t>(i) + 3;
      steps[i].first_row = static_cast<int64_t>(i) + 2;
      steps[i].rows = i == 1 ? rows - rows / 3 : rows;
      steps[i].weight_sum = i == 1 ? 3.25 : 0; /* 0: it is summed */
      permutation &order = steps[i].order;
      if (has(SHUFFLED)) order.n = static_cast<uint64_t>(rows) + 5;
      while (UINT64_C(1) << 2 * order.half_bits < order.n) order.half_bits++;
      for (uint32_t &key : order.keys) key = static_cast<uint32_t>(random_());
      steps[i].update.learning_rate = 0.01F, steps[i].update.decay_factor = 0.999F;
      steps[i].update.corrected_learning_rate = 0.02F, steps[i].update.root_bias_correction = 3;
    }
    return steps;
  }
  source_table table_of(const Shape &shape) const {
    source_table table{};
    table.X = shape.form == INPUT_BYTES ? static_cast<const void *>(bytes_.get()) : floats_.get();
    table.form = shape.form, table.ld = shape.form == INPUT_NORMALISED ? shape.ld : shape.n_x;
    if (!has(UNBOUND_Y)) table.y = y_.get();
    if (has(WEIGHTS)) table.w = w_.get();
    if (has(INDEX)) table.index = index_.get();
    return table;
  }

  unsigned parts_;
  int64_t rows_;
  std::mt19937 random_;
  Guarded<float> floats_;
  Guarded<uint8_t> bytes_;
  Guarded<float> y_, w_, fill_, shift_, scale_, y_shift_, y_scale_, class_weight_;
  Guarded<int64_t> index_;
  Guarded<device_step> queue_;
  Guarded<source_table> table_;
};

/* What a gather writes. */
struct Gathered {
  Gathered(const Shape &shape, const device_step &step)
      : X(shape.rows * shape.ld * element_bytes(shape.element), 0x55),
        y(shape.rows * shape.n_y, -77),
        w(shape.rows, -77),
        scalars(SCALAR_SLOTS, 0),
        state(std::vector<step_state>{{step, 0}}),
        partials(static_cast<int64_t>(gather_scratch(shape.rows) / sizeof(double)), NAN),
        counters(COUNTERS, 0) {}
  struct gather_launch into(struct gather_launch l, const Shape &shape) const {
    l.state = state.get(), l.X = {X.get(), shape.ld, shape.element}, l.y = y.get(), l.w = w.get();
    l.weight_sum = scalars.get() + SCALAR_WEIGHT_SUM, l.scratch = {partials.get(), counters.get()};
    if (l.queue) l.bad_step = scalars.get() + SCALAR_BAD_STEP;
    return l;
  }
  Guarded<uint8_t> X;
  Guarded<float> y, w;
  Guarded<double> scalars;
  Guarded<step_state> state;
  Guarded<double> partials;
  Guarded<unsigned> counters;
};

void expect_equal(const Gathered &a, const Gathered &b) {
  EXPECT_TRUE(equal(a.X, b.X)) << "X";
  EXPECT_TRUE(equal(a.y, b.y)) << "y";
  EXPECT_TRUE(equal(a.w, b.w)) << "w";
  EXPECT_TRUE(equal(a.scalars, b.scalars)) << "scalars";
  EXPECT_TRUE(equal(a.state, b.state)) << "state";
  EXPECT_TRUE(equal(a.counters, b.counters)) << "counters";
}

cudaError_t launch_gather_by_cluster(const struct gather_launch *l, unsigned blocks) {
  return l->X.element == ELEMENT_F32 ? LAUNCH_CLUSTER(gather_by_cluster<ELEMENT_F32>, blocks, BLOCK, 0, nullptr, *l)
                                     : LAUNCH_CLUSTER(gather_by_cluster<ELEMENT_BF16>, blocks, BLOCK, 0, nullptr, *l);
}

class Whole : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(emulate_live(), 0); }
};

/* Accesses of every width, chunks of 2 to 1024 rows of several warps, more rows than a block finds at once, columns of
 * several stripes, targets of one column and of many. */
const Shape shapes[] = {
    {1, 1, 1, 1, ELEMENT_F32, INPUT_FLOATS},           {7, 5, 8, 1, ELEMENT_BF16, INPUT_FLOATS},
    {256, 784, 784, 1, ELEMENT_BF16, INPUT_FLOATS},    {256, 784, 784, 1, ELEMENT_BF16, INPUT_BYTES},
    {64, 784, 784, 1, ELEMENT_BF16, INPUT_NORMALISED}, {100, 784, 784, 1, ELEMENT_F32, INPUT_BYTES},
    {1000, 28, 32, 1, ELEMENT_BF16, INPUT_FLOATS},     {1000, 28, 32, 1, ELEMENT_BF16, INPUT_NORMALISED},
    {999, 8, 8, 1, ELEMENT_F32, INPUT_FLOATS},         {600, 8, 8, 1, ELEMENT_BF16, INPUT_BYTES},
    {300, 13, 16, 3, ELEMENT_BF16, INPUT_FLOATS},      {300, 13, 16, 1, ELEMENT_BF16, INPUT_NORMALISED},
    {129, 30, 30, 2, ELEMENT_F32, INPUT_FLOATS},       {33, 300, 300, 300, ELEMENT_F32, INPUT_FLOATS},
    {21, 1300, 1304, 1, ELEMENT_BF16, INPUT_BYTES},    {40, 3000, 3000, 1, ELEMENT_BF16, INPUT_FLOATS},
    {16, 515, 520, 1, ELEMENT_F32, INPUT_BYTES},       {2500, 64, 64, 1, ELEMENT_BF16, INPUT_NORMALISED},
    {4000, 2, 8, 1, ELEMENT_F32, INPUT_FLOATS},        {700, 4, 4, 1, ELEMENT_F32, INPUT_BYTES}};

std::string name_of(const Shape &s, unsigned parts, unsigned blocks) {
  return std::to_string(s.rows) + " x " + std::to_string(s.n_x) + ", ld " + std::to_string(s.ld) + ", n_y " +
         std::to_string(s.n_y) + ", element " + std::to_string(s.element) + ", form " + std::to_string(s.form) +
         ", parts " + std::to_string(parts) + ", blocks " + std::to_string(blocks);
}

/* The parts are drawn; step 2 has fewer rows than the others, and a bad step is found before step 3. */
TEST_F(Whole, GathersTheBytesOfTheGathersKernel) {
  std::mt19937 random(1);
  for (const Shape &shape : shapes)
    for (const unsigned blocks : {8u, 16u})
      for (int tries = 0; tries < 2; tries++) {
        const unsigned parts = tries == 0 ? WEIGHTS | QUEUED | SHUFFLED | INDEX : random() % PARTS;
        SCOPED_TRACE(name_of(shape, parts, blocks));
        const Sources sources(shape, parts, random());
        const Gathered kernel(shape, sources.step(1)), cluster(shape, sources.step(1));
        const gather_launch l = kernel.into(sources.launch(shape), shape),
                            by_cluster = cluster.into(sources.launch(shape), shape);
        for (int i = 0; i < 4; i++) {
          for (const Gathered *each : {&kernel, &cluster}) each->scalars.set(SCALAR_BAD_STEP, i == 2 ? 4 : 0);
          ASSERT_EQ(launch_gather(&l, nullptr), cudaSuccess);
          ASSERT_EQ(launch_gather_by_cluster(&by_cluster, blocks), cudaSuccess);
          ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
          expect_equal(kernel, cluster);
          ASSERT_FALSE(HasFailure()) << "step " << i;
          if (!(parts & QUEUED)) break;
          EXPECT_EQ(cluster.state.at(0).next, i < 2 ? i + 1 : i);
        }
      }
}

/* ---- the norm and the update ---- */

/* The flat buffers of layers, each with a gap behind it. */
struct Flat {
  enum { GAP = 24 };
  std::vector<flat_piece> pieces;
  int64_t n = 0;
  int layers;
  explicit Flat(const std::vector<int64_t> &floats) : layers(static_cast<int>(floats.size())) {
    int64_t all = 0;
    for (const int64_t each : floats) all += each;
    const int64_t piece = flat_piece_floats(all);
    for (size_t l = 0; l < floats.size(); l++) {
      for (int64_t at = 0; at < floats[l]; at += piece)
        pieces.push_back({n + at, n + std::min(floats[l], at + piece), static_cast<int32_t>(l) + 1,
                          static_cast<int32_t>(floats[l] - floats[l] / 9)});
      n += floats[l] + GAP;
    }
  }
};

/* What the norm and the update read and write, equal for equal seeds. */
struct Trained {
  Trained(const Flat &flat, enum update_rule rule, bool with_copy, unsigned seed)
      : random(seed),
        parameters(draws(flat, 1, true)),
        gradients(draws(flat, 0.01F, true)),
        moment1(draws(flat, 0.1F, update_moments_of(rule).moment1, seed % 3 == 0)),
        moment2(draws(flat, 0, update_moments_of(rule).moment2, seed % 3 == 0)),
        working(with_copy ? flat.n : 0, 0x1234),
        pieces(flat.pieces),
        scalars(SCALAR_SLOTS, 0),
        statistics(flat.layers * LAYER_SLOTS, -77),
        bad_parameters(1, 0),
        scratch(static_cast<int64_t>(norm_scratch(static_cast<int>(flat.pieces.size()), flat.layers)), 0x77),
        counters(COUNTERS, 0) {
    norm_launch &n = whole.norm;
    n.gradients = gradients.get(), n.pieces = pieces.get(), n.n_pieces = static_cast<int>(flat.pieces.size());
    n.layers = flat.layers, n.scalars = scalars.get(), n.layer_statistics = statistics.get();
    n.bad_parameters = bad_parameters.get(), n.scratch = {scratch.get(), counters.get()};
    update_launch &u = whole.update;
    u.parameters = parameters.get(), u.working = with_copy ? working.get() : nullptr, u.gradients = gradients.get();
    if (update_moments_of(rule).moment1) u.moment1 = moment1.get();
    if (update_moments_of(rule).moment2) u.moment2 = moment2.get();
    u.pieces = pieces.get(), u.n_pieces = n.n_pieces, u.layers = n.layers, u.scalars = scalars.get(), u.rule = rule;
    u.bad_parameters = bad_parameters.get(), u.scratch = n.scratch;
    update_coefficients_f32 &c = u.coefficients;
    c.clip_factor = NAN, c.l2 = 0.03F, c.momentum = 0.9F, c.rho = 0.95F, c.one_minus_rho = 0.05F, c.beta1 = 0.9F;
    c.one_minus_beta1 = 0.1F, c.beta2 = 0.99F, c.one_minus_beta2 = 0.01F, c.epsilon = 1e-7F;
    c.step.learning_rate = NAN;
    scalars.set(SCALAR_TOTAL_LOSS, 0.1), scalars.set(SCALAR_TOTAL_WEIGHT, 11);
    scalars.set(SCALAR_LOSS, 0.3), scalars.set(SCALAR_WEIGHT_SUM, 1.7);
  }
  std::vector<float> draws(const Flat &flat, float size, bool there, bool extremes = false) {
    std::vector<float> x(there ? static_cast<size_t>(flat.n) : 0);
    for (float &each : x) {
      const float unit = static_cast<float>(random() % 20001) / 10000 - 1;
      each = random() % 16 == 0 ? 0 : size == 0 ? unit * unit : unit * size;
      if (extremes && random() % 32 == 0)
        each = std::copysign(std::ldexp(1 + std::fabs(unit), static_cast<int>(random() % 250) - 149),
                             size == 0 ? 1 : unit);
      if (extremes && random() % 64 == 0) each = -0.0F;
    }
    return x;
  }
  std::mt19937 random;
  Guarded<float> parameters, gradients, moment1, moment2;
  Guarded<uint16_t> working;
  Guarded<flat_piece> pieces;
  Guarded<double> scalars, statistics;
  Guarded<int> bad_parameters;
  Guarded<char> scratch;
  Guarded<unsigned> counters;
  whole_step whole{};
};

void expect_equal(const Trained &a, const Trained &b) {
  EXPECT_TRUE(equal(a.parameters, b.parameters)) << "parameters";
  EXPECT_TRUE(equal(a.gradients, b.gradients)) << "gradients";
  EXPECT_TRUE(equal(a.moment1, b.moment1)) << "moment1";
  EXPECT_TRUE(equal(a.moment2, b.moment2)) << "moment2";
  EXPECT_TRUE(equal(a.working, b.working)) << "working";
  EXPECT_TRUE(equal(a.scalars, b.scalars)) << "scalars";
  EXPECT_TRUE(equal(a.statistics, b.statistics)) << "statistics";
  EXPECT_TRUE(equal(a.bad_parameters, b.bad_parameters)) << "bad_parameters";
  EXPECT_TRUE(equal(a.counters, b.counters)) << "counters";
}

const enum update_rule rules[] = {UPDATE_GD,      UPDATE_MOMENTUM,         UPDATE_NESTEROV,
                                  UPDATE_RMSPROP, UPDATE_RMSPROP_MOMENTUM, UPDATE_ADAM};

struct End {
  const char *name;
  double clip_norm, loss, bad_step;
  float gradient, learning_rate; /* gradient: of one parameter, unless 0 */
  int bad_parameters;
};
const End ends[] = {{"plain", 0, 0.3, 0, 0, 0.01F, 0},
                    {"clipped", 0.01, 0.3, 0, 0, 0.01F, 0},
                    {"not clipped", 1e9, 0.3, 0, 0, 0.01F, 0},
                    {"loss not finite", 0, NAN, 0, 0, 0.01F, 0},
                    {"gradient not finite", 1, 0.3, 0, INFINITY, 0.01F, 0},
                    {"squares beyond float32", 0, 0.3, 0, 1e30F, 1e-30F, 0},
                    {"bad parameters", 0, 0.3, 0, 0, 0.01F, 1},
                    {"earlier bad step", 0, 0.3, 2, 0, 0.01F, 0},
                    {"bad again", 0, INFINITY, 2, NAN, 0.01F, 1},
                    {"parameters that become infinite", 0, 0.3, 0, 0, INFINITY, 0}};

void run_end(const Flat &flat, enum update_rule rule, const End &end, unsigned blocks, bool metrics, unsigned seed) {
  step_state now{};
  now.current.number = 7;
  now.current.update = {end.learning_rate, 0.999F, end.learning_rate * 1.5F, 3, 1};
  const Guarded<step_state> state(std::vector<step_state>{now});
  Trained kernels(flat, rule, seed % 2, seed), cluster(flat, rule, seed % 2, seed);
  for (Trained *each : {&kernels, &cluster}) {
    each->whole.norm.state = each->whole.update.state = state.get();
    each->whole.norm.clip_norm = end.clip_norm, each->whole.norm.metrics = metrics;
    if (!metrics) each->whole.norm.layer_statistics = nullptr;
    each->scalars.set(SCALAR_LOSS, end.loss), each->scalars.set(SCALAR_BAD_STEP, end.bad_step);
    each->bad_parameters.set(0, end.bad_parameters);
    if (end.gradient != 0) each->gradients.set(static_cast<size_t>(flat.pieces.back().begin) + 3, end.gradient);
  }
  for (int step = 0; step < 2; step++) {
    ASSERT_EQ(launch_norm(&kernels.whole.norm, nullptr), cudaSuccess);
    ASSERT_EQ(launch_update(&kernels.whole.update, nullptr), cudaSuccess);
    ASSERT_EQ(LAUNCH_CLUSTER(end_by_cluster, blocks, BLOCK, 0, nullptr, cluster.whole), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    expect_equal(kernels, cluster);
    ASSERT_FALSE(testing::Test::HasFailure()) << "step " << step;
  }
}

/* 784-128-10; layers of less than a piece, of more pieces than lanes, and few blocks with any. */
const std::vector<int64_t> networks[] = {{784 * 128 + 128, 128 * 16 + 16},
                                         {8},
                                         {2048, 2056, 4096},
                                         {160000, 24, 140000},
                                         {8, 16, 24, 4000, 40, 2048, 56, 64, 72, 9000, 88, 96},
                                         {8, 33 * 2048, 32 * 2048, 31 * 2048 + 8}};

TEST_F(Whole, EndsWithTheBytesOfTheNormAndTheUpdate) {
  unsigned seed = 0;
  for (const auto &network : networks)
    for (const unsigned blocks : {8u, 16u})
      for (const enum update_rule rule : rules) {
        SCOPED_TRACE("rule " + std::to_string(rule) + ", blocks " + std::to_string(blocks) + ", network " +
                     std::to_string(&network - networks));
        const End &end = ends[seed % 3];
        run_end(Flat(network), rule, end, blocks, seed % 4 < 2, seed);
        if (HasFailure()) return;
        seed++;
      }
}

TEST_F(Whole, EndsABadStepAsTheNormAndTheUpdateDo) {
  unsigned seed = 0;
  for (const End &end : ends)
    for (const bool metrics : {false, true})
      for (const unsigned blocks : {8u, 16u}) {
        SCOPED_TRACE(std::string(end.name) + ", blocks " + std::to_string(blocks));
        run_end(Flat({3000, 8, 5000}), rules[seed % 6], end, blocks, metrics, seed);
        if (HasFailure()) return;
        seed++;
      }
}

/* ---- roots and quotients ---- */

/* The hardware's approximations are off by a unit in either direction. The reciprocal next below a power of two is not:
 * there the sequence needs the nearest one, here and in the compiler's division. */
template <int UNITS>
struct Approximation {
  static float inverse(float y) { return (float_bits(y) & 0x7fffffu) == 0x7fffffu ? 1 / y : off(1 / y); }
  static float inverse_root(float x) { return off(1 / std::sqrt(x)); }
  static float off(float x) {
    return std::isfinite(x) && x != 0 ? float_from_bits(float_bits(x) + static_cast<uint32_t>(UNITS)) : x;
  }
};

/* Of every exponent; significands next to powers of two and any others. */
float any_float(std::mt19937 &random) {
  static const uint32_t significands[] = {0, 1, 2, 0x3fffff, 0x400000, 0x400001, 0x7ffffe, 0x7fffff};
  const uint32_t bits = static_cast<uint32_t>(random());
  return float_from_bits(random() % 4 ? bits : (bits & 0xff800000u) | significands[random() % 8]);
}
float any_size(std::mt19937 &random, int least, int most) { /* a significand in [1, 2), exponents of this range */
  const float x = any_float(random);
  return std::ldexp(float_from_bits((float_bits(x) & 0x7fffffu) | 0x3f800000u),
                    least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1)));
}

template <int UNITS>
void expect_roots_and_quotients() {
  typedef Approximation<UNITS> approximation;
  SCOPED_TRACE("off by " + std::to_string(UNITS));
  std::mt19937 random(9);
  const auto expect_root = [](float x) {
    const float root = quick_root<approximation>(x), exact = std::sqrt(x);
    if (x >= 0 && x < INFINITY)
      ASSERT_EQ(float_bits(root), float_bits(exact)) << x;
    else
      ASSERT_TRUE(std::isnan(root)) << x;
  };
  const auto expect_quotient = [](float x, float y) {
    const float quotient = quick_quotient<approximation>(x, y), exact = x / y;
    const bool inside = std::fabs(x) <= 0x1p60F && y >= 0x1p-60F && y <= 0x1p20F;
    const bool is_subnormal = x != 0 && std::fabs(exact) <= 0x1p-126F;
    if (inside && (!is_subnormal || !std::isnan(quotient)))
      ASSERT_EQ(float_bits(quotient), float_bits(exact)) << x << " / " << y;
    else
      ASSERT_TRUE(std::isnan(quotient)) << x << " / " << y;
  };
  for (int i = 0; i < 300000; i++) {
    expect_root(any_float(random)), expect_root(any_size(random, -149, 127));
    expect_quotient(any_float(random), std::fabs(any_float(random)));
    const float sign = i % 2 ? 1.0F : -1.0F;
    expect_quotient(sign * any_size(random, -149, 62), any_size(random, -61, 21));
    if (testing::Test::HasFatalFailure()) return;
  }
  for (const float edge : {0x1p-149F, 0x1p-126F, 0x1p-101F, 0x1p-100F, 0x1p-62F, 0x1p-60F, 1.0F, 0x1p20F, 0x1p60F})
    for (int by = -2; by <= 2; by++) {
      const float x = float_from_bits(float_bits(edge) + static_cast<uint32_t>(by));
      expect_root(x);
      for (const float other : {0x1p-60F, 1e-8F, 0.999999940F, 1.0F, 1.00000012F, 3.0F, 0x1p20F})
        expect_quotient(x, other), expect_quotient(-x, other), expect_quotient(other, x);
    }
  for (const float zero : {0.0F, -0.0F})
    expect_root(zero + 0.0F), expect_quotient(zero, 1e-8F), expect_quotient(zero, 0x1p-61F);
  EXPECT_EQ(float_bits(quick_root<approximation>(-0.0F)), float_bits(-0.0F));
  /* Where Adam's moments stay when gradients have stopped. */
  for (int m = 1; m <= 6; m++)
    ASSERT_EQ(float_bits(quick_quotient<approximation>(std::ldexp(static_cast<float>(m), -149), 1e-8F)),
              float_bits(std::ldexp(static_cast<float>(m), -149) / 1e-8F));
}

TEST(Quick, RootsAndQuotientsAreRoundedCorrectlyOrNotAtAll) {
  expect_roots_and_quotients<-1>();
  expect_roots_and_quotients<0>();
  expect_roots_and_quotients<1>();
}

/* ---- whole steps ---- */

/* Four steps, the third of which has weights that are not finite: the fourth repeats it. */
TEST_F(Whole, StepsFollowTheQueueAndStopAfterABadStep) {
  const Shape shape = {100, 20, 24, 1, ELEMENT_BF16, INPUT_BYTES};
  const Flat flat({20 * 64 + 64, 64 * 32 + 32, 320});
  for (const unsigned blocks : {8u, 16u}) {
    SCOPED_TRACE(blocks);
    const Sources sources(shape, QUEUED | SHUFFLED | WEIGHTS | NORMALISED, 5);
    const Gathered gathered(shape, device_step{}), by_cluster(shape, device_step{});
    Trained kernels(flat, UPDATE_ADAM, true, 3), cluster(flat, UPDATE_ADAM, true, 3);
    const std::pair<Trained *, const Gathered *> both[] = {{&kernels, &gathered}, {&cluster, &by_cluster}};
    for (const auto &each : both) {
      whole_step &whole = each.first->whole;
      whole.gather = each.second->into(sources.launch(shape), shape);
      whole.gather.weight_sum = whole.norm.scalars + SCALAR_WEIGHT_SUM;
      whole.gather.bad_step = whole.norm.scalars + SCALAR_BAD_STEP;
      whole.norm.state = whole.update.state = whole.gather.state;
      whole.norm.metrics = true, whole.norm.clip_norm = 0.5;
    }
    for (int step = 0; step < 4; step++) {
      if (step == 2) sources.break_weights();
      ASSERT_EQ(launch_gather(&kernels.whole.gather, nullptr), cudaSuccess);
      ASSERT_EQ(LAUNCH(layers_alone, 3, BLOCK, nullptr, kernels.whole, kernels.gradients.get(), flat.n), cudaSuccess);
      ASSERT_EQ(launch_norm(&kernels.whole.norm, nullptr), cudaSuccess);
      ASSERT_EQ(launch_update(&kernels.whole.update, nullptr), cudaSuccess);
      ASSERT_EQ(LAUNCH_CLUSTER(step_by_cluster<ELEMENT_BF16>, blocks, BLOCK, 0, nullptr, cluster.whole,
                               cluster.gradients.get(), flat.n),
                cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      expect_equal(kernels, cluster);
      expect_equal(gathered, by_cluster);
      ASSERT_FALSE(HasFailure()) << "step " << step;
      EXPECT_EQ(by_cluster.state.at(0).next, std::min(step + 1, 3));
      EXPECT_EQ(cluster.scalars.at(SCALAR_BAD_STEP), step < 2 ? 0 : 5);
    }
  }
}

}  // namespace
