/* --ensemble, --folds and what they exclude. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
  return code == EXIT_DONE ? check_folders(command, v) : code;
}
