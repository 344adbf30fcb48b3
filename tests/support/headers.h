/* The headers that most tests include and that take longest to read: compiled once for all of them. A test includes what
 * it needs all the same, since not every build reads this. */
#include <gtest/gtest.h>

#include <Random123/philox.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
