// Training options by name: every member can be set, only it changes, and what is wrong is refused by name.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <vector>

extern "C" {
#include "core/option_table.h"
}

namespace {

using Bytes = std::vector<unsigned char>;

Bytes BytesOf(const descent_train_options &options) {
  const auto *first = reinterpret_cast<const unsigned char *>(&options);
  return Bytes(first, first + sizeof options);
}

TEST(OptionTable, HasEveryMemberOnce) {
  std::vector<int> entries(sizeof(descent_train_options));
  const auto mark = [&entries](size_t offset, size_t size) {
    for (size_t i = 0; i < size; i++) entries[offset + i]++;
  };
#define MARK(member) \
  mark(offsetof(descent_train_options, member), sizeof(static_cast<descent_train_options *>(nullptr)->member))
  MARK(size), MARK(class_weights), MARK(callbacks), MARK(ranks.communicator);
  MARK(optimizer.reserved), MARK(schedule.reserved), MARK(early_stopping.reserved), MARK(checkpoint.reserved),
      MARK(gpu.reserved), MARK(ranks.reserved);
  for (int i = 0; i < n_train_options; i++) mark(train_options[i].offset, train_options[i].size);
  size_t padding = 0;
  for (size_t i = 0; i < entries.size(); i++) {
    EXPECT_LE(entries[i], 1) << "byte " << i;
    padding = entries[i] ? 0 : padding + 1;
    EXPECT_LT(padding, 8u) << "byte " << i << " belongs to no entry"; /* members are aligned to 8 bytes at most */
  }
}

TEST(OptionTable, NamesArePathsOrUnique) {
  std::set<std::string> seen;
  for (int i = 0; i < n_train_options; i++) {
    const struct train_option *o = &train_options[i];
    EXPECT_TRUE(seen.insert(o->name).second) << o->name;
    if (std::strcmp(o->name, o->path) == 0) continue;
    EXPECT_TRUE(seen.insert(o->path).second) << o->path;
  }
}

// A value that differs from the default, as text, for each kind.
const char *OtherValue(const struct train_option *o) {
  const descent_train_options defaults = descent_train_options_default();
  switch (o->kind) {
    case VALUE_REAL: return train_option_real(o, &defaults) == 0.0004 ? "0.0005" : "0.0004";
    case VALUE_INTEGER: return "7";
    case VALUE_SEED: return "18446744073709551615";
    case VALUE_FLAG: return train_option_flag(o, &defaults) ? "no" : "yes";
    case VALUE_TERM:
      if (std::strcmp(o->name, "optimizer") == 0) return "sgd";
      if (std::strcmp(o->name, "fusion") == 0) return "off";
      return std::strcmp(o->name, "schedule") == 0 ? "cosine" : "bf16";
    case VALUE_TEXT: return "some text";
  }
  return "";
}

TEST(OptionTable, SetsTheMemberAndNothingElse) {
  const Bytes before = BytesOf(descent_train_options_default());
  for (int i = 0; i < n_train_options; i++) {
    const struct train_option *o = &train_options[i];
    SCOPED_TRACE(o->name);
    std::string hyphens = o->name;
    for (char &c : hyphens)
      if (c == '_') c = '-';
    Bytes first;
    for (const std::string &name : {std::string(o->name), std::string(o->path), hyphens}) {
      descent_train_options options = descent_train_options_default();
      ASSERT_EQ(descent_train_options_set(&options, name.c_str(), OtherValue(o)), DESCENT_OK) << descent_last_error();
      const Bytes after = BytesOf(options);
      EXPECT_NE(std::memcmp(&after[o->offset], &before[o->offset], o->size), 0);
      if (first.empty()) first = after;
      EXPECT_EQ(after, first) << name;
      Bytes rest = after;
      std::memcpy(&rest[o->offset], &before[o->offset], o->size);
      EXPECT_EQ(rest, before) << name;
    }
  }
}

TEST(OptionTable, ReadsValuesExactly) {
  descent_train_options options = descent_train_options_default();
  const struct {
    const char *name, *value;
  } given[] = {{"weight_decay", "1e-4"},
               {"optimizer", "adamw"},
               {"seed", "18446744073709551615"},
               {"epochs", "9007199254740993"},
               {"schedule minimum", "2.5e-7"},
               {"keep-best", "true"},
               {"autotune", "0"},
               {"precision", "tf32"},
               {"checkpoint.folder", "kept"},
               {"gpu.fusion", "on"},
               {"shuffle-seed", "18446744073709551614"}};
  for (const auto &g : given)
    ASSERT_EQ(descent_train_options_set(&options, g.name, g.value), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(options.optimizer.weight_decay, 1e-4);
  EXPECT_EQ(options.optimizer.kind, DESCENT_OPTIMIZER_ADAMW);
  EXPECT_EQ(options.seed, UINT64_MAX);
  EXPECT_EQ(options.epochs, INT64_C(9007199254740993));
  EXPECT_EQ(options.schedule.minimum, 2.5e-7);
  EXPECT_TRUE(options.checkpoint.keep_best);
  EXPECT_FALSE(options.autotune);
  EXPECT_EQ(options.precision, DESCENT_PRECISION_TF32);
  EXPECT_EQ(options.checkpoint.folder, given[8].value); /* the pointer is kept */
  EXPECT_EQ(options.gpu.fusion, DESCENT_FUSION_ON);
  EXPECT_EQ(options.shuffle_seed, UINT64_MAX - 1);
}

TEST(OptionTable, RefusesByName) {
  const struct {
    const char *name, *value, *says;
  } cases[] = {
      {"wieght_decay", "1", "unknown option 'wieght_decay' (known: learning_rate, momentum"},
      {"", "1", "unknown option ''"},
      {"weight_deca", "1", "unknown option 'weight_deca'"},
      {"weight_decay2", "1", "unknown option 'weight_decay2'"},
      {"class_weights", "1,2", "unknown option 'class_weights'"},
      {"checkpoint.reserved", "1", "unknown option"},
      {"weight_decay", "", "weight_decay '': must be a number"},
      {"weight_decay", "1e-4x", "weight_decay '1e-4x': must be a number"},
      {"weight_decay", "-1", "weight_decay -1: must be a number of at least 0"},
      {"weight_decay", "nan", "weight_decay nan: must be a number of at least 0"},
      {"weight_decay", "1e39", "weight_decay 1e+39: must be a number of at least 0"},
      {"learning_rate", "0", "learning_rate 0: must be a number above 0"},
      {"dropout", "1", "dropout 1: must be in [0, 1)"},
      {"epochs", "1.5", "epochs '1.5': must be a whole number"},
      {"epochs", "9223372036854775808", "epochs '9223372036854775808': must be a whole number"},
      {"epochs", "-1", "epochs -1: must be at least 0"},
      {"checkpoint keep", "0", "checkpoint keep 0: must be at least 1"},
      {"seed", "-1", "seed '-1': must be a whole number from 0 to 2^64 - 1"},
      {"seed", "18446744073709551616", "seed '18446744073709551616': must be"},
      {"seed", " 1", "seed ' 1': must be"},
      {"shuffle_seed", "1.5", "shuffle_seed '1.5': must be a whole number from 0 to 2^64 - 1"},
      {"nesterov", "maybe", "nesterov 'maybe': must be yes or no"},
      {"optimizer", "lion", "unknown optimizer 'lion' (known: gd, sgd"},
      {"schedule.kind", "Cosine", "unknown schedule 'Cosine'"},
      {"fusion", "maybe", "unknown fusion 'maybe' (known: auto, off, on)"},
      {nullptr, "1", "name: is NULL"},
      {"epochs", nullptr, "value: is NULL"},
  };
  const Bytes before = BytesOf(descent_train_options_default());
  for (const auto &c : cases) {
    descent_train_options options = descent_train_options_default();
    EXPECT_EQ(descent_train_options_set(&options, c.name, c.value), DESCENT_ERROR_ARGUMENT) << c.says;
    EXPECT_NE(std::string(descent_last_error()).find(c.says), std::string::npos) << descent_last_error();
    EXPECT_EQ(BytesOf(options), before) << c.says;
  }
  EXPECT_EQ(descent_train_options_set(nullptr, "epochs", "1"), DESCENT_ERROR_ARGUMENT);
  descent_train_options empty = {};
  EXPECT_EQ(descent_train_options_set(&empty, "epochs", "1"), DESCENT_ERROR_ARGUMENT);
}

TEST(OptionTable, KeepsToTheSizeOfTheProgram) {
  descent_train_options options = descent_train_options_default(), before;
  options.size = offsetof(descent_train_options, checkpoint);
  before = options;
  EXPECT_EQ(descent_train_options_set(&options, "rollbacks", "1"), DESCENT_ERROR_ARGUMENT);
  EXPECT_NE(std::string(descent_last_error()).find("rollbacks: is not part of these options"), std::string::npos);
  EXPECT_EQ(BytesOf(options), BytesOf(before));
  EXPECT_EQ(descent_train_options_set(&options, "patience", "4"), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(options.early_stopping.patience, 4);

  /* A program without the header passes bytes, more than there are members. */
  alignas(8) unsigned char bytes[1024];
  auto *larger = reinterpret_cast<descent_train_options *>(bytes);
  descent_train_options_init(larger, sizeof bytes);
  ASSERT_EQ(descent_train_options_set(larger, "weight_decay", "0.25"), DESCENT_OK) << descent_last_error();
  EXPECT_EQ(larger->optimizer.weight_decay, 0.25);
  EXPECT_EQ(larger->size, sizeof bytes);
}

}  // namespace
