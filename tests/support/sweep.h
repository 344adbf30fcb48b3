/* What the tests of descent sweep share. */
#ifndef DESCENT_TESTS_SWEEP_H
#define DESCENT_TESTS_SWEEP_H

#include <cinttypes>
#include <cmath>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "command.h"

inline const Arguments sweep = {"sweep", "data.csv", "--target", "answer", "--epochs", "4", "--hidden", "8"};

/* A folder with data on which trials differ: some labels are wrong. */
class Data : public Folder {
 public:
  explicit Data(const std::string &kind = "binary", int rows = 90) {
    std::vector<std::string> all = lines(make_data(kind, rows));
    if (kind != "regression")
      for (size_t i = 5; i < all.size(); i += 7)
        all[i] = all[i].substr(0, all[i].rfind(',')) + all[i - 1].substr(all[i - 1].rfind(','));
    std::string text;
    for (const std::string &line : all) text += line + "\n";
    write("data.csv", text);
  }
};

struct Trial {
  std::map<std::string, std::string> options;
  std::string command, status, model;
  int64_t epochs = 0, best_epoch = 0;
  double objective = NAN;
  std::vector<double> train_loss, validation_loss, best_so_far;
};

inline std::vector<double> numbers(const cJSON *line, const char *key) {
  std::vector<double> all;
  const cJSON *item = nullptr;
  cJSON_ArrayForEach(item, cJSON_GetObjectItem(line, key)) all.push_back(cJSON_GetNumberValue(item));
  return all;
}

/* The trials of a --log, by number. */
inline std::map<int, Trial> read_log(const std::string &text, const char *measure = "loss") {
  std::map<int, Trial> trials;
  for (const std::string &line : lines(text)) {
    const Json json = parse(line);
    if (!json || cJSON_HasObjectItem(json.get(), "sweep")) continue;
    Trial trial;
    const cJSON *option = nullptr;
    cJSON_ArrayForEach(option, cJSON_GetObjectItem(json.get(), "options")) trial.options[option->string] =
        option->valuestring;
    trial.command = cJSON_GetObjectItem(json.get(), "command")->valuestring;
    trial.status = cJSON_GetObjectItem(json.get(), "status")->valuestring;
    const cJSON *model = cJSON_GetObjectItem(json.get(), "model");
    if (model) trial.model = model->valuestring;
    trial.epochs = static_cast<int64_t>(number(json, "epochs"));
    trial.best_epoch = static_cast<int64_t>(number(json, "best_epoch"));
    trial.objective = number(json, measure);
    trial.train_loss = numbers(json.get(), "train_loss");
    trial.validation_loss = numbers(json.get(), "validation_loss");
    trial.best_so_far = numbers(json.get(), "best_so_far");
    trials[static_cast<int>(number(json, "trial"))] = trial;
  }
  return trials;
}

/* The lines of trials in the order of their numbers, without the seconds. */
inline std::string timeless(const std::string &log) {
  std::map<int, std::string> by_number;
  for (const std::string &line : lines(log))
    by_number[static_cast<int>(number(parse(line), "trial"))] =
        std::regex_replace(line, std::regex("\"seconds\":[^,]*"), "");
  std::string text;
  for (const auto &entry : by_number) text += entry.second + "\n";
  return text;
}

inline std::string best_command(const std::string &out) {
  for (const std::string &line : lines(out))
    if (line.rfind("  descent train ", 0) == 0) return line.substr(10);
  ADD_FAILURE() << "no command in: " << out;
  return "";
}

/* Runs what the shell makes of "train data.csv ..". */
inline int run_in_shell(const Folder &folder, const std::string &arguments) {
  const std::string line = "cd '" + folder.path() + "' && '" DESCENT_COMMAND "' " + arguments + " --quiet > /dev/null";
  return exit_code(system(line.c_str()));
}

#endif
