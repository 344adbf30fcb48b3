/* Ranges of which one kernel computes several layers, on the emulation: their bits, what they leave out, how they are
 * chosen. */
#include <map>
#include <regex>
#include <set>

#include "emulated_module.h"
#include "plan/operations.h"

namespace {

class EmulatedFusion : public EmulatedModule {};

/* Wider than one kernel takes from the first layer to the gradients. */
const Case wide_cases[] = {
    {"fp32_wide",
     {9, 80, 70, 3},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
     0.25,
     DESCENT_PRECISION_FP32},
    {"tf32_wide", {12, 72, 40, 2}, DESCENT_ACTIVATION_SILU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_TF32},
    {"bf16_wide", {20, 96, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY, 0, DESCENT_PRECISION_BF16},
};

#ifdef __SANITIZE_ADDRESS__ /* a dozen times as slow */
std::vector<Case> all_cases() { return {cases[3], wide_cases[2]}; }
const std::vector<bool> timed_or_not = {false};
#else
std::vector<Case> all_cases() {
  std::vector<Case> all(std::begin(cases), std::end(cases));
  all.insert(all.end(), std::begin(wide_cases), std::end(wide_cases));
  return all;
}
const std::vector<bool> timed_or_not = {false, true};
#endif

bool is_wide(const Case &c) { return *std::max_element(c.widths.begin(), c.widths.end()) > 64; }
const Case &narrow_case = cases[3]; /* of bf16 */

std::string path_of(const struct program &program, plan_range range, int op) {
  char text[BACKEND_PATH];
  program.backend->path(program.compiled, range, op, text);
  return text;
}

/* The numbers of the ops of this kind in the range. */
std::vector<int> ops_of(const struct plan *plan, plan_range range, plan_op_kind kind) {
  std::vector<int> ops;
  for (int i = range.first; i < range.first + range.count; i++)
    if (plan->ops[i].kind == kind) ops.push_back(i);
  return ops;
}

/* How the layers of the range are computed: "fused step 0", or the path of its first layer alone. */
std::string path_of_layers(const struct program &program, plan_range range) {
  return path_of(program, range, ops_of(program.plan, range, OP_DENSE_FORWARD).front());
}

bool begins(const std::string &text, const std::string &with) { return text.find(with) == 0; }

bool is_fused(const struct program &program, plan_range range) {
  const std::string path = path_of_layers(program, range);
  return begins(path, "fused ") || begins(path, "whole ");
}

/* A case, and what one kernel of its training computes: "fused step", "fused chain", "whole step". */
struct Way {
  const Case *c;
  std::string path;
};
std::ostream &operator<<(std::ostream &out, const Way &way) { return out << way.c->name << ", " << way.path; }

/* Each case in each way that takes it. */
std::vector<Way> all_ways() {
  static const std::vector<Case> all = all_cases();
  std::vector<Way> ways;
  for (const Case &c : all)
    for (const char *path : {is_wide(c) ? "fused chain" : "fused step", "whole step"}) ways.push_back({&c, path});
  return ways;
}

/* While it lives, trainings whose layers are to be fused are computed in this way: by a seed that draws it. */
class Forced {
 public:
  explicit Forced(const Way &way)
      : kind_(way.path == "whole step"   ? "fusion=whole"
              : way.path == "fused step" ? "fusion=step"
                                         : "fusion=chain") {
    enum { MOST = 60 };
    static std::map<std::string, int> known;
    int &seed = known[way.c->name + (" " + way.path)];
    const bool is_known = seed > 0;
    for (seed = std::max(seed, 1); seed <= MOST; seed++) {
      drawn_.reset(); /* which unsets the seed */
      drawn_ = std::make_unique<Drawn>(seed);
      if (is_known || taken(*way.c) == way.path) return;
    }
    ADD_FAILURE() << "no seed draws " << way;
    seed = 0;
  }
  int choices() const { return drawn_->lines({kind_}); } /* trainings that the trace says are computed in this way */

 private:
  static std::string taken(const Case &c) {
    Training training(c);
    training.options.gpu.fusion = DESCENT_FUSION_ON;
    EXPECT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
    const std::string path = path_of_layers(training.program, training.program.plan->train);
    return path.substr(0, path.rfind(' '));
  }
  const char *kind_;
  std::unique_ptr<Drawn> drawn_;
};

void run(Training &training, plan_range plan::*range, const plan_step &step) {
  ASSERT_EQ(program_run(&training.program, training.program.plan->*range, &step, 1), DESCENT_OK)
      << descent_last_error();
}

/* What a training leaves, of `range` run for each step; with the layers fused as asked for. */
struct Trained {
  Bytes parameters, state; /* parameters and moments; everything that lasts */
  std::string path, arithmetic;
};
Trained train(const Case &c, descent_fusion fusion, const std::function<void(Training &)> &steps) {
  Training training(c);
  training.options.gpu.fusion = fusion;
  EXPECT_EQ(training.open(), DESCENT_OK) << descent_last_error();
  if (testing::Test::HasFailure()) return {};
  steps(training);
  Trained made;
  for (const char *name : {"parameters", "moment1", "moment2"}) made.parameters.push_back(read(training.program, name));
  made.state = training.state();
  made.path = path_of_layers(training.program, training.program.plan->train);
  made.arithmetic = training.program.arithmetic;
  return made;
}

std::function<void(Training &)> in_ranges(const std::vector<plan_range plan::*> &ranges) {
  return [ranges](Training &training) {
    for (const plan_step &step : training.steps(STEPS))
      for (plan_range plan::*range : ranges) run(training, range, step);
  };
}

/* All at once, step by step, in parts, with statistics: the same bits of parameters and moments. */
TEST_F(EmulatedFusion, GivesTheSameBytesHoweverTheStepsAreCut) {
  for (const Way &way : all_ways()) {
    SCOPED_TRACE(way);
    const Case &c = *way.c;
    const Forced forced(way);
    const Trained whole = train(c, DESCENT_FUSION_ON, all_at_once);
    ASSERT_FALSE(HasFailure());
    EXPECT_TRUE(begins(whole.path, way.path + " ")) << whole.path;
    expect_same(train(c, DESCENT_FUSION_ON, in_ranges({&plan::train})).state, whole.state);
    expect_same(train(c, DESCENT_FUSION_ON, in_ranges({&plan::gradient, &plan::update})).state, whole.state);
    expect_same(train(c, DESCENT_FUSION_ON, in_ranges({&plan::train_with_statistics})).parameters, whole.parameters);
    for (const char *how : {"seed=2", "seed=3,late=1"}) {
      emulation.configure(how);
      expect_same(train(c, DESCENT_FUSION_ON, all_at_once).state, whole.state);
    }
    emulation.configure("");
  }
}

/* The statistics of a fused step are those of the layers one by one. */
TEST_F(EmulatedFusion, LeavesTheStatisticsOfTheLayers) {
  for (const Way &way : all_ways()) {
    SCOPED_TRACE(way);
    const Case &c = *way.c;
    const Forced forced(way);
    std::vector<double> statistics[2];
    for (const bool fused : {false, true}) {
      Training training(c);
      training.options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      run(training, &plan::train_with_statistics, training.steps(1)[0]);
      statistics[fused] = read(training.program, "layer_statistics");
    }
    for (size_t i = 0; i < statistics[0].size(); i++) {
      const size_t slot = i % LAYER_SLOTS;
      if (slot == LAYER_MEAN || slot == LAYER_STD || slot == LAYER_DEAD) {
        EXPECT_EQ(statistics[1][i], statistics[0][i]) << i;
      }
    }
  }
}

/* With small whole numbers every sum is exact, so the layers give the same bytes together and one by one. */
TEST_F(EmulatedFusion, GivesTheBytesOfTheLayersForWholeNumbers) {
  const Case whole[] = {
      {"fp32", {8, 16, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_FP32},
      {"tf32", {8, 16, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_TF32},
      {"bf16", {8, 16, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16},
      {"wide fp32",
       {8, 16, 72, 4},
       DESCENT_ACTIVATION_RELU,
       DESCENT_LOSS_MEAN_SQUARED_ERROR,
       0,
       DESCENT_PRECISION_FP32},
      {"wide tf32",
       {8, 16, 72, 4},
       DESCENT_ACTIVATION_RELU,
       DESCENT_LOSS_MEAN_SQUARED_ERROR,
       0,
       DESCENT_PRECISION_TF32},
      {"wide bf16",
       {8, 16, 72, 4},
       DESCENT_ACTIVATION_RELU,
       DESCENT_LOSS_MEAN_SQUARED_ERROR,
       0,
       DESCENT_PRECISION_BF16},
  };
  for (const Case &c : whole)
    for (const char *path : {is_wide(c) ? "fused chain" : "fused step", "whole step"}) {
      const Way way = {&c, path};
      SCOPED_TRACE(way);
      const Forced forced(way);
      Bytes state[2];
      std::vector<double> P[2], evaluated[2];
      for (const bool fused : {false, true}) {
        Training training(c, BATCH);
        training.make_whole();
        training.options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
        ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
        const struct program &program = training.program;
        const plan_step step = training.steps(1)[0];
        EXPECT_EQ(is_fused(program, program.plan->train), fused);
        EXPECT_EQ(is_fused(program, program.plan->evaluate), fused);
        EXPECT_EQ(is_fused(program, program.plan->predict), fused);
        run(training, &plan::predict, step);
        P[fused] = read(program, "P");
        run(training, &plan::evaluate, step);
        evaluated[fused] = read(program, "P");
        evaluated[fused].push_back(read(program, "scalars")[SCALAR_LOSS]);
        for (const double logit : read(program, program.at.A)) evaluated[fused].push_back(logit);
        run(training, &plan::train, step);
        state[fused] = training.state();
      }
      EXPECT_EQ(P[1], P[0]);
      EXPECT_EQ(evaluated[1], evaluated[0]);
      expect_same(state[1], state[0]);
    }
}

/* A, Z and dZ of a fused step are computed when they are read, by the operations of the layers. That changes nothing
 * else. */
TEST_F(EmulatedFusion, HasTheActivationsOfAStepWhenTheyAreRead) {
  for (const Way &way : all_ways()) {
    SCOPED_TRACE(way);
    const Case &c = *way.c;
    const Forced forced(way);
    const int layers = static_cast<int>(c.widths.size()) - 1;
    Bytes values[2];
    for (const bool fused : {false, true}) {
      Training training(c);
      training.options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      const struct program &program = training.program;
      run(training, &plan::gradient, training.steps(1)[0]);
      const Bytes state = training.state();
      values[fused] = {read(program, "dZ[1]"), read(program, "dZ[2]")};
      for (int l = 1; l <= layers; l++) values[fused].push_back(read(program, "A[" + std::to_string(l) + "]"));
      expect_same(training.state(), state);
    }
    for (size_t i = 0; i < values[0].size(); i++) {
      EXPECT_EQ(values[1][i], values[0][i]) << i;
      EXPECT_NE(values[1][i], std::vector<double>(values[1][i].size())) << i;
    }
  }
}

/* A whole step leaves the rows that its gather would, and what is computed from them afterwards is what its parts
 * leave. */
TEST_F(EmulatedFusion, LeavesTheRowsOfAWholeStep) {
  for (const Way &way : all_ways()) {
    if (way.path != "whole step") continue;
    SCOPED_TRACE(way);
    const Forced forced(way);
    Bytes values[2];
    for (const bool parts : {false, true}) {
      Training training(*way.c);
      training.options.gpu.fusion = DESCENT_FUSION_ON;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      const plan_step step = training.steps(ROWS / BATCH + 1).back();
      ASSERT_LT(step.rows, BATCH) << "the last batch has fewer rows";
      for (plan_range plan::*range : parts ? std::vector<plan_range plan::*>{&plan::gradient, &plan::update}
                                           : std::vector<plan_range plan::*>{&plan::train})
        run(training, range, step);
      for (const char *name : {"X", "y", "w", "A[1]", "dZ[1]", "A[2]"})
        values[parts].push_back(read(training.program, name));
      for (std::vector<double> &kept : values[parts]) /* what is behind the step's rows is not specified */
        kept.resize(kept.size() / BATCH * static_cast<size_t>(step.rows));
    }
    for (const size_t i : {0, 2, 3, 5}) EXPECT_NE(values[0][i], std::vector<double>(values[0][i].size())) << i;
    expect_same(values[0], values[1]);
  }
}

/* The launches behind a bad step repeat it: rows and parameters stay those of it. */
TEST_F(EmulatedFusion, KeepsTheEvidenceOfABadStep) {
  for (const char *path : {"fused step", "whole step"}) {
    const Way way = {&narrow_case, path};
    SCOPED_TRACE(way);
    const Forced forced(way);
    Bytes left[2];
    for (const bool many : {false, true}) {
      Training training(*way.c);
      training.options.gpu.fusion = DESCENT_FUSION_ON;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      struct program *const program = &training.program;
      const std::vector<float> huge(static_cast<size_t>(program->plan->buffers[program->at.parameters].cols), 3e38F);
      ASSERT_EQ(
          program_write(program, program->at.parameters, 0, static_cast<int64_t>(huge.size()), PLAN_F32, huge.data()),
          DESCENT_OK);
      const std::vector<plan_step> steps = training.steps(3);
      ASSERT_EQ(program_run(program, program->plan->train, steps.data(), many ? 3 : 1), DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(read(*program, "scalars")[SCALAR_BAD_STEP], 1);
      for (const char *name : {"X", "y", "w", "parameters", "moment1"}) left[many].push_back(read(*program, name));
    }
    expect_same(left[1], left[0]);
  }
}

/* An operation behind a fused range, a copy on the device and an array in its memory read them too. */
TEST_F(EmulatedFusion, HasTheActivationsForWhateverReadsThem) {
  const Case &c = narrow_case;
  Bytes saved[2], computed[2], written[2];
  for (const bool fused : {false, true}) {
    Training training(c);
    training.options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    struct program *const program = &training.program;
    const struct plan *const plan = program->plan;
    const std::vector<plan_step> steps = training.steps(3);
    const std::vector<int> forward = ops_of(plan, plan->train, OP_DENSE_FORWARD);
    const int A1 = plan->ops[forward[0]].forward.A, A2 = plan->ops[forward[1]].forward.A;
    run(training, &plan::gradient, steps[0]);
    descent_array view;
    ASSERT_EQ(program_view(program, A2, 1, &view), DESCENT_OK);
    ASSERT_EQ(program->backend->save(program->compiled, A2), DESCENT_OK);
    saved[fused] = {read(*program, A2)};
    const std::vector<float> zeros(static_cast<size_t>(BATCH * c.widths[2]));
    ASSERT_EQ(program_write(program, A2, 0, BATCH * c.widths[2], PLAN_F32, zeros.data()), DESCENT_OK);
    ASSERT_EQ(program->backend->restore(program->compiled, A2), DESCENT_OK);
    saved[fused].push_back(read(*program, A2));
    run(training, &plan::gradient, steps[1]);
    ASSERT_EQ(program_run(program, {forward[1], 1}, &steps[1], 1), DESCENT_OK) << descent_last_error();
    computed[fused] = {read(*program, A2), read(*program, A1)};
    run(training, &plan::gradient, steps[2]);
    ASSERT_EQ(program_write(program, A1, 0, 1, PLAN_F32, zeros.data()),
              DESCENT_OK); /* the others stay those of the step */
    written[fused] = {read(*program, A1), read(*program, A2)};
    EXPECT_EQ(written[fused][0][0], 0);
  }
  expect_same(saved[1], saved[0]);
  expect_same(computed[1], computed[0]);
  expect_same(written[1], written[0]);
}

/* Fused or not, a prediction and an evaluation differ by rounding. */
TEST_F(EmulatedFusion, EvaluatesAndPredictsAsTheLayersDo) {
  for (const Case &c : all_cases()) {
    SCOPED_TRACE(c.name);
    std::vector<double> P[2], logits[2];
    for (const bool fused : {false, true}) {
      Training training(c);
      training.options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
      ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
      const struct program &program = training.program;
      EXPECT_EQ(is_fused(program, program.plan->predict), fused);
      run(training, &plan::evaluate, training.steps(1)[0]);
      P[fused] = read(program, "P");
      logits[fused] = read(program, program.at.A);
      run(training, &plan::predict, training.steps(1)[0]);
      EXPECT_EQ(read(program, "P"), P[fused]);
      EXPECT_EQ(read(program, program.at.A), logits[fused]);
    }
    const double unit = c.precision == DESCENT_PRECISION_FP32   ? 0x1p-24
                        : c.precision == DESCENT_PRECISION_TF32 ? 0x1p-11
                                                                : 0x1p-9;
    double largest = 0;
    for (const double z : logits[0]) largest = std::max(largest, std::abs(z));
    for (size_t i = 0; i < logits[0].size(); i++) EXPECT_NEAR(logits[1][i], logits[0][i], 64 * unit * largest);
    for (size_t i = 0; i < P[0].size(); i++) EXPECT_NEAR(P[1][i], P[0][i], 64 * unit * std::max(1.0, largest));
  }
}

TEST_F(EmulatedFusion, NamesTheKernelOfEachOperation) {
  for (const Way &way : {Way{&narrow_case, "fused step"},
                         {&wide_cases[0], "fused chain"},
                         {&narrow_case, "whole step"},
                         {&wide_cases[0], "whole step"}}) {
    SCOPED_TRACE(way);
    const Forced forced(way);
    Training training(*way.c);
    training.options.gpu.fusion = DESCENT_FUSION_ON;
    ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
    const struct program &program = training.program;
    const struct plan *const plan = program.plan;
    const struct backend *const backend = program.backend;
    const bool is_chain = way.path == "fused chain";
    for (const plan_range range : {plan->train, plan->train_with_statistics, plan->gradient}) {
      const bool statistics = range.first == plan->train_with_statistics.first;
      const bool whole = way.path == "whole step" && range.count == plan->train.count && !statistics;
      const std::string fused = whole ? "whole step " : is_chain ? "fused chain " : "fused step ";
      const int first = whole ? range.first : ops_of(plan, range, statistics ? OP_LOSS : OP_DENSE_FORWARD).front();
      for (int i = range.first; i < range.first + range.count; i++) {
        const plan_op_kind kind = plan->ops[i].kind;
        const bool covered = whole || kind == OP_LOSS || kind == OP_DENSE_BACKWARD_INPUT ||
                             (kind == OP_DENSE_FORWARD && !statistics) ||
                             (kind == OP_DENSE_BACKWARD_WEIGHTS && !is_chain);
        EXPECT_EQ(begins(path_of(program, range, i), fused), covered) << plan_op_kind_name(kind);
        EXPECT_EQ(backend->fused_with(program.compiled, range, i), covered ? first : i) << plan_op_kind_name(kind);
        if (kind == OP_DENSE_BACKWARD_WEIGHTS && is_chain) expect_contains(path_of(program, range, i), "custom ");
      }
    }
    for (const plan_range range : {plan->evaluate, plan->predict})
      for (int i = range.first; i < range.first + range.count; i++) {
        const bool covered = plan->ops[i].kind == OP_DENSE_FORWARD || plan->ops[i].kind == OP_OUTPUT;
        EXPECT_EQ(path_of(program, range, i).find("fused forward ") == 0, covered);
        EXPECT_EQ(backend->fused_with(program.compiled, range, i), covered ? range.first + 1 : i);
      }
    for (const plan_range range : {plan->forward, plan->forward_with_statistics, plan->update}) {
      for (int i = range.first; i < range.first + range.count; i++) {
        EXPECT_FALSE(begins(path_of(program, range, i), "fused ")) << path_of(program, range, i);
        EXPECT_EQ(backend->fused_with(program.compiled, range, i), i);
      }
    }
  }
}

TEST_F(EmulatedFusion, TimesTheLaunchAtItsFirstOperation) {
  for (const Way &way :
       {Way{&narrow_case, "fused step"}, {&wide_cases[0], "fused chain"}, {&narrow_case, "whole step"}}) {
    SCOPED_TRACE(way);
    const Forced forced(way);
    Training training(*way.c);
    training.options.gpu.fusion = DESCENT_FUSION_ON;
    ASSERT_EQ(training.open(), DESCENT_OK) << descent_last_error();
    struct program *const program = &training.program;
    const std::vector<plan_step> steps = training.steps(2);
    double seconds[2][64];
    for (plan_range plan::*range : {&plan::train, &plan::train_with_statistics, &plan::evaluate, &plan::predict}) {
      const plan_range timed = program->plan->*range;
      ASSERT_EQ(program->backend->time(program->compiled, timed, steps.data(), 2, seconds[0], seconds[1]), DESCENT_OK)
          << descent_last_error();
      for (int i = 0; i < timed.count; i++) EXPECT_GE(seconds[0][i], 0);
    }
  }
}

/* ---- the choice ---- */

TEST_F(EmulatedFusion, OffGivesTheChoicesOfBefore) {
  for (const Case &c : {narrow_case, wide_cases[0]}) {
    SCOPED_TRACE(c.name);
    const Trained off = train(c, DESCENT_FUSION_OFF, all_at_once), on = train(c, DESCENT_FUSION_ON, all_at_once),
                  untimed = train(c, DESCENT_FUSION_AUTO, all_at_once);
    EXPECT_EQ(off.path.find("cublaslt"), 0u) << off.path;
    EXPECT_NE(on.arithmetic, off.arithmetic);
    EXPECT_EQ(untimed.path, is_wide(c) ? off.path : on.path) << "untimed, the narrow ones are fused";
    EXPECT_EQ(untimed.arithmetic, is_wide(c) ? off.arithmetic : on.arithmetic);
    expect_same(untimed.state, is_wide(c) ? off.state : on.state);
  }
}

/* A whole step takes wider layers than a chain, and fewer rows. */
TEST_F(EmulatedFusion, OnSaysWhyItCannotBe) {
  const struct {
    std::vector<int64_t> widths;
    int64_t rows;
    const char *gpu, *path, *reason; /* the reason of a refusal, or the path of what is taken */
  } asked[] = {
      {{8, 80, 4}, 1025, "", "fused chain", NULL},
      {{400, 80, 3}, 32, "", "whole step", NULL},
      {{8, 400, 4}, 256, "", "whole step", NULL},
      {{8, 400, 4},
       1025,
       "",
       NULL,
       "layer 1 has 400 outputs, more than 320; for a whole step, 1025 rows, more than 1024"},
      {{8, 16, 600, 4},
       32,
       "",
       NULL,
       "layer 2 has 600 outputs, more than 320; for a whole step, layer 2 has 600 outputs, more than 512"},
      {{8, 400, 4},
       256,
       "major=8",
       NULL,
       "layer 1 has 400 outputs, more than 320; for a whole step, the GPU has no clusters of blocks"},
      {std::vector<int64_t>(14, 8), 32, "", NULL, "13 layers, more than 12"},
  };
  for (const auto &a : asked) {
    SCOPED_TRACE(a.reason ? a.reason : a.path);
    const Case c = {"", a.widths, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
    emulation.configure(a.gpu);
    for (const bool autotune : {false, true}) {
      if (autotune && a.rows > 32) continue; /* slow */
      Training training(c, a.rows, a.rows);
      training.options.gpu.fusion = DESCENT_FUSION_ON;
      training.options.autotune = autotune;
      const descent_status status = training.compile();
      ASSERT_EQ(status, a.reason ? DESCENT_ERROR_UNSUPPORTED : DESCENT_OK) << descent_last_error();
      if (a.path) {
        const std::string path = path_of_layers(training.program, training.program.plan->train);
        EXPECT_EQ(path.substr(0, path.rfind(' ')), a.path);
        continue;
      }
      EXPECT_EQ(descent_last_error(), "fusion on: " + std::string(a.reason) + "; use auto or off");
      training.close();
      training.options.gpu.fusion = DESCENT_FUSION_AUTO;
      EXPECT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
    }
  }
  emulation.configure("");
}

/* The update needs the norms of all layers, so it is a separate kernel. The layers may still be computed by one. */
TEST_F(EmulatedFusion, LeavesTrustRatiosOutOfWholeSteps) {
  for (const descent_optimizer optimizer : {DESCENT_OPTIMIZER_LARS, DESCENT_OPTIMIZER_LAMB}) {
    Case c = {"", {8, 400, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
    for (const bool autotune : {false, true}) {
      SCOPED_TRACE(std::string(descent_optimizer_name(optimizer)) + (autotune ? ", timed" : ""));
      c.widths = {8, 400, 4};
      Training wide(c);
      wide.options.optimizer.kind = optimizer;
      wide.options.autotune = autotune;
      wide.options.gpu.fusion = DESCENT_FUSION_ON;
      EXPECT_EQ(wide.compile(), DESCENT_ERROR_UNSUPPORTED);
      EXPECT_STREQ(descent_last_error(),
                   "fusion on: layer 1 has 400 outputs, more than 320; for a whole step, lars and lamb have a trust "
                   "ratio; use auto or off");
      wide.close();
      wide.options.gpu.fusion = DESCENT_FUSION_AUTO;
      EXPECT_EQ(wide.compile(), DESCENT_OK) << descent_last_error();
      c.widths = {8, 16, 4};
      Training narrow(c);
      narrow.options = wide.options;
      narrow.options.gpu.fusion = DESCENT_FUSION_ON;
      ASSERT_EQ(narrow.compile(), DESCENT_OK) << descent_last_error();
      EXPECT_TRUE(begins(path_of_layers(narrow.program, narrow.program.plan->train), "fused "));
    }
  }
}

/* Drawn, a training is fused or not, by each kind that takes it; the parts of a step give its bits. */
TEST_F(EmulatedFusion, EveryChoiceIsDrawn) {
  enum { MOST = 40 };
  const Case c = {"", {8, 16, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
  std::set<std::string> missing = {"fused step", "fused chain", "whole step", "apart"};
  std::set<std::string> arithmetic;
  for (int seed = 1; seed <= MOST && !missing.empty(); seed++) {
    SCOPED_TRACE(seed);
    const Drawn drawn(seed);
    const auto few = [](const std::vector<plan_range plan::*> &ranges) {
      return [ranges](Training &training) {
        for (const plan_step &step : training.steps(3))
          for (plan_range plan::*range : ranges) run(training, range, step);
      };
    };
    const Trained whole = train(c, DESCENT_FUSION_AUTO, few({&plan::train}));
    const bool fused = begins(whole.path, "fused ") || begins(whole.path, "whole ");
    const std::string way = fused ? whole.path.substr(0, whole.path.rfind(' ')) : "apart";
    const char *const said = way == "whole step"   ? "fusion=whole"
                             : way == "fused step" ? "fusion=step"
                                                   : "fusion=chain";
    EXPECT_GT(drawn.lines({fused ? said : "fusion=none"}), 0);
    if (missing.erase(way)) {
      expect_same(train(c, DESCENT_FUSION_AUTO, few({&plan::gradient, &plan::update})).state, whole.state);
      arithmetic.insert(whole.arithmetic);
    }
  }
  EXPECT_EQ(missing, std::set<std::string>());
  EXPECT_EQ(arithmetic.size(), 4u);
}

/* The seconds of the kernel that the trace says is taken of this kind. */
double taken_seconds(const std::string &trace, const std::string &kind) {
  const std::regex line("candidate network=" + kind + " \\S.* verdict=taken seconds=(\\S+)");
  std::smatch found;
  EXPECT_TRUE(std::regex_search(trace, found, line)) << kind << "\n" << trace;
  return found.empty() ? 0 : std::stod(found[1]);
}

/* Timed, a training is fused where the trace says that it is faster; the next process repeats the choice by what is
 * remembered. A whole step is timed with norm and update. To the others three passes of 2 us and more are added, to a
 * whole step X at the speed of a few multiprocessors: 7 of 64 bytes a clock, at 10 MHz. */
TEST_F(EmulatedFusion, IsChosenByTimeAndRepeated) {
  const double gather = 2 * BATCH * 64 * 2 / (7 * 64 * 1e7);
  const Case c = {"", {64, 4}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_BF16};
  const std::regex line(
      "choice network=(step|whole|chain) \\S.* fusion=(\\w+) variant=\\S+ together_seconds=(\\S+) "
      "apart_seconds=(\\S+)");
  std::set<bool> seen;
  std::set<std::string> kinds;
  for (int seed = 1; seed <= 24 && (seen.size() < 2 || kinds.size() < 2); seed++) {
    SCOPED_TRACE(seed);
    const Folder cache;
    setenv("XDG_CACHE_HOME", (cache / "").c_str(), 1);
    std::string paths[2];
    for (int process = 0; process < 2; process++) {
      const std::string name = "trace" + std::to_string(process);
      setenv("DESCENT_CUDA_TRACE", (cache / name.c_str()).c_str(), 1);
      emulation.configure(("guess=1,seed=" + std::to_string(seed + 100 * process)).c_str());
      Training training(c, BATCH);
      training.options.autotune = true;
      ASSERT_EQ(training.compile(), DESCENT_OK) << descent_last_error();
      unsetenv("DESCENT_CUDA_TRACE");
      paths[process] = path_of_layers(training.program, training.program.plan->train);
      const std::string trace = cache.read(name.c_str());
      std::smatch found;
      ASSERT_TRUE(std::regex_search(trace, found, line)) << trace;
      EXPECT_EQ(found[2] != "none", std::stod(found[3]) < std::stod(found[4])) << found[0];
      const bool fused = begins(paths[process], "fused ") || begins(paths[process], "whole ");
      EXPECT_EQ(found[2] != "none", fused) << paths[process];
      seen.insert(found[2] != "none");
      const double beside = std::stod(found[3]) - taken_seconds(trace, found[1]);
      if (found[1] == "whole") {
        EXPECT_NEAR(beside, gather, 0.1 * gather) << found[0];
      } else {
        EXPECT_GT(beside, 6.5e-6) << found[0];
      }
      if (found[1] == "step") {
        EXPECT_LT(beside, 8e-6) << found[0];
      }
      kinds.insert(found[1]);
    }
    EXPECT_EQ(paths[0], paths[1]);
  }
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_GE(kinds.size(), 2u);
  setenv("XDG_CACHE_HOME", cuda_module_at_start.cache.path().c_str(), 1);
}

/* ---- failures ---- */

/* The memory of the trial and of the launches is refused in turn. */
TEST_F(EmulatedFusion, EveryAllocationMayFail) {
  for (const Case &c : {cases[2], wide_cases[1]})
    for (const bool autotune : timed_or_not) {
      SCOPED_TRACE(testing::Message() << c.name << (autotune ? " timed" : ""));
      bool failed = true;
      int n = 0;
      for (; failed && !HasFailure(); n++) {
        SCOPED_TRACE("allocation=" + std::to_string(n));
        emulation.configure(n ? ("allocation=" + std::to_string(n)).c_str() : "");
        Training training(c, BATCH);
        training.options.gpu.fusion = DESCENT_FUSION_ON;
        training.options.autotune = autotune;
        const descent_status status = training.compile();
        failed = n == 0 || emulation.failed();
        if (status != DESCENT_OK) {
          EXPECT_TRUE(failed) << descent_last_error();
          EXPECT_EQ(status, training.has_device() ? DESCENT_ERROR_MEMORY : DESCENT_ERROR_DEVICE)
              << descent_last_error();
          EXPECT_EQ(emulation.last_error(), 0) << "not cleared: " << descent_last_error();
        }
        training.close();
        EXPECT_EQ(emulation.live(), 0) << descent_last_error();
      }
      EXPECT_GT(n, 10);
    }
}

const Case divergent[] = {
    {"divergent", {4, 8, 8, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR, 0, DESCENT_PRECISION_FP32},
    {"wide divergent",
     {4, 72, 8, 1},
     DESCENT_ACTIVATION_RELU,
     DESCENT_LOSS_MEAN_SQUARED_ERROR,
     0,
     DESCENT_PRECISION_FP32},
};

/* A step that diverges is explained with the same words, and leaves the same step's parameters. */
TEST_F(EmulatedFusion, ExplainsDivergenceAsTheLayersDo) {
  for (const Way &way : {Way{&divergent[0], "fused step"},
                         {&divergent[1], "fused chain"},
                         {&divergent[0], "whole step"},
                         {&divergent[1], "whole step"}}) {
    SCOPED_TRACE(way);
    const Forced forced(way);
    const int choices = forced.choices();
    std::string said[2];
    Rows wild = make_rows(64, 4, 1, 0, 1), bad = wild;
    for (float &x : wild.X) x *= 1e15F;
    bad.X[17 * 4 + 2] = 1e19F;
    for (const Rows *rows : {&wild, &bad}) {
      for (const bool fused : {false, true}) {
        const Dataset data = rows->dataset();
        const Network network = make_network(way.c->widths, way.c->hidden, way.c->loss);
        const Device device = open_device("cuda");
        descent_train_options options = descent_train_options_default();
        options.optimizer.kind = DESCENT_OPTIMIZER_GD;
        options.precision = DESCENT_PRECISION_FP32;
        options.autotune = false;
        options.epochs = 20;
        options.batch_size = BATCH;
        options.gpu.fusion = fused ? DESCENT_FUSION_ON : DESCENT_FUSION_OFF;
        ASSERT_EQ(descent_fit(network.get(), device.get(), data.get(), nullptr, &options, nullptr),
                  DESCENT_ERROR_DIVERGED);
        said[fused] = descent_last_error();
      }
      EXPECT_EQ(said[1], said[0]);
      expect_contains(said[0], "layer ");
    }
    EXPECT_EQ(forced.choices(), choices + 2);
  }
}

}  // namespace
