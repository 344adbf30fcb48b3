/* The command `descent`: finds the subcommand and checks that its output was really written. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/launcher.h"

struct subcommand {
  const char *name; /* as argv[0] of the subcommand: "descent train" */
  int (*run)(int argc, char **argv);
  bool on_ranks; /* connects the ranks of a launcher; other commands would do the same work and replace each other's
                  * files */
};

static const struct subcommand subcommands[] = {
    {"descent train", command_train, true},      {"descent evaluate", command_evaluate, false},
    {"descent predict", command_predict, false}, {"descent export", command_export, false},
    {"descent info", command_info, false},       {"descent verify", command_verify, true},
    {"descent convert", command_convert, false}, {"descent bench", command_bench, true},
    {"descent devices", command_devices, false}, {"descent plot", command_plot, false},
    {"descent sweep", command_sweep, false},
};

static const struct command_syntax syntax = {
    .name = "descent",
    .arguments = "COMMAND ...",
    .about =
        "Train feed-forward networks, and check and measure the engine that does it.\n\n"
        "  train DATA           train a network and save it as a model\n"
        "  sweep DATA           train with many options at once and save the best model\n"
        "  evaluate MODEL DATA  measure a model on data with known answers\n"
        "  predict MODEL DATA   write a model's predictions as CSV\n"
        "  export MODEL         write a model as ONNX, C or NumPy arrays\n"
        "  convert IN OUT       write a data file in another format\n"
        "  plot RUN...          draw the curves of trainings\n"
        "  info MODEL           show what is in a model file, or in converted data\n"
        "  verify               compare every operation of a training on two devices\n"
        "  bench                time every operation against this machine's limits\n"
        "  devices              list the devices of this machine\n\n"
        "See `descent COMMAND --help` for the options of each."
        "\vExit codes: 0 done; 1 run-time failure, including a result that cannot be written (silent when its reader "
        "is "
        "gone, as with | head); 2 wrong usage; 3 bad data or model file; 4 device unusable or without the requested "
        "feature, or a rank that does not answer; 5 training diverged; 128+N stopped by signal N after saving.",
};

static bool asks_for_help(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0) return true;
  return false;
}

static const size_t prefix = sizeof "descent " - 1;

/* NULL: there is none of this name. */
static const struct subcommand *find(const char *name) {
  for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++)
    if (strcmp(name, subcommands[i].name + prefix) == 0) return &subcommands[i];
  return NULL;
}

/* Under a launcher of several ranks only rank 0 prints. Commands that connect the ranks see to that themselves. */
static void silence(const struct launcher *launcher, const struct subcommand *subcommand, int argc, char **argv) {
  if (launcher->rank == 0 || (subcommand && subcommand->on_ranks && !asks_for_help(argc, argv))) return;
  if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) return; /* prints, then */
}

static int run(const struct subcommand *subcommand, const struct launcher *launcher, int argc, char **argv) {
  if (subcommand->on_ranks || launcher->size == 1 || asks_for_help(argc, argv)) return subcommand->run(argc, argv);
  return fail(subcommand->name, EXIT_USAGE, "runs as one process: start it without %s", launcher->name);
}

static int misspelt(const char *word) {
  const char *meant = NULL;
  int fewest = INT_MAX;
  for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
    const char *name = subcommands[i].name + prefix;
    int edits;
    if (word_resembles(word, strlen(word), name, &edits) && edits < fewest) {
      fewest = edits;
      meant = name;
    }
  }
  if (meant)
    return fail(syntax.name, EXIT_USAGE, "unknown command '%s': did you mean %s? (see descent --help)", word, meant);
  return fail(syntax.name, EXIT_USAGE, "unknown command '%s' (see descent --help)", word);
}

static int dispatch(int argc, char **argv) {
  const struct launcher launcher = launcher_find();
  const struct subcommand *const subcommand = argc < 2 ? NULL : find(argv[1]);
  silence(&launcher, subcommand, argc, argv);
  if (argc < 2) return fail(syntax.name, EXIT_USAGE, "missing command (see descent --help)");
  if (argv[1][0] == '-') {
    struct arguments arguments;
    char *only[] = {argv[0], argv[1], NULL};
    return options_parse(&syntax, 2, only, NULL, 0, &arguments);
  }
  return subcommand ? run(subcommand, &launcher, argc - 1, argv + 1) : misspelt(argv[1]);
}

/* A closed standard descriptor would be reused for the next file opened, such as a model, which would then be printed
 * into. Each gets a stand-in that refuses its use, so that printing to a closed output still counts as failed. */
static void occupy_standard_descriptors(void) {
  for (int descriptor = 0; descriptor <= STDERR_FILENO; descriptor++)
    if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) < 0) return;
}

/* Where addresses are limited (ulimit -v), OpenBLAS's own threads, which are not used here, each allocate 128 MB when the
 * program is loaded. They retry without end where that fails, and the program's exit waits for them. So the program is
 * restarted without them. */
static void restart_without_blas_threads(char **argv) {
  static const char variable[] = "OPENBLAS_NUM_THREADS";
  const char *threads = getenv(variable);
  struct rlimit limit;
  if (threads && strcmp(threads, "1") == 0) return;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  if (setenv(variable, "1", true) == 0) execv("/proc/self/exe", argv); /* continues as it is if that fails */
}

/* Is standard output anything but a pipe whose reader has gone? A write that failed for that may lie far back, and its
 * errno is lost by now. */
static bool output_has_reader(void) {
  struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
  return poll(&output, 1, 0) < 1 || !(output.revents & POLLERR);
}

int main(int argc, char **argv) {
  restart_without_blas_threads(argv);
  occupy_standard_descriptors();
  interrupt_clean_up();
  signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write like any other, reported by the check below */
  signal(SIGXFSZ, SIG_IGN); /* so is a file that may not grow further */
  int code = dispatch(argc, argv);
  bool failed = ferror(stdout);
  const bool has_reader = output_has_reader();
  errno = 0;
  failed = fclose(stdout) != 0 || failed; /* network file systems report failed writes on closing */
  if (!failed || code == EXIT_RUN) return code;
  if (has_reader && errno != EPIPE)
    fail(syntax.name, EXIT_RUN, "standard output: cannot write: %s", strerror(errno ? errno : EIO));
  return code == EXIT_DONE ? EXIT_RUN : code;
}
