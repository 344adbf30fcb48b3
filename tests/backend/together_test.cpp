/* Programs that run together leave the bytes that each leaves alone, on every backend; on the cpu those that read the
 * same rows gather them once, and only those. */
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <thread>

#include "training.h"

extern "C" {
#include "backend/cpu/cpu.h"
}

namespace {

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

/* ---- rows and members -------------------------------------------------------------------------------------------- */

enum { ROWS = 300, CLASSES = 4 };

/* Sources that members may share: inputs as floats, some missing, or as bytes; classes or values; weights; a
 * view. */
struct Source {
  std::vector<float> X, missing, classes, binary, values, weights;
  std::vector<uint8_t> bytes;
  std::vector<int64_t> view;
};

Source make_source(int64_t inputs, unsigned seed) {
  Source s;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < ROWS * inputs; i++) s.X.push_back(normal(random));
  s.missing = s.X;
  for (size_t i = 0; i < s.missing.size(); i += 7) s.missing[i] = NAN;
  for (int64_t i = 0; i < ROWS * inputs; i++) s.bytes.push_back(static_cast<uint8_t>(random()));
  for (int64_t i = 0; i < ROWS; i++) s.classes.push_back(static_cast<float>(i * 7 % CLASSES));
  for (const float c : s.classes) s.binary.push_back(c > 1 ? 1.0F : 0.0F);
  for (int64_t i = 0; i < ROWS * CLASSES; i++) s.values.push_back(normal(random));
  for (int64_t i = 0; i < ROWS; i++) s.weights.push_back(i % 5 == 3 ? 0 : 0.25F + static_cast<float>(i % 3));
  for (int64_t i = 0; i < ROWS; i += 2) s.view.push_back(i);
  return s;
}

enum Kind { TRAIN, TRAIN_WITH_STATISTICS, EVALUATE, PREDICT, MICRO_BATCH };
enum Inputs { FLOATS, MISSING, BYTES };

struct Spec {
  std::vector<int64_t> hidden = {16, 8};
  descent_activation activation = DESCENT_ACTIVATION_SIGMOID;
  descent_loss loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  descent_optimizer optimizer = DESCENT_OPTIMIZER_ADAM;
  double dropout = 0, clip_norm = 0;
  int64_t batch = 64, steps = 6;
  Kind kind = TRAIN;
  Inputs inputs = FLOATS;
  bool weights = false, class_weights = false, view = false;
  int source = 0;        /* which of the sources */
  uint64_t order = 1;    /* of the rows; 0: as they are */
  int64_t bad_after = 0; /* steps, after which the parameters become infinite; 0: never */
  double learning_rate = 0.01;
};

class Member {
 public:
  Member(const Spec &spec, const Source &source, descent_device *device, int64_t inputs, uint64_t seed)
      : spec_(spec), network_(nullptr, nullptr) {
    std::vector<int64_t> widths = {inputs};
    widths.insert(widths.end(), spec.hidden.begin(), spec.hidden.end());
    widths.push_back(spec.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : CLASSES);
    network_ = make_network(widths, spec.activation, spec.loss, seed);
    fit_preprocessing();
    open(source, device, seed);
  }
  ~Member() { program_clear(&program); }
  Member(const Member &) = delete;
  Member &operator=(const Member &) = delete;

  program_job job() { return {&program, range(), steps.data(), static_cast<int64_t>(steps.size())}; }

  /* Everything that is kept between runs, and the rows and outputs of the last step. */
  std::vector<std::string> left() const {
    std::vector<std::string> bytes;
    const plan &p = *program.plan;
    for (int i = 0; i < p.n_buffers; i++)
      if (p.buffers[i].storage == PLAN_STATE) bytes.push_back(read(i, p.buffers[i].rows * p.buffers[i].cols));
    if (steps.empty()) return bytes;
    const int64_t last = spec_.bad_after ? spec_.bad_after : static_cast<int64_t>(steps.size()) - 1;
    std::vector<int> batch = {program.at.X, program.at.A};
    if (spec_.kind != PREDICT) batch.insert(batch.end(), {program.at.y, program.at.w});
    if (spec_.kind == EVALUATE || spec_.kind == PREDICT) batch.push_back(program.at.P);
    for (const int buffer : batch)
      bytes.push_back(read(buffer, steps[static_cast<size_t>(last)].rows * p.buffers[buffer].cols));
    return bytes;
  }
  double scalar(plan_scalar which) const {
    double value = 0;
    EXPECT_EQ(program_read(&program, program.at.scalars, which, 1, PLAN_F64, &value), DESCENT_OK);
    return value;
  }

  struct program program {};
  std::vector<plan_step> steps;

 private:
  plan_range range() const {
    const plan &p = *program.plan;
    switch (spec_.kind) {
      case TRAIN: break;
      case TRAIN_WITH_STATISTICS: return p.train_with_statistics;
      case EVALUATE: return p.evaluate;
      case PREDICT: return p.predict;
      case MICRO_BATCH: return p.micro_batch;
    }
    return p.train;
  }

  void fit_preprocessing() {
    Rows rows = make_rows(50, network_->inputs, CLASSES, 0, 5);
    const bool regression = loss_is_regression(spec_.loss);
    if (!regression) rows.y.assign(50, 0), rows.targets = 1, rows.classes = network_->classes;
    for (int64_t r = 0; r < 50 && !regression; r++)
      rows.y[static_cast<size_t>(r)] = static_cast<float>(r % network_->classes);
    EXPECT_EQ(descent_network_fit_preprocessing(network_.get(), rows.dataset().get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, regression),
              DESCENT_OK)
        << descent_last_error();
  }

  void open(const Source &source, descent_device *device, uint64_t seed) {
    descent_train_options options = descent_train_options_default();
    options.optimizer.kind = spec_.optimizer;
    options.optimizer.clip_norm = spec_.clip_norm;
    options.dropout = spec_.dropout;
    options.seed = seed;
    options.autotune = false;
    options.balance_classes = spec_.class_weights;
    const float class_weights[CLASSES] = {0.5F, 1, 2, 1.5F};
    OK(program_create_with(network_.get(), device, &options, spec_.kind == MICRO_BATCH ? PLAN_PART_MICRO_BATCHES : 0,
                           spec_.batch, 0, spec_.class_weights ? class_weights : nullptr, &program));
    bind(source);
    order_ = permutation_create(spec_.order, RNG_SHUFFLE, 0, static_cast<uint64_t>(rows()));
    for (int64_t s = 0; s < spec_.steps; s++) steps.push_back(step(s));
  }

  int64_t rows() const { return spec_.view ? ROWS / 2 : ROWS; }

  void bind(const Source &source) {
    const std::vector<float> &y = loss_is_regression(spec_.loss)                    ? source.values
                                  : spec_.loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? source.binary
                                                                                    : source.classes;
    bind_one(program.at.source_y, DESCENT_DTYPE_F32, y.data(), ROWS);
    if (spec_.weights) bind_one(program.at.source_w, DESCENT_DTYPE_F32, source.weights.data(), ROWS);
    if (spec_.view) bind_one(program.at.source_index, DESCENT_DTYPE_I64, source.view.data(), ROWS / 2);
    if (spec_.inputs == BYTES) bind_one(program.at.source_X, DESCENT_DTYPE_U8, source.bytes.data(), ROWS);
    if (spec_.inputs == MISSING) bind_one(program.at.source_X, DESCENT_DTYPE_F32, source.missing.data(), ROWS);
    if (spec_.inputs == FLOATS) bind_one(program.at.source_X, DESCENT_DTYPE_F32, source.X.data(), ROWS);
  }
  void bind_one(int buffer, descent_dtype dtype, const void *data, int64_t rows) {
    OK(program_bind_buffer(&program, buffer, dtype, data, rows, true));
  }

  plan_step step(int64_t s) const {
    plan_step step{};
    step.number = s + 1;
    step.rows = s % 3 == 2 ? spec_.batch / 2 + 1 : spec_.batch;
    step.first_row = s * 31 % (rows() - spec_.batch);
    step.learning_rate =
        spec_.bad_after && s + 1 == spec_.bad_after ? std::numeric_limits<double>::infinity() : spec_.learning_rate;
    step.order = spec_.order ? &order_ : nullptr;
    if (spec_.kind == MICRO_BATCH)
      step.micro_batch = 0, step.micro_batches = 1, step.weight_sum = 2.0 * static_cast<double>(step.rows);
    return step;
  }

  std::string read(int buffer, int64_t count) const {
    std::vector<double> values(static_cast<size_t>(count));
    EXPECT_EQ(program_read(&program, buffer, 0, count, PLAN_F64, values.data()), DESCENT_OK) << descent_last_error();
    return {reinterpret_cast<const char *>(values.data()), values.size() * sizeof(double)};
  }

  Spec spec_;
  Network network_;
  permutation order_{};
};

using Members = std::vector<std::unique_ptr<Member>>;

enum { INPUTS = 30 };

Members make_members(const std::vector<Spec> &specs, const std::vector<Source> &sources, descent_device *device) {
  Members members;
  for (size_t k = 0; k < specs.size(); k++)
    members.push_back(
        std::make_unique<Member>(specs[k], sources[static_cast<size_t>(specs[k].source)], device, INPUTS, 10 + k));
  return members;
}

const std::vector<Source> &sources() {
  static const std::vector<Source> made = {make_source(INPUTS, 1), make_source(INPUTS, 2)};
  return made;
}

void run_together(const Members &members) {
  std::vector<program_job> jobs;
  for (const std::unique_ptr<Member> &m : members) jobs.push_back(m->job());
  OK(program_run_together(jobs.data(), static_cast<int64_t>(jobs.size())));
}

void run_in_turn(const Members &members) {
  for (const std::unique_ptr<Member> &m : members) {
    const program_job job = m->job();
    OK(program_run(&m->program, job.range, job.steps, job.n_steps));
  }
}

/* ---- the same bytes ---------------------------------------------------------------------------------------------- */

Spec with(const std::function<void(Spec &)> &change, Spec spec = {}) {
  change(spec);
  return spec;
}

/* Every kind of member, in an order in which sets of equal rows interleave. */
std::vector<Spec> mixed() {
  return {
      {},
      with([](Spec &s) { s.hidden = {5}, s.activation = DESCENT_ACTIVATION_GELU, s.dropout = 0.3; }),
      with([](Spec &s) { s.order = 2, s.optimizer = DESCENT_OPTIMIZER_LAMB; }),
      with([](Spec &s) { s.optimizer = DESCENT_OPTIMIZER_SGD, s.kind = TRAIN_WITH_STATISTICS; }),
      with([](Spec &s) { s.steps = 3, s.clip_norm = 0.1; }),
      with([](Spec &s) { s.steps = 0; }),
      with([](Spec &s) {
        s.weights = true, s.hidden = {40, 33}, s.activation = DESCENT_ACTIVATION_SILU;
      }),
      with([](Spec &s) { s.bad_after = 2; }),
      with([](Spec &s) { s.weights = true, s.optimizer = DESCENT_OPTIMIZER_RMSPROP, s.bad_after = 4; }),
      with([](Spec &s) { s.inputs = MISSING, s.class_weights = true; }),
      with([](Spec &s) { s.inputs = BYTES, s.activation = DESCENT_ACTIVATION_TANH, s.learning_rate = 1e-4; }),
      with([](Spec &s) { s.view = true, s.optimizer = DESCENT_OPTIMIZER_LARS; }),
      with([](Spec &s) { s.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR, s.activation = DESCENT_ACTIVATION_RELU; }),
      with([](Spec &s) { s.kind = EVALUATE, s.steps = 1; }),
      with([](Spec &s) { s.kind = PREDICT, s.steps = 2; }),
      with([](Spec &s) { s.source = 1, s.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY; }),
      with([](Spec &s) { s.kind = MICRO_BATCH, s.steps = 1, s.hidden = {}; }),
  };
}

std::vector<Spec> alike(size_t count, const Spec &spec) {
  std::vector<Spec> specs(count, spec);
  for (size_t k = 0; k < count; k++) {
    specs[k].learning_rate = 0.01 / static_cast<double>(k + 1);
    specs[k].optimizer = static_cast<descent_optimizer>(k % 7);
    specs[k].dropout = k % 3 == 1 ? 0.2 : 0;
  }
  return specs;
}

using Change = std::function<void(const Members &)>;

struct Company {
  std::string name;
  std::vector<Spec> specs;
  Change change = nullptr; /* before the run */
};

std::vector<Company> companies() {
  std::vector<Company> all = {{"mixed", mixed()}};
  for (const size_t count : {1, 2, 3, 17}) {
    all.push_back({"alike, " + std::to_string(count), alike(count, {})});
    all.push_back({"with views and weights, " + std::to_string(count),
                   alike(count, with([](Spec &s) { s.view = s.weights = true, s.inputs = MISSING; }))});
  }
  all.push_back({"ending at different steps", alike(17, {})});
  for (size_t k = 0; k < 17; k++) {
    Spec &spec = all.back().specs[k];
    spec.steps = 20 - static_cast<int64_t>(k);
    if (k % 4 == 1) spec.bad_after = 1 + static_cast<int64_t>(k) / 4;
  }
  all.push_back({"evaluations", alike(5, with([](Spec &s) { s.kind = EVALUATE, s.order = 0; }))});
  all.push_back({"predictions of bytes", alike(5, with([](Spec &s) { s.kind = PREDICT, s.inputs = BYTES; }))});
  return all;
}

struct Tried {
  std::string name;
  const backend *table;
  int threads;
};

void expect_same_bytes(const Company &company, const Tried &tried) {
  SCOPED_TRACE(company.name + " on " + tried.name);
  const Device reference = open_device("reference", 1);
  descent_device device = *reference;
  device.backend = tried.table;
  OK(tried.table->open(0, tried.threads, &device.device));
  {
    const Members alone = make_members(company.specs, sources(), &device);
    const Members together = make_members(company.specs, sources(), &device);
    if (company.change) company.change(alone), company.change(together);
    run_in_turn(alone);
    run_together(together);
    for (size_t k = 0; k < alone.size(); k++) {
      const std::vector<std::string> a = alone[k]->left(), b = together[k]->left();
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); i++) EXPECT_TRUE(a[i] == b[i]) << "member " << k << ", buffer " << i;
      if (company.specs[k].bad_after && company.specs[k].steps > company.specs[k].bad_after) {
        EXPECT_EQ(together[k]->scalar(SCALAR_BAD_STEP), company.specs[k].bad_after + 1) << "member " << k;
      }
    }
  }
  tried.table->close(device.device);
}

TEST(RunTogether, LeavesTheBytesOfEachAloneOnAnyNumberOfThreads) {
  for (const Company &company : companies())
    for (const int threads : {1, 2, 5})
      expect_same_bytes(company, {"cpu, " + std::to_string(threads) + " threads", &backend_cpu, threads});
}

TEST(RunTogether, RunsInTurnWhereTheBackendHasNothingElse) {
  for (const Company &company : companies()) {
    if (company.specs.size() > 3 && company.name != "mixed") continue;
    expect_same_bytes(company, {"reference", &backend_reference, 1});
    expect_same_bytes(company, {"cuda", cuda_module_table(), 1});
  }
}

/* Unbinds the targets and writes other y and w for each member, which the run must leave to it. */
void forget_targets(const Members &members) {
  for (size_t k = 0; k < members.size(); k++) {
    const program &p = members[k]->program;
    if (p.at.y == PLAN_NONE) continue;
    OK(program_bind_buffer(&members[k]->program, p.at.source_y, DESCENT_DTYPE_F32, nullptr, 0, true));
    for (const int buffer : {p.at.y, p.at.w}) {
      const std::vector<float> values(static_cast<size_t>(p.plan->batch * p.plan->buffers[buffer].cols),
                                      buffer == p.at.w ? 0.5F + static_cast<float>(k) : static_cast<float>(k % 2));
      OK(program_write(&members[k]->program, buffer, 0, static_cast<int64_t>(values.size()), PLAN_F32, values.data()));
    }
    const double sum = 3.0 + static_cast<double>(k);
    OK(program_write(&members[k]->program, p.at.scalars, SCALAR_WEIGHT_SUM, 1, PLAN_F64, &sum));
  }
}

TEST(RunTogether, LeavesEachItsTargetsWhereNoneAreBound) {
  const Spec evaluation = with([](Spec &s) { s.kind = EVALUATE, s.order = 0, s.steps = 2; });
  const Spec prediction = with([](Spec &s) { s.kind = PREDICT, s.order = 0, s.steps = 2; });
  const Spec values = with([](Spec &s) { s.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR; }, evaluation);
  const std::vector<Company> companies = {
      {"evaluations", {evaluation, evaluation, evaluation}, forget_targets},
      {"a prediction first", {prediction, evaluation}, forget_targets},
      {"a prediction last", {evaluation, prediction}, forget_targets},
      {"one target first", {evaluation, values}, forget_targets},
      {"one target last", {values, evaluation}, forget_targets},
  };
  for (const Company &company : companies) expect_same_bytes(company, {"cpu", &backend_cpu, 1});
}

/* The shorter has a smaller batch than the steps of the longer that it does not have. */
TEST(RunTogether, GathersIntoNoBufferThatIsTooSmall) {
  Spec longer, shorter;
  longer.order = shorter.order = 0, shorter.batch = 8, shorter.steps = 3;
  const auto equal_first = [](const Members &members) {
    for (size_t s = 0; s < 3; s++) members[0]->steps[s] = members[1]->steps[s];
  };
  expect_same_bytes({"batches of 64 and 8", {longer, shorter}, equal_first}, {"cpu", &backend_cpu, 1});
}

/* Products that all threads share: with two threads, the third of three runs on both. */
TEST(RunTogether, LeavesTheSameBytesWhereAllThreadsShareAProgram) {
  Spec wide;
  wide.hidden = {600, 600}, wide.batch = 128, wide.steps = 2;
  for (const size_t count : {1, 3})
    for (const int threads : {1, 2, 5}) expect_same_bytes({"wide", alike(count, wide)}, {"cpu", &backend_cpu, threads});
}

TEST(RunTogether, TakesMoreProgramsThanABackendTakesAtOnce) {
  Spec small;
  small.hidden = {2}, small.batch = 8, small.steps = 2;
  expect_same_bytes({"many", alike(BACKEND_MOST_JOBS + 3, small)}, {"cpu", &backend_cpu, 2});
}

TEST(RunTogether, RefusesAStepThatOneCannotRunBeforeAnyRuns) {
  const Device device = open_device("cpu", 2);
  const Members members = make_members(alike(3, {}), sources(), device.get());
  const std::vector<std::string> before = members[0]->left();
  members[1]->steps[2].first_row = ROWS;
  std::vector<program_job> jobs;
  for (const std::unique_ptr<Member> &m : members) jobs.push_back(m->job());
  EXPECT_EQ(program_run_together(jobs.data(), 3), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "run: 33 rows from row 300: only 300 are bound");
  EXPECT_TRUE(members[0]->left() == before);
  members[1]->steps[2].first_row = 0;
  members[1]->steps[2].rows = 65;
  EXPECT_EQ(program_run_together(jobs.data(), 3), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(members[0]->left() == before);
}

/* ---- rows gathered once ------------------------------------------------------------------------------------------ */

/* A device whose table of loops counts the rows whose inputs are gathered. */
const kernels *counted_table;
std::atomic<int64_t> gathered;

void count_normalise(const float *x, const float *shift, const float *scale, float *out, int64_t n) {
  if (n == INPUTS) gathered++;
  counted_table->normalise(x, shift, scale, out, n);
}
void count_bytes(const uint8_t *x, const float *shift, const float *scale, float *out, int64_t n) {
  gathered++;
  counted_table->normalise_bytes(x, shift, scale, out, n);
}
void count_impute(const float *x, const float *fill, const float *shift, const float *scale, float *out, int64_t n) {
  gathered++;
  counted_table->impute(x, fill, shift, scale, out, n);
}

int64_t rows_gathered(const std::vector<Spec> &specs, int threads, const std::function<void(const Members &)> &change) {
  const Device device = open_device("cpu", threads);
  counted_table = device->device->kernels;
  kernels counting = *counted_table;
  counting.normalise = count_normalise;
  counting.normalise_bytes = count_bytes;
  counting.impute = count_impute;
  device->device->kernels = &counting;
  const Members members = make_members(specs, sources(), device.get());
  if (change) change(members);
  gathered = 0;
  run_together(members);
  return gathered;
}

int64_t rows_of(const Spec &spec) {
  int64_t rows = 0;
  for (int64_t s = 0; s < spec.steps; s++) rows += s % 3 == 2 ? spec.batch / 2 + 1 : spec.batch;
  return rows;
}

TEST(RunTogether, GathersForEachWhereOtherNumbersOfRowsAreBound) {
  for (const bool view : {false, true}) {
    Spec spec;
    spec.order = 0, spec.view = view;
    const auto shorten = [=](const Members &m) {
      if (view) {
        OK(program_bind_buffer(&m[1]->program, m[1]->program.at.source_index, DESCENT_DTYPE_I64,
                               sources()[0].view.data(), ROWS / 2 - 1, true));
      } else {
        OK(program_bind_buffer(&m[1]->program, m[1]->program.at.source_X, DESCENT_DTYPE_F32, sources()[0].X.data(),
                               ROWS - 1, true));
      }
    };
    EXPECT_EQ(rows_gathered(alike(2, spec), 1, nullptr), rows_of(spec)) << view;
    EXPECT_EQ(rows_gathered(alike(2, spec), 1, shorten), 2 * rows_of(spec)) << view;
  }
}

TEST(RunTogether, GathersOnceForAllOfAGroup) {
  const Spec specs[] = {
      {},
      with([](Spec &s) { s.inputs = MISSING, s.weights = s.class_weights = s.view = true; }),
      with([](Spec &s) { s.inputs = BYTES, s.loss = DESCENT_LOSS_BINARY_CROSS_ENTROPY; }),
      with([](Spec &s) { s.kind = EVALUATE, s.order = 0; }),
      with([](Spec &s) { s.kind = PREDICT; }),
      with([](Spec &s) { s.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR; }),
      with([](Spec &s) { s.kind = MICRO_BATCH; }),
  };
  for (const Spec &spec : specs) {
    for (const size_t count : {2, 3, 8})
      EXPECT_EQ(rows_gathered(alike(count, spec), 1, nullptr), rows_of(spec)) << &spec - specs << ", " << count;
    EXPECT_EQ(rows_gathered(alike(16, spec), 2, nullptr), 2 * rows_of(spec)) << "one group on each of two threads";
  }
  std::vector<Spec> different = alike(2, {}); /* whatever does not concern the rows */
  different[1].hidden = {7, 7, 7}, different[1].dropout = 0.5, different[1].activation = DESCENT_ACTIVATION_GELU;
  EXPECT_EQ(rows_gathered(different, 1, nullptr), rows_of({}));
  for (const int64_t steps : {3, 4}) { /* the shorter one reads what the longer one reads first */
    different[1].steps = steps;
    EXPECT_EQ(rows_gathered(different, 1, nullptr), rows_of({})) << steps;
  }
}

void write_one(const Members &members, int buffer) {
  const float other = 0.125F;
  OK(program_write(&members[1]->program, buffer, 0, 1, PLAN_F32, &other));
}

struct Difference {
  std::string what;
  std::function<void(Spec &)> of_spec;
  std::function<void(const Members &)> of_program;
};

TEST(RunTogether, GathersForEachWhereAnythingThatTheRowsDependOnDiffers) {
  static const Source other = make_source(INPUTS, 1); /* equal rows at other addresses */
  const auto rebind = [](int plan_handles::*buffer, const void *data) {
    return [=](const Members &m) {
      OK(program_bind_buffer(&m[1]->program, m[1]->program.at.*buffer,
                             buffer == &plan_handles::source_index ? DESCENT_DTYPE_I64 : DESCENT_DTYPE_F32, data,
                             buffer == &plan_handles::source_index ? ROWS / 2 : ROWS, true));
    };
  };
  const auto write = [](int plan_handles::*buffer) {
    return [=](const Members &m) { write_one(m, m[1]->program.at.*buffer); };
  };
  const auto at_last_step = [](const std::function<void(plan_step &)> &change) {
    return [=](const Members &m) { change(m[1]->steps.back()); };
  };
  static const permutation reordered = permutation_create(9, RNG_SHUFFLE, 0, ROWS / 2);
  const Difference differences[] = {
      {"source of inputs", nullptr, rebind(&plan_handles::source_X, other.missing.data())},
      {"targets", nullptr, rebind(&plan_handles::source_y, other.classes.data())},
      {"weights", nullptr, rebind(&plan_handles::source_w, other.weights.data())},
      {"no weights", [](Spec &s) { s.weights = false; }, nullptr},
      {"index", nullptr, rebind(&plan_handles::source_index, other.view.data())},
      {"fill", nullptr, write(&plan_handles::fill)},
      {"shift", nullptr, write(&plan_handles::shift)},
      {"scale", nullptr, write(&plan_handles::scale)},
      {"class weights", nullptr, write(&plan_handles::class_weight)},
      {"no class weights", [](Spec &s) { s.class_weights = false; }, nullptr},
      {"order", [](Spec &s) { s.order = 2; }, nullptr},
      {"no order", [](Spec &s) { s.order = 0; }, nullptr},
      {"order at the last step", nullptr, at_last_step([](plan_step &s) { s.order = &reordered; })},
      {"first row", nullptr, at_last_step([](plan_step &s) { s.first_row++; })},
      {"rows", nullptr, at_last_step([](plan_step &s) { s.rows--; })},
      {"sum of weights", nullptr, at_last_step([](plan_step &s) { s.weight_sum = 3; })},
      {"evaluation", [](Spec &s) { s.kind = EVALUATE; }, nullptr},
      {"prediction", [](Spec &s) { s.kind = PREDICT; }, nullptr},
  };
  Spec spec;
  spec.inputs = MISSING, spec.weights = spec.class_weights = spec.view = true;
  for (const Difference &d : differences) {
    std::vector<Spec> specs = alike(2, spec);
    if (d.of_spec) d.of_spec(specs[1]);
    EXPECT_EQ(rows_gathered(specs, 1, d.of_program), 2 * rows_of(spec) - (d.what == "rows")) << d.what;
  }
  Spec values;
  values.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  for (int plan_handles::*buffer : {&plan_handles::y_shift, &plan_handles::y_scale})
    EXPECT_EQ(rows_gathered(alike(2, values), 1, write(buffer)), 2 * rows_of(values));
  Spec bytes; /* of the same address */
  bytes.inputs = BYTES, bytes.hidden = {};
  const auto as_floats = [](const Members &m) {
    for (size_t k = 0; k < 2; k++) {
      OK(program_bind_buffer(&m[k]->program, m[k]->program.at.source_X, k ? DESCENT_DTYPE_U8 : DESCENT_DTYPE_F32,
                             sources()[0].X.data(), ROWS, true));
    }
  };
  EXPECT_EQ(rows_gathered(alike(2, bytes), 1, as_floats), 2 * rows_of(bytes));
}

/* ---- which thread runs what -------------------------------------------------------------------------------------- */

/* Where each thread begins: the buffer of the inputs that it gathers first. */
struct Beginnings {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::thread::id, const float *> first;
  size_t expected;                                /* threads, for which each waits */
  std::chrono::steady_clock::time_point deadline; /* at which it waits no longer */
};
Beginnings *beginnings;

void note_impute(const float *x, const float *fill, const float *shift, const float *scale, float *out, int64_t n) {
  {
    std::unique_lock<std::mutex> lock(beginnings->mutex);
    beginnings->first.emplace(std::this_thread::get_id(), out);
    beginnings->changed.notify_all();
    beginnings->changed.wait_until(lock, beginnings->deadline,
                                   [] { return beginnings->first.size() >= beginnings->expected; });
  }
  counted_table->impute(x, fill, shift, scale, out, n);
}

/* The members with which the threads begin, ascending. Threads wait for `expected` of them, at most so long. */
std::vector<size_t> begin_with(const std::vector<Spec> &specs, int threads, size_t expected,
                               std::chrono::milliseconds limit) {
  const Device device = open_device("cpu", threads);
  counted_table = device->device->kernels;
  kernels noting = *counted_table;
  noting.impute = note_impute;
  device->device->kernels = &noting;
  const Members members = make_members(specs, sources(), device.get());
  Beginnings noted;
  noted.expected = expected;
  noted.deadline = std::chrono::steady_clock::now() + limit;
  beginnings = &noted;
  run_together(members);
  std::vector<size_t> found;
  for (const auto &[thread, out] : noted.first)
    for (size_t k = 0; k < members.size(); k++)
      if (members[k]->program.compiled->buffers[members[k]->program.at.X].data == out) found.push_back(k);
  std::sort(found.begin(), found.end());
  return found;
}

constexpr std::chrono::milliseconds SHORT{300}, LONG{30000};

/* 16 threads, which are more than the cores of many machines. Products of {700, 700} at batch 128 have four tiles, so
 * two members in turn are quicker than side by side, and five are not; those of {300, 300} at batch 64 have two. */
TEST(RunTogether, SharesProgramsBetweenAllThreadsOnlyWhereThatIsQuicker) {
  Spec wide, narrow;
  wide.hidden = {700, 700}, wide.batch = 128, wide.steps = 1;
  narrow.hidden = {300, 300}, narrow.steps = 1;
  EXPECT_EQ(begin_with(alike(2, wide), 16, 2, SHORT).size(), 1U) << "both on all threads, gathered by the caller";
  EXPECT_EQ(begin_with(alike(5, wide), 16, 5, LONG).size(), 5U);
  EXPECT_EQ(begin_with(alike(2, narrow), 16, 2, LONG).size(), 2U);
  std::vector<Spec> mixed = alike(40, {}); /* the wide one takes longer than all others */
  mixed[7] = wide;
  EXPECT_EQ(begin_with(mixed, 16, 16, LONG).size(), 16U);
  for (const std::vector<Spec> &specs : {alike(2, wide), alike(5, wide), alike(2, narrow), mixed})
    expect_same_bytes({"on 16 threads", specs}, {"cpu", &backend_cpu, 16});
}

/* Members of other orders, so that each is a group, from light to heavy. */
TEST(RunTogether, BeginsWithTheHeaviestOnEveryThread) {
  std::vector<Spec> specs(5);
  for (size_t k = 0; k < specs.size(); k++) specs[k].order = 1 + k, specs[k].steps = 1 + static_cast<int64_t>(k);
  EXPECT_EQ(begin_with(specs, 2, 2, LONG), (std::vector<size_t>{3, 4}));
  EXPECT_EQ(begin_with(specs, 3, 3, LONG), (std::vector<size_t>{2, 3, 4}));
}

/* ---- one program ------------------------------------------------------------------------------------------------- */

int runs, runs_of_several;
descent_status counted_run(struct backend_program *program, struct plan_range range, const struct plan_step *steps,
                           int64_t n_steps) {
  runs++;
  return backend_cpu.run(program, range, steps, n_steps);
}
descent_status counted_run_together(struct backend_device *device, const struct backend_job *jobs, int64_t count) {
  runs_of_several++;
  return backend_cpu.run_together(device, jobs, count);
}

/* A training alone, or beside others that have no steps, takes the way of a training alone: on a GPU with its checks of
 * the exchange, and its range's name on a profiler's timeline. */
TEST(RunTogether, RunsOneProgramWithStepsAsAlone) {
  struct backend counted = backend_cpu;
  counted.run = counted_run;
  counted.run_together = counted_run_together;
  const Device device = open_device("cpu", 1);
  device->backend = &counted;
  Spec idle;
  idle.steps = 0;
  const struct {
    std::vector<Spec> specs;
    int runs, of_several;
  } cases[] = {{{{}}, 1, 0},
               {{idle, {}, idle}, 1, 0},
               {{{}, idle, {}}, 0, 1},
               {alike(BACKEND_MOST_JOBS + 1, {}), 1, 1}}; /* the last is left alone */
  for (const auto &c : cases) {
    const Members members = make_members(c.specs, sources(), device.get());
    runs = runs_of_several = 0;
    run_together(members);
    EXPECT_EQ(runs, c.runs);
    EXPECT_EQ(runs_of_several, c.of_several);
  }
}

}  // namespace
