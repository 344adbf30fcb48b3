/* Training the trials of a sweep in waves of as many as fit, each wave through descent_fit_members. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/sweep_run.h"
#include "report/text.h"

static const char *const command = sweep_command;

struct wave_member {
  struct sweep *sweep;
  struct sweep_trial *trial;
  int64_t last_epoch; /* at which it is stopped; 0: where its options end it */
};

struct wave {
  struct sweep *sweep;
  struct sweep_trial **trials;  /* (n) */
  struct wave_member *users;    /* (n) */
  descent_member *members;      /* (n) */
  descent_train_options *train; /* (n) */
  int64_t n;
  int rung; /* the next one of halving */
};

/* Whether it has to end. */
static bool is_stopping(const struct sweep *sweep) { return sweep->failed || interrupt_signal(); }

struct sweep_trial *sweep_best(const struct sweep *sweep) {
  struct sweep_trial *best = sweep_trials_best(&sweep->trials, sweep->options.measure);
  return best && best->status == SWEEP_TRIAL_DROPPED && is_stopping(sweep) ? NULL : best;
}

/* ---- callbacks of a trial ---------------------------------------------------------------------------------------- */

static double measure_of(enum sweep_measure measure, const descent_epoch_info *info) {
  if (!info->validation) return info->train_loss; /* then it is the only measure */
  switch (measure) {
    case SWEEP_LOSS: return info->validation->loss;
    case SWEEP_ACCURACY: return info->validation->accuracy;
    case SWEEP_AUC: return info->validation->auc;
    case SWEEP_RMSE: return info->validation->rmse;
  }
  return NAN;
}

/* With validation rows a trial ends with the weights of its best epoch, without them with those of its last. */
static int on_epoch(void *user, const descent_epoch_info *info) {
  struct wave_member *m = user;
  struct sweep_trial *t = m->trial;
  const double value = measure_of(m->sweep->options.measure, info);
  double objective = t->course.n ? t->course.objective[t->course.n - 1] : NAN;
  if (info->best || !info->validation) objective = isfinite(value) ? value : NAN;
  if (info->best) t->best_epoch = info->epoch;
  if (!sweep_course_add(&t->course, info->train_loss, info->validation ? info->validation->loss : NAN, objective)) {
    if (!m->sweep->failed) fail(command, EXIT_RUN, "out of memory");
    m->sweep->failed = true;
  }
  t->epochs = info->epoch;
  t->objective = objective;
  t->seconds = info->seconds;
  return is_stopping(m->sweep) || info->epoch == m->last_epoch;
}

static descent_request on_pause(void *user) {
  const struct wave_member *m = user;
  (void)interrupt_save_asked(); /* SIGUSR1: trials have no checkpoints */
  return is_stopping(m->sweep) ? DESCENT_STOP : DESCENT_CONTINUE;
}

/* ---- callback of all --------------------------------------------------------------------------------------------- */

/* Ends and records member k if it is out of the race; also one that --patience has ended, which would otherwise count as
 * one that has come to its end. */
static bool drop(struct wave *wave, int64_t k, const descent_epoch_info *epoch, bool *stop) {
  struct sweep *sweep = wave->sweep;
  struct sweep_trial *t = wave->trials[k];
  if (sweep->in_race[t->number - 1] || t->status == SWEEP_TRIAL_DROPPED || !(epoch || sweep_ended_early(t)))
    return false;
  *stop = true;
  t->status = SWEEP_TRIAL_DROPPED;
  sweep->failed = !sweep_record_trial(sweep, t) || sweep->failed;
  return true;
}

/* At the epochs of a rung, drops the trials that do not continue. */
static void cut(struct wave *wave, const descent_epoch_info *const *epochs, bool *stop, int64_t epoch) {
  struct sweep *sweep = wave->sweep;
  const struct sweep_rungs *rungs = &sweep->rungs;
  if (wave->rung == rungs->n || epoch < rungs->epochs[wave->rung]) return;
  if (!sweep_rungs_cut(rungs, wave->rung, &sweep->trials, sweep->options.measure, sweep->in_race)) {
    fail(command, EXIT_RUN, "out of memory");
    sweep->failed = true;
    return;
  }
  int64_t dropped = 0, continuing = 0;
  for (int64_t k = 0; k < wave->n; k++) {
    dropped += drop(wave, k, epochs[k], &stop[k]);
    continuing += epochs[k] && !stop[k];
  }
  wave->rung++;
  sweep_table_say(sweep, "epoch %" PRId64 ": %" PRId64 " trial%s dropped, %" PRId64 " continue%s", epoch, dropped,
                  dropped == 1 ? "" : "s", continuing, continuing == 1 ? "s" : "");
}

static void on_wave_epoch(void *user, const descent_epoch_info *const *epochs, bool *stop, int64_t count) {
  struct wave *wave = user;
  int64_t training = 0, epoch = 0, most = 0;
  for (int64_t k = 0; k < count; k++) {
    if (!epochs[k]) continue;
    training++;
    epoch = epochs[k]->epoch;
    most = epochs[k]->epochs;
  }
  if (is_stopping(wave->sweep) || training == 0) return;
  cut(wave, epochs, stop, epoch);
  sweep_table_epoch(wave->sweep, epoch, most, training);
}

/* ---- one wave ---------------------------------------------------------------------------------------------------- */

/* The options of a trial that has a network. Messages are to be kept. */
static int set_options(struct sweep *sweep, struct sweep_trial *t, descent_train_options *train) {
  int code = EXIT_DONE;
  if (!t->class_weights)
    t->class_weights = calloc((size_t)descent_dataset_classes(sweep->shared.data) + 1, sizeof *t->class_weights);
  if (!t->class_weights) return fail(command, EXIT_RUN, "out of memory");
  *train = t->train.training.train;
  code = train_class_weights(&t->train, sweep->shared.data, t->class_weights, train);
  if (code != EXIT_DONE) return code;
  const descent_status status = descent_train_options_check(train, t->network, sweep->shared.device);
  if (status == DESCENT_OK) return EXIT_DONE;
  char which[512];
  sweep_trial_describe(&sweep->options, t, which, sizeof which);
  return fail(command, exit_of(status), "%s (trial %" PRId64 ": %s)", descent_last_error(), t->number, which);
}

static void release(struct sweep_trial *t) {
  descent_network_free(t->network);
  t->network = NULL;
}

/* With what train keeps in it. */
static descent_status set_provenance(const struct sweep *sweep, struct sweep_trial *t) {
  struct training own = sweep->shared;
  own.values = t->train;
  own.record = t->record;
  const descent_fit_result result = {.epochs = t->epochs, .best_epoch = t->best_epoch};
  return run_set_provenance(&own, t->network, &result, NULL);
}

int sweep_check(struct sweep *sweep) {
  int code = EXIT_DONE;
  for (int64_t i = 0; i < sweep->trials.n && code == EXIT_DONE; i++) {
    descent_train_options train;
    struct sweep_trial *t = &sweep->trials.trials[i];
    sweep_keep_messages();
    code = sweep_network_create(sweep, t);
    if (code == EXIT_DONE) code = set_options(sweep, t, &train);
    code = sweep_print_message(command, code);
    const descent_status named = code == EXIT_DONE ? set_provenance(sweep, t) : DESCENT_OK;
    if (named != DESCENT_OK) code = fail_status(command, named);
    release(t);
  }
  return code;
}

static void wave_clear(struct wave *wave) {
  free(wave->trials);
  free(wave->users);
  free(wave->members);
  free(wave->train);
}

static bool wave_create(struct wave *wave, struct sweep *sweep, int64_t most) {
  *wave = (struct wave){.sweep = sweep,
                        .trials = calloc((size_t)most, sizeof *wave->trials),
                        .users = calloc((size_t)most, sizeof *wave->users),
                        .members = calloc((size_t)most, sizeof *wave->members),
                        .train = calloc((size_t)most, sizeof *wave->train)};
  return wave->trials && wave->users && wave->members && wave->train;
}

/* Messages are kept from here on. */
static int add(struct wave *wave, struct sweep_trial *t, int64_t last_epoch) {
  const int64_t k = wave->n++;
  sweep_keep_messages();
  int code = sweep_network_prepare(wave->sweep, t);
  if (code == EXIT_DONE) code = set_options(wave->sweep, t, &wave->train[k]);
  t->course.n = 0;
  wave->trials[k] = t;
  wave->users[k] = (struct wave_member){wave->sweep, t, last_epoch};
  wave->train[k].callbacks.on_epoch = on_epoch;
  wave->train[k].callbacks.on_pause = on_pause;
  wave->train[k].callbacks.user = &wave->users[k];
  wave->members[k] = descent_member_default();
  wave->members[k].network = t->network;
  wave->members[k].training = wave->sweep->shared.rows.training;
  wave->members[k].validation = wave->sweep->shared.rows.validation;
  wave->members[k].options = &wave->train[k];
  return code;
}

/* Adds the open trials until there are `most`, or no memory for a further network: each was made before, alone. */
static int fill(struct wave *wave, int64_t most) {
  struct sweep *sweep = wave->sweep;
  for (int64_t i = 0; i < sweep->trials.n && wave->n < most; i++) {
    struct sweep_trial *t = &sweep->trials.trials[i];
    if (t->status != SWEEP_TRIAL_OPEN) continue;
    const int code = add(wave, t, 0);
    if (code != EXIT_DONE && wave->n > 1 && sweep->options.search != SWEEP_HALVING) {
      release(wave->trials[--wave->n]);
      messages_print_nothing();
      return sweep_print_message(command, EXIT_DONE);
    }
    if (sweep_print_message(command, code) != EXIT_DONE) return code;
  }
  return EXIT_DONE;
}

/* Recorded with the trial, to tell later whether --out still holds it; without memory for it, it is trained again. */
static void take_checksum(const struct sweep *sweep, struct sweep_trial *t) {
  uint64_t sum = CHECKSUM_START;
  if (sweep->record.path && set_provenance(sweep, t) == DESCENT_OK && checksum_network(t->network, &sum))
    checksum_text(sum, t->model);
}

/* What came of a member. A trial that a signal ended stays open, and so does one that failed for what is no property of
 * its configuration, and one that --patience ended in a race that a signal broke off: a later rung may drop it. */
static void take_result(const struct wave *wave, int64_t k) {
  struct sweep *sweep = wave->sweep;
  struct sweep_trial *t = wave->trials[k];
  const descent_member *m = &wave->members[k];
  const bool undecided = is_stopping(sweep) && wave->rung < sweep->rungs.n;
  if (t->status == SWEEP_TRIAL_DROPPED) return;
  if (m->status == DESCENT_ERROR_DIVERGED) {
    t->status = SWEEP_TRIAL_DIVERGED;
    t->error = strdup(m->error);
  } else if (m->status == DESCENT_OK && m->result.stop != DESCENT_STOP_CALLBACK &&
             !(undecided && m->result.stop == DESCENT_STOP_EARLY)) {
    t->status = m->result.stop == DESCENT_STOP_EARLY ? SWEEP_TRIAL_EARLY : SWEEP_TRIAL_DONE;
    t->best_epoch = m->result.best_epoch;
    t->seconds = m->result.seconds;
    take_checksum(sweep, t);
  } else {
    return;
  }
  sweep->failed = !sweep_record_trial(sweep, t) || sweep->failed;
}

/* A failure that ends the sweep. */
static int check_results(const struct wave *wave) {
  for (int64_t k = 0; k < wave->n; k++) {
    const descent_status status = wave->members[k].status;
    if (status != DESCENT_OK && status != DESCENT_ERROR_DIVERGED)
      return fail(command, exit_of(status), "trial %" PRId64 ": %s", wave->trials[k]->number, wave->members[k].error);
  }
  return EXIT_DONE;
}

static void say_wave(struct sweep *sweep, const struct sweep_trial *best) {
  char value[TEXT_SIZE], which[512] = "", lost[64] = "";
  int64_t finished = 0, diverged = 0;
  for (int64_t t = 0; t < sweep->trials.n; t++) {
    finished += sweep->trials.trials[t].status != SWEEP_TRIAL_OPEN;
    diverged += sweep->trials.trials[t].status == SWEEP_TRIAL_DIVERGED;
  }
  if (diverged) snprintf(lost, sizeof lost, ", %" PRId64 " diverged", diverged);
  if (best) sweep_trial_describe(&sweep->options, best, which, sizeof which);
  sweep_table_say(sweep, "%" PRId64 " of %" PRId64 " trials are finished%s%s%s%s%s%s%s", finished, sweep->trials.n,
                  lost, best ? "; best " : "", best ? sweep_measure_title(sweep) : "", best ? " " : "",
                  best ? text_loss(best->objective, value) : "", best ? ": " : "", which);
}

static descent_status fit(struct wave *wave) {
  descent_members_options options = descent_members_options_default();
  options.on_epoch = on_wave_epoch;
  options.user = wave;
  return descent_fit_members(wave->sweep->shared.device, wave->members, wave->n, &options);
}

/* Was the wave refused as a whole, before any training? */
static bool refused(const struct wave *wave, descent_status status) {
  if (status != DESCENT_ERROR_MEMORY && status != DESCENT_ERROR_ARGUMENT) return false;
  for (int64_t k = 0; k < wave->n; k++)
    if (wave->trials[k]->course.n > 0) return false;
  return true;
}

/* The text of a refusal, which counts and names members, for trials. */
static const char *refusal(const struct wave *wave, char *text, size_t size) {
  static const char members[] = "members";
  const char *rest = descent_last_error();
  int64_t k;
  int length = 0, used = 0;
  if (sscanf(rest, "member %" SCNd64 ": %n", &k, &length) == 1 && length && k >= 0 && k < wave->n) {
    rest += length;
    used = snprintf(text, size, "trial %" PRId64 ": ", wave->trials[k]->number);
  }
  const char *counted = strstr(rest, members);
  const int before = (int)(counted ? counted - rest : (ptrdiff_t)strlen(rest));
  snprintf(text + used, size - (size_t)used, "%.*s%s%s", before, rest, counted ? "trials" : "",
           counted ? counted + sizeof members - 1 : "");
  return text;
}

static int take_results(struct wave *wave) {
  struct sweep *sweep = wave->sweep;
  for (int64_t k = 0; k < wave->n; k++) take_result(wave, k);
  struct sweep_trial *best = sweep_best(sweep);
  int code = best && best->network ? sweep_save_best(sweep, best) : EXIT_DONE;
  if (!is_stopping(sweep) && code == EXIT_DONE) say_wave(sweep, best);
  return code == EXIT_DONE ? check_results(wave) : code;
}

/* Trains a wave of open trials, at most `*most`. Where they do not fit into memory together, `*most` is halved and nothing
 * is trained; successive halving compares all of them and has to have them together. */
static int train_wave(struct sweep *sweep, int64_t *most, int64_t *taken) {
  struct wave wave;
  char text[1024];
  int code = wave_create(&wave, sweep, *most) ? EXIT_DONE : fail(command, EXIT_RUN, "out of memory");
  if (code == EXIT_DONE) code = fill(&wave, *most);
  *taken = wave.n;
  if (code == EXIT_DONE && wave.n > 0) {
    const descent_status status = fit(&wave);
    if (!refused(&wave, status))
      code = take_results(&wave);
    else if (status == DESCENT_ERROR_MEMORY && wave.n > 1 && sweep->options.search != SWEEP_HALVING)
      *most = wave.n / 2;
    else if (status == DESCENT_ERROR_MEMORY && wave.n > 1)
      code = fail(command, EXIT_RUN, "%s; halving trains all trials together: use fewer --trials",
                  refusal(&wave, text, sizeof text));
    else
      code = fail(command, exit_of(status), "%s", refusal(&wave, text, sizeof text));
  }
  for (int64_t k = 0; k < wave.n; k++)
    if (wave.trials[k] != sweep->saved) release(wave.trials[k]);
  wave_clear(&wave);
  return code;
}

/* Enough for all threads to have work until the last trials of a wave end, and few enough that a kill costs little. */
static int64_t choose_together(const struct sweep *sweep) {
  enum { OF_A_GPU = 64, LEAST = 16, PER_THREAD = 4 };
  if (sweep->options.search == SWEEP_HALVING) return sweep->trials.n;
  if (sweep->options.together) return sweep->options.together;
  if (strcmp(descent_device_name(sweep->shared.device), "cpu") != 0) return OF_A_GPU;
  const int64_t given = sweep->shared.values.device.threads;
  const int64_t threads = given ? given : sysconf(_SC_NPROCESSORS_ONLN);
  return PER_THREAD * threads > LEAST ? PER_THREAD * threads : LEAST;
}

int sweep_train(struct sweep *sweep) {
  int64_t most = choose_together(sweep), taken = 1;
  int code = EXIT_DONE;
  while (code == EXIT_DONE && taken > 0 && !is_stopping(sweep)) code = train_wave(sweep, &most, &taken);
  return code == EXIT_DONE && sweep->failed ? EXIT_RUN : code;
}

/* ---- the best model ---------------------------------------------------------------------------------------------- */

/* Does the file hold what an earlier sweep saved of this trial? */
static bool holds(const struct sweep *sweep, const struct sweep_trial *t) {
  uint64_t sum = CHECKSUM_START;
  char found[CHECKSUM_SIZE];
  return *t->model && checksum_file(sweep->options.out, &sum) && strcmp(checksum_text(sum, found), t->model) == 0;
}

/* What the record says of a trial is not changed by a training that repeats it and may be broken off. */
static void restore_result(struct sweep_trial *t, const struct sweep_trial *before) {
  sweep_course_clear(&t->course);
  t->course = before->course;
  t->status = before->status;
  t->epochs = before->epochs;
  t->best_epoch = before->best_epoch;
  t->objective = before->objective;
  t->seconds = before->seconds;
}

/* Trains the trial alone as far as it came. */
static int train_again(struct sweep *sweep, struct sweep_trial *t) {
  struct wave wave;
  const struct sweep_trial before = *t;
  t->course = (struct sweep_course){0};
  sweep_table_say(sweep, "trial %" PRId64 " is trained again: %s does not hold its model", t->number,
                  sweep->options.out);
  int code = wave_create(&wave, sweep, 1) ? sweep_print_message(command, add(&wave, t, t->epochs))
                                          : fail(command, EXIT_RUN, "out of memory");
  if (code == EXIT_DONE) {
    const descent_status fitted = fit(&wave);
    if (fitted != DESCENT_OK) code = fail_status(command, fitted);
  }
  wave_clear(&wave);
  restore_result(t, &before);
  return code;
}

int sweep_save_best(struct sweep *sweep, struct sweep_trial *best) {
  if (sweep->saved == best) return EXIT_DONE;
  if (!best->network) {
    if (holds(sweep, best)) return EXIT_DONE;
    const int code = train_again(sweep, best);
    if (code != EXIT_DONE || is_stopping(sweep)) return code;
  }
  descent_status status = set_provenance(sweep, best);
  if (status == DESCENT_OK) status = descent_network_save(best->network, sweep->options.out);
  if (status != DESCENT_OK) return fail_status(command, status);
  if (sweep->saved) release(&sweep->trials.trials[sweep->saved->number - 1]);
  sweep->saved = best;
  return EXIT_DONE;
}
