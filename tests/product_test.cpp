/* Products through the emulated cuBLASLt: right for every shape, transpose, element and epilogue; algorithms that are
 * not to be trusted are found out. */
#include "products.h"

namespace {

class Product : public ProductTest {};

/* ---- values ---- */

TEST_F(Product, IsRightForEveryShapeTransposeElementAndEpilogue) {
  const int64_t sizes[][3] = {{1, 1, 1},   {1, 5, 3},    {7, 1, 9},    {4, 9, 1},
                              {16, 8, 32}, {33, 17, 65}, {5, 130, 40}, {3, 2, 260}};
  const struct {
    element operands, result;
    bool tf32;
  } elements[] = {{ELEMENT_F32, ELEMENT_F32, false},
                  {ELEMENT_F32, ELEMENT_F32, true},
                  {ELEMENT_BF16, ELEMENT_BF16, false},
                  {ELEMENT_BF16, ELEMENT_F32, false}};
  int ran = 0, refused = 0;
  for (const auto &size : sizes)
    for (const auto &element : elements)
      for (int e = EPILOGUE_NONE; e <= EPILOGUE_COLUMN_SUMS_A; e++)
        for (int variant = 0; variant < 8; variant++) {
          product_shape shape = shape_of(size[0], size[1], size[2], element.operands, element.result, (epilogue)e,
                                         variant & 1, variant & 2, variant & 4 ? 3 : 0);
          shape.tf32 = element.tf32;
          SCOPED_TRACE(name_of(shape));
          product *product = nullptr;
          const descent_status status = create(shape, variant == 1, &product);
          if (sum_count(shape) && element.result == ELEMENT_BF16) { /* no float32 sums beside bf16 results */
            ASSERT_EQ(status, DESCENT_ERROR_UNSUPPORTED);
            refused++;
            continue;
          }
          ASSERT_EQ(status, DESCENT_OK) << descent_last_error();
          check(product, Problem(shape));
          product_free(product);
          ran++;
        }
  EXPECT_EQ(ran, 8 * 8 * (4 * 7 - 2));
  EXPECT_EQ(refused, 8 * 8 * 2);
}

TEST_F(Product, RoundsOperandsToTf32OnlyWhenAsked) {
  for (const bool tf32 : {false, true}) {
    product_shape shape = shape_of(2, 3, 4);
    shape.tf32 = tf32;
    Problem problem(shape);
    for (int64_t i = 0; i < 8; i++) store(&problem.A[0], i, ELEMENT_F32, 1 + 0x1p-20f);
    for (int64_t i = 0; i < 12; i++) store(&problem.B[0], i, ELEMENT_F32, 1);
    for (int64_t i = 0; i < 6; i++) store(&problem.expected_C[0], i, ELEMENT_F32, tf32 ? 4 : 4 + 0x1p-18f);
    product *product = nullptr;
    ASSERT_EQ(create(shape, false, &product), DESCENT_OK) << descent_last_error();
    check(product, problem);
    product_free(product);
  }
}

TEST_F(Product, IsOrderedByItsStreamAndCanBeCaptured) {
  emulate_configure("late=1");
  const Problem problem(shape_of(9, 7, 33, ELEMENT_BF16, ELEMENT_BF16, EPILOGUE_RELU_BIAS, false, true));
  product *product = nullptr;
  ASSERT_EQ(create(problem.shape, true, &product), DESCENT_OK) << descent_last_error();
  check(product, problem);
  const OnDevice A(problem.A), B(problem.B), C(problem.C), bias(problem.bias);
  product_operands operands = {};
  operands.A = A.get(), operands.B = B.get(), operands.C = C.get(), operands.bias = bias.get();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_EQ(product_run(product, &operands, stream_), DESCENT_OK) << descent_last_error();
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(C.bytes(), problem.C);
  ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(C.bytes(), problem.expected_C);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  product_free(product);
}

/* ---- which algorithm ---- */

TEST_F(Product, RefusesWhatSaysThatItIsNotReproducible) {
  for (const bool tune : {false, true}) {
    offer({EMULATED_IN_PLACE, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 40 + tune), tune), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.launches[EMULATED_IN_PLACE], 0);
  }
}

TEST_F(Product, RefusesTensorCoresForFloat32) {
  for (const bool tune : {false, true}) {
    offer({EMULATED_TENSOR, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 6), tune), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.launches[EMULATED_TENSOR], 0);
  }
  product_shape shape = shape_of(4, 5, 7);
  offer({EMULATED_TENSOR});
  product *product = nullptr;
  EXPECT_EQ(create(shape, true, &product), DESCENT_ERROR_UNSUPPORTED);
  EXPECT_NE(strstr(descent_last_error(), "NVIDIA_TF32_OVERRIDE"), nullptr) << descent_last_error();
  shape.tf32 = true;
  EXPECT_EQ(chosen(shape, true), EMULATED_TENSOR);
}

TEST_F(Product, RefusesWhatGivesOtherBitsTheSecondTime) {
  for (int e = EPILOGUE_NONE; e <= EPILOGUE_COLUMN_SUMS_A; e++) {
    offer({EMULATED_UNSTEADY, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 6, ELEMENT_F32, ELEMENT_F32, (epilogue)e), true), EMULATED_RIGHT);
    EXPECT_EQ(emulated_library.launches[EMULATED_UNSTEADY], 2);
  }
}

TEST_F(Product, RefusesWhatLeavesOutTheTailOfK) {
  /* 4097 ones less one are the same bf16 as all of them: found in the last few alone. */
  for (const int64_t k : {2, 33, 64, 128, 129, 300, 4097})
    for (const bool tune : {false, true})
      for (const bool transposed : {false, true})
        for (const element type : {ELEMENT_F32, ELEMENT_BF16}) {
          offer({EMULATED_DROPS_TAIL, EMULATED_RIGHT});
          const product_shape shape = shape_of(4, 5, k, type, type, EPILOGUE_NONE, transposed, !transposed);
          EXPECT_EQ(chosen(shape, tune), EMULATED_RIGHT) << name_of(shape);
          EXPECT_GT(emulated_library.launches[EMULATED_DROPS_TAIL], 0);
        }
}

TEST_F(Product, RefusesWhatLeavesOutOtherParts) {
  for (const bool tune : {false, true}) {
    offer({EMULATED_DROPS_HALF, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 1000, ELEMENT_BF16, ELEMENT_BF16), tune), EMULATED_RIGHT);
    for (const epilogue each : {EPILOGUE_MASKED_COLUMN_SUMS, EPILOGUE_COLUMN_SUMS_A}) {
      offer({EMULATED_DROPS_SUM, EMULATED_RIGHT});
      EXPECT_EQ(chosen(shape_of(4, 5, 6, ELEMENT_F32, ELEMENT_F32, each), tune), EMULATED_RIGHT) << each;
    }
  }
}

TEST_F(Product, AsksForMoreWhereAllOfTheFirstAreWrong) {
  for (const bool tune : {false, true}) {
    enum { DROPS = EMULATED_DROPS_TAIL };
    offer({DROPS, DROPS, DROPS, DROPS, DROPS, DROPS, DROPS, DROPS, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 300, ELEMENT_BF16, ELEMENT_BF16), tune), EMULATED_RIGHT) << tune;
    EXPECT_EQ(emulated_library.heuristics, 2);
  }
}

TEST_F(Product, FindsTheTailOfAKThatFloat32CannotCount) {
  offer({EMULATED_DROPS_TAIL, EMULATED_RIGHT});
  product *product = nullptr;
  ASSERT_EQ(create(shape_of(1, 1, (1 << 24) + 1, ELEMENT_BF16), false, &product), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(emulated_library.launches[EMULATED_DROPS_TAIL], 1);
  EXPECT_EQ(emulated_library.launches[EMULATED_RIGHT], 1);
  product_free(product);
}

TEST_F(Product, PassesOverWhatTheLibraryRefusesToLaunch) {
  for (const bool tune : {false, true}) {
    offer({EMULATED_REFUSES, EMULATED_RIGHT});
    EXPECT_EQ(chosen(shape_of(4, 5, 6), tune), EMULATED_RIGHT);
  }
}

TEST_F(Product, TakesTheFastestWhenTunedAndTheFirstWhenNot) {
  const product_shape shape = shape_of(4, 5, 6);
  double seconds;
  offer({EMULATED_SLOW, EMULATED_RIGHT});
  EXPECT_EQ(chosen(shape, false, &seconds), EMULATED_SLOW);
  EXPECT_EQ(seconds, 0);
  EXPECT_TRUE(files().empty());
  EXPECT_EQ(chosen(shape, true, &seconds), EMULATED_RIGHT);
  EXPECT_GT(seconds, 0);
  offer({EMULATED_RIGHT, EMULATED_SLOW});
  EXPECT_EQ(chosen(shape_of(4, 5, 7), true), EMULATED_RIGHT);
}

TEST_F(Product, SaysWhichShapeIsUnsupported) {
  const auto refused = [&](const product_shape &shape, bool tune) {
    product *product = nullptr;
    EXPECT_EQ(create(shape, tune, &product), DESCENT_ERROR_UNSUPPORTED);
    EXPECT_EQ(product, nullptr);
    EXPECT_NE(strstr(descent_last_error(), "m=11 n=12 k=13 "), nullptr) << descent_last_error();
  };
  for (const bool tune : {false, true}) {
    emulated_library_reset();
    emulated_library.unsupported = CUBLASLT_EPILOGUE_BGRADB;
    refused(shape_of(11, 12, 13, ELEMENT_F32, ELEMENT_F32, EPILOGUE_COLUMN_SUMS_A, true), tune);
    EXPECT_NE(strstr(descent_last_error(), "CUBLAS_STATUS_NOT_SUPPORTED"), nullptr) << descent_last_error();
    offer({});
    refused(shape_of(11, 12, 13), tune);
    offer({EMULATED_IN_PLACE});
    refused(shape_of(11, 12, 13), tune);
    offer({EMULATED_DROPS_TAIL, EMULATED_REFUSES});
    refused(shape_of(11, 12, 13), tune);
  }
  offer({EMULATED_UNSTEADY});
  refused(shape_of(11, 12, 13), true);
  EXPECT_TRUE(files().empty());
}

TEST_F(Product, RefusesShapesThatMakeNoSense) {
  const std::function<void(product_shape *)> spoil[] = {
      [](product_shape *s) { s->m = 0; },
      [](product_shape *s) { s->n = -1; },
      [](product_shape *s) { s->k = 0; },
      [](product_shape *s) { s->lda = s->k - 1; },
      [](product_shape *s) { s->ldb = s->n - 1; },
      [](product_shape *s) { s->ldc = s->n - 1; },
      [](product_shape *s) { s->mask_ld = 64; },
      [](product_shape *s) { s->mask_ld = 128, s->n = s->ldb = s->ldc = 129; },
  };
  for (const auto &each : spoil) {
    product_shape shape = shape_of(3, 4, 5, ELEMENT_F32, ELEMENT_F32, EPILOGUE_MASKED);
    each(&shape);
    product *product = nullptr;
    EXPECT_EQ(create(shape, false, &product), DESCENT_ERROR_INTERNAL) << name_of(shape);
  }
  const product_shape huge = shape_of(INT64_C(1) << 40, 3, INT64_C(1) << 40);
  product *product = nullptr;
  EXPECT_EQ(create(huge, false, &product), DESCENT_ERROR_MEMORY);
}

TEST_F(Product, LeavesNothingBehindWhenMemoryRunsOut) {
  const auto attempt = [&](bool close) {
    product_library *library = nullptr;
    product *product = nullptr;
    descent_status status = product_library_open(0, &library);
    const product_shape shape = shape_of(3, 4, 5, ELEMENT_F32, ELEMENT_F32, EPILOGUE_MASKED_COLUMN_SUMS);
    if (status == DESCENT_OK) status = product_create(library, &shape, true, stream_, &product);
    product_free(product);
    if (close) product_library_close(library);
    return status;
  };
  const long long before = emulate_live();
  const int descriptors = emulated_library.live;
  int failed = 0;
  for (int n = 1; n < 10; n++) {
    emulate_configure(("allocation=" + std::to_string(n)).c_str());
    const descent_status status = attempt(true);
    EXPECT_TRUE(status == DESCENT_OK || status == DESCENT_ERROR_MEMORY) << descent_last_error();
    failed += status != DESCENT_OK;
    EXPECT_EQ(emulate_live(), before);
    EXPECT_EQ(emulated_library.live, descriptors);
  }
  EXPECT_EQ(failed, 2); /* the workspace, the scratch */
}

TEST_F(Product, HoldsItsWorkspaceAndNothingElseOfTheDevice) {
  EXPECT_GE(product_library_bytes(library_), 8 << 20);
  const long long before = emulate_live();
  product *product = nullptr;
  ASSERT_EQ(create(shape_of(4, 5, 6), true, &product), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(emulate_live(), before);
  product_free(product);
}

}  // namespace
