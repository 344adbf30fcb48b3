/* The choice of a custom kernel's variant, of one layer or of several, among kernels of this file: faulty variants are
 * left out, the fastest is taken and remembered. */
#include <limits.h>
#include <time.h>

#include <functional>
#include <set>

#include "products.h"

extern "C" {
#include "custom.h"
#include "network.h"
}

namespace {

/* How a variant behaves. */
enum Kind {
  RIGHT,
  SLOW,
  REFUSED,
  UNSTEADY,
  FORGETS_ROW,
  FORGETS_SUMS,
  OFF_BY_ONE,
  NOT_CAPTURED,
  DIFFERS_IN_WHOLE,
  /* of a whole step */ SKIPS_UPDATE,
  KEEPS_MOMENT,
  KEEPS_COPY,
  SPOILS_NORM,
  SPOILS_LOSS
};
std::vector<Kind> offered;
int whole_from; /* the variants from this one on take a whole step */
int whole_steps, bad_steps;
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
cudaError_t run(int variant, const std::vector<Result> &results, cudaStream_t stream, bool whole = false) {
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
              result.value + (kind == OFF_BY_ONE && i == 0) + (kind == UNSTEADY && i == 0 && launch % 3 == 2) +
                  (kind == DIFFERS_IN_WHOLE && i == 0 && whole));
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
int network_variants(const network_launch *, char *, size_t) { return (int)offered.size(); }
size_t network_partials(const network_launch *) { return 64; }
bool network_takes_whole(const network_launch *l) { return l->variant >= whole_from; }
/* The loss; what is neither dW nor db becomes 0. */
static cudaError_t write_rest(const network_launch &l, cudaStream_t stream) {
  std::vector<bool> written(static_cast<size_t>(l.n_gradients));
  for (int i = 0; i < l.layers; i++) {
    const network_layer &layer = l.layer[i];
    for (int64_t row = 0; row < layer.n_out; row++) {
      written.at(static_cast<size_t>(layer.db + row)) = true;
      for (int64_t k = 0; k < layer.n_in; k++) written.at(static_cast<size_t>(layer.dW + row * layer.W.ld + k)) = true;
    }
  }
  float *const gradients = l.gradients;
  double *const loss = l.scalars + SCALAR_LOSS;
  return enqueue(stream, [=] {
    *loss = 0.5;
    for (size_t i = 0; i < written.size(); i++)
      if (!written[i]) gradients[i] = 0;
  });
}
/* A whole step is the kernels of its parts, one after another. */
cudaError_t launch_network(const network_launch *l, cudaStream_t stream) {
  const whole_step *const whole = l->whole;
  std::vector<Result> results;
  float value = 1;
  for (int i = 0; i < l->layers; i++) {
    const network_layer &layer = l->layer[i];
    const device_matrix dW = {l->gradients + layer.dW, layer.W.ld, ELEMENT_F32};
    const device_matrix db = {l->gradients + layer.db, layer.n_out, ELEMENT_F32};
    value = (float)layer.n_in * value + 1;
    if (layer.A.ld) results.push_back({layer.A, l->rows, layer.n_out, value});
    if (layer.dZ.ld) results.push_back({layer.dZ, l->rows, layer.n_out, 0.25F});
    if (l->kind == NETWORK_STEP)
      results.insert(results.end(), {{dW, layer.n_out, layer.n_in, 2}, {db, 1, layer.n_out, 2}});
  }
  const int64_t n = l->layer[l->layers - 1].n_out;
  if (l->kind == NETWORK_FORWARD)
    results.insert(results.end(), {{l->A, l->rows, n, value}, {{l->P, n, ELEMENT_F32}, l->rows, n, 0.5F}});
  cudaError_t error = whole ? launch_gather(&whole->gather, stream) : cudaSuccess;
  if (l->kind == NETWORK_STEP && l->variant >= whole_from) error = write_rest(*l, stream);
  if (error == cudaSuccess) error = run(l->variant, results, stream, whole != nullptr);
  if (!whole || error != cudaSuccess) return error;
  const Kind kind = offered.at((size_t)l->variant);
  double *const loss = l->scalars + SCALAR_LOSS;
  if (kind == SPOILS_LOSS) error = enqueue(stream, [=] { *loss = NAN; });
  if (error == cudaSuccess) error = launch_norm(&whole->norm, stream);
  double *const statistics = whole->norm.layer_statistics;
  if (kind == SPOILS_NORM) error = enqueue(stream, [=] { statistics[LAYER_GRADIENT] += 1; });
  update_launch update = whole->update;
  if (kind == KEEPS_COPY) update.working = nullptr;
  if (error == cudaSuccess && kind != SKIPS_UPDATE) error = launch_update(&update, stream);
  float *const moment2 = update.moment2;
  if (kind == KEEPS_MOMENT) error = enqueue(stream, [=] { moment2[0] = 1; });
  if (error != cudaSuccess) return error;
  const double *const scalars = l->scalars;
  const int64_t rows = l->rows;
  return enqueue(stream, [=] {
    whole_steps++;
    bad_steps += scalars[SCALAR_BAD_STEP] != 0 || scalars[SCALAR_WEIGHT_SUM] != (double)rows;
  });
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
    whole_from = INT_MAX;
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

/* ---- several layers ---- */

/* 6 -> 5 -> 3, with gaps between the gradients. */
network_launch network_of(network_kind kind) {
  network_launch l = {};
  l.kind = kind;
  l.X = {nullptr, 8, ELEMENT_F32};
  l.layers = 2;
  l.rows = 9;
  l.loss = DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY;
  l.A = {nullptr, 4, ELEMENT_F32};
  l.n_gradients = 128;
  const int widths[] = {6, 5, 3};
  for (int i = 0; i < 2; i++) {
    network_layer &layer = l.layer[i];
    layer.n_in = widths[i], layer.n_out = widths[i + 1];
    layer.W = {nullptr, 8, ELEMENT_F32};
    layer.activation = i == 0 ? DESCENT_ACTIVATION_RELU : DESCENT_ACTIVATION_IDENTITY;
    layer.dW = i == 0 ? 0 : 64, layer.db = i == 0 ? 48 : 96;
    if (kind != NETWORK_CHAIN) continue;
    layer.dZ = {nullptr, 8, ELEMENT_F32};
    if (i == 0) layer.A = {nullptr, 8, ELEMENT_F32};
  }
  return l;
}

/* The first result of a forward launch is A of the outputs, of a chain A of the hidden layer, of a step dW. The last one
 * is P, dZ or db: none of which is a whole number. */
TEST_F(Custom, TriesSeveralLayersAsItTriesOne) {
  const struct {
    Kind kind;
    const char *of_values, *of_a_step;
  } flaws[] = {{REFUSED, "not_launched", "not_launched"},
               {UNSTEADY, "unsteady", "unsteady"},
               {FORGETS_ROW, "inexact", "unsteady"},
               {FORGETS_SUMS, "unsteady", "unsteady"},
               {OFF_BY_ONE, "inexact", "taken"},
               {NOT_CAPTURED, "not_captured", "not_captured"},
               {RIGHT, "taken", "taken"}};
  const Traced traced(cache_);
  for (const network_kind kind : {NETWORK_FORWARD, NETWORK_CHAIN, NETWORK_STEP})
    for (const auto &flaw : flaws) {
      const std::string verdict = kind == NETWORK_STEP ? flaw.of_a_step : flaw.of_values;
      SCOPED_TRACE(testing::Message() << network_kind_name(kind) << " " << flaw.kind << " " << verdict);
      fs::remove_all(cache_);
      traced.forget();
      reopen();
      offer({flaw.kind});
      const network_launch launch = network_of(kind);
      int variant = -2;
      double seconds = -1;
      const long long before = emulate_live();
      ASSERT_EQ(network_fastest(library_, &launch, nullptr, stream_, &variant, &seconds), DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(emulate_live(), before);
      EXPECT_EQ(variant, verdict == "taken" ? 0 : -1);
      EXPECT_NE(traced.text().find(" variant=0 verdict=" + verdict + " "), std::string::npos) << traced.text();
      bool passes = false;
      ASSERT_EQ(network_passes(library_, &launch, nullptr, 0, stream_, &passes), DESCENT_OK);
      EXPECT_EQ(passes, verdict == "taken" || verdict == "not_captured");
    }
}

whole_step adam() {
  whole_step whole = {};
  whole.norm.metrics = true;
  whole.update.rule = UPDATE_ADAM;
  whole.update.coefficients.beta1 = 0.9F, whole.update.coefficients.one_minus_beta1 = 0.1F;
  whole.update.coefficients.beta2 = 0.999F, whole.update.coefficients.one_minus_beta2 = 0.001F;
  whole.update.coefficients.epsilon = 1e-8F;
  return whole;
}

/* A whole step is tried and timed with norm and update, and leaves what the layers alone do, and norm and update behind
 * them. Its variants are tried apart from the others. */
TEST_F(Custom, TriesAWholeStepAsWhole) {
  const struct {
    Kind kind;
    const char *verdict;
  } flaws[] = {{REFUSED, "not_launched"},      {DIFFERS_IN_WHOLE, "unsteady"},
               {FORGETS_ROW, "unsteady"},      {SKIPS_UPDATE, "unsteady"},
               {KEEPS_MOMENT, "unsteady"},     {KEEPS_COPY, "unsteady"},
               {SPOILS_NORM, "unsteady"},      {SPOILS_LOSS, "unsteady"},
               {NOT_CAPTURED, "not_captured"}, {RIGHT, "taken"}};
  const Traced traced(cache_);
  const whole_step whole = adam();
  for (const element type : {ELEMENT_F32, ELEMENT_BF16})
    for (const auto &flaw : flaws) {
      if (flaw.kind == KEEPS_COPY && type == ELEMENT_F32) continue; /* which has no copy */
      SCOPED_TRACE(testing::Message() << type << " " << flaw.kind << " " << flaw.verdict);
      fs::remove_all(cache_);
      traced.forget();
      reopen();
      offer({RIGHT, SLOW, flaw.kind});
      whole_from = 2, whole_steps = bad_steps = 0;
      network_launch launch = network_of(NETWORK_STEP);
      launch.X.element = launch.layer[0].W.element = launch.layer[1].W.element = type;
      const bool taken = !strcmp(flaw.verdict, "taken");
      int variant = -2, first = -1;
      double seconds = -1;
      EXPECT_EQ(network_part(&launch, true, &first), 1);
      EXPECT_EQ(first, 2);
      EXPECT_EQ(network_part(&launch, false, &first), 2);
      EXPECT_EQ(first, 0);
      ASSERT_EQ(network_fastest(library_, &launch, &whole, stream_, &variant, &seconds), DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(variant, taken ? 2 : -1);
      EXPECT_EQ(launches[0] + launches[1], 0) << "those of the other part";
      EXPECT_EQ(whole_steps > 3, taken) << "timed as a whole";
      EXPECT_EQ(bad_steps > 0, flaw.kind == SPOILS_LOSS || flaw.kind == FORGETS_ROW);
      EXPECT_NE(traced.text().find("network=whole "), std::string::npos) << traced.text();
      EXPECT_NE(traced.text().find(std::string(" variant=0 verdict=") + flaw.verdict + " "), std::string::npos)
          << traced.text();
      bool passes = false;
      ASSERT_EQ(network_passes(library_, &launch, &whole, 2, stream_, &passes), DESCENT_OK);
      EXPECT_EQ(passes, taken || flaw.kind == NOT_CAPTURED);
      ASSERT_EQ(network_fastest(library_, &launch, nullptr, stream_, &variant, &seconds), DESCENT_OK);
      EXPECT_EQ(variant, 0);
    }
}

TEST_F(Custom, RemembersTheFastestKernelOfSeveralLayers) {
  offer({SLOW, RIGHT});
  const network_launch launch = network_of(NETWORK_STEP);
  int variant[2];
  double seconds[2];
  for (int i = 0; i < 2; i++) {
    ASSERT_EQ(network_fastest(library_, &launch, nullptr, stream_, &variant[i], &seconds[i]), DESCENT_OK);
    EXPECT_EQ(variant[i], 1);
    reopen();
  }
  EXPECT_EQ(seconds[1], seconds[0]);
}

/* Whatever the time of a launch depends on is part of its key. */
TEST_F(Custom, KeysOfSeveralLayersDiffer) {
  offer({RIGHT});
  const std::function<void(network_launch &)> changes[] = {
      [](network_launch &) {},
      [](network_launch &l) { l.kind = NETWORK_FORWARD; },
      [](network_launch &l) { l.rows++; },
      [](network_launch &l) { l.X.ld += 4; },
      [](network_launch &l) { l.X.element = ELEMENT_BF16; },
      [](network_launch &l) { l.tf32 = true; },
      [](network_launch &l) { l.loss = DESCENT_LOSS_MEAN_SQUARED_ERROR; },
      [](network_launch &l) { l.layers--; },
      [](network_launch &l) { l.layer[0].n_in--; },
      [](network_launch &l) { l.layer[1].n_out++; },
      [](network_launch &l) { l.layer[0].activation = DESCENT_ACTIVATION_TANH; },
      [](network_launch &l) { l.layer[0].threshold = 7; },
      [](network_launch &l) { l.layer[0].W.ld += 4; },
      [](network_launch &l) { l.layer[0].Z.ld += 4; },
      [](network_launch &l) { l.layer[1].dZ.ld += 4; },
  };
  std::set<std::string> keys;
  for (const auto &change : changes) {
    network_launch launch = network_of(NETWORK_CHAIN);
    char key[TUNE_KEY];
    change(launch);
    network_key(&launch, nullptr, key);
    EXPECT_TRUE(keys.insert(key).second) << key;
  }
  const network_launch step = network_of(NETWORK_STEP);
  whole_step whole = adam();
  for (const update_rule rule : {UPDATE_ADAM, UPDATE_GD}) {
    char key[TUNE_KEY];
    whole.update.rule = rule;
    network_key(&step, &whole, key);
    EXPECT_TRUE(keys.insert(key).second) << key;
  }
  network_launch deep = {}; /* the longest key fits */
  deep.layers = NETWORK_LAYERS;
  deep.rows = INT32_MAX;
  for (network_layer &layer : deep.layer) layer.n_in = layer.n_out = 99999, layer.threshold = 1;
  char key[TUNE_KEY];
  network_key(&deep, &whole, key);
  EXPECT_NE(std::string(key).find(" timed=captured"), std::string::npos) << key;
}

}  // namespace
