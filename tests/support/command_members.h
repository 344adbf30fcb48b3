/* What the tests of ensembles and folds on the command line share. */
#ifndef DESCENT_TESTS_COMMAND_MEMBERS_H
#define DESCENT_TESTS_COMMAND_MEMBERS_H

#include <descent/descent.h>

#include <cmath>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "command.h"

inline const Arguments job = quick + Arguments{"--dropout", "0.1", "--threads", "1", "--device", "cpu", "--quiet"};

struct FreeNetwork {
  void operator()(descent_network *network) const { descent_network_free(network); }
};
using Network = std::unique_ptr<descent_network, FreeNetwork>;

inline Network load(const Folder &folder, const std::string &name = "model.safetensors") {
  descent_network *network = nullptr;
  EXPECT_EQ(descent_network_load((folder / name).c_str(), &network), DESCENT_OK) << descent_last_error();
  return Network(network);
}

inline Network member_of(const Network &ensemble, int64_t k) {
  descent_network *copy = nullptr;
  EXPECT_EQ(descent_network_member(ensemble.get(), k, &copy), DESCENT_OK) << descent_last_error();
  return Network(copy);
}

/* All weights and biases. */
inline std::vector<float> parameters_of(const Network &network) {
  std::vector<float> all;
  for (int32_t l = 1; l <= descent_network_layers(network.get()); l++) {
    const auto in = static_cast<size_t>(descent_network_width(network.get(), l - 1));
    const auto out = static_cast<size_t>(descent_network_width(network.get(), l));
    std::vector<float> W(in * out), b(out);
    EXPECT_EQ(descent_network_get_layer(network.get(), l, W.data(), b.data()), DESCENT_OK) << descent_last_error();
    all.insert(all.end(), W.begin(), W.end());
    all.insert(all.end(), b.begin(), b.end());
  }
  return all;
}

/* Those of all members, one after another. */
inline std::vector<std::vector<float>> members_of(const Network &ensemble) {
  std::vector<std::vector<float>> all;
  for (int64_t k = 0; k < descent_network_members(ensemble.get()); k++)
    all.push_back(parameters_of(member_of(ensemble, k)));
  return all;
}

inline Json provenance_of(const Network &network) { return parse(descent_network_provenance(network.get())); }

/* Seeds of the members, as the model states them. */
inline std::vector<std::string> seeds_of(const Network &ensemble) {
  const Json root = provenance_of(ensemble);
  const cJSON *described = cJSON_GetObjectItem(root.get(), "ensemble"), *member;
  std::vector<std::string> seeds;
  cJSON_ArrayForEach(member, cJSON_GetObjectItem(described, "members")) {
    const cJSON *seed = cJSON_GetObjectItem(member, "seed");
    EXPECT_TRUE(cJSON_IsString(seed));
    if (cJSON_IsString(seed)) seeds.push_back(seed->valuestring);
  }
  return seeds;
}

/* The cells of the line that begins with this name. */
inline std::vector<double> row_of(const std::string &text, const std::string &name) {
  std::vector<double> cells;
  for (const std::string &line : lines(text)) {
    if (line.rfind(name, 0) != 0) continue;
    std::istringstream rest(line.substr(name.size()));
    for (std::string cell; rest >> cell;) cells.push_back(cell == "-" ? NAN : std::stod(cell));
    return cells;
  }
  ADD_FAILURE() << "no line '" << name << "' in " << text;
  return cells;
}

/* Two classes that overlap, so that networks differ and no measure is 1. */
inline std::string make_noisy(int rows) {
  std::ostringstream text;
  unsigned state = 99;
  auto next = [&state] {
    state = state * 1664525U + 1013904223U;
    return static_cast<double>(state >> 8) / 16777216.0;
  };
  text << "a,b,answer\n";
  for (int i = 0; i < rows; i++)
    text << next() + 0.5 * (i % 2) << ',' << next() << ',' << (i % 2 ? "yes" : "no") << '\n';
  return text.str();
}

#endif
