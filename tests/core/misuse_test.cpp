// Every public function, called as it must not be: each pointer that must not be NULL is NULL, each handle was freed or
// belongs to an object of another kind. The table below has one line for each function of the header.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "scratch.h"
#include "training.h"

namespace {

// ---- what the calls are given ----------------------------------------------------------------------------------------

Network small_network() { return make_network({2, 1}, DESCENT_ACTIVATION_RELU, DESCENT_LOSS_BINARY_CROSS_ENTROPY); }

struct Files {
  Files() {
    write_file(table, "a,b,y\n1,2,0\n2,1,1\n3,5,0\n4,4,1\n");
    write_file(rows, "a,b\n1,2\n2,1\n");
    const Network network = small_network();
    const Device device = open_device("cpu", 1);
    descent_trainer *trainer = nullptr;
    EXPECT_EQ(descent_network_save(network.get(), model.c_str()), DESCENT_OK) << descent_last_error();
    const descent_train_options options = descent_train_options_default();
    EXPECT_EQ(descent_trainer_create(network.get(), device.get(), &options, 4, &trainer), DESCENT_OK);
    EXPECT_EQ(descent_trainer_save(trainer, state.c_str()), DESCENT_OK) << descent_last_error();
    descent_trainer_free(trainer);
  }
  Scratch folder;
  std::string table = folder / "table.csv", rows = folder / "rows.csv", model = folder / "model.safetensors";
  std::string state = folder / "state.safetensors";
  std::string written = folder / "written", binary = folder / "binary.safetensors", csv = folder / "written.csv";
};

const Files &files() {
  static const Files made;
  return made;
}

// The rows that are left, without their values.
int64_t next_rows(void *user, float *X, float *y, float *, int64_t rows) {
  int64_t *left = static_cast<int64_t *>(user);
  const int64_t n = std::min(*left, rows);
  std::fill(X, X + 2 * n, 1.0F);
  std::fill(y, y + n, 0.0F);
  *left -= n;
  return n;
}

// A fresh one for each call: objects of every kind, the same that were freed, and room for what functions return.
struct World {
  Rows memory = make_rows(4, 2, 1, 2, 1);
  Device device = open_device("cpu", 1), reference = open_device("reference", 1);
  Network network = small_network(), trained = small_network();  // trained: in use by the trainer
  const descent_network *networks[1] = {network.get()};
  Dataset data = memory.dataset();
  descent_train_options options = descent_train_options_default();
  descent_predict_options predicting = descent_predict_options_default();
  descent_network_options shape = descent_network_options_default();
  descent_dataset_options reading = descent_dataset_options_default(), blocks = reading;
  const int64_t width = 1;
  Trainer trainer{nullptr, descent_trainer_free};
  descent_device *made_device = nullptr, *freed_device = nullptr;
  descent_network *made_network = nullptr, *freed_network = nullptr;
  descent_dataset *made_data = nullptr, *made_second = nullptr, *freed_data = nullptr;
  descent_trainer *made_trainer = nullptr, *freed_trainer = nullptr;
  descent_predictor *predictor = nullptr, *made_predictor = nullptr, *freed_predictor = nullptr;
  descent_communicator *communicator = nullptr, *made_communicator = nullptr, *freed_communicator = nullptr;
  descent_preprocessing preprocessing = descent_preprocessing_default();
  std::vector<char> model = std::vector<char>(1 << 16);
  size_t bytes = 0;
  descent_metrics metrics = {};
  descent_step_info info = {};
  descent_fit_result fitted = {};
  descent_member member = descent_member_default();
  descent_members_options together = descent_members_options_default();
  descent_bench_result bench = {};
  float values[16] = {0};
  descent_array X = descent_array_default(), y = X, outputs = X, dX = X;
  double real = 0, second_real = 0;
  int64_t counts[4] = {0};
  bool passed = false;
  int64_t left = 4;
  descent_source stream = descent_source_default(), file = stream;
  descent_dataset_options streamed = descent_dataset_options_default();

  World() {
    stream.inputs = 2;
    stream.targets = 1;
    stream.classes = 2;
    stream.task = DESCENT_TASK_BINARY;
    stream.next = next_rows;
    stream.user = &left;
    streamed.network = network.get();
    streamed.target = "y";
    options.epochs = 1;
    options.batch_size = 4;
    member.network = network.get();
    member.training = data.get();
    member.options = &options;
    shape.inputs = 2;
    shape.layers = 1;
    shape.widths = &width;
    X.data = memory.X.data(), X.rows = 4, X.columns = 2;
    y.data = memory.y.data(), y.rows = 4, y.columns = 1;
    outputs.data = values, outputs.rows = 4, outputs.columns = 1;
    dX.data = values, dX.rows = 4, dX.columns = 2;
    reading.target = "y";
    blocks.network = network.get();
    blocks.features_only = true;
    trainer.reset(train(trained.get()));
    freed_device = open_device("reference", 1).get();
    freed_network = small_network().get();
    freed_data = memory.dataset().get();
    freed_trainer = train(trained.get());
    descent_trainer_free(freed_trainer);
    EXPECT_EQ(descent_network_save_memory(network.get(), model.data(), model.size(), &bytes), DESCENT_OK);
    for (descent_predictor **made : {&predictor, &freed_predictor})
      EXPECT_EQ(descent_predictor_create(network.get(), device.get(), 4, made), DESCENT_OK) << descent_last_error();
    descent_predictor_free(freed_predictor);
    for (descent_communicator **made : {&communicator, &freed_communicator})
      EXPECT_EQ(descent_communicator_open("single", 1, made), DESCENT_OK) << descent_last_error();
    descent_communicator_close(freed_communicator);
  }
  ~World() {
    descent_source_close(&file);
    descent_metrics_clear(&metrics);
    descent_trainer_free(made_trainer);
    descent_predictor_free(predictor);
    descent_predictor_free(made_predictor);
    descent_network_free(made_network);
    descent_dataset_free(made_data);
    descent_dataset_free(made_second);
    descent_device_close(made_device);
    descent_communicator_close(communicator);
    descent_communicator_close(made_communicator);
  }
  descent_trainer *train(descent_network *of) {
    descent_trainer *made = nullptr;
    EXPECT_EQ(descent_trainer_create(of, device.get(), &options, 4, &made), DESCENT_OK) << descent_last_error();
    /* For what needs gradients or a forward before it. */
    EXPECT_EQ(descent_trainer_gradient(made, memory.X.data(), memory.y.data(), nullptr, 4, nullptr), DESCENT_OK);
    EXPECT_EQ(descent_trainer_forward(made, memory.X.data(), 4, values), DESCENT_OK) << descent_last_error();
    return made;
  }
};

void *freed(World &w, descent_device *) { return w.freed_device; }
void *freed(World &w, descent_network *) { return w.freed_network; }
void *freed(World &w, descent_dataset *) { return w.freed_data; }
void *freed(World &w, descent_trainer *) { return w.freed_trainer; }
void *freed(World &w, descent_predictor *) { return w.freed_predictor; }
void *freed(World &w, descent_communicator *) { return w.freed_communicator; }

descent_device *gpu() {
  static const Device made = open_device("cuda", 1);
  return made.get();
}
void on_device(void *, const descent_device_info *) {}
int take_block(void *, const descent_dataset *) { return 0; }

// ---- calls -----------------------------------------------------------------------------------------------------------

enum Misuse { NONE, IS_NULL, FREED, FOREIGN };
const char *const misuses[] = {"none", "NULL", "freed", "of another kind"};

template <class T>
struct MayBeNull {
  T value;
};
template <class T>
MayBeNull<T> may_be_null(T value) {
  return {value};
}

template <class T>
struct Argument {
  Argument(T given) : value(given), may_be_null(!std::is_pointer<T>::value) {}
  template <class U>
  Argument(MayBeNull<U> given) : value(given.value), may_be_null(true) {}
  T value;
  bool may_be_null;
};
template <class R, class... P>
std::tuple<Argument<P>...> arguments_of(R (*)(P...));

template <class T>
struct is_handle : std::false_type {};
template <>
struct is_handle<descent_device> : std::true_type {};
template <>
struct is_handle<descent_communicator> : std::true_type {};
template <>
struct is_handle<descent_network> : std::true_type {};
template <>
struct is_handle<descent_dataset> : std::true_type {};
template <>
struct is_handle<descent_trainer> : std::true_type {};
template <>
struct is_handle<descent_predictor> : std::true_type {};

template <class T>
using Pointee = std::remove_const_t<std::remove_pointer_t<T>>;

// Replaces the argument; false where that misuse does not exist. `foreign` is the object of another kind.
template <class T>
bool misuse(World &w, Argument<T> &argument, Misuse how, void **foreign) {
  (void)w, (void)foreign, (void)argument;
  if constexpr (std::is_pointer<T>::value) {
    if (how == IS_NULL) argument.value = nullptr;
    if (how == IS_NULL) return !argument.may_be_null;
    if constexpr (is_handle<Pointee<T>>::value) {
      *foreign = std::is_same<Pointee<T>, descent_network>::value ? static_cast<void *>(w.data.get()) : w.network.get();
      argument.value = static_cast<T>(how == FREED ? freed(w, static_cast<Pointee<T> *>(nullptr)) : *foreign);
      return true;
    }
  }
  return false;
}

bool says_nothing(const char *text) { return !text || !*text; }
bool says_nothing(double value) { return std::isnan(value) || value == 0; }
bool says_nothing(int64_t value) { return value == 0 || value == -1; }
bool says_nothing(uint64_t value) { return value == 0; }
bool says_nothing(int value) { return value == 0 || value == -1; }
bool says_nothing(bool value) { return !value; }

// What is wrong with the result of a call, or "".
std::string judge(descent_status status, Misuse how, const std::string &name) {
  const std::string text = descent_last_error();
  if (how == NONE) return status == DESCENT_OK ? "" : "a correct call fails: " + text;
  if (status != DESCENT_ERROR_ARGUMENT) return std::string("returns ") + descent_status_text(status) + ": " + text;
  return std::regex_search(text, std::regex("\\b" + name + "\\b")) ? "" : "the error does not name it: " + text;
}
template <class R>
std::string judge(R result, Misuse how, const std::string &) {
  if constexpr (std::is_enum<R>::value)
    return how == NONE || result == R{} ? "" : "returns a value";
  else
    return how == NONE || says_nothing(result) ? "" : "returns a value";
}

struct Case {
  size_t n_arguments;
  // Calls with argument `which` misused; true if that misuse exists.
  std::function<bool(size_t which, Misuse how, const std::string &name, std::string *complaint)> call;
};

template <class R, class... P, class Make, size_t... I>
bool call_misused(R (*function)(P...), const Make &make, size_t which, Misuse how, const std::string &name,
                  std::string *complaint, std::index_sequence<I...>) {
  World w;
  std::tuple<Argument<P>...> arguments = make(w);
  void *foreign = nullptr;
  bool exists = how == NONE;
  ((which == I && how != NONE ? void(exists = misuse(w, std::get<I>(arguments), how, &foreign)) : void()), ...);
  if (!exists) return false;
  if constexpr (std::is_void<R>::value)
    function(std::get<I>(arguments).value...);
  else
    *complaint = judge(function(std::get<I>(arguments).value...), how, name);
  if (how == FOREIGN && !handle_alive(foreign, foreign == w.data.get() ? HANDLE_DATASET : HANDLE_NETWORK))
    *complaint = "frees an object of another kind";
  return true;
}

template <class R, class... P, class Make>
Case make_case(R (*function)(P...), Make make) {
  return {sizeof...(P), [=](size_t which, Misuse how, const std::string &name, std::string *complaint) {
            return call_misused(function, make, which, how, name, complaint, std::index_sequence_for<P...>());
          }};
}

// ---- the functions ---------------------------------------------------------------------------------------------------

// CASE(function, arguments...): a correct call. may_be_null() marks the pointers that the header allows to be NULL; `w` is
// the World above, for what must be freed after the call as for what it is given.
#define CASE(function, ...)                                                           \
  {                                                                                   \
#function, make_case(function, [](World &w) -> decltype(arguments_of(function)) { \
      (void)w;                                                                        \
      return {__VA_ARGS__};                                                           \
    })                                                                                \
  }
#define NETWORK w.network.get()
#define TRAINED w.trained.get()
#define DATA w.data.get()
#define DEVICE w.device.get()
#define RANKS w.communicator
#define TRAINER w.trainer.get()
#define TERM_CASES(type, PREFIX, MAP)                                        \
  CASE(descent_##type##_name, descent_##type(0)),                            \
      CASE(descent_##type##_parse, descent_##type##_name(descent_##type(0)), \
           reinterpret_cast<descent_##type *>(w.counts)),
#define OPTIONS_CASE(type, member) CASE(type##_init, may_be_null(&w.member), sizeof w.member)

const std::map<std::string, Case> &cases() {
  static const std::map<std::string, Case> all = {
      CASE(descent_status_text, DESCENT_OK),
      CASE(descent_last_error),
      CASE(descent_remove_unfinished_files),
      CASE(descent_version),
      CASE(descent_version_number),
      DESCENT_TERM_MAP(TERM_CASES) OPTIONS_CASE(descent_dataset_options, reading),
      OPTIONS_CASE(descent_network_options, shape),
      OPTIONS_CASE(descent_train_options, options),
      OPTIONS_CASE(descent_predict_options, predicting),
      OPTIONS_CASE(descent_source, stream),
      OPTIONS_CASE(descent_member, member),
      OPTIONS_CASE(descent_members_options, together),
      CASE(descent_set_progress, may_be_null(nullptr), may_be_null(nullptr)),
      OPTIONS_CASE(descent_preprocessing, preprocessing),
      CASE(descent_train_options_set, &w.options, "weight_decay", "0.1"),
      OPTIONS_CASE(descent_array, X),
      // ranks
      CASE(descent_communicator_open, "single", 1, &w.made_communicator),
      CASE(descent_communicator_close, may_be_null(RANKS)),
      CASE(descent_communicator_rank, RANKS),
      CASE(descent_communicator_size, RANKS),
      CASE(descent_communicator_local_rank, RANKS),
      CASE(descent_communicator_local_size, RANKS),
      CASE(descent_communicator_host, RANKS, 0),
      CASE(descent_communicator_threads, RANKS),
      CASE(descent_communicator_gather, RANKS, w.values, sizeof w.values[0], w.counts),
      CASE(descent_communicator_abort, RANKS, 1),
      // devices
      CASE(descent_device_open, "cpu", 1, &w.made_device),
      CASE(descent_device_close, may_be_null(DEVICE)),
      CASE(descent_device_description, DEVICE),
      CASE(descent_device_name, DEVICE),
      CASE(descent_device_note, DEVICE),
      CASE(descent_device_set_stream, gpu(), may_be_null(nullptr)),
      CASE(descent_device_list, on_device, may_be_null(nullptr)),
      // datasets
      CASE(descent_dataset_read, files().table.c_str(), &w.reading, &w.made_data),
      CASE(descent_dataset_read_blocks, files().rows.c_str(), &w.blocks, 1, take_block, may_be_null(nullptr)),
      CASE(descent_dataset_save, DATA, files().csv.c_str()),
      CASE(descent_dataset_save_guarded, DATA, files().csv.c_str()),
      CASE(descent_dataset_convert, files().table.c_str(), &w.reading, files().binary.c_str(), &w.made_data),
      CASE(descent_dataset_create, w.memory.X.data(), may_be_null(w.memory.y.data()), may_be_null(nullptr), 4, 2, 1,
           DESCENT_TASK_BINARY, 2, &w.made_data),
      CASE(descent_dataset_create_arrays, may_be_null(DEVICE), &w.X, may_be_null(&w.y), may_be_null(nullptr),
           DESCENT_TASK_BINARY, 2, &w.made_data),
      CASE(descent_dataset_free, may_be_null(w.made_data)),
      CASE(descent_dataset_split, DATA, 0.5, 1, &w.made_data, &w.made_second),
      CASE(descent_dataset_rows, DATA),
      CASE(descent_dataset_inputs, DATA),
      CASE(descent_dataset_targets, DATA),
      CASE(descent_dataset_task, DATA),
      CASE(descent_dataset_classes, DATA),
      CASE(descent_dataset_input_name, DATA, 0),
      CASE(descent_dataset_target_name, DATA, 0),
      CASE(descent_dataset_class_name, DATA, 0),
      CASE(descent_dataset_columns, DATA),
      CASE(descent_dataset_column_name, DATA, 0),
      CASE(descent_dataset_column_categories, DATA, 0),
      CASE(descent_dataset_column_category, DATA, 0, 0),
      CASE(descent_dataset_column_inputs, DATA, 0),
      CASE(descent_dataset_missing, DATA, w.counts),
      CASE(descent_dataset_dropped, DATA),
      CASE(descent_dataset_unseen, DATA),
      CASE(descent_dataset_rounded, DATA, may_be_null(&w.real)),
      CASE(descent_dataset_note, DATA),
      CASE(descent_dataset_class_count, DATA, 0),
      CASE(descent_dataset_input_value, DATA, 0, 0),
      CASE(descent_dataset_target_value, DATA, 0, 0),
      CASE(descent_dataset_input_rounding, DATA, 0, may_be_null(&w.real)),
      CASE(descent_dataset_target_rounding, DATA, 0, may_be_null(&w.real)),
      CASE(descent_dataset_row, DATA, 0, w.values),
      CASE(descent_dataset_target, DATA, 0, w.values),
      CASE(descent_dataset_weight, DATA, 0, w.values),
      // networks
      CASE(descent_network_create, &w.shape, &w.made_network),
      CASE(descent_network_free, may_be_null(NETWORK)),
      CASE(descent_network_initialise, NETWORK, DESCENT_INIT_AUTO, 1),
      CASE(descent_network_fit_preprocessing, NETWORK, DATA, DESCENT_NORMALIZE_STANDARD, DESCENT_IMPUTE_MEAN, false),
      CASE(descent_network_get_layer, NETWORK, 1, may_be_null(w.values), may_be_null(w.values)),
      CASE(descent_network_set_layer, NETWORK, 1, may_be_null(w.values), may_be_null(w.values)),
      CASE(descent_network_inputs, NETWORK),
      CASE(descent_network_layers, NETWORK),
      CASE(descent_network_outputs, NETWORK),
      CASE(descent_network_width, NETWORK, 1),
      CASE(descent_network_activation, NETWORK, 1),
      CASE(descent_network_loss, NETWORK),
      CASE(descent_network_task, NETWORK),
      CASE(descent_network_parameters, NETWORK),
      CASE(descent_network_classes, NETWORK),
      CASE(descent_network_normalize, NETWORK),
      CASE(descent_network_impute, NETWORK),
      CASE(descent_network_imputes, NETWORK),
      CASE(descent_network_input_name, NETWORK, 0),
      CASE(descent_network_input_offset, NETWORK, 0),
      CASE(descent_network_target_offset, NETWORK, 0),
      CASE(descent_network_target_scaling, NETWORK, 0, &w.real, &w.second_real),
      CASE(descent_network_target_name, NETWORK, 0),
      CASE(descent_network_columns, NETWORK),
      CASE(descent_network_column_name, NETWORK, 0),
      CASE(descent_network_column_categories, NETWORK, 0),
      CASE(descent_network_column_category, NETWORK, 0, 0),
      CASE(descent_network_svmlight_base, NETWORK),
      CASE(descent_network_class_name, NETWORK, 0),
      CASE(descent_network_provenance, NETWORK),
      CASE(descent_network_library, NETWORK),
      CASE(descent_network_checkpoint_step, NETWORK),
      CASE(descent_network_set_provenance, NETWORK, may_be_null("made by hand")),
      CASE(descent_network_save, NETWORK, files().written.c_str()),
      CASE(descent_network_load, files().model.c_str(), &w.made_network),
      CASE(descent_network_set_preprocessing, NETWORK, &w.preprocessing),
      CASE(descent_network_get_preprocessing, NETWORK, &w.preprocessing),
      CASE(descent_network_set_names, NETWORK, may_be_null(nullptr), may_be_null(nullptr), may_be_null(nullptr)),
      CASE(descent_network_save_memory, NETWORK, may_be_null(w.model.data()), w.model.size(), &w.bytes),
      CASE(descent_network_load_memory, w.model.data(), w.bytes, &w.made_network),
      CASE(descent_network_clone, NETWORK, &w.made_network),
      CASE(descent_network_join, w.networks, 1, &w.made_network),
      CASE(descent_network_members, NETWORK),
      CASE(descent_network_member, NETWORK, 0, &w.made_network),
      CASE(descent_network_export, NETWORK, DESCENT_EXPORT_FORMAT_C, files().written.c_str()),
      CASE(descent_network_load_weights, NETWORK, files().model.c_str()),
      // evaluation and prediction
      CASE(descent_metrics_clear, &w.metrics),
      CASE(descent_evaluate, NETWORK, DEVICE, DATA, 0, &w.metrics),
      CASE(descent_evaluate_with, NETWORK, DEVICE, DATA, &w.predicting, 0, &w.metrics),
      CASE(descent_predict_with, NETWORK, DEVICE, DATA, &w.predicting, w.values),
      CASE(descent_predict_raw_with, NETWORK, DEVICE, DATA, &w.predicting, w.values),
      CASE(descent_predictor_create_with, NETWORK, DEVICE, &w.predicting, 4, &w.made_predictor),
      CASE(descent_predict, NETWORK, DEVICE, DATA, w.values),
      CASE(descent_predict_raw, NETWORK, DEVICE, DATA, w.values),
      CASE(descent_predictor_create, NETWORK, DEVICE, 4, &w.made_predictor),
      CASE(descent_predictor_free, may_be_null(w.made_predictor)),
      CASE(descent_predictor_run, w.predictor, w.memory.X.data(), 4, w.values),
      CASE(descent_predictor_run_raw, w.predictor, w.memory.X.data(), 4, w.values),
      CASE(descent_predictor_run_dataset, w.predictor, DATA, w.values),
      CASE(descent_predictor_run_raw_dataset, w.predictor, DATA, w.values),
      CASE(descent_predictor_run_arrays, w.predictor, &w.X, &w.outputs),
      CASE(descent_predictor_run_raw_arrays, w.predictor, &w.X, &w.outputs),
      CASE(descent_predictor_input_gradient_arrays, w.predictor, &w.X, &w.y, &w.dX),
      CASE(descent_predictor_refresh, w.predictor, NETWORK),
      CASE(descent_predictor_input_gradient, w.predictor, w.memory.X.data(), w.memory.y.data(), 4, w.values),
      // training
      CASE(descent_train_options_check, &w.options, NETWORK, DEVICE),
      CASE(descent_trainer_create, NETWORK, DEVICE, &w.options, 4, &w.made_trainer),
      CASE(descent_trainer_free, may_be_null(TRAINER)),
      CASE(descent_trainer_step, TRAINER, w.memory.X.data(), w.memory.y.data(), may_be_null(nullptr), 4,
           may_be_null(&w.info)),
      CASE(descent_trainer_gradient, TRAINER, w.memory.X.data(), w.memory.y.data(), may_be_null(nullptr), 4,
           may_be_null(&w.info)),
      CASE(descent_trainer_step_arrays, TRAINER, &w.X, &w.y, may_be_null(nullptr), may_be_null(&w.info)),
      CASE(descent_trainer_gradient_arrays, TRAINER, &w.X, &w.y, may_be_null(nullptr), may_be_null(&w.info)),
      CASE(descent_trainer_forward_arrays, TRAINER, &w.X, &w.outputs),
      CASE(descent_trainer_backward_arrays, TRAINER, &w.y, may_be_null(&w.dX), false),
      CASE(descent_trainer_get_gradient, TRAINER, 1, may_be_null(w.values), may_be_null(w.values)),
      CASE(descent_trainer_set_gradient, TRAINER, 1, may_be_null(w.memory.X.data()), may_be_null(w.memory.X.data())),
      CASE(descent_trainer_update, TRAINER, may_be_null(&w.info)),
      CASE(descent_trainer_forward, TRAINER, w.memory.X.data(), 4, w.values),
      CASE(descent_trainer_backward, TRAINER, w.memory.y.data(), may_be_null(w.values), false),
      CASE(descent_trainer_set_layer, TRAINER, 1, may_be_null(w.memory.X.data()), may_be_null(w.memory.X.data())),
      CASE(descent_trainer_set_learning_rate, TRAINER, 0.1),
      CASE(descent_trainer_set_steps, TRAINER, 7),
      CASE(descent_trainer_sync, TRAINER),
      CASE(descent_trainer_get_layer, TRAINER, 1, may_be_null(w.values), may_be_null(w.values)),
      CASE(descent_trainer_evaluate, TRAINER, DATA, 0, &w.metrics),
      CASE(descent_trainer_save, TRAINER, files().written.c_str()),
      CASE(descent_trainer_restore, TRAINER, files().state.c_str()),
      CASE(descent_fit, NETWORK, DEVICE, DATA, may_be_null(DATA), &w.options, may_be_null(&w.fitted)),
      CASE(descent_fit_source, NETWORK, DEVICE, &w.stream, may_be_null(DATA), &w.options, may_be_null(&w.fitted)),
      CASE(descent_member_seed, 1, 2),
      CASE(descent_fit_members, DEVICE, &w.member, 1, may_be_null(&w.together)),
      CASE(descent_source_open, files().table.c_str(), &w.streamed, 2, &w.file),
      CASE(descent_source_close, may_be_null(&w.file)),
      // checking and measuring
      CASE(descent_verify, NETWORK, DEVICE, w.reference.get(), &w.options, 4, 1, may_be_null(nullptr),
           may_be_null(nullptr), &w.passed),
      CASE(descent_bench, NETWORK, DEVICE, &w.options, 1e-3, may_be_null(nullptr), may_be_null(nullptr), &w.bench),
      CASE(descent_bench_predict, NETWORK, DEVICE, 2, 1e-3, may_be_null(nullptr), may_be_null(nullptr), &w.bench),
      CASE(descent_bench_predict_with, NETWORK, DEVICE, &w.predicting, 2, 1e-3, may_be_null(nullptr),
           may_be_null(nullptr), &w.bench),
  };
  return all;
}

// ---- the header ------------------------------------------------------------------------------------------------------

// The names of the parameters in a declaration's brackets: the last word of each, or that of a pointer to a function.
std::vector<std::string> parameter_names(const std::string &list) {
  std::vector<std::string> names;
  std::string one;
  int depth = 0;
  for (const char c : list + ",") {
    depth += (c == '(') - (c == ')');
    if (c != ',' || depth) {
      one += c;
      continue;
    }
    std::smatch found;
    if (std::regex_search(one, found, std::regex(R"(\(\*(\w+)\))")) ||
        std::regex_search(one, found, std::regex(R"((\w+)\s*(?:\[\w*\])?\s*$)")))
      names.push_back(found[1]);
    one.clear();
  }
  return names;
}

// Each function that the header declares, with the names of its parameters.
std::map<std::string, std::vector<std::string>> declared_functions() {
  std::string text = read_file(DESCENT_SOURCE_DIR "/include/descent/descent.h");
  std::map<std::string, std::vector<std::string>> functions;
  const std::regex declaration(R"(DESCENT_API\s[^;{}#]*?\b(descent_\w+)\(([^;{}#]*)\);)");
  for (std::sregex_iterator i(text.begin(), text.end(), declaration), end; i != end; ++i)
    functions[(*i)[1]] = parameter_names((*i)[2]);
  const std::regex options(R"(\nDESCENT_DECLARE_OPTIONS\((\w+)\))"), term(R"(\n  X\((\w+), [A-Z_]+, DESCENT_)");
  for (std::sregex_iterator i(text.begin(), text.end(), options), end; i != end; ++i)
    functions[(*i)[1].str() + "_init"] = {"options", "size"};
  for (std::sregex_iterator i(text.begin(), text.end(), term), end; i != end; ++i) {
    functions["descent_" + (*i)[1].str() + "_name"] = {"value"};
    functions["descent_" + (*i)[1].str() + "_parse"] = {"text", "value"};
  }
  return functions;
}

TEST(Misuse, EveryFunctionOfTheHeaderIsInTheTable) {
  std::set<std::string> declared, tried;
  for (const auto &function : declared_functions()) declared.insert(function.first);
  for (const auto &known : cases()) tried.insert(known.first);
  EXPECT_GT(declared.size(), 100u);
  std::vector<std::string> missing;
  std::set_symmetric_difference(declared.begin(), declared.end(), tried.begin(), tried.end(),
                                std::back_inserter(missing));
  EXPECT_EQ(missing, std::vector<std::string>()) << "in the header or in the table of this file, but not in both";
}

TEST(Misuse, OfAnyArgumentIsRefusedByItsName) {
  for (const auto &[function, names] : declared_functions()) {
    const auto found = cases().find(function);
    if (found == cases().end()) continue;  // reported above
    const Case &known = found->second;
    ASSERT_EQ(known.n_arguments, names.size() - (names == std::vector<std::string>{"void"})) << function;
    std::string complaint;
    EXPECT_TRUE(known.call(0, NONE, "", &complaint));
    EXPECT_EQ(complaint, "") << function;
    for (size_t i = 0; i < known.n_arguments; i++)
      for (const Misuse how : {IS_NULL, FREED, FOREIGN}) {
        complaint.clear();
        known.call(i, how, names[i], &complaint);
        EXPECT_EQ(complaint, "") << function << ", " << names[i] << " is " << misuses[how];
      }
  }
}

TEST(Misuse, AFreedOrForeignCommunicatorInTheOptionsIsRefused) {
  World w;
  for (void *wrong : {static_cast<void *>(w.freed_communicator), static_cast<void *>(w.freed_device)}) {
    w.options.ranks.communicator = static_cast<descent_communicator *>(wrong);
    const auto expect = [](descent_status status) {
      EXPECT_EQ(status, DESCENT_ERROR_ARGUMENT);
      EXPECT_EQ(std::string(descent_last_error()).find("ranks.communicator: not a communicator"), 0U)
          << descent_last_error();
    };
    expect(descent_fit(w.network.get(), w.device.get(), w.data.get(), nullptr, &w.options, nullptr));
    expect(descent_trainer_create(w.network.get(), w.device.get(), &w.options, 4, &w.made_trainer));
    expect(descent_train_options_check(&w.options, w.network.get(), w.device.get()));
    expect(descent_verify(w.network.get(), w.device.get(), w.reference.get(), &w.options, 4, 1, nullptr, nullptr,
                          &w.passed));
    expect(descent_bench(w.network.get(), w.device.get(), &w.options, 0.01, nullptr, nullptr, &w.bench));
  }
}

TEST(Misuse, AFreedNetworkInTheOptionsOfAReaderIsRefused) {
  World w;
  descent_dataset *read = nullptr;
  w.reading.network = w.freed_network;
  EXPECT_EQ(descent_dataset_read(files().rows.c_str(), &w.reading, &read), DESCENT_ERROR_ARGUMENT);
  EXPECT_STREQ(descent_last_error(), "dataset options: network: not a network, or already freed");
}

}  // namespace
