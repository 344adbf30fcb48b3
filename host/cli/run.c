#include "cli/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "cli/interrupt.h"
#include "report/text.h"

static bool is_alone(const struct run *r) { return r->group->runs == 1; }

bool run_stopping(const struct run *r) {
  if (r->records.failed) r->group->failed = true;
  return r->group->failed || interrupt_signal();
}

/* Data that changed under the training and a device that failed leave the weights of an epoch before, as a divergence
 * does; a folder of checkpoints that was taken away, those of the last step. */
bool run_kept(const struct run *r, descent_status status, int64_t steps) {
  const bool broken_off = status == DESCENT_ERROR_READ || status == DESCENT_ERROR_DEVICE;
  return status == DESCENT_ERROR_DIVERGED || (broken_off && r->learned) || (status == DESCENT_ERROR_WRITE && steps > 0);
}

void run_say(struct run *r, const char *format, ...) {
  char text[1400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  progress_close(&r->group->progress);
  fail(training_command, EXIT_DONE, "%s%s", r->title, text);
}

/* ---- callbacks --------------------------------------------------------------------------------------------------- */

static int on_step(void *user, const descent_step_info *info) {
  struct run *r = user;
  progress_step(&r->group->progress, r->values.training.train.epochs, info);
  return interrupt_signal();
}

/* Of several runs, the group shows the epoch. */
static int on_epoch(void *user, const descent_epoch_info *info) {
  struct run *r = user;
  if (is_alone(r)) progress_epoch(&r->group->progress, descent_network_task(r->network), info);
  if (r->training->job.rank == 0) records_epoch(&r->records, r->network, info);
  r->learned = true;
  return run_stopping(r);
}

static descent_request on_pause(void *user) {
  struct run *r = user;
  if (run_stopping(r)) return DESCENT_STOP;
  if (interrupt_save_asked()) {
    r->group->saves++;
    if (!r->values.checkpoint) run_say(r, "SIGUSR1: there is nothing to save without --checkpoint");
  }
  if (r->saves == r->group->saves) return DESCENT_CONTINUE;
  r->saves = r->group->saves;
  r->tell_saving = r->values.checkpoint != NULL;
  return DESCENT_SAVE;
}

/* With the first checkpoint of the options of now: one that is only read may have others, by --resume-with. */
static void note_members(struct run *r) {
  const struct train_values *v = &r->training->values;
  if (is_alone(r) || r->group->noted) return;
  r->group->noted = true;
  if (!members_note_write(v))
    run_say(r, "warning: %s/%s: cannot write: %s", v->checkpoint, MEMBERS_NOTE, strerror(errno));
}

/* One line for several runs, as soon as each has started. */
static void tell_resumed(struct run *r, const descent_checkpoint_info *info) {
  struct run_group *g = r->group;
  const struct train_values *v = &r->values;
  if (info->event == DESCENT_CHECKPOINT_RESUMED) {
    if (g->resumed == 0 || info->step < g->fewest_steps) g->fewest_steps = info->step;
    if (g->resumed == 0 || info->step > g->most_steps) g->most_steps = info->step;
    g->resumed++;
  } else {
    g->started++;
  }
  if (!v->resume || v->quiet || g->started + g->resumed != g->runs) return;
  const char *resume = r->training->values.resume;
  if (g->resumed == 0)
    text_print(stderr, "starting    %s: no checkpoint found\n", resume);
  else if (is_alone(r))
    text_print(stderr, "resumed     %s: step %" PRId64 ", %" PRId64 " epoch%s done\n", info->path, info->step,
               info->epochs, info->epochs == 1 ? "" : "s");
  else if (g->fewest_steps == g->most_steps)
    text_print(stderr, "resumed     %s: %" PRId64 " of %" PRId64 " networks at step %" PRId64 "\n", resume, g->resumed,
               g->runs, g->most_steps);
  else
    text_print(stderr, "resumed     %s: %" PRId64 " of %" PRId64 " networks at steps %" PRId64 " to %" PRId64 "\n",
               resume, g->resumed, g->runs, g->fewest_steps, g->most_steps);
}

static void on_checkpoint(void *user, const descent_checkpoint_info *info) {
  struct run *r = user;
  const struct train_values *v = &r->values;
  if (r->training->job.rank > 0) return;
  if (info->event != DESCENT_CHECKPOINT_FAILED && info->event != DESCENT_CHECKPOINT_DAMAGED) r->step = info->step;
  switch (info->event) {
    case DESCENT_CHECKPOINT_STARTED:
      tell_resumed(r, info);
      records_begin(&r->records, v->checkpoint, 0, 0);
      break;
    case DESCENT_CHECKPOINT_DAMAGED: run_say(r, "%s; skipped", info->message); break;
    case DESCENT_CHECKPOINT_FAILED:
      run_say(r, "%s%s", info->message, run_stopping(r) ? "" : "; the training continues");
      break;
    case DESCENT_CHECKPOINT_RESUMED:
      tell_resumed(r, info);
      if (*info->message) run_say(r, "warning: %s", info->message);
      r->folder = v->resume;
      r->learned = info->step > 0;
      records_begin(&r->records, v->resume, info->step, info->epochs);
      break;
    case DESCENT_CHECKPOINT_UNLOCKED: run_say(r, "warning: %s", info->message); break;
    case DESCENT_CHECKPOINT_SAVED:
      r->folder = v->checkpoint;
      note_members(r);
      if (r->tell_saving) run_say(r, "checkpoint of step %" PRId64 " saved to %s", info->step, info->path);
      r->tell_saving = false;
      break;
    case DESCENT_CHECKPOINT_ROLLED_BACK:
      run_say(r, "%s; returned to step %" PRId64 ", with %g of the learning rate", info->message, info->step,
              info->rate_factor);
      r->learned = info->step > 0;
      records_begin(&r->records, v->checkpoint, info->step, info->epochs);
      break;
  }
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

/* Does an epoch take long enough that people want to see it move, and to be able to stop within it? Counted in
 * floating-point operations, of which a core does some 1e10 per second. */
static bool epoch_is_long(const struct run *r) {
  return 6.0 * (double)r->group->runs * (double)descent_network_parameters(r->network) *
             (double)descent_dataset_rows(r->rows->training) >
         1e10;
}

int run_open(struct run *r, const struct training *t, struct run_group *group, descent_network *network,
             const struct training_rows *rows) {
  descent_train_options *options = &r->values.training.train;
  r->training = t;
  r->group = group;
  r->network = network;
  r->rows = rows;
  options->callbacks.on_epoch = on_epoch;
  options->callbacks.on_step = epoch_is_long(r) && is_alone(r) ? on_step : NULL;
  options->callbacks.on_pause = on_pause;
  options->callbacks.on_checkpoint = on_checkpoint;
  options->callbacks.user = r;
  if (t->job.rank > 0) return EXIT_DONE;
  records_init(&r->records, training_command, &r->values);
  if (!r->values.checkpoint)
    records_begin(&r->records, NULL, 0, 0); /* else when it is known where the training begins */
  return r->records.failed ? EXIT_RUN : EXIT_DONE;
}

void run_close(struct run *r) {
  records_close(&r->records);
  member_places_clear(&r->places);
}

descent_status run_set_provenance(const struct training *t, descent_network *network, const descent_fit_result *result,
                                  const cJSON *ensemble) {
  cJSON *root = cJSON_CreateObject();
  char *text = NULL;
  if (cJSON_AddStringToObject(root, "data", t->values.data_path) &&
      cJSON_AddStringToObject(root, "device", descent_device_name(t->device)) &&
      (!result || (cJSON_AddNumberToObject(root, "epochs", (double)result->epochs) &&
                   cJSON_AddNumberToObject(root, "best_epoch", (double)result->best_epoch))) &&
      (!ensemble || cJSON_AddItemReferenceToObject(root, "ensemble", (cJSON *)(uintptr_t)ensemble)) &&
      cJSON_AddItemReferenceToObject(root, "options", t->record))
    text = cJSON_PrintUnformatted(root);
  const descent_status status = text ? descent_network_set_provenance(network, text) : DESCENT_ERROR_MEMORY;
  cJSON_free(text);
  cJSON_Delete(root);
  return status;
}
