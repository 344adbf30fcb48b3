#include "cli/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"

#define AT(member) offsetof(struct rank_choice, member)
const struct setting rank_options[] = {
    ROW_TEXT("ranks", "auto|off|self", AT(ranks),
             "auto: the processes that mpirun or srun started work together, and --device cuda:0-3 starts four of them "
             "through mpirun, one for each GPU; off: each process works alone; self: one process exchanges gradients "
             "with itself, which tests NCCL on one GPU",
             OPTION_UNRECORDED),
    ROW_REAL("comm-timeout", "SECONDS", AT(seconds), "How long a rank may not answer before the job ends",
             OPTION_UNRECORDED | OPTION_OPEN_LOW, 0, 1e9),
    ROW_END,
};
#undef AT

static bool is_off(const struct rank_choice *choice) { return strcmp(choice->ranks, "off") == 0; }
static bool is_self(const struct rank_choice *choice) { return strcmp(choice->ranks, "self") == 0; }

int rank_choice_check(const char *command, const struct launcher *launcher, const struct rank_choice *choice,
                      const char *device) {
  int first, last;
  if (strcmp(choice->ranks, "auto") != 0 && !is_off(choice) && !is_self(choice))
    return fail(command, EXIT_USAGE, "--ranks '%s': must be auto, off or self", choice->ranks);
  if (is_self(choice) && launcher->size > 1)
    return fail(command, EXIT_USAGE, "--ranks self: runs as one process: start it without %s", launcher->name);
  if ((is_self(choice) || is_off(choice)) && launcher_gpus(device, &first, &last))
    return fail(command, EXIT_USAGE, "--ranks %s: each process uses one device: choose one, not --device %s",
                choice->ranks, device);
  return EXIT_DONE;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

/* Mostly every process fails alike, and the launcher ends the others once the first has reported it. One that still runs
 * after some seconds has a reason that the first one does not know. */
static bool reports(const struct launcher *launcher) { return launcher->rank == 0 || sleep(2) == 0; }

static int cannot_open(const char *command, const struct launcher *launcher, const char *text) {
  char host[256] = "";
  if (!reports(launcher)) return EXIT_DEVICE;
  messages_print();
  if (launcher->rank == 0) return fail(command, EXIT_DEVICE, "%s", text);
  gethostname(host, sizeof host - 1);
  return fail(command, EXIT_DEVICE, "rank %d (%s): %s", launcher->rank, host, text);
}

static int cannot_connect(const char *command, const struct launcher *launcher) {
  char text[1024];
  snprintf(text, sizeof text, "%s", descent_last_error());
  const size_t length = strlen(text);
  if (strncmp(text, "no MPI", strlen("no MPI")) == 0)
    snprintf(text + length, sizeof text - length,
             " (%s started %d processes; --ranks off lets each of them work alone)", launcher->name, launcher->size);
  return cannot_open(command, launcher, text);
}

static int cannot_count(const char *command, const struct launcher *launcher, int size) {
  char text[256];
  snprintf(
      text, sizeof text,
      "%s started %d processes, but MPI connects %d: use the launcher of the MPI that descent was built with, such "
      "as srun --mpi=pmix",
      launcher->name, launcher->size, size);
  return cannot_open(command, launcher, text);
}

int job_start(const char *command, const struct launcher *launcher, const struct rank_choice *choice,
              const char *device, int argc, char **argv) {
  int first, last;
  if (launcher->size > 1 || is_off(choice) || !launcher_gpus(device, &first, &last)) return EXIT_DONE;
  return launcher_start(command, device, first, last, argc, argv);
}

static int open_alone(const char *command, const struct rank_choice *choice, int code, struct job *job) {
  if (code != EXIT_DONE || !is_self(choice)) return code;
  const descent_status status = descent_communicator_open("self", choice->seconds, &job->communicator);
  return status == DESCENT_OK ? code : fail_status(command, status);
}

int job_open(const char *command, const struct launcher *launcher, const struct rank_choice *choice, int code,
             struct job *job) {
  descent_communicator *communicator = NULL;
  *job = (struct job){.size = 1, .seconds = choice->seconds};
  if (launcher->size == 1) return open_alone(command, choice, code, job);
  if (is_off(choice)) {
    messages_print();
    return code;
  }
  if (descent_communicator_open("mpi", choice->seconds, &communicator) != DESCENT_OK) {
    if (code == EXIT_DONE) return cannot_connect(command, launcher);
    if (reports(launcher)) messages_print();
    return code;
  }
  interrupt_clean_up(); /* again: an MPI may have handlers for the same signals */
  const int size = descent_communicator_size(communicator);
  if (size != launcher->size) {
    descent_communicator_close(communicator);
    return cannot_count(command, launcher, size);
  }
  *job = (struct job){.communicator = communicator,
                      .rank = descent_communicator_rank(communicator),
                      .size = size,
                      .seconds = choice->seconds};
  return job_agree(command, job, code);
}

void job_close(struct job *job) {
  descent_communicator_close(job->communicator);
  job->communicator = NULL;
}

/* ---- agreement -------------------------------------------------------------------------------------------------- */

struct report {
  int32_t code;
  char text[MESSAGES_KEPT];
};

/* Whether a text tells of other ranks, so that most ranks have one like it. */
static bool is_of_connection(const char *text) {
  static const char *const begins[] = {"rank ", "the connection between the ranks"};
  for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
    if (strncmp(text, begins[i], strlen(begins[i])) == 0) return true;
  return false;
}

/* Whether the whole time passed undisturbed. A signal means that another rank has reported and ends all, or that the user
 * does: what rank 0 saves meanwhile is not to be cut short by this rank. */
static bool wait_undisturbed(double seconds) {
  bool undisturbed = true;
  for (unsigned left = (unsigned)seconds; (left = sleep(left)) > 0;) undisturbed = false;
  return undisturbed;
}

/* The connection is lost: what only this rank knows is printed at once. The rest is for rank 0, which also saves what there
 * is to save, or for rank 1 where rank 0 is lost; the others report it only if that one does not end all. */
static int end_all(const char *command, const struct job *job, int code) {
  const double least = job->saves ? 10 : 1, given = job->saves && job->seconds > least ? job->seconds : least;
  char text[MESSAGES_KEPT];
  if (code == EXIT_DONE) code = fail_status(command, DESCENT_ERROR_DEVICE);
  snprintf(text, sizeof text, "%s", messages_kept());
  messages_print_nothing();
  messages_print();
  const int reporter = strncmp(text, "rank 0 (", strlen("rank 0 (")) == 0 ? 1 : 0;
  const double seconds = given * (job->rank > reporter ? reporter + 1 : 1);
  const bool first = job->rank == reporter || !is_of_connection(text);
  if (!first && !wait_undisturbed(seconds)) *text = '\0';
  if (*text && job->rank > 0)
    fail(command, code, "rank %d (%s): %s", job->rank, descent_communicator_host(job->communicator, job->rank), text);
  else if (*text)
    fail(command, code, "%s", text);
  if (first && job->rank > 0) wait_undisturbed(seconds);
  descent_communicator_abort(job->communicator, code);
  return code;
}

int job_agree(const char *command, const struct job *job, int code) {
  struct report own = {.code = code}, *all;
  int failed = 0;
  bool same = true;
  if (job->size == 1) return code;
  if (!(all = calloc((size_t)job->size, sizeof *all))) return fail(command, EXIT_RUN, "out of memory");
  snprintf(own.text, sizeof own.text, "%s", messages_kept());
  if (descent_communicator_gather(job->communicator, &own, sizeof own, all) != DESCENT_OK) {
    free(all);
    return end_all(command, job, code);
  }
  while (failed < job->size && all[failed].code == EXIT_DONE) failed++;
  if (failed < job->size) {
    code = all[failed].code;
    for (int r = 0; r < job->size; r++) same = same && strcmp(all[r].text, all[failed].text) == 0;
    messages_print_nothing();
    if (job->rank == 0) {
      messages_print();
      if (*all[failed].text && same) fail(command, code, "%s", all[failed].text);
      if (*all[failed].text && !same)
        fail(command, code, "rank %d (%s): %s", failed, descent_communicator_host(job->communicator, failed),
             all[failed].text);
    }
  }
  free(all);
  return code;
}

/* ---- comparison ------------------------------------------------------------------------------------------------- */

enum { DESCRIPTION = 8192 }; /* bytes that are compared */

static const char *value_of(const cJSON *object, const char *name, char text[static 128]) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  char *printed = item ? cJSON_PrintUnformatted(item) : NULL;
  snprintf(text, 128, "%s", printed ? printed : "not given");
  cJSON_free(printed);
  return text;
}

/* Another command has other options, too: it is named before them. */
#define THE_COMMAND "the command"

/* The first member of `a` that `b` has not or has otherwise; NULL: none. */
static const char *difference(const cJSON *a, const cJSON *b) {
  if (!cJSON_Compare(cJSON_GetObjectItemCaseSensitive(a, THE_COMMAND), cJSON_GetObjectItemCaseSensitive(b, THE_COMMAND),
                     true))
    return THE_COMMAND;
  for (const cJSON *item = a ? a->child : NULL; item; item = item->next)
    if (!cJSON_Compare(item, cJSON_GetObjectItemCaseSensitive(b, item->string), true)) return item->string;
  return NULL;
}

static int report_difference(const char *command, const struct job *job, const cJSON *own, const char *first_text) {
  char here[128], there[128];
  cJSON *first = cJSON_Parse(first_text);
  const char *name = first ? difference(own, first) : NULL; /* NULL: a description that was cut */
  if (first && !name) name = difference(first, own);
  const int code =
      name ? fail(command, EXIT_USAGE, "%s is %s, but %s on rank 0 (%s): all ranks need the same options and data",
                  name, value_of(own, name, here), value_of(first, name, there),
                  descent_communicator_host(job->communicator, 0))
           : fail(command, EXIT_USAGE, "the options differ from those on rank 0 (%s): all ranks need the same",
                  descent_communicator_host(job->communicator, 0));
  cJSON_Delete(first);
  return code;
}

cJSON *job_describe(const char *command, const cJSON *record, const descent_device *device) {
  cJSON *object = cJSON_Duplicate(record, true);
  const char *name = descent_device_name(device);
  char kind[JOB_DEVICE_SIZE];
  snprintf(kind, sizeof kind, "%.*s", (int)strcspn(name, ":"), name);
  cJSON_DeleteItemFromObjectCaseSensitive(object, "device");
  if (cJSON_AddStringToObject(object, "the device", kind) && cJSON_AddStringToObject(object, THE_COMMAND, command))
    return object;
  cJSON_Delete(object);
  return NULL;
}

int job_compare(const char *command, const struct job *job, const cJSON *description) {
  int code = EXIT_DONE;
  if (job->size == 1) return code;
  char *text = cJSON_PrintUnformatted(description), *all = calloc((size_t)job->size, DESCRIPTION),
       own[DESCRIPTION] = "";
  if (text) strncpy(own, text, DESCRIPTION - 1);
  if (!text || !all)
    code = fail(command, EXIT_RUN, "out of memory");
  else if (descent_communicator_gather(job->communicator, own, DESCRIPTION, all) != DESCENT_OK)
    code = fail_status(command, DESCENT_ERROR_DEVICE);
  else if (strcmp(own, all) != 0)
    code = report_difference(command, job, description, all);
  cJSON_free(text);
  free(all);
  return job_agree(command, job, code);
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

/* This rank's GPU of `device`; -1: `device` is to be opened as it is; -2 after a line about what is wrong. */
static int gpu_of(const char *command, const struct job *job, const char *device) {
  const int local_rank = descent_communicator_local_rank(job->communicator);
  const int local_size = descent_communicator_local_size(job->communicator);
  int first, last;
  if (launcher_gpus(device, &first, &last)) {
    if (local_size <= last - first + 1) return first + local_rank;
    fail(command, EXIT_USAGE, "--device %s: %s has %d ranks, which is more than these GPUs (cuda shares GPUs)", device,
         descent_communicator_host(job->communicator, job->rank), local_size);
    return -2;
  }
  if (strcmp(device, "cuda") != 0 && strcmp(device, "auto") != 0) return -1;
  const int gpus = launcher_count_gpus();
  return gpus > 0 ? local_rank % gpus : -1;
}

int job_choose_device(const char *command, const struct job *job, struct device_choice *choice,
                      char name[JOB_DEVICE_SIZE]) {
  if (job->size == 1) return EXIT_DONE;
  const int gpu = gpu_of(command, job, choice->device);
  if (gpu == -2) return EXIT_USAGE;
  if (gpu >= 0) {
    snprintf(name, JOB_DEVICE_SIZE, "cuda:%d", gpu);
    choice->device = name;
  }
  if (choice->threads == 0) choice->threads = descent_communicator_threads(job->communicator);
  return EXIT_DONE;
}
