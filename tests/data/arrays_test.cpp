/* Arrays of callers: every dtype at every stride gives what the same numbers as dense float32 give, to the bit. */
#include "arrays.h"

#include <gtest/gtest.h>

#include <cfloat>

extern "C" {
#include "core/half.h"
#include "data/strided.h"
}
#include "training.h"

namespace {

using arrays::Array;
using arrays::Layout;

/* ---- 16-bit floats ---- */

TEST(Half, EveryValueIsThatOfTheDefinition) {
  for (unsigned bits = 0; bits < 0x10000; bits++) {
    const float value = f16_to_float(static_cast<uint16_t>(bits));
    const double expected = arrays::half_value(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(value), expected) << bits;
    ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    ASSERT_EQ(f16_from_float(value), bits);
  }
}

/* Between two neighbours, at the middle and beside it. */
TEST(Half, RoundsToTheNearest) {
  for (unsigned bits = 0; bits < 0x7c00; bits++) {
    const double next = bits == 0x7bff ? 65536 : arrays::half_value(bits + 1);
    const float middle = static_cast<float>((arrays::half_value(bits) + next) / 2);
    for (const float x : {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, FLT_MAX)}) {
      ASSERT_EQ(f16_from_float(x), arrays::nearest(static_cast<double>(x), arrays::half_value)) << x;
      ASSERT_EQ(f16_from_float(-x), arrays::nearest(-static_cast<double>(x), arrays::half_value)) << x;
    }
  }
  EXPECT_EQ(f16_from_float(FLT_MAX), 0x7c00);
  EXPECT_EQ(f16_from_float(-INFINITY), 0xfc00);
  EXPECT_TRUE(std::isnan(arrays::half_value(f16_from_float(NAN))));
  EXPECT_EQ(f16_from_float(FLT_MIN / 3), 0);
}

TEST(Brain, RoundsToTheNearest) {
  for (unsigned bits = 0; bits < 0x7f80; bits += 7) {
    const auto value = static_cast<float>(arrays::brain_value(bits));
    ASSERT_EQ(bf16_from_float(value), bits);
    const float middle = float_from_bits(bits << 16 | 0x8000);
    for (const float x : {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, FLT_MAX)})
      ASSERT_EQ(bf16_from_float(x), arrays::nearest(static_cast<double>(x), arrays::brain_value)) << x;
  }
}

/* ---- what is read ---- */

std::vector<double> numbers(int64_t count, double scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> values(static_cast<size_t>(count));
  for (double &x : values) x = normal(random);
  return values;
}

/* More columns than are converted at a time. */
TEST(Arrays, ADatasetHasTheirValues) {
  const int64_t rows = 5, inputs = 1100;
  const std::vector<double> X = numbers(rows * inputs, 60, 1), y{0, 2, 1, 1, 0}, weights{1, 0.5, 0, 2, 3};
  for (const descent_dtype dtype : arrays::dtypes)
    for (int layout = 0; layout < arrays::LAYOUTS; layout++) {
      SCOPED_TRACE(std::string(descent_dtype_name(dtype)) + ", " + arrays::layout_name(layout));
      const Array given(dtype, Layout(layout), rows, inputs, X), classes(dtype, Layout(layout), rows, 1, y),
          w(dtype, Layout(layout), rows, 1, weights);
      descent_dataset *made = nullptr;
      ASSERT_EQ(descent_dataset_create_arrays(nullptr, &given, &classes, &w, DESCENT_TASK_CLASSES, 3, &made),
                DESCENT_OK)
          << descent_last_error();
      const Dataset dataset{made, descent_dataset_free};
      ASSERT_EQ(descent_dataset_rows(made), rows);
      ASSERT_EQ(descent_dataset_inputs(made), inputs);
      std::vector<float> row(static_cast<size_t>(inputs));
      for (int64_t r = 0; r < rows; r++) {
        float target, weight;
        ASSERT_EQ(descent_dataset_row(made, r, row.data()), DESCENT_OK);
        ASSERT_EQ(descent_dataset_target(made, r, &target), DESCENT_OK);
        ASSERT_EQ(descent_dataset_weight(made, r, &weight), DESCENT_OK);
        ASSERT_TRUE(std::equal(row.begin(), row.end(), given.rows.begin() + r * inputs)) << "row " << r;
        ASSERT_EQ(target, classes.rows[static_cast<size_t>(r)]);
        ASSERT_EQ(weight, w.rows[static_cast<size_t>(r)]);
      }
      const bool borrowed = made->storage->X == given.array.data || made->storage->bytes == given.array.data;
      const bool dense = layout == arrays::DENSE || layout == arrays::UNALIGNED;
      EXPECT_EQ(borrowed,
                (dtype == DESCENT_DTYPE_F32 && layout == arrays::DENSE) || (dtype == DESCENT_DTYPE_U8 && dense));
      EXPECT_EQ(made->storage->bytes != nullptr, dtype == DESCENT_DTYPE_U8);
    }
}

/* Integers beyond 2^24 are rounded once, to the nearest even. */
TEST(Arrays, LargeIntegersAreRounded) {
  const int64_t beside_a_tie = (INT64_C(1) << 60) + (INT64_C(1) << 36) + 1; /* a double is the tie itself */
  int64_t values[] = {16777217,  16777219,     -16777217,     INT64_MIN,
                      INT64_MAX, beside_a_tie, -beside_a_tie, (INT64_C(1) << 53) - 1};
  descent_array array = descent_array_default();
  array.data = values;
  array.dtype = DESCENT_DTYPE_I64;
  array.rows = 8;
  array.columns = 1;
  descent_array complete;
  float read[8];
  ASSERT_EQ(strided_complete(&array, "X", &complete), DESCENT_OK);
  ASSERT_EQ(strided_load(&complete, "X", read), DESCENT_OK);
  for (int i = 0; i < 8; i++) EXPECT_EQ(read[i], static_cast<float>(values[i])) << values[i];
}

/* ---- devices ---- */

const char *const devices[] = {"reference", "cpu", "cuda"};

struct Case {
  descent_dtype dtype;
  Layout layout;
};
/* Every dtype and every layout. */
std::vector<Case> cases() {
  std::vector<Case> list;
  for (const descent_dtype dtype : arrays::dtypes) list.push_back({dtype, Layout(static_cast<int>(list.size()) % 6)});
  for (int layout = 0; layout < arrays::LAYOUTS; layout++) list.push_back({DESCENT_DTYPE_F32, Layout(layout)});
  return list;
}
std::string name_of(const Case &c, const char *device) {
  return std::string(device) + ", " + descent_dtype_name(c.dtype) + ", " + arrays::layout_name(c.layout);
}

using Predictor = std::unique_ptr<descent_predictor, void (*)(descent_predictor *)>;
Predictor make_predictor(const Network &network, const Device &device, int64_t rows) {
  descent_predictor *made = nullptr;
  EXPECT_EQ(descent_predictor_create(network.get(), device.get(), rows, &made), DESCENT_OK) << descent_last_error();
  return {made, descent_predictor_free};
}

TEST(Arrays, APredictorReadsThemAsDenseFloat32) {
  const int64_t rows = 7, inputs = 11, outputs = 3;
  const std::vector<double> X = numbers(rows * inputs, 2, 2);
  for (const char *name : devices) {
    const Device device = open_device(name);
    const Network network =
        make_network({inputs, 9, outputs}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const Predictor predictor = make_predictor(network, device, rows);
    for (const Case &c : cases()) {
      SCOPED_TRACE(name_of(c, name));
      const Array given(c.dtype, c.layout, rows, inputs, X);
      std::vector<float> expected(static_cast<size_t>(rows * outputs)), found(expected);
      descent_array to = descent_array_default();
      to.data = found.data();
      to.rows = rows;
      to.columns = outputs;
      for (const bool raw : {false, true}) {
        ASSERT_EQ((raw ? descent_predictor_run_raw : descent_predictor_run)(predictor.get(), given.rows.data(), rows,
                                                                            expected.data()),
                  DESCENT_OK);
        ASSERT_EQ((raw ? descent_predictor_run_raw_arrays : descent_predictor_run_arrays)(predictor.get(), &given, &to),
                  DESCENT_OK)
            << descent_last_error();
        EXPECT_EQ(found, expected);
      }
    }
  }
}

/* 2^62 rows of 4 inputs are 2^64 values, of which int64_t holds 0. */
TEST(Arrays, ACopyBeyondTheAddressSpaceIsRefused) {
  const Device device = open_device("cpu");
  const Network network = make_network({4, 3, 1}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Predictor predictor = make_predictor(network, device, INT64_C(1) << 62);
  const Array wide(DESCENT_DTYPE_F64, arrays::DENSE, 2, 4, numbers(8, 1, 3)),
      dense(DESCENT_DTYPE_F32, arrays::DENSE, 2, 4, numbers(8, 1, 3)), outputs(DESCENT_DTYPE_F32, arrays::DENSE, 2, 1);
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &wide, &outputs), DESCENT_ERROR_MEMORY);
  EXPECT_EQ(std::string(descent_last_error()).find("X: "), 0U) << descent_last_error();
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &dense, &outputs), DESCENT_OK) << descent_last_error();
}

TEST(Arrays, APredictorRoundsItsOutputsToTheirType) {
  const int64_t rows = 4, inputs = 3, outputs = 5;
  const Device device = open_device("cpu");
  const Network network = make_network({inputs, outputs}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_MEAN_SQUARED_ERROR);
  const Predictor predictor = make_predictor(network, device, rows);
  const Array X(DESCENT_DTYPE_F32, arrays::DENSE, rows, inputs, numbers(rows * inputs, 3, 3));
  std::vector<float> expected(static_cast<size_t>(rows * outputs));
  ASSERT_EQ(descent_predictor_run(predictor.get(), X.rows.data(), rows, expected.data()), DESCENT_OK);
  for (const descent_dtype dtype : arrays::floats)
    for (int layout = 0; layout < arrays::LAYOUTS; layout++) {
      SCOPED_TRACE(std::string(descent_dtype_name(dtype)) + ", " + arrays::layout_name(layout));
      Array to(dtype, Layout(layout), rows, outputs);
      const Array wanted(dtype, Layout(layout), rows, outputs, {expected.begin(), expected.end()});
      ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &X, &to), DESCENT_OK) << descent_last_error();
      EXPECT_EQ(to.bytes, wanted.bytes) << "also between the elements";
    }
}

TEST(Arrays, ATrainerLearnsFromThemAsFromDenseFloat32) {
  const int64_t rows = 6, inputs = 4;
  const std::vector<double> X = numbers(rows * inputs, 3, 4), y{0, 2, 1, 1, 0, 2}, weights{1, 0.5, 0.25, 2, 3, 1};
  for (const char *name : devices) {
    const Device device = open_device(name);
    for (const Case &c : cases()) {
      SCOPED_TRACE(name_of(c, name));
      const Array given(c.dtype, c.layout, rows, inputs, X), classes(c.dtype, c.layout, rows, 1, y),
          w(c.dtype, c.layout, rows, 1, weights);
      std::vector<float> learnt[2];
      for (const bool as_arrays : {false, true}) {
        const Network network =
            make_network({inputs, 5, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
        const descent_train_options options = descent_train_options_default();
        descent_trainer *made = nullptr;
        ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, rows, &made), DESCENT_OK);
        const Trainer trainer{made, descent_trainer_free};
        for (int step = 0; step < 3; step++)
          ASSERT_EQ(as_arrays ? descent_trainer_step_arrays(made, &given, &classes, &w, nullptr)
                              : descent_trainer_step(made, given.rows.data(), classes.rows.data(), w.rows.data(), rows,
                                                     nullptr),
                    DESCENT_OK)
              << descent_last_error();
        ASSERT_EQ(descent_trainer_sync(made), DESCENT_OK);
        learnt[as_arrays] = parameters_of(network);
      }
      EXPECT_EQ(learnt[0], learnt[1]);
    }
  }
}

/* Gradients of a loss of the network's, then outputs, dX and the parameters' gradients of a loss of the caller's. */
TEST(Arrays, ThePartsOfAStepAreThoseOfDenseFloat32) {
  const int64_t rows = 6, inputs = 4, K = 3;
  const std::vector<double> X = numbers(rows * inputs, 3, 5), y{0, 2, 1, 1, 0, 2}, d = numbers(rows * K, 4, 6);
  for (const char *name : devices) {
    const Device device = open_device(name);
    const Network network = make_network({inputs, 5, K}, DESCENT_ACTIVATION_TANH, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
    const Predictor predictor = make_predictor(network, device, rows);
    const descent_train_options options = descent_train_options_default();
    descent_trainer *made = nullptr;
    ASSERT_EQ(descent_trainer_create(network.get(), device.get(), &options, rows, &made), DESCENT_OK);
    const Trainer trainer{made, descent_trainer_free};
    for (const Case &c : cases()) {
      SCOPED_TRACE(name_of(c, name));
      const Array given(c.dtype, c.layout, rows, inputs, X), classes(c.dtype, c.layout, rows, 1, y),
          dOutputs(c.dtype, c.layout, rows, K, d);
      const bool is_float =
          std::find(std::begin(arrays::floats), std::end(arrays::floats), c.dtype) != std::end(arrays::floats);
      const descent_dtype to = is_float ? c.dtype : DESCENT_DTYPE_F64;
      std::vector<float> dW[2][2], outputs(static_cast<size_t>(rows * K)), dX(given.rows.size()), sensitivities(dX);
      for (auto &both : dW)
        for (auto &part : both) part.resize(static_cast<size_t>(5 * inputs));
      ASSERT_EQ(descent_trainer_gradient(made, given.rows.data(), classes.rows.data(), nullptr, rows, nullptr),
                DESCENT_OK);
      ASSERT_EQ(descent_trainer_get_gradient(made, 1, dW[0][0].data(), nullptr), DESCENT_OK);
      ASSERT_EQ(descent_trainer_forward(made, given.rows.data(), rows, outputs.data()), DESCENT_OK);
      ASSERT_EQ(descent_trainer_backward(made, dOutputs.rows.data(), dX.data(), false), DESCENT_OK);
      ASSERT_EQ(descent_trainer_get_gradient(made, 1, dW[0][1].data(), nullptr), DESCENT_OK);
      ASSERT_EQ(descent_predictor_input_gradient(predictor.get(), given.rows.data(), dOutputs.rows.data(), rows,
                                                 sensitivities.data()),
                DESCENT_OK);
      Array outputs_to(to, c.layout, rows, K), dX_to(to, c.layout, rows, inputs),
          sensitivities_to(to, c.layout, rows, inputs);
      ASSERT_EQ(descent_trainer_gradient_arrays(made, &given, &classes, nullptr, nullptr), DESCENT_OK)
          << descent_last_error();
      ASSERT_EQ(descent_trainer_get_gradient(made, 1, dW[1][0].data(), nullptr), DESCENT_OK);
      ASSERT_EQ(descent_trainer_forward_arrays(made, &given, &outputs_to), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(descent_trainer_backward_arrays(made, &dOutputs, &dX_to, false), DESCENT_OK) << descent_last_error();
      ASSERT_EQ(descent_trainer_get_gradient(made, 1, dW[1][1].data(), nullptr), DESCENT_OK);
      ASSERT_EQ(descent_predictor_input_gradient_arrays(predictor.get(), &given, &dOutputs, &sensitivities_to),
                DESCENT_OK)
          << descent_last_error();
      EXPECT_EQ(dW[0][0], dW[1][0]);
      EXPECT_EQ(dW[0][1], dW[1][1]);
      const Array wanted(to, c.layout, rows, K, {outputs.begin(), outputs.end()}),
          wanted_dX(to, c.layout, rows, inputs, {dX.begin(), dX.end()}),
          wanted_sensitivities(to, c.layout, rows, inputs, {sensitivities.begin(), sensitivities.end()});
      EXPECT_EQ(outputs_to.bytes, wanted.bytes);
      EXPECT_EQ(dX_to.bytes, wanted_dX.bytes);
      EXPECT_EQ(sensitivities_to.bytes, wanted_sensitivities.bytes);
    }
  }
}

/* ---- refusals ---- */

TEST(Arrays, ErrorsNameTheArgument) {
  const Device device = open_device("cpu");
  const Network network = make_network({2, 3}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_SOFTMAX_CROSS_ENTROPY);
  const Predictor predictor = make_predictor(network, device, 4);
  float X[8] = {0}, outputs[12] = {0};
  double large[8] = {0, 0, 0, -1e39};
  descent_array good = descent_array_default(), to = descent_array_default();
  good.data = X, good.rows = 4, good.columns = 2;
  to.data = outputs, to.rows = 4, to.columns = 3;
  ASSERT_EQ(descent_predictor_run_arrays(predictor.get(), &good, &to), DESCENT_OK) << descent_last_error();
  const struct {
    std::function<void(descent_array &, descent_array &)> spoil;
    const char *text;
  } table[] = {
      {[](auto &a, auto &) { a.size = 0; }, "X must start from descent_array_default()"},
      {[](auto &a, auto &) { a.data = nullptr; }, "X: its data is NULL"},
      {[](auto &a, auto &) { a.dtype = static_cast<descent_dtype>(7); }, "X: unknown dtype 7"},
      {[](auto &a, auto &) { a.place = static_cast<descent_place>(-1); }, "X: unknown place -1"},
      {[](auto &a, auto &) { a.rows = 0; }, "X: 0 x 2 elements"},
      {[](auto &a, auto &) { a.row_stride = INT64_MAX; }, "X: 4 x 2 elements with strides 9223372036854775807, 0"},
      {[](auto &a, auto &) { a.row_stride = INT64_MIN; }, "X: 4 x 2 elements"},
      {[](auto &a, auto &) { a.rows = 5; }, "X: has 5 rows: must be at most 4"},
      {[](auto &a, auto &) { a.columns = 3; }, "X: has 3 columns: must be 2"},
      {[&](auto &a, auto &) { a.data = large, a.dtype = DESCENT_DTYPE_F64; },
       "X: row 1, column 1: -1e+39 exceeds float32"},
      {[](auto &, auto &b) { b.dtype = DESCENT_DTYPE_I32; }, "outputs: i32 cannot hold results"},
      {[](auto &, auto &b) { b.rows = 3; }, "outputs: has 3 rows: must be 4, as X"},
      {[](auto &, auto &b) { b.columns = 2; }, "outputs: has 2 columns: must be 3"},
  };
  for (const auto &c : table) {
    descent_array a = good, b = to;
    c.spoil(a, b);
    EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &a, &b), DESCENT_ERROR_ARGUMENT);
    EXPECT_EQ(std::string(descent_last_error()).rfind(c.text, 0), 0U) << descent_last_error();
  }
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), nullptr, &to), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: is NULL");
  EXPECT_EQ(descent_predictor_run_arrays(predictor.get(), &good, nullptr), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "outputs: is NULL");
  EXPECT_EQ(descent_predictor_run_arrays(nullptr, &good, &to), DESCENT_ERROR_ARGUMENT);
  descent_dataset *made = nullptr;
  EXPECT_EQ(descent_dataset_create_arrays(nullptr, &good, nullptr, nullptr, DESCENT_TASK_AUTO, 0, nullptr),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_EQ(descent_dataset_create_arrays(nullptr, &good, nullptr, &good, DESCENT_TASK_AUTO, 0, &made),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "weights: has 2 columns: must be 1");
  X[3] = INFINITY;
  EXPECT_EQ(descent_dataset_create_arrays(nullptr, &good, nullptr, nullptr, DESCENT_TASK_AUTO, 0, &made),
            DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "X: row 1, column 1 is infinite");
}

/* A struct of a newer header: known members alone, or one that this library does not know. */
TEST(Arrays, LargerStructsAreAccepted) {
  struct {
    descent_array array;
    int64_t added;
  } newer{descent_array_default(), 0};
  float X[2] = {1, 2};
  newer.array.size = sizeof newer;
  newer.array.data = X, newer.array.rows = 1, newer.array.columns = 2;
  descent_dataset *made = nullptr;
  ASSERT_EQ(descent_dataset_create_arrays(nullptr, &newer.array, nullptr, nullptr, DESCENT_TASK_AUTO, 0, &made),
            DESCENT_OK);
  descent_dataset_free(made);
  newer.added = 1;
  EXPECT_EQ(descent_dataset_create_arrays(nullptr, &newer.array, nullptr, nullptr, DESCENT_TASK_AUTO, 0, &made),
            DESCENT_ERROR_ARGUMENT);
}

}  // namespace
