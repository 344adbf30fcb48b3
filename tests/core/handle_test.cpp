// Handles: what is alive, what is refused, and how long the memory of a released object rests.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "core/handle.h"
}

namespace {

struct Object {
  handle base;
  int *cleared;
};

void Clear(void *object) { ++*static_cast<Object *>(object)->cleared; }

Object *Create(handle_kind kind, int *cleared) {
  auto *object = static_cast<Object *>(handle_create(kind, sizeof(Object), Clear, "a test's object"));
  if (object) object->cleared = cleared;
  return object;
}

std::string Refusal(const void *object, handle_kind kind) {
  return handle_check(object, kind, "model") == DESCENT_ERROR_ARGUMENT ? descent_last_error() : "";
}

TEST(Handle, IsAliveUntilItIsClosedAndOfItsOwnKindOnly) {
  int cleared = 0;
  Object *object = Create(HANDLE_NETWORK, &cleared);
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(handle_check(object, HANDLE_NETWORK, "model"), DESCENT_OK);
  EXPECT_EQ(Refusal(nullptr, HANDLE_NETWORK), "model: is NULL");
  EXPECT_EQ(Refusal(object, HANDLE_DATASET), "model: not a dataset, or already freed");
  handle_close(object, HANDLE_DATASET);
  EXPECT_TRUE(handle_alive(object, HANDLE_NETWORK)) << "closed as another kind";
  handle_close(object, HANDLE_NETWORK);
  EXPECT_EQ(Refusal(object, HANDLE_NETWORK), "model: not a network, or already freed");
  EXPECT_EQ(cleared, 1);
  handle_close(object, HANDLE_NETWORK);
  handle_close(nullptr, HANDLE_NETWORK);
  EXPECT_EQ(cleared, 1) << "a second close does nothing";
}

TEST(Handle, LivesWhileOthersUseItThoughItIsDeadForTheCaller) {
  int cleared = 0;
  Object *object = Create(HANDLE_DEVICE, &cleared);
  ASSERT_NE(object, nullptr);
  handle_retain(object);
  handle_close(object, HANDLE_DEVICE);
  EXPECT_FALSE(handle_alive(object, HANDLE_DEVICE));
  handle_close(object, HANDLE_DEVICE);
  EXPECT_EQ(cleared, 0);
  EXPECT_EQ(object->cleared, &cleared);
  handle_release(object);
  EXPECT_EQ(cleared, 1);
  EXPECT_EQ(object->cleared, nullptr) << "a released object points to nothing";
}

TEST(Handle, MemoryRestsUntilOthersOfItsKindWereReleased) {
  int cleared = 0;
  Object *first = Create(HANDLE_PREDICTOR, &cleared);
  ASSERT_NE(first, nullptr);
  handle_close(first, HANDLE_PREDICTOR);
  std::set<void *> used;
  int made = 0;
  for (; made <= 4 * HANDLE_REST && !used.count(first); made++) {
    Object *next = Create(HANDLE_PREDICTOR, &cleared);
    ASSERT_NE(next, nullptr);
    EXPECT_EQ(next->base.references, 1);
    used.insert(next);
    handle_close(next, HANDLE_PREDICTOR);
    if (next != first) {
      EXPECT_FALSE(handle_alive(first, HANDLE_PREDICTOR));
    }
  }
  EXPECT_EQ(made, HANDLE_REST + 1) << "used again once " << int{HANDLE_REST} << " others were released behind it";
}

TEST(Handle, OneOfManyThreadsThatCloseItClearsIt) {
  enum { THREADS = 4, ROUNDS = 200 };
  int cleared = 0;
  for (int round = 0; round < ROUNDS; round++) {
    Object *object = Create(HANDLE_TRAINER, &cleared);
    ASSERT_NE(object, nullptr);
    std::vector<std::thread> threads;
    for (int i = 0; i < THREADS; i++) threads.emplace_back([=] { handle_close(object, HANDLE_TRAINER); });
    for (std::thread &thread : threads) thread.join();
  }
  EXPECT_EQ(cleared, ROUNDS);
}

TEST(Argument, IsRefusedByNameWhenItIsNull) {
  EXPECT_EQ(argument_check("x", "path"), DESCENT_OK);
  EXPECT_EQ(argument_check(nullptr, "path"), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "path: is NULL");
}

}  // namespace
