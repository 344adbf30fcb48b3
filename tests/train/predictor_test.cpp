/* Predictors: the values of descent_predict from a plan that is compiled once, independent of the network after that. */
#include <gtest/gtest.h>

#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>

#include "export_bounds.h"
#include "training.h"

/* Counts this thread's allocations. The sanitizers replace these functions themselves. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
static thread_local int allocations;
extern "C" {
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size) {
  allocations++;
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  allocations++;
  return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
  allocations++;
  return __libc_realloc(memory, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  allocations++;
  return __libc_memalign(alignment, size);
}
}
#endif

namespace {

#define OK(expression) ASSERT_EQ(expression, DESCENT_OK) << descent_last_error()

using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;

const char *const devices[] = {"reference", "cpu", "cuda"};
const descent_loss losses[] = {DESCENT_LOSS_BINARY_CROSS_ENTROPY, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY,
                               DESCENT_LOSS_MEAN_SQUARED_ERROR};

bool says(const std::string &part) { return std::string(descent_last_error()).find(part) != std::string::npos; }

Predictor create_predictor(const Network &network, const Device &device, int64_t max_rows) {
  descent_predictor *made = nullptr;
  EXPECT_EQ(descent_predictor_create(network.get(), device.get(), max_rows, &made), DESCENT_OK) << descent_last_error();
  return {made, descent_predictor_free};
}

enum Preprocessing { NOTHING, NORMALISED, IMPUTED };

struct Problem {
  Network network;
  Rows rows;
};

/* 70 rows of 17 inputs, scattered around 3; with IMPUTED some are missing. */
Problem make_problem(descent_loss loss, Preprocessing preprocessing, uint64_t seed = 1) {
  const bool regression = loss == DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const int64_t outputs = loss == DESCENT_LOSS_BINARY_CROSS_ENTROPY ? 1 : 3,
                classes = regression ? 0 : outputs + (outputs == 1);
  Problem p{make_network({17, 20, 6, outputs}, DESCENT_ACTIVATION_GELU, loss, seed),
            make_rows(70, 17, regression ? outputs : 1, classes, 5)};
  for (float &x : p.rows.X) x = 3 + 2 * x;
  if (preprocessing != NOTHING) {
    EXPECT_EQ(descent_network_fit_preprocessing(p.network.get(), p.rows.dataset().get(), DESCENT_NORMALIZE_STANDARD,
                                                DESCENT_IMPUTE_MEAN, regression),
              DESCENT_OK);
  }
  if (preprocessing == IMPUTED)
    for (size_t i = 0; i < p.rows.X.size(); i += 13) p.rows.X[i] = NAN;
  else
    free(p.network->fill), p.network->fill = nullptr;
  return p;
}

int64_t outputs_of(const Network &network) { return descent_network_outputs(network.get()); }

/* Whether the first rows are predicted within rounding of the exact values. */
void expect_exact(const Problem &p, const Predictor &predictor, int64_t rows) {
  const int64_t n = outputs_of(p.network);
  std::vector<float> P(static_cast<size_t>(rows * n), NAN);
  OK(descent_predictor_run(predictor.get(), p.rows.X.data(), rows, P.data()));
  for (int64_t r = 0; r < rows; r++) {
    const std::vector<Estimate> exact = EstimateOutputs(p.network.get(), &p.rows.X[static_cast<size_t>(17 * r)]);
    for (int64_t k = 0; k < n; k++)
      ASSERT_NEAR(static_cast<double>(P[static_cast<size_t>(r * n + k)]), exact[static_cast<size_t>(k)].value,
                  kExportErrors * exact[static_cast<size_t>(k)].error)
          << "row " << r << " of " << rows;
  }
}

TEST(Predictor, PredictsWhatTheNetworkIsForAnyNumberOfRows) {
  for (const char *name : devices)
    for (descent_loss loss : losses)
      for (Preprocessing preprocessing : {NOTHING, NORMALISED, IMPUTED}) {
        SCOPED_TRACE(std::string(name) + " " + descent_loss_name(loss) + " " + std::to_string(preprocessing));
        const Device device = open_device(name);
        const Problem p = make_problem(loss, preprocessing);
        const Predictor predictor = create_predictor(p.network, device, 70);
        for (int64_t rows : {1, 2, 3, 7, 64, 65, 70, 1}) expect_exact(p, predictor, rows);
      }
}

/* Of the same number of rows, to the bit. */
/* A view of a dataset, in blocks of fewer rows; then other values in the same memory, which the device may not take for
 * those of before; then rows without the view's index. */
TEST(Predictor, PredictsDatasetsAsTheyAreAtTheCall) {
  for (const char *name : devices)
    for (descent_loss loss : losses) {
      SCOPED_TRACE(std::string(name) + " " + descent_loss_name(loss));
      const Device device = open_device(name);
      Problem p = make_problem(loss, IMPUTED);
      const Predictor predictor = create_predictor(p.network, device, 8);
      const int64_t n = outputs_of(p.network);
      for (int round = 0; round < 3; round++) {
        descent_dataset *kept = nullptr, *held_out = nullptr;
        {
          const Dataset data = p.rows.dataset();
          OK(descent_dataset_split(data.get(), 0.4, 3, &kept, &held_out));
        }
        const Dataset view(kept, descent_dataset_free), rest(held_out, descent_dataset_free);
        const int64_t rows = descent_dataset_rows(kept);
        std::vector<float> P(static_cast<size_t>(rows * n)), raw(P.size()), expected(P.size());
        OK(descent_predictor_run_dataset(predictor.get(), kept, P.data()));
        OK(descent_predictor_run_raw_dataset(predictor.get(), kept, raw.data()));
        OK(descent_predict_raw(p.network.get(), device.get(), kept, expected.data()));
        for (int64_t r = 0; r < rows; r++) {
          const std::vector<Estimate> exact =
              EstimateOutputs(p.network.get(), &p.rows.X[static_cast<size_t>(17 * dataset_source_row(kept, r))]);
          for (size_t k = 0; k < exact.size(); k++)
            ASSERT_NEAR(static_cast<double>(P[static_cast<size_t>(r * n) + k]), exact[k].value,
                        kExportErrors * exact[k].error)
                << "row " << r;
        }
        for (size_t i = 0; i < raw.size(); i++)
          EXPECT_NEAR(static_cast<double>(raw[i]), static_cast<double>(expected[i]),
                      1e-5 * (1 + std::fabs(static_cast<double>(expected[i]))));
        expect_exact(p, predictor, 8);
        for (float &x : p.rows.X) x = 6 - x;
      }
      const Rows narrow = make_rows(4, 16, 1, 2, 1);
      float P[12];
      EXPECT_EQ(descent_predictor_run_dataset(predictor.get(), narrow.dataset().get(), P), DESCENT_ERROR_ARGUMENT);
      EXPECT_TRUE(says("16 input columns"));
    }
}

TEST(Predictor, GivesTheValuesOfDescentPredictAndPredictRaw) {
  for (const char *name : devices)
    for (descent_loss loss : losses) {
      SCOPED_TRACE(std::string(name) + " " + descent_loss_name(loss));
      const Device device = open_device(name);
      const Problem p = make_problem(loss, IMPUTED);
      const Dataset data = p.rows.dataset();
      const Predictor predictor = create_predictor(p.network, device, 70);
      std::vector<float> ours(static_cast<size_t>(70 * outputs_of(p.network)), NAN), theirs(ours);
      OK(descent_predictor_run(predictor.get(), p.rows.X.data(), 70, ours.data()));
      OK(descent_predict(p.network.get(), device.get(), data.get(), theirs.data()));
      EXPECT_EQ(ours, theirs);
      OK(descent_predictor_run_raw(predictor.get(), p.rows.X.data(), 70, ours.data()));
      EXPECT_NE(ours, theirs);
      OK(descent_predict_raw(p.network.get(), device.get(), data.get(), theirs.data()));
      EXPECT_EQ(ours, theirs);
    }
}

TEST(Predictor, TakesMoreRowsThanABlockOfItsDevice) {
  const Rows rows = make_rows(9001, 3, 1, 2, 4); /* the CPU's block has 4,096 */
  const Device device = open_device("cpu");
  const Network network = make_network({3, 5, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_BINARY_CROSS_ENTROPY);
  const Predictor predictor = create_predictor(network, device, 9001);
  std::vector<float> ours(9001, NAN), theirs(9001);
  OK(descent_predictor_run(predictor.get(), rows.X.data(), 9001, ours.data()));
  OK(descent_predict(network.get(), device.get(), rows.dataset().get(), theirs.data()));
  EXPECT_EQ(ours, theirs);
}

TEST(Predictor, OutlivesItsNetworkAndTheHandleOfItsDevice) {
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    Problem p = make_problem(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, IMPUTED);
    Device device = open_device(name);
    const Predictor predictor = create_predictor(p.network, device, 10);
    device.reset();
    const Problem same = make_problem(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, IMPUTED);
    p.network.reset();
    expect_exact(same, predictor, 10);
  }
}

/* Between networks with and without each kind of preprocessing, in both directions. */
TEST(Predictor, RefreshTakesOverParametersAndPreprocessing) {
  for (const char *name : devices)
    for (Preprocessing before : {NOTHING, NORMALISED, IMPUTED})
      for (Preprocessing after : {NOTHING, NORMALISED, IMPUTED}) {
        SCOPED_TRACE(std::string(name) + " " + std::to_string(before) + " " + std::to_string(after));
        const Device device = open_device(name);
        const Problem first = make_problem(DESCENT_LOSS_MEAN_SQUARED_ERROR, before, 1);
        const Problem second = make_problem(DESCENT_LOSS_MEAN_SQUARED_ERROR, after, 2);
        const Predictor predictor = create_predictor(first.network, device, 70);
        expect_exact(first, predictor, 4);
        OK(descent_predictor_refresh(predictor.get(), second.network.get()));
        expect_exact(second, predictor, 70);
      }
}

TEST(Predictor, RefreshRefusesAnotherShapeAndChangesNothing) {
  const Device device = open_device("cpu");
  const Problem p = make_problem(DESCENT_LOSS_MEAN_SQUARED_ERROR, NORMALISED);
  const descent_loss loss = DESCENT_LOSS_MEAN_SQUARED_ERROR;
  const descent_activation gelu = DESCENT_ACTIVATION_GELU;
  const Network others[] = {make_network({16, 20, 6, 3}, gelu, loss), make_network({17, 20, 5, 3}, gelu, loss),
                            make_network({17, 20, 3}, gelu, loss),
                            make_network({17, 20, 6, 3}, DESCENT_ACTIVATION_SILU, loss),
                            make_network({17, 20, 6, 3}, gelu, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY)};
  const Predictor predictor = create_predictor(p.network, device, 5);
  for (const Network &other : others) {
    EXPECT_EQ(descent_predictor_refresh(predictor.get(), other.get()), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says("network: its inputs, widths, activations or loss")) << descent_last_error();
    expect_exact(p, predictor, 5);
  }
}

/* Inputs and targets that float32 is too coarse for: rows and outputs are whole values, the network's are differences. */
TEST(Predictor, TakesAndGivesWholeValuesWhereTheNetworkHasOffsets) {
  const double offsets[] = {1 << 20, 0};
  const Rows rows{2, 2, 1, 0, {(1 << 20) + 3.0F, 5, (1 << 20) - 2.0F, 7}, {0, 0}, {}};
  for (const char *name : devices) {
    SCOPED_TRACE(name);
    const Device device = open_device(name);
    const Network network = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
    const float W[] = {2, 100}, b[] = {1};
    OK(descent_network_set_layer(network.get(), 1, W, b));
    const Predictor predictor = create_predictor(network, device, 2);
    network->schema.offsets = static_cast<double *>(memory_allocate(2, sizeof *offsets, "offsets"));
    network->schema.target_offsets = static_cast<double *>(memory_allocate(1, sizeof *offsets, "offsets"));
    network->schema.n_offsets = 2, network->schema.n_target_offsets = 1;
    std::copy(offsets, offsets + 2, network->schema.offsets);
    network->schema.target_offsets[0] = 4096;
    OK(descent_predictor_refresh(predictor.get(), network.get()));
    float P[2], raw[2];
    OK(descent_predictor_run(predictor.get(), rows.X.data(), 2, P));
    OK(descent_predictor_run_raw(predictor.get(), rows.X.data(), 2, raw));
    for (int r = 0; r < 2; r++) { /* whole numbers: exact */
      EXPECT_EQ(raw[r], r == 0 ? 2 * 3 + 500 + 1 : 2 * -2 + 700 + 1);
      EXPECT_EQ(P[r], raw[r] + 4096);
    }
  }
}

TEST(Predictor, RefusesRowsWithoutAFiniteResultAndPredictsTheOthers) {
  const Network line = make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const float W[] = {3e38F, 1}, b[] = {0};
  OK(descent_network_set_layer(line.get(), 1, W, b));
  const struct {
    float X[6];
    const char *says;
  } cases[] = {{{0, 1, 2e4F, 0, 0, 3}, "row 1 (from 0): the output is not finite: input 0 (from 0) is 20000"},
               {{0, 1, 0, -3e38F, 0, 3}, "row 1 (from 0): input 1 (from 0) is -3e+38, too large for float32"},
               {{0, 1, NAN, 0, 0, 3}, "row 1 (from 0): the output is not finite: input 0 (from 0) is missing"}};
  for (const char *name : devices)
    for (const auto &c : cases) {
      SCOPED_TRACE(std::string(name) + " " + c.says);
      const Device device = open_device(name);
      const Predictor predictor = create_predictor(line, device, 8);
      float P[3];
      EXPECT_EQ(descent_predictor_run(predictor.get(), c.X, 3, P), DESCENT_ERROR_DATA);
      EXPECT_TRUE(says(c.says)) << descent_last_error();
      EXPECT_EQ(P[0], 1);
      EXPECT_EQ(P[2], 3);
      OK(descent_predictor_run(predictor.get(), c.X, 1, P));
    }
}

TEST(Predictor, RefusesNumbersOfRowsOutOfRange) {
  const Device device = open_device("cpu");
  const Problem p = make_problem(DESCENT_LOSS_MEAN_SQUARED_ERROR, NOTHING);
  const Predictor predictor = create_predictor(p.network, device, 4);
  descent_predictor *made = nullptr;
  float P[12];
  EXPECT_EQ(descent_predictor_create(p.network.get(), device.get(), 0, &made), DESCENT_ERROR_ARGUMENT);
  EXPECT_TRUE(says("max_rows 0: must be at least 1")) << descent_last_error();
  EXPECT_EQ(made, nullptr);
  for (int64_t rows : {-1, 0, 5}) {
    EXPECT_EQ(descent_predictor_run(predictor.get(), p.rows.X.data(), rows, P), DESCENT_ERROR_ARGUMENT);
    EXPECT_TRUE(says("rows " + std::to_string(rows) + ": must be 1 to max_rows 4")) << descent_last_error();
  }
}

#ifdef COUNTS_ALLOCATIONS
TEST(Predictor, AllocatesNothingInARun) {
  for (const char *name : {"reference", "cpu"})
    for (descent_loss loss : losses) {
      SCOPED_TRACE(name);
      const Device device = open_device(name);
      const Problem p = make_problem(loss, IMPUTED);
      const Predictor predictor = create_predictor(p.network, device, 70);
      std::vector<float> P(static_cast<size_t>(70 * outputs_of(p.network)));
      const int before = allocations;
      for (int64_t rows : {1, 7, 70}) OK(descent_predictor_run(predictor.get(), p.rows.X.data(), rows, P.data()));
      EXPECT_EQ(allocations, before);
      OK(descent_predictor_refresh(predictor.get(), p.network.get()));
      EXPECT_GT(allocations, before) << "allocations are counted";
    }
}

TEST(Predictor, AllocatesNothingInARunOfAnEnsemble) {
  for (const char *name : {"reference", "cpu"})
    for (descent_loss loss : losses) {
      SCOPED_TRACE(name);
      const Device device = open_device(name);
      const Problem first = make_problem(loss, IMPUTED, 1), second = make_problem(loss, IMPUTED, 2);
      const descent_network *members[] = {first.network.get(), second.network.get()};
      descent_network *joined = nullptr;
      OK(descent_network_join(members, 2, &joined));
      const Network ensemble(joined, descent_network_free);
      const Predictor predictor = create_predictor(ensemble, device, 70);
      std::vector<float> P(static_cast<size_t>(70 * outputs_of(ensemble))), dX(first.rows.X.size());
      OK(descent_predictor_input_gradient(predictor.get(), first.rows.X.data(), P.data(), 70, dX.data()));
      const int before = allocations;
      for (int64_t rows : {1, 7, 70}) {
        OK(descent_predictor_run(predictor.get(), first.rows.X.data(), rows, P.data()));
        OK(descent_predictor_run_raw(predictor.get(), first.rows.X.data(), rows, P.data()));
        OK(descent_predictor_input_gradient(predictor.get(), first.rows.X.data(), P.data(), rows, dX.data()));
      }
      EXPECT_EQ(allocations, before);
    }
}
#endif

TEST(Predictor, RunsInSeveralThreadsOnOneDevice) {
  const Device device = open_device("cpu", 2);
  const Problem p = make_problem(DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY, IMPUTED);
  const Predictor alone = create_predictor(p.network, device, 70);
  const size_t values = static_cast<size_t>(70 * outputs_of(p.network));
  std::vector<float> expected(values);
  OK(descent_predictor_run(alone.get(), p.rows.X.data(), 70, expected.data()));
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&] {
      const Predictor own = create_predictor(p.network, device, 70);
      std::vector<float> P(values);
      for (int round = 0; round < 50; round++)
        right += descent_predictor_run(own.get(), p.rows.X.data(), 70, P.data()) == DESCENT_OK && P == expected;
    });
  for (std::thread &thread : threads) thread.join();
  EXPECT_EQ(right, 4 * 50);
}

}  // namespace
