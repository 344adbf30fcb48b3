/* A temporary folder for a test's files, and reading and writing of whole files. */
#ifndef DESCENT_TESTS_SCRATCH_H
#define DESCENT_TESTS_SCRATCH_H

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

inline std::string read_file(const std::string &path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline void write_file(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/* Removed with the object, with all that is in it. */
class Scratch {
 public:
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "descent_test_XXXXXX").string();
    if (!mkdtemp(pattern.data())) abort();
    path_ = pattern;
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;

  const std::string &path() const { return path_; }
  std::string operator/(const std::string &name) const { return path_ + "/" + name; }
  size_t files() const { return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {})); }
  /* The text without this folder, so that files appear by name alone. */
  std::string plain(std::string text) const {
    for (size_t at; (at = text.find(path_ + "/")) != std::string::npos;) text.erase(at, path_.size() + 1);
    return text;
  }

 private:
  std::string path_;
};

#endif
