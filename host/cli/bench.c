/* `descent bench`: where the time of a training step or of a prediction goes, against the limits of this machine. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/subject.h"
#include "report/text.h"

static const char command[] = "descent bench";

struct bench_choice {
  double seconds;
  bool predict, json;
};

#define AT(member) offsetof(struct bench_choice, member)
static const struct setting bench_options[] = {
    ROW_HEADING("Measurement:"),
    ROW_REAL("seconds", "S", AT(seconds), "How long to measure, approximately", OPTION_OPEN_LOW, 0, 86400),
    ROW_FLAG("predict", AT(predict), "Time a prediction of --batch-size rows instead of a training step", 0),
    ROW_FLAG("json", AT(json), "Print one JSON object (below)", OPTION_UNRECORDED),
    ROW_END,
};
#undef AT

struct bench_command {
  struct subject subject, defaults;
  struct bench_choice choice;
};

/* The rows as they come, texts copied. */
struct rows {
  descent_bench_row *items;
  int count, room;
  bool lost; /* memory ran out */
};

static void take_row(void *user, const descent_bench_row *row) {
  struct rows *rows = user;
  if (rows->count == rows->room) {
    int room = rows->room ? 2 * rows->room : 64;
    descent_bench_row *items = realloc(rows->items, (size_t)room * sizeof *items);
    rows->lost = rows->lost || !items;
    if (!items) return;
    rows->items = items;
    rows->room = room;
  }
  char *name = strdup(row->operation), *path = strdup(row->path);
  rows->lost = rows->lost || !name || !path;
  if (rows->lost) {
    free(name);
    free(path);
    return;
  }
  rows->items[rows->count] = *row;
  rows->items[rows->count].path = path;
  rows->items[rows->count++].operation = name;
}

static void rows_clear(struct rows *rows) {
  for (int i = 0; i < rows->count; i++) {
    free((char *)(uintptr_t)rows->items[i].operation);
    free((char *)(uintptr_t)rows->items[i].path);
  }
  free(rows->items);
}

/* ---- the table ---- */

enum { TIME_SIZE = 16 };
static const char *time_text(double seconds, char text[static TIME_SIZE]) {
  if (seconds >= 1)
    snprintf(text, TIME_SIZE, "%.3f s ", seconds);
  else if (seconds >= 1e-3)
    snprintf(text, TIME_SIZE, "%.3f ms", seconds * 1e3);
  else
    snprintf(text, TIME_SIZE, "%.3f us", seconds * 1e6);
  return text;
}

/* The path is the last column, where a device has any. What passes between ranks is compared with the link. */
static void print_row(const descent_bench_row *row, bool is_whole, int width) {
  const double bytes = row->link_bytes > 0 && !is_whole ? row->link_bytes : row->bytes;
  char time[TIME_SIZE], floor[TIME_SIZE], share[16] = "-";
  if (row->gemm_seconds > 0) snprintf(share, sizeof share, "%.0f %%", 100 * row->gemm_seconds / row->seconds);
  printf("%-*s %11s %11s %7.0f %% %9.2f %8.2f %7s%s%s\n", width, row->operation, time_text(row->seconds, time),
         time_text(row->floor_seconds, floor), 100 * row->floor_seconds / row->seconds,
         row->flops / row->seconds * 1e-9, bytes / row->seconds * 1e-9, share, row->path[0] ? "  " : "", row->path);
}

static void print_table(const struct bench_command *bench, const struct rows *rows,
                        const descent_bench_result *result) {
  enum { OTHER_COLUMNS = 60 };
  int width = (int)strlen("operation"), longest = 0;
  for (int i = 0; i < rows->count; i++) {
    int length = (int)strlen(rows->items[i].operation), path = (int)strlen(rows->items[i].path);
    if (length > width) width = length;
    if (path > longest) longest = path;
  }
  printf("%-*s %11s %11s %9s %9s %8s %7s%s\n", width, "operation", "time", "floor", "of floor", "GFLOP/s", "GB/s",
         "GEMM", longest ? "  path" : "");
  for (int i = 0; i < rows->count; i++) {
    if (i == rows->count - 1) {
      for (int c = 0; c < width + OTHER_COLUMNS + (longest ? 2 + longest : 0); c++) putchar('-');
      putchar('\n');
    }
    print_row(&rows->items[i], i == rows->count - 1, width);
  }
  char least[TIME_SIZE], most[TIME_SIZE];
  const char *const whole = rows->items[rows->count - 1].operation;
  printf("\n%" PRId64 " rows per %s", bench->subject.training.train.batch_size, whole);
  if (bench->subject.job.size > 1) printf(" on %d ranks", bench->subject.job.size);
  printf(", %.0f rows/s; %s from %s to %s\n", (double)bench->subject.training.train.batch_size / result->step_seconds,
         whole, time_text(result->step_seconds_min, least), time_text(result->step_seconds_max, most));
  printf("measured peaks: %.1f GFLOP/s in %s products, %.1f GB/s copied", result->peak_flops * 1e-9,
         descent_precision_name(bench->subject.training.train.precision), result->peak_bandwidth * 1e-9);
  if (result->link_bandwidth > 0)
    printf(", %.1f GB/s to %s", result->link_bandwidth * 1e-9, bench->subject.job.size > 1 ? "other ranks" : "itself");
  putchar('\n');
  printf("memory used: %.3f MB\n", (double)result->memory * 1e-6);
}

/* ---- the object ---- */

struct number {
  const char *key;
  double value;
};

static bool add_numbers(cJSON *object, const struct number *numbers, int n) {
  for (int i = 0; i < n; i++)
    if (!cJSON_AddNumberToObject(object, numbers[i].key, numbers[i].value)) return false;
  return true;
}

static bool add_row(cJSON *list, const descent_bench_row *row) {
  const struct number numbers[] = {{"seconds", row->seconds},
                                   {"flops", row->flops},
                                   {"bytes", row->bytes},
                                   {"link_bytes", row->link_bytes},
                                   {"floor_seconds", row->floor_seconds},
                                   {"gemm_seconds", row->gemm_seconds}};
  cJSON *item = cJSON_CreateObject();
  if (!item || !cJSON_AddItemToArray(list, item)) {
    cJSON_Delete(item);
    return false;
  }
  return cJSON_AddStringToObject(item, "operation", row->operation) &&
         cJSON_AddStringToObject(item, "path", row->path) &&
         add_numbers(item, numbers, sizeof numbers / sizeof *numbers);
}

static bool fill_object(cJSON *object, const struct bench_command *bench, const descent_device *device,
                        const struct rows *rows, const descent_bench_result *result) {
  const double batch = (double)bench->subject.training.train.batch_size;
  const descent_train_options *const train = &bench->subject.training.train;
  const int ranks = train->ranks.communicator ? descent_communicator_size(train->ranks.communicator) : 1;
  const int64_t micro_batches = train->ranks.micro_batches ? train->ranks.micro_batches : ranks;
  const struct number numbers[] = {{"batch_size", batch},
                                   {"ranks", ranks},
                                   {"micro_batches", (double)micro_batches},
                                   {"step_seconds", result->step_seconds},
                                   {"step_seconds_min", result->step_seconds_min},
                                   {"step_seconds_max", result->step_seconds_max},
                                   {"gemm_seconds", result->gemm_seconds},
                                   {"rows_per_second", batch / result->step_seconds},
                                   {"peak_flops", result->peak_flops},
                                   {"peak_bandwidth", result->peak_bandwidth},
                                   {"link_bandwidth", result->link_bandwidth},
                                   {"memory_bytes", (double)result->memory}};
  if (!cJSON_AddStringToObject(object, "device", descent_device_description(device)) ||
      !cJSON_AddStringToObject(object, "precision", descent_precision_name(bench->subject.training.train.precision)) ||
      !add_numbers(object, numbers, sizeof numbers / sizeof *numbers))
    return false;
  cJSON *list = cJSON_AddArrayToObject(object, "operations");
  for (int i = 0; list && i < rows->count; i++)
    if (!add_row(list, &rows->items[i])) return false;
  return list != NULL;
}

static int print_result(const struct bench_command *bench, const descent_device *device, const struct rows *rows,
                        const descent_bench_result *result) {
  cJSON *object = cJSON_CreateObject();
  return print_object(command, object, object && fill_object(object, bench, device, rows, result), true);
}

/* ---- the command ---- */

static void print_start(const struct subject *subject, const descent_device *device) {
  if (subject->job.rank > 0) return;
  text_print(stderr, "device: %s\n", descent_device_description(device));
  subject_print_ranks(subject);
}

static int measure(const struct bench_command *bench, const descent_network *network, descent_device *device) {
  struct rows rows = {0};
  descent_bench_result result;
  print_start(&bench->subject, device);
  const descent_train_options *options = &bench->subject.training.train;
  const double seconds = bench->choice.seconds;
  const descent_predict_options predict = device_choice_predict_options(&bench->subject.device);
  descent_status status = bench->choice.predict
                              ? descent_bench_predict_with(network, device, &predict, options->batch_size, seconds,
                                                           take_row, &rows, &result)
                              : descent_bench(network, device, options, seconds, take_row, &rows, &result);
  int code = EXIT_DONE;
  if (status != DESCENT_OK)
    code = fail_status(command, status);
  else if (rows.lost)
    code = fail(command, EXIT_RUN, "out of memory");
  else if (bench->choice.json)
    code = print_result(bench, device, &rows, &result);
  else
    print_table(bench, &rows, &result);
  rows_clear(&rows);
  return code;
}

/* A prediction has no gradients, which are all that ranks exchange. */
static int check_prediction(const struct bench_command *bench, const struct launcher *launcher) {
  const struct subject *const s = &bench->subject;
  int first, last;
  const char *const set = training_choice_set(&s->training, &bench->defaults.training);
  if (set) return fail(command, EXIT_USAGE, "--%s applies to training only: omit it with --predict", set);
  if (strcmp(s->ranks.ranks, "self") == 0)
    return fail(command, EXIT_USAGE, "--ranks self applies to training only: omit it with --predict");
  if (strcmp(s->ranks.ranks, "off") == 0) return EXIT_DONE;
  if (launcher->size > 1)
    return fail(command, EXIT_USAGE, "--predict: runs as one process: start it without %s", launcher->name);
  if (launcher_gpus(s->device.device, &first, &last))
    return fail(command, EXIT_USAGE, "--predict: runs as one process: choose one GPU, not --device %s",
                s->device.device);
  return EXIT_DONE;
}

static int check(const struct bench_command *bench, const struct launcher *launcher) {
  if (strcmp(bench->subject.training.batch_size, "all") == 0)
    return fail(command, EXIT_USAGE, "--batch-size all: there is no data here; give a number");
  return bench->choice.predict ? check_prediction(bench, launcher) : EXIT_DONE;
}

static int run(struct bench_command *bench, const struct command_syntax *bench_syntax,
               const struct arguments *arguments) {
  descent_network *network = NULL;
  descent_device *device = NULL;
  int code = subject_open(bench_syntax, arguments, &bench->subject, &bench->defaults, &network, &device);
  const struct job *const job = &bench->subject.job;
  if (code == EXIT_DONE && !bench->choice.predict)
    code = job_agree(command, job, subject_check(command, &bench->subject.training.train, network, device));
  if (code == EXIT_DONE) code = job_agree(command, job, measure(bench, network, device));
  descent_device_close(device);
  descent_network_free(network);
  return code;
}

int command_bench(int argc, char **argv) {
  struct bench_command bench = {
      .defaults = SUBJECT_CHOICE_INIT(784, 10),
      .choice = {.seconds = 5},
  };
  bench.defaults.network.hidden = "128,64";
  bench.subject = bench.defaults;
  const struct setting_set sets[] = {{bench_options, &bench.choice}, SUBJECT_SETS(&bench.subject)};
  const struct command_syntax syntax = {
      .name = command,
      .arguments = "[MODEL]",
      .about =
          "Time the training step of a network, MODEL's or one of the given shape, on synthetic rows: the whole step, "
          "every operation and its matrix product (GEMM), each alone or, on a GPU, inside a step; or, with --predict, "
          "a "
          "prediction as predict computes it, without reading rows and writing results.\vThe floor is the largest of "
          "these times: the operation's arithmetic at the speed of a large matrix product, its least memory traffic at "
          "the speed of a large copy, and, of allreduce, what a rank sends to others at the speed of large messages, "
          "all measured in the same run. Above 100 % of the floor, the data stayed in the cache, or others slowed "
          "the machine while it was measured. GB/s are those of memory, and in the row allreduce of what is sent.\n\n"
          "Of a step in micro-batches, the rows up to combine are sums over those of one rank. With several ranks all "
          "of them compute the same steps, the table shows the times of rank 0, and rows/s counts the whole batch. "
          "Their operations are timed inside a step on CPUs too, where only products run alone: allreduce includes the "
          "wait for slower ranks.\n\n"
          "The path, on a GPU, is how an operation with a product is computed: by cuBLASLt and a pass for what "
          "follows (cublaslt), with an epilogue (cublaslt+epilogue) or a bit mask for relu's derivative "
          "(cublaslt+mask), or all of it by one kernel of Descent's own (custom N: its variant), whose whole time "
          "counts as GEMM. One kernel may also take several operations (--fusion): they are one row, named by their "
          "layers, with the kind of the kernel and its variant as path (fused forward N, fused chain N, fused step N), "
          "and values that stay inside the kernel are not part of its least memory traffic. The path of allreduce is "
          "how gradients pass between GPUs: nccl or host memory. The floor of a whole prediction "
          "is that of one kernel: rows and weights read once, predictions written once.\n\n"
          "JSON: device, precision, batch_size, ranks, micro_batches, step_seconds (median), step_seconds_min, "
          "step_seconds_max, gemm_seconds (the step's products alone), rows_per_second, peak_flops, peak_bandwidth and "
          "link_bandwidth (per second; link: 0 for one rank), memory_bytes, operations: a list of operation, path, "
          "seconds, flops, bytes, link_bytes, floor_seconds, gemm_seconds (0: no product), the last one being the "
          "whole "
          "step. With --predict a step is one prediction.",
      .most = 1,
      .sets = sets,
      .n_sets = sizeof sets / sizeof *sets,
  };
  const struct launcher launcher = launcher_find();
  struct arguments arguments;
  int code = subject_read(&syntax, &launcher, argc, argv, &bench.subject, &arguments);
  if (code == EXIT_DONE) return code; /* --help */
  if (code == OPTIONS_CONTINUE) code = check(&bench, &launcher);
  code = subject_connect(command, &launcher, argc, argv, code, &bench.subject);
  if (code == EXIT_DONE) code = run(&bench, &syntax, &arguments);
  job_close(&bench.subject.job);
  return code;
}
