/* Random numbers, number parsing, terms and files: the foundation of everything else. */
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "internal.h"
#include "scratch.h"

namespace {

TEST(Rng, is_Philox_4x32_10_as_published) {
  /* Known answers of the Random123 distribution (Salmon et al. 2011). */
  struct {
    uint32_t counter[4], key[2], expected[4];
  } const cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto &c : cases) {
    philox4x32_ctr_t counter = {{c.counter[0], c.counter[1], c.counter[2], c.counter[3]}};
    philox4x32_key_t key = {{c.key[0], c.key[1]}};
    philox4x32_ctr_t words = philox4x32(counter, key);
    for (int i = 0; i < 4; i++) EXPECT_EQ(words.v[i], c.expected[i]);
  }
}

TEST(Rng, gives_other_words_for_every_seed_purpose_stream_step_and_index) {
  std::set<uint32_t> words;
  int drawn = 0;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (rng_purpose purpose : {RNG_WEIGHTS, RNG_SHUFFLE, RNG_DROPOUT})
      for (uint32_t stream : {0u, 1u, 1000u})
        for (uint64_t step : {0ull, 1ull, 1ull << 32})
          for (uint64_t index : {0ull, 1ull, 4ull, 1ull << 34}) {
            words.insert(rng_word(seed, purpose, stream, step, index));
            drawn++;
          }
  EXPECT_EQ(static_cast<int>(words.size()),
            drawn); /* a chance collision of 324 words: 1 in 80000; the seeds are fixed */
}

TEST(Rng, keeps_the_share_that_dropout_asks_for) {
  const int n = 100000;
  for (double p : {0.0, 0.1, 0.5, 0.9}) {
    int kept = 0;
    for (int i = 0; i < n; i++) kept += rng_keep(1, 2, 3, static_cast<uint64_t>(i), rng_drop_threshold(p));
    /* Five standard deviations of a binomial share. */
    EXPECT_NEAR(kept / static_cast<double>(n), 1 - p, 5 * std::sqrt(p * (1 - p) / n)) << p;
  }
}

TEST(Permutation, visits_every_index_once) {
  for (uint64_t n : {1u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 64u, 65u, 1000u, 65535u, 65536u, 65537u}) {
    permutation order = permutation_create(7, RNG_SHUFFLE, 1, n);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t to = permutation_index(&order, i);
      ASSERT_LT(to, n);
      ASSERT_FALSE(seen[to]) << n;
      seen[to] = true;
    }
  }
}

TEST(Permutation, puts_every_index_anywhere_equally_often) {
  /* The positions of index i of 16 over 4800 epochs: chi-square with 15 degrees of freedom is below 49.4 with
   * probability 1 - 1.5e-5; 16 indices are tested. */
  const int n = 16, epochs = 4800;
  for (int i = 0; i < n; i++) {
    std::vector<int> counts(n);
    for (int epoch = 0; epoch < epochs; epoch++) {
      permutation order = permutation_create(3, RNG_SHUFFLE, static_cast<uint64_t>(epoch), n);
      counts[permutation_index(&order, static_cast<uint64_t>(i))]++;
    }
    double chi_square = 0, expected = epochs / static_cast<double>(n);
    for (int count : counts) chi_square += (count - expected) * (count - expected) / expected;
    EXPECT_LT(chi_square, 49.4) << "index " << i;
  }
}

TEST(Permutation, separates_neighbours) {
  /* Mean distance of the images of neighbours: n/3 for random orders, standard deviation of the mean about 0.24 n /
   * sqrt(n); five of them. */
  const int n = 10000;
  permutation order = permutation_create(3, RNG_SHUFFLE, 1, n);
  double sum = 0;
  for (uint64_t i = 1; i < n; i++)
    sum += std::fabs(static_cast<double>(permutation_index(&order, i)) -
                     static_cast<double>(permutation_index(&order, i - 1)));
  EXPECT_NEAR(sum / (n - 1), n / 3.0, 5 * 0.24 * n / std::sqrt(n));
}

TEST(Number, is_read_whole_exactly_and_without_the_locale) {
  struct {
    const char *text;
    bool good;
    double value;
  } const cases[] = {
      {"0", true, 0},
      {"-0", true, 0},
      {"1", true, 1},
      {"+1.5", true, 1.5},
      {".5", true, 0.5},
      {"5.", true, 5},
      {" 7\t", true, 7},
      {"1e3", true, 1000},
      {"1E-3", true, 1e-3},
      {"0.1", true, 0.1},
      {"123456789012345678901234567890", true, 123456789012345678901234567890.0},
      {"0.000000000000000000000000000001", true, 1e-30},
      {"2.2250738585072014e-308", true, 2.2250738585072014e-308},
      {"1.7976931348623157e308", true, 1.7976931348623157e308},
      {"9007199254740993", true, 9007199254740992.0},
      {"0.3000000000000000166533453693773481063544750213623046875", true, 0.30000000000000004},
      {"1e400", true, HUGE_VAL},
      {"1e99999999999", true, HUGE_VAL},
      {"1e-99999999999", true, 0},
      {"inf", true, HUGE_VAL},
      {"-Infinity", true, -HUGE_VAL},
      {"", false, 0},
      {" ", false, 0},
      {"-", false, 0},
      {".", false, 0},
      {"e5", false, 0},
      {"1e", false, 0},
      {"1e+", false, 0},
      {"1,5", false, 0},
      {"1 2", false, 0},
      {"0x10", false, 0},
      {"1.2.3", false, 0},
      {"abc", false, 0},
      {"infx", false, 0},
      {"12a", false, 0},
  };
  for (const auto &c : cases) {
    double value = -1;
    EXPECT_EQ(number_parse(c.text, strlen(c.text), &value), c.good) << "'" << c.text << "'";
    if (c.good) {
      EXPECT_EQ(value, c.value) << "'" << c.text << "'";
    }
  }
  double third = 0;
  EXPECT_TRUE(number_parse(("0." + std::string(509, '3')).c_str(), 511, &third));
  EXPECT_EQ(third, 1.0 / 3);
  EXPECT_FALSE(number_parse(("0." + std::string(510, '3')).c_str(), 512, &third));
  double nan = 0;
  EXPECT_TRUE(number_parse("NaN", 3, &nan));
  EXPECT_TRUE(std::isnan(nan));
}

// Every path of the number parser: few digits, 19 of them, more, powers of ten within and beyond 27, ties between two
// doubles, leading zeros.
TEST(Number, is_rounded_as_the_c_library_rounds_it) {
  uint64_t state = 1;
  const auto draw = [&state](uint64_t n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % n;
  };
  const auto digits = [&draw](uint64_t most) {
    std::string text;
    for (uint64_t n = draw(most) + 1; text.size() < n;) text += static_cast<char>('0' + draw(10));
    return text;
  };
  for (int i = 0; i < 200000; i++) {
    std::string text = draw(2) ? "-" : "";
    if (draw(4) == 0)
      text += std::to_string((UINT64_C(1) << 53) + 2 * draw(1000) + 1);  // a tie
    else
      text += digits(20);
    if (draw(2)) text += "." + std::string(draw(4), '0') + digits(18);
    if (draw(2)) text += "e" + std::to_string(static_cast<int>(draw(80)) - 40);
    double value = 0;
    ASSERT_TRUE(number_parse(text.c_str(), text.size(), &value)) << text;
    ASSERT_EQ(value, strtod(text.c_str(), nullptr)) << text;
  }
}

// Floats as text: as short as possible, and read back to the same bits.
TEST(Number, of_a_float_is_its_shortest_text) {
  struct {
    float number;
    const char *text;
  } const cases[] = {{0.1F, "0.1"},
                     {0, "0"},
                     {-0.0F, "-0"},
                     {16777215, "16777215"},
                     {16777216, "16777216"},
                     {-3, "-3"},
                     {1.0F / 3, "0.33333334"},
                     {1e-45F, "1e-45"},
                     {3.4028235e38F, "3.4028235e+38"},
                     {1e10F, "1e+10"},
                     {0.3F, "0.3"}};
  char text[NUMBER_TEXT];
  for (const auto &c : cases) EXPECT_STREQ(number_format_float(c.number, text), c.text);
  for (uint32_t i = 0; i < 300000; i++) {
    const uint32_t bits = i * 14321U;
    float number;
    memcpy(&number, &bits, sizeof number);
    if (!std::isfinite(number)) continue;
    double back = 0;
    number_format_float(number, text);
    ASSERT_TRUE(number_parse(text, strlen(text), &back)) << text;
    const float again = static_cast<float>(back);
    ASSERT_EQ(memcmp(&again, &number, sizeof number), 0) << text;
  }
}

TEST(Terms, come_back_from_their_names) {
#define TERM_LISTED(NAME, text) text,
#define ROUND_TRIP(type, PREFIX, MAP)                                   \
  {                                                                     \
    int index = 0;                                                      \
    for (const char *name : {MAP(TERM_LISTED)}) {                       \
      descent_##type value{};                                           \
      EXPECT_EQ(descent_##type##_parse(name, &value), DESCENT_OK);      \
      EXPECT_EQ(static_cast<int>(value), index++) << #type " " << name; \
      EXPECT_STREQ(descent_##type##_name(value), name);                 \
    }                                                                   \
  }
  DESCENT_TERM_MAP(ROUND_TRIP)
#undef ROUND_TRIP
  descent_normalize normalize = DESCENT_NORMALIZE_MINMAX;
  EXPECT_EQ(descent_normalize_parse("robust", &normalize), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "unknown normalize 'robust' (known: none, standard, minmax)");
  EXPECT_EQ(normalize, DESCENT_NORMALIZE_MINMAX);
}

class File : public testing::Test {
 protected:
  std::string content() const { return read_file(path_); }
  size_t files() const { return scratch_.files(); }
  Scratch scratch_;
  const std::string path_ = scratch_ / "model";
};

TEST_F(File, is_wholly_the_old_one_until_the_commit) {
  write_file(path_, "old");
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  EXPECT_EQ(content(), "old");
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  EXPECT_EQ(content(), "new");
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, leaves_nothing_behind_when_abandoned) {
  write_file(path_, "old");
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  file_abandon(&writer);
  EXPECT_EQ(content(), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, has_the_mode_that_the_umask_asks_for) {
  mode_t mask = umask(027);
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  umask(mask);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST_F(File, keeps_the_permissions_of_the_one_it_replaces) {
  write_file(path_, "old");
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(File, is_written_through_a_symbolic_link) {
  write_file(path_, "old");
  std::filesystem::create_symlink(path_, scratch_ / "link");
  file_writer writer;
  ASSERT_EQ(file_create((scratch_ / "link").c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  ASSERT_EQ(file_commit(&writer), DESCENT_OK);
  EXPECT_TRUE(std::filesystem::is_symlink(scratch_ / "link"));
  EXPECT_EQ(content(), "new");
}

TEST_F(File, stays_the_old_one_when_the_commit_fails) {
  write_file(path_, "old");
  file_writer writer;
  ASSERT_EQ(file_create(path_.c_str(), &writer), DESCENT_OK);
  ASSERT_EQ(file_write(&writer, "new", 3), DESCENT_OK);
  ASSERT_EQ(unlink(writer.temporary), 0); /* so that the rename fails */
  EXPECT_EQ(file_commit(&writer), DESCENT_ERROR_WRITE);
  EXPECT_EQ(content(), "old");
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, has_as_many_writers_as_ask_each_with_a_name_of_its_own) {
  file_writer first, second;
  ASSERT_EQ(file_create(path_.c_str(), &first), DESCENT_OK);
  ASSERT_EQ(file_create(path_.c_str(), &second), DESCENT_OK);
  EXPECT_STRNE(first.temporary, second.temporary);
  ASSERT_EQ(file_write(&first, "first", 5), DESCENT_OK);
  ASSERT_EQ(file_write(&second, "second", 6), DESCENT_OK);
  ASSERT_EQ(file_commit(&first), DESCENT_OK);
  EXPECT_EQ(content(), "first");
  ASSERT_EQ(file_commit(&second), DESCENT_OK);
  EXPECT_EQ(content(), "second");
  EXPECT_EQ(files(), 1u);
}

TEST_F(File, is_refused_where_it_cannot_be) {
  file_writer writer;
  EXPECT_EQ(file_create(scratch_.path().c_str(), &writer), DESCENT_ERROR_WRITE);
  EXPECT_EQ(file_create("", &writer), DESCENT_ERROR_WRITE);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_EQ(file_create(path_.c_str(), &writer), DESCENT_ERROR_WRITE);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_EQ(file_create((scratch_ / "none/model").c_str(), &writer), DESCENT_ERROR_WRITE);
  EXPECT_NE(std::string(descent_last_error()).find("No such file or directory"), std::string::npos);
  EXPECT_EQ(files(), 0u);
}

TEST(Memory, that_is_not_there_is_refused_with_its_size) {
  EXPECT_EQ(memory_allocate(INT64_C(1) << 60, 64, "the test"), nullptr);
  EXPECT_EQ(memory_allocate(INT64_C(1) << 50, 1, "the test"), nullptr);
  EXPECT_STREQ(descent_last_error(), "cannot allocate 1.13e+06 GB for the test");
  int64_t product = 5;
  EXPECT_FALSE(size_product(INT64_MAX, 2, &product));
  EXPECT_FALSE(size_product(-1, 2, &product));
  EXPECT_TRUE(size_product(3, 4, &product));
  EXPECT_EQ(product, 12);
}

TEST(Status, has_a_text_for_every_code) {
  EXPECT_STREQ(descent_status_text(DESCENT_OK), "ok");
  EXPECT_STREQ(descent_status_text(DESCENT_ERROR_DIVERGED), "training diverged");
  EXPECT_EQ(status_set(DESCENT_ERROR_DATA, "%s:%d", "file", 3), DESCENT_ERROR_DATA);
  EXPECT_STREQ(descent_last_error(), "file:3");
}

TEST(Status, EscapesWhatIsHarmfulToATerminal) {
  status_set(DESCENT_ERROR_READ, "%s", "a\x1b[2J\r\n\x7f\xff\xc2\x9b\xe2\x80\xae\xef\xbb\xbf \xc3\xbc\xf0\x9f\x94\xa5");
  EXPECT_STREQ(descent_last_error(), "a\\x1b[2J\\r\\n\\x7f\\xff\\u009b\\u202e\\ufeff \xc3\xbc\xf0\x9f\x94\xa5");
  status_set(DESCENT_ERROR_READ, "%s: %s", descent_last_error(), "again"); /* not escaped twice */
  EXPECT_EQ(std::string(descent_last_error()).find("\\\\"), std::string::npos);
  status_set(DESCENT_ERROR_READ, "%s: reason", std::string(1500, '\x1b').c_str()); /* grows beyond the text's size */
  const std::string said = descent_last_error(), reason = "\\x1b: reason";
  EXPECT_LE(said.size(), 1023U);
  EXPECT_EQ(said.substr(0, 4), "\\x1b");
  EXPECT_EQ(said.substr(said.size() - reason.size()), reason);
}

TEST(Status, too_long_keeps_its_beginning_and_its_end) {
  const std::string path = "folder/" + std::string(5000, 'x');
  status_set(DESCENT_ERROR_READ, "%s: cannot read: File name too long", path.c_str());
  const std::string said = descent_last_error(), reason = "xx: cannot read: File name too long";
  EXPECT_EQ(said.rfind("folder/xx", 0), 0u);
  EXPECT_EQ(said.substr(said.size() - reason.size()), reason);
  EXPECT_NE(said.find("x ... x"), std::string::npos);
  EXPECT_EQ(said.size(), 1023u);
}

}  // namespace
