/* The files that tests read: those beside the sources that the test was built from or, if it was built on another
 * machine, those in the folder DESCENT_TEST_SOURCE. */
#ifndef DESCENT_TESTS_SOURCE_H
#define DESCENT_TESTS_SOURCE_H

#include <cstdlib>
#include <string>

inline std::string source_file(const std::string &path) {
  const char *given = std::getenv("DESCENT_TEST_SOURCE");
  return (given ? given : DESCENT_SOURCE_DIR) + ("/" + path);
}

#endif
