/* The choice of a custom kernel's variant, among kernels of this file: faulty variants are left out, the fastest is taken
 * and remembered. */
#include <time.h>

#include <set>

#include "products.h"

extern "C" {
#include "custom.h"
}

namespace {

/* How a variant behaves. */
enum Kind { RIGHT, SLOW, REFUSED, UNSTEADY, FORGETS_ROW, FORGETS_SUMS, OFF_BY_ONE, NOT_CAPTURED };
std::vector<Kind> offered;
int launches[8];
bool sums_asked;
int last, turns;               /* of the launches that ran: the variant, how often it changed */
std::set<const void *> places; /* the results' addresses */

struct Result {
  device_matrix m;
  int64_t rows, n;
  float value;
};

/* Writes the results, each `value` everywhere: what the product of ones gives. */
cudaError_t run(int variant, const std::vector<Result> &results, cudaStream_t stream) {
  const Kind kind = offered.at((size_t)variant);
  const int launch = launches[variant]++;
  if (kind == REFUSED || (kind == NOT_CAPTURED && emulate_is_capturing(stream))) return cudaErrorInvalidValue;
  return enqueue(stream, [=] {
    turns += variant != last;
    last = variant;
    places.insert(results[0].m.data);
    if (kind == SLOW) {
      const timespec some = {0, 300000};
      nanosleep(&some, nullptr);
    }
    for (size_t r = 0; r < results.size(); r++) {
      const Result &result = results[r];
      const bool short_by_one = (kind == FORGETS_ROW && r == 0) || (kind == FORGETS_SUMS && r + 1 == results.size());
      const int64_t count = result.rows * result.n - (short_by_one ? 1 : 0);
      for (int64_t i = 0; i < count; i++)
        store(result.m.data, i / result.n * result.m.ld + i % result.n, result.m.element,
              result.value + (kind == OFF_BY_ONE && i == 0) + (kind == UNSTEADY && i == 0 && launch % 3 == 2));
    }
  });
}

}  // namespace

extern "C" {
int fused_forward_variants(const fused_forward_launch *) { return (int)offered.size(); }
int fused_input_variants(const fused_input_launch *) { return (int)offered.size(); }
int weights_variants(const weights_launch *) { return (int)offered.size(); }
size_t fused_input_scratch(int64_t, int64_t n) { return 4 * (size_t)n; }
size_t weights_scratch(int64_t, int64_t n_in, int64_t n_out) { return 4 * (size_t)(n_in * n_out); }
cudaError_t launch_fused_forward(const fused_forward_launch *l, cudaStream_t stream) {
  std::vector<Result> results = {{l->pass.A, l->pass.rows, l->pass.n, (float)(l->n_in + 1)}};
  if (l->pass.Z.data) results.push_back({l->pass.Z, l->pass.rows, l->pass.n, (float)(l->n_in + 1)});
  return run(l->variant, results, stream);
}
cudaError_t launch_fused_input(const fused_input_launch *l, cudaStream_t stream) {
  std::vector<Result> results = {{l->pass.dZ, l->pass.rows, l->pass.n, (float)l->n_out}};
  const device_matrix sums = {l->pass.bias_gradient, l->pass.n, ELEMENT_F32};
  sums_asked = sums.data != nullptr;
  if (sums.data) results.push_back({sums, 1, l->pass.n, (float)(l->n_out * l->pass.rows)});
  return run(l->variant, results, stream);
}
cudaError_t launch_weights(const weights_launch *l, cudaStream_t stream) {
  return run(l->variant,
             {{{l->gradient, l->ld, ELEMENT_F32}, l->n_out, l->n_in, (float)l->rows},
              {{l->bias_gradient, l->n_out, ELEMENT_F32}, 1, l->n_out, (float)l->rows}},
             stream);
}
}

namespace {

custom_launch launch_of(plan_op_kind kind, element type = ELEMENT_F32, bool sums = true) {
  enum { M = 9, IN = 6, OUT = 5, LD = 8 };
  custom_launch l = {};
  l.kind = kind;
  l.sums = sums;
  const device_matrix matrix = {nullptr, LD, type};
  if (kind == OP_DENSE_FORWARD) {
    l.forward.A_in = l.forward.W = l.forward.pass.A = l.forward.pass.Z = matrix;
    l.forward.pass.bias_element = type;
    l.forward.pass.activation = DESCENT_ACTIVATION_RELU;
    l.forward.pass.rows = M, l.forward.pass.n = OUT, l.forward.n_in = IN;
  } else if (kind == OP_DENSE_BACKWARD_INPUT) {
    l.input.dZ_above = l.input.W = l.input.pass.dZ = l.input.pass.A = matrix;
    l.input.pass.activation = DESCENT_ACTIVATION_RELU;
    l.input.pass.rows = M, l.input.pass.n = IN, l.input.n_out = OUT;
  } else {
    l.weights.dZ = l.weights.A_in = matrix;
    l.weights.rows = M, l.weights.n_in = IN, l.weights.n_out = OUT, l.weights.ld = LD;
  }
  return l;
}
const plan_op_kind kinds[] = {OP_DENSE_FORWARD, OP_DENSE_BACKWARD_INPUT, OP_DENSE_BACKWARD_WEIGHTS};

class Custom : public ProductTest {
 protected:
  void offer(const std::vector<Kind> &variants) {
    offered = variants;
    std::fill(std::begin(launches), std::end(launches), 0);
    turns = 0;
    places.clear();
  }
  int fastest(const custom_launch &launch, double *seconds = nullptr) {
    int variant = -2;
    double took = -1;
    const long long before = emulate_live();
    EXPECT_EQ(custom_fastest(library_, &launch, stream_, &variant, &took), DESCENT_OK) << descent_last_error();
    EXPECT_EQ(emulate_live(), before);
    EXPECT_EQ(took > 0, variant >= 0);
    if (seconds) *seconds = took;
    return variant;
  }
};

TEST_F(Custom, TakesTheFastestVariantThatPasses) {
  for (const plan_op_kind kind : kinds)
    for (const element type : {ELEMENT_F32, ELEMENT_BF16}) {
      fs::remove_all(cache_);
      reopen();
      offer({REFUSED, SLOW, NOT_CAPTURED, RIGHT, SLOW, FORGETS_ROW});
      EXPECT_EQ(fastest(launch_of(kind, type)), 3) << kind;
      EXPECT_EQ(sums_asked, kind != OP_DENSE_FORWARD) << "by the latest launch of an input";
    }
}

TEST_F(Custom, LeavesOutVariantsThatFailTheirTrialAndSaysWhy) {
  const struct {
    Kind kind;
    const char *verdict;
  } flaws[] = {{REFUSED, "not_launched"}, {UNSTEADY, "unsteady"},  {FORGETS_ROW, "inexact"},
               {FORGETS_SUMS, "inexact"}, {OFF_BY_ONE, "inexact"}, {NOT_CAPTURED, "not_captured"},
               {RIGHT, "taken"}};
  const Traced traced(cache_);
  for (const plan_op_kind kind : kinds)
    for (const auto &flaw : flaws) {
      SCOPED_TRACE(testing::Message() << kind << " " << flaw.verdict);
      fs::remove_all(cache_);
      traced.forget();
      reopen();
      offer({flaw.kind});
      EXPECT_EQ(fastest(launch_of(kind)), flaw.kind == RIGHT ? 0 : -1);
      EXPECT_NE(traced.text().find(std::string(" variant=0 verdict=") + flaw.verdict + " "), std::string::npos)
          << traced.text();
      bool passes = false;
      const custom_launch launch = launch_of(kind);
      EXPECT_EQ(custom_passes(library_, &launch, 0, stream_, &passes), DESCENT_OK);
      EXPECT_EQ(passes, flaw.kind == RIGHT || flaw.kind == NOT_CAPTURED);
    }
}

/* Where results are no whole numbers, or where bf16 does not hold them, the other tests decide. */
TEST_F(Custom, IsComparedOnlyWithWhatIsExact) {
  custom_launch launch = launch_of(OP_DENSE_FORWARD);
  offer({OFF_BY_ONE});
  EXPECT_EQ(fastest(launch), -1);
  launch.forward.pass.activation = DESCENT_ACTIVATION_TANH;
  EXPECT_EQ(fastest(launch), -1) << "Z is still a whole number";
  launch.forward.pass.Z.ld = 0;
  EXPECT_EQ(fastest(launch), 0);
  launch = launch_of(OP_DENSE_BACKWARD_INPUT, ELEMENT_F32, false);
  EXPECT_EQ(fastest(launch), -1);
  launch.input.pass.threshold = 1;
  EXPECT_EQ(fastest(launch), 0);
  launch = launch_of(OP_DENSE_FORWARD, ELEMENT_BF16);
  launch.forward.n_in = 256, launch.forward.A_in.ld = launch.forward.W.ld = 256;
  EXPECT_EQ(fastest(launch), 0);
}

TEST_F(Custom, RemembersTheVariantAndItsTime) {
  const custom_launch launch = launch_of(OP_DENSE_BACKWARD_WEIGHTS);
  double measured = 0, again = 0;
  offer({SLOW, RIGHT});
  EXPECT_EQ(fastest(launch, &measured), 1);
  offer({RIGHT, SLOW}); /* what is remembered decides, not the clock */
  EXPECT_EQ(fastest(launch, &again), 1);
  EXPECT_EQ(again, measured);
  EXPECT_EQ(launches[0], 0);
  reopen();
  EXPECT_EQ(fastest(launch, &again), 1);
  EXPECT_EQ(again, measured);
  offer({RIGHT, UNSTEADY}); /* and is tried like any other */
  EXPECT_EQ(fastest(launch, &again), 0);
  offer({UNSTEADY, UNSTEADY, SLOW, RIGHT}); /* of another set of variants: timed again */
  EXPECT_EQ(fastest(launch), 3);
}

TEST_F(Custom, RemembersThatNoVariantPasses) {
  const custom_launch launch = launch_of(OP_DENSE_FORWARD);
  offer({UNSTEADY});
  EXPECT_EQ(fastest(launch), -1);
  reopen();
  offer({RIGHT});
  EXPECT_EQ(fastest(launch), -1);
  EXPECT_EQ(launches[0], 0);
  fs::remove(file());
  reopen();
  EXPECT_EQ(fastest(launch), 0);
  offer({});
  EXPECT_EQ(fastest(launch), -1) << "no variant takes it";
}

TEST_F(Custom, IsKeyedByEverythingItsTimeDependsOn) {
  offer({RIGHT});
  std::vector<std::string> keys;
  const auto add = [&](const custom_launch &launch) {
    char key[TUNE_KEY];
    custom_key(&launch, key);
    EXPECT_NE(strstr(key, " timed=captured"), nullptr) << key;
    keys.push_back(key);
  };
  const std::function<void(forward_launch *)> of_forward[] = {
      [](forward_launch *p) { p->rows++; },
      [](forward_launch *p) { p->n++; },
      [](forward_launch *p) { p->Z.ld = 0; },
      [](forward_launch *p) { p->A.ld++; },
      [](forward_launch *p) { p->A.element = ELEMENT_BF16; },
      [](forward_launch *p) { p->activation = DESCENT_ACTIVATION_TANH; },
      [](forward_launch *p) { p->threshold = 5; },
  };
  const std::function<void(backward_launch *)> of_backward[] = {
      [](backward_launch *p) { p->rows++; },       [](backward_launch *p) { p->n++; },
      [](backward_launch *p) { p->Z.ld = 8; },     [](backward_launch *p) { p->A.ld++; },
      [](backward_launch *p) { p->dZ.ld++; },      [](backward_launch *p) { p->activation = DESCENT_ACTIVATION_TANH; },
      [](backward_launch *p) { p->threshold = 5; }};
  const std::function<void(custom_launch *)> of_any[] = {
      [](custom_launch *) {},
      [](custom_launch *l) { l->forward.n_in++; },
      [](custom_launch *l) { l->forward.W.ld++; },
      [](custom_launch *l) { l->forward.A_in.ld++; },
      [](custom_launch *l) { l->forward.A_in.element = ELEMENT_BF16; },
      [](custom_launch *l) { l->forward.tf32 = true; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT); },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT), l->sums = false; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT), l->input.n_out++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT), l->input.W.ld++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT), l->input.dZ_above.ld++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_INPUT), l->input.tf32 = true; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS); },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.rows++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.n_in++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.n_out++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.ld++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.dZ.ld++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.A_in.ld++; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS), l->weights.tf32 = true; },
      [](custom_launch *l) { *l = launch_of(OP_DENSE_BACKWARD_WEIGHTS, ELEMENT_BF16); },
      [](custom_launch *) { offered.push_back(RIGHT); },
  };
  for (const auto &change : of_forward) {
    custom_launch launch = launch_of(OP_DENSE_FORWARD);
    change(&launch.forward.pass);
    add(launch);
  }
  for (const auto &change : of_backward) {
    custom_launch launch = launch_of(OP_DENSE_BACKWARD_INPUT);
    change(&launch.input.pass);
    add(launch);
  }
  for (const auto &change : of_any) {
    custom_launch launch = launch_of(OP_DENSE_FORWARD);
    change(&launch);
    add(launch);
  }
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(std::unique(keys.begin(), keys.end()), keys.end());
  custom_launch large = launch_of(OP_DENSE_BACKWARD_INPUT, ELEMENT_BF16);
  large.input.n_out = large.input.pass.n = large.input.pass.rows = INT64_MAX;
  for (device_matrix *m :
       {&large.input.dZ_above, &large.input.W, &large.input.pass.dZ, &large.input.pass.A, &large.input.pass.Z})
    m->ld = INT64_MAX;
  add(large); /* the longest key fits */
}

TEST_F(Custom, LeavesNothingBehindWhenMemoryRunsOut) {
  const custom_launch launch = launch_of(OP_DENSE_BACKWARD_INPUT);
  offer({RIGHT});
  const long long before = emulate_live();
  int variant;
  double seconds;
  emulate_configure("allocation=1");
  EXPECT_EQ(custom_fastest(library_, &launch, stream_, &variant, &seconds), DESCENT_ERROR_MEMORY);
  EXPECT_EQ(emulate_live(), before);
}

/* As products are: launches of all variants are interleaved and cycle through copies of the operands. */
TEST_F(Custom, IsTimedInTurnsOnOperandsThatTakeTurns) {
  offer({RIGHT, RIGHT});
  emulate_configure("guess=1,seed=5");
  EXPECT_GE(fastest(launch_of(OP_DENSE_FORWARD)), 0);
  EXPECT_GT(turns, 2 * 3); /* rounds; there would be fewer if variants were timed one after another */
  EXPECT_GT(places.size(), 3U) << "more than the trial's two results";
}

}  // namespace
