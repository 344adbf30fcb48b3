/* --ensemble, --folds, what they exclude, and the places of what each network writes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/place.h"
#include "cli/train.h"

/* Whether the folder has one with the checkpoints of a single network, named so; "": it has these itself. */
static bool holds(const char *folder, const char *name) {
  char *path = NULL;
  if (!folder || asprintf(&path, "%s/%s/lock", folder, name) < 0) return false;
  const bool found = place_holds_checkpoints(path);
  free(path);
  return found;
}

static int check_folders(const char *command, const struct train_values *v) {
  const char *const folders[] = {v->checkpoint, v->resume};
  const char *const others[] = {v->folds || v->ensemble > 1 ? "" : NULL, v->ensemble > 1 ? NULL : "member-0",
                                v->folds ? NULL : "fold-0"};
  static const char *const trained[] = {"without --ensemble and --folds", "with --ensemble", "with --folds"};
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
      if (others[k] && holds(folders[i], others[k]))
        return fail(command, EXIT_USAGE, "%s: holds checkpoints of a training %s: train so, or use another folder",
                    folders[i], trained[k]);
  return EXIT_DONE;
}

/* What several networks in one process exclude. */
static int check_company(const char *command, const struct train_values *v, const char *option,
                         const struct launcher *launcher) {
  int first, last;
  if (launcher->size > 1 && strcmp(v->ranks.ranks, "off") != 0)
    return fail(command, EXIT_USAGE, "%s: trains in one process: start it without %s, or with --ranks off", option,
                launcher->name);
  if (strcmp(v->ranks.ranks, "self") == 0 || launcher_gpus(v->device.device, &first, &last))
    return fail(command, EXIT_USAGE, "%s: trains in one process on one device, without ranks", option);
  if (v->training.train.ranks.micro_batches > 1)
    return fail(command, EXIT_USAGE, "%s: cannot be combined with --micro-batches", option);
  if (v->log && output_is_special(v->log))
    return fail(command, EXIT_USAGE, "--log '%s': with %s each network has a log: name a file", v->log, option);
  return EXIT_DONE;
}

/* What has no use without a model. */
static int check_folds(const char *command, const struct train_values *v) {
  const struct {
    const char *option;
    bool given;
  } others[] = {{"--ensemble", v->ensemble > 1},
                {"--out", v->out_given},
                {"--test", v->test != NULL},
                {"--report", v->report != NULL}};
  if (v->folds == 1) return fail(command, EXIT_USAGE, "--folds 1: must be 0, for none, or at least 2");
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (others[i].given)
      return fail(command, EXIT_USAGE,
                  "--folds measures and saves no model: omit %s here, and run the command without --folds for a model",
                  others[i].option);
  return EXIT_DONE;
}

/* ---- the note of what a folder of checkpoints is for ------------------------------------------------------------- */

enum { NOTE_VALUE = 24 };
struct note_line {
  const char *option;
  char value[NOTE_VALUE];
  const char *changes; /* what --resume-with names to change it; NULL: cannot be changed */
};
enum { NOTE_LINES = 4 };

/* What decides on the rows and the seeds of each network. The number of an ensemble's members does not. */
static void make_note(const struct train_values *v, struct note_line note[NOTE_LINES]) {
  const struct descent_train_options *train = &v->training.train;
  note[0] = (struct note_line){.option = "--folds"};
  snprintf(note[0].value, NOTE_VALUE, "%" PRId64, v->folds);
  note[1] = (struct note_line){.option = "--seed"};
  snprintf(note[1].value, NOTE_VALUE, "%" PRIu64, train->seed);
  note[2] = (struct note_line){.option = "--shuffle-seed", .changes = "shuffle_seed"};
  snprintf(note[2].value, NOTE_VALUE, "%" PRIu64, train->shuffle_seed);
  note[3] = (struct note_line){.option = "--ensemble-shuffle", .changes = "shuffle_seed"};
  snprintf(note[3].value, NOTE_VALUE, "%s", v->ensemble_shuffle);
}

bool members_note_write(const struct train_values *v) {
  struct note_line note[NOTE_LINES];
  struct output_file output;
  char *path = NULL;
  if (asprintf(&path, "%s/%s", v->checkpoint, MEMBERS_NOTE) < 0) return false;
  const bool opened = output_open(&output, path);
  free(path);
  if (!opened) return false;
  make_note(v, note);
  for (int i = 0; i < NOTE_LINES; i++) fprintf(output.stream, "%s %s\n", note[i].option, note[i].value);
  return output_commit(&output);
}

/* Compares the options with a line of the note. */
static int check_line(const char *command, const struct train_values *v, const char *option, const char *was) {
  struct note_line note[NOTE_LINES];
  make_note(v, note);
  for (int i = 0; i < NOTE_LINES; i++) {
    if (strcmp(note[i].option, option) != 0 || strcmp(note[i].value, was) == 0) continue;
    if (note[i].changes && strstr(v->may_change, note[i].changes)) continue;
    return fail(command, EXIT_USAGE, "%s: %s was %s and is %s: give %s %s, or use another folder", v->resume, option,
                was, note[i].value, option, was);
  }
  return EXIT_DONE;
}

/* The checkpoints differ in hashes of rows and weights, which do not say what to do. */
static int check_note(const char *command, const struct train_values *v) {
  char *path = NULL, option[NOTE_VALUE], was[NOTE_VALUE];
  int code = EXIT_DONE;
  if (!v->resume) return EXIT_DONE;
  if (asprintf(&path, "%s/%s", v->resume, MEMBERS_NOTE) < 0) return fail(command, EXIT_RUN, "out of memory");
  FILE *const file = output_is_special(path) ? NULL : fopen(path, "r");
  free(path);
  while (file && code == EXIT_DONE && fscanf(file, "%23s %23s", option, was) == 2)
    code = check_line(command, v, option, was);
  if (file) fclose(file);
  return code;
}

int members_choice_check(const char *command, const struct train_values *v, const struct launcher *launcher) {
  int code = EXIT_DONE;
  const char *option = v->folds ? "--folds" : "--ensemble";
  if (strcmp(v->ensemble_shuffle, "own") != 0 && strcmp(v->ensemble_shuffle, "shared") != 0)
    return fail(command, EXIT_USAGE, "--ensemble-shuffle '%s': must be own or shared", v->ensemble_shuffle);
  if (v->ensemble == 1 && strcmp(v->ensemble_shuffle, "own") != 0)
    return fail(command, EXIT_USAGE, "--ensemble-shuffle '%s': needs --ensemble", v->ensemble_shuffle);
  if (v->out_of_fold && !v->folds)
    return fail(command, EXIT_USAGE, "--out-of-fold '%s': needs --folds", v->out_of_fold);
  if (v->out_of_fold && strcmp(v->out_of_fold, "-") == 0)
    return fail(command, EXIT_USAGE, "--out-of-fold '-': must name a file: standard output has the measures");
  if (v->folds || v->ensemble > 1) code = check_company(command, v, option, launcher);
  if (code == EXIT_DONE && v->folds) code = check_folds(command, v);
  if (code == EXIT_DONE) code = check_folders(command, v);
  return code == EXIT_DONE && (v->folds || v->ensemble > 1) ? check_note(command, v) : code;
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

/* "log.jsonl" of member 3 is "log-3.jsonl", and the folder "run" "run/member-3". NULL when out of memory. */
static char *file_of(const char *path, int64_t k) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  const int before = (int)(dot && dot != name ? dot - path : (ptrdiff_t)strlen(path));
  char *text = NULL;
  return asprintf(&text, "%.*s-%" PRId64 "%s", before, path, k, path + before) < 0 ? NULL : text;
}

static char *folder_of(const char *path, const char *noun, int64_t k) {
  char *text = NULL;
  return asprintf(&text, "%s/%s-%" PRId64, path, noun, k) < 0 ? NULL : text;
}

char *members_log_left(const struct train_values *v, int64_t count) {
  char *path = v->log ? file_of(v->log, count) : NULL;
  if (path && access(path, F_OK) == 0) return path;
  free(path);
  return NULL;
}

bool member_places_set(struct member_places *places, struct train_values *v, int64_t k) {
  const char *noun = v->folds ? "fold" : "member";
  struct descent_train_options *train = &v->training.train;
  *places = (struct member_places){0};
  if (v->checkpoint && !(v->checkpoint = places->checkpoint = folder_of(v->checkpoint, noun, k))) return false;
  if (v->resume && !(v->resume = places->resume = folder_of(v->resume, noun, k))) return false;
  if (v->log && !(v->log = places->log = file_of(v->log, k))) return false;
  if (v->tensorboard && !(v->tensorboard = places->tensorboard = folder_of(v->tensorboard, noun, k))) return false;
  train->checkpoint.folder = v->checkpoint;
  train->checkpoint.resume = v->resume;
  return true;
}

void member_places_clear(struct member_places *places) {
  free(places->checkpoint);
  free(places->resume);
  free(places->log);
  free(places->tensorboard);
}
