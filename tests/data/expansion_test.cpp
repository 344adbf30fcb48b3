// Small files that describe large matrices. Each is read or refused within a stated amount of memory per byte of the
// file and within a stated time (SECURITY.md). A child process reads it; the kernel reports its memory and time.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>

#include <cstring>
#include <map>

#include "data_files.h"

namespace {

std::string Repeat(const std::string &text, int n) {
  std::string all;
  for (int i = 0; i < n; i++) all += text;
  return all;
}

std::string Gzip(const std::string &text) {
  z_stream z{};
  std::string packed(text.size() / 100 + 1000, '\0');
  EXPECT_EQ(deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(text.data()));
  z.avail_in = static_cast<uInt>(text.size());
  z.next_out = reinterpret_cast<Bytef *>(packed.data());
  z.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  packed.resize(z.total_out);
  deflateEnd(&z);
  return packed;
}

std::string Npy(const std::string &shape, const char *fortran, size_t bytes) {
  std::string header = "{'descr': '|u1', 'fortran_order': " + std::string(fortran) + ", 'shape': " + shape + "}\n";
  return std::string("\x93NUMPY\1\0", 8) + static_cast<char>(header.size()) + '\0' + header + std::string(bytes, '\1');
}

std::string Idx(uint32_t rows, uint32_t columns, size_t bytes) {
  std::string text("\0\0\10\2", 4);
  for (const uint32_t size : {rows, columns})
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(size >> shift);
  return text + std::string(bytes, '\0');
}

// A directory of so many empty files without a name.
std::string Zip(uint32_t entries) {
  const uint32_t size = 46 * entries, offset = 0;
  std::string text = Repeat("PK\1\2" + std::string(42, '\0'), static_cast<int>(entries));
  text += std::string("PK\5\6\0\0\0\0", 8);
  for (int i = 0; i < 2; i++) text.append(reinterpret_cast<const char *>(&entries), 2);
  text.append(reinterpret_cast<const char *>(&size), 4).append(reinterpret_cast<const char *>(&offset), 4);
  return text + std::string(2, '\0');
}

std::string Safetensors(const std::string &header) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char *>(&length), sizeof length) + header;
}

// n different texts, all with the same FNV-1a hash in its lower 24 bits: pairs of equal hashes in a row, as in a
// birthday attack, give 2^pairs texts.
std::vector<std::string> Colliding(size_t n) {
  const auto step = [](uint64_t hash, const std::string &text) {
    for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211U;
    return hash;
  };
  std::vector<std::string> texts{""};
  uint64_t hash = 14695981039346656037U;
  for (unsigned number = 0; texts.size() < n;) {
    std::map<uint64_t, std::string> seen;
    for (;; number++) {
      std::string piece;
      for (unsigned draw = number * 2654435761U, i = 0; i < 6; i++, draw /= 26)
        piece += static_cast<char>('a' + draw % 26);
      const auto [other, fresh] = seen.try_emplace(step(hash, piece) & 0xffffff, piece);
      if (fresh || other->second == piece) continue;
      std::vector<std::string> longer;
      for (const std::string &text : texts) longer.insert(longer.end(), {text + piece, text + other->second});
      texts = longer;
      hash = step(hash, piece);
      break;
    }
  }
  texts.resize(n);
  return texts;
}

std::string Joined(const std::vector<std::string> &texts) {
  std::string line;
  for (const std::string &text : texts) line += (line.empty() ? "" : ",") + text;
  return line + "\n";
}

// A thousand categories, then two of them again and again.
std::string Categories(int rows) {
  std::string text = "a,y\n";
  for (int i = 0; i < 1000; i++)
    text += std::string{static_cast<char>('a' + i / 40), static_cast<char>('A' + i % 40)} + ",1\n";
  return text + Repeat("aA,0\naB,1\n", rows / 2);
}

struct Case {
  const char *name;
  std::string (*bytes)();
  const char *says;  // nullptr: it is read
  int64_t constant;  // MB
  int64_t per_byte;
};

const Case cases[] = {
    {"wide.svm", [] { return Repeat("0 1:1 4194304:1\n", 200); },
     "wide.svm: 200 rows x 4194304 columns are 3.36 GB as a dense matrix, 1048576 times the file's 3.2 KB (index "
     "4194304 "
     "is first at line 1): correct the index, or hash the features to fewer",
     10, 0},
    {"digit.svm", [] { return Repeat("1 1:1 7:2 12:3\n0 1:1 7:2 12:3\n", 1000) + "1 1000012:3\n"; },
     "first at line 2001", 10, 0},
    {"row.svm", [] { return std::string("0 4194304:1\n1 1:1\n"); }, "times the file's 18 bytes", 10, 0},
    {"sparse.svm", [] { return Repeat("0 1:1 600000:1\n1 2:1 \n", 25); }, nullptr, 400, 0},
    {"bomb.svm.gz", [] { return Gzip(Repeat("0 1:1 50000:1\n1 1:2 4:4\n", 50000)); }, "100000 rows x 50000 columns", 10,
     0},
    {"noend.svm", [] { return std::string(4 << 20, '1'); }, "is not a valid label", 10, 3},
    {"short.idx.gz", [] { return Gzip(Idx(4000000000U, 4194304, 20)); }, "short.idx.gz: 4000000000 rows x 4194304", 10,
     0},
    {"zeros.idx.gz", [] { return Gzip(Idx(2000000, 2, 4000000)); }, nullptr, 20, 4 * 1032 * 2},
    {"huge.idx", [] { return Idx(1000000000, 4194304, 10); }, "but 10 bytes follow", 10, 0},
    {"huge.npy", [] { return Npy("(1000000000, 4194304)", "False", 100); }, "do not fit in the remaining 100 bytes", 10,
     0},
    {"columns.npy", [] { return Npy("(5, 2000000)", "True", 10000000); }, nullptr, 100, 100},
    {"line.csv", [] { return std::string(4 << 20, '1'); }, "a cell of over 1 MiB", 10, 0},
    {"quote.csv", [] { return '"' + std::string(4 << 20, '1'); }, "a cell of over 1 MiB", 10, 0},
    {"empty.csv", [] { return Repeat(std::string(999, ',') + "1\n" + std::string(999, ',') + "0\n", 500); }, nullptr,
     30, 70},
    {"names.csv",
     [] { return Joined(Colliding(40000)) + std::string(39999, ',') + "1\n" + std::string(39999, ',') + "0\n"; },
     nullptr, 30, 70},
    {"categories.csv", [] { return Categories(20000); }, nullptr, 30, 1400},
    {"bomb.csv.gz", [] { return Gzip(Categories(200000)); }, "201000 rows x 998 columns are 802 MB as a dense matrix",
     20, 0},
    {"wide.csv.gz", [] { return Gzip("1" + std::string(4194302, ',') + "\n"); }, "wide.csv.gz:1: over ", 250, 0},
    {"values.safetensors", [] { return Safetensors("[" + Repeat("1,", 999999) + "1]"); }, "not a JSON object", 10, 50},
    {"entries.npz", [] { return Zip(10001); }, "entries.npz: 10001 arrays exceed the maximum of 10000", 10, 0},
    {"deep.safetensors", [] { return Safetensors(std::string(1000000, '[')); }, "nested too deeply", 10, 2},
};

struct Outcome {
  std::string error;
  double seconds;
  int64_t bytes;
};

// Reads the file in a child process, or nothing if there is no path.
Outcome ReadInChild(const std::string &path, const char *target) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    descent_dataset_options options = descent_dataset_options_default();
    descent_dataset *dataset = nullptr;
    options.target = target;
    const bool failed = !path.empty() && descent_dataset_read(path.c_str(), &options, &dataset) != DESCENT_OK;
    const std::string error = failed ? descent_last_error() : "";
    _exit(write(ends[1], error.data(), error.size()) < 0);
  }
  close(ends[1]);
  Outcome outcome{};
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) outcome.error.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  rusage used{};
  EXPECT_EQ(wait4(child, &status, 0, &used), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << path;
  outcome.seconds = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                    1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  outcome.bytes = static_cast<int64_t>(used.ru_maxrss) << 10;
  return outcome;
}

class Expansion : public DataFiles {};

TEST_F(Expansion, IsInProportionToTheFile) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr bool kMeasured = false;
#else
  constexpr bool kMeasured = true;
#endif
  for (const Case &c : cases) {
    const std::string path = Write(c.name, c.bytes());
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
    const int64_t before = ReadInChild("", nullptr).bytes;
    const bool last = strcmp(c.name, "names.csv") == 0 || strstr(c.name, "empty");
    const Outcome outcome = ReadInChild(path, last ? "-1" : strstr(c.name, ".csv") ? "y" : nullptr);
    std::filesystem::remove(path);
    if (c.says)
      EXPECT_NE(Plain(outcome.error).find(c.says), std::string::npos) << c.name << ": " << outcome.error;
    else
      EXPECT_EQ(outcome.error, "") << c.name;
    if (!kMeasured) continue;
    EXPECT_LE(outcome.bytes - before, c.constant * 1000000 + c.per_byte * size) << c.name << " of " << size << " bytes";
    EXPECT_LE(outcome.seconds, 3) << c.name;
  }
}

}  // namespace
