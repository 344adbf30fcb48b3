/* A trainer's state between two steps: measured on a dataset, saved to a file, restored from one. */
#include <math.h>

#include "checkpoint/checkpoint.h"
#include "core/file.h"
#include "core/status.h"
#include "train/check.h"
#include "train/evaluate.h"
#include "train/trainer.h"

descent_status descent_trainer_evaluate(descent_trainer *trainer, const descent_dataset *dataset, int64_t top_k,
                                        descent_metrics *metrics) {
  descent_dataset *aligned = NULL;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(handle_check(dataset, HANDLE_DATASET, "dataset"));
  TRY(argument_check(metrics, "metrics"));
  const descent_network *network = trainer->network;
  struct program *program = &trainer->program;
  TRY(check_dataset(network, dataset, true, "the dataset"));
  TRY(dataset_align(dataset, &network->schema, &aligned));
  if (aligned) dataset = aligned;
  trainer_forget_forward(trainer);
  status = program_bind_once(program, dataset);
  if (status == DESCENT_OK) status = evaluate_dataset(program, network, dataset, top_k, metrics);
  const descent_status forgotten = trainer_forget_loss(trainer), unbound = program_unbind(program);
  if (status == DESCENT_OK) status = forgotten == DESCENT_OK ? unbound : forgotten;
done:
  descent_dataset_free(aligned);
  return status;
}

/* The state that descent_fit keeps, as it is after `steps` steps by hand. */
static struct fit_state state_of(const descent_trainer *trainer) {
  return (struct fit_state){.epoch = 1,
                            .done = trainer->steps,
                            .plateau_rate = trainer->learning_rate,
                            .rate_factor = 1,
                            .learning_rate = trainer->learning_rate,
                            .best_loss = INFINITY};
}

descent_status descent_trainer_save(const descent_trainer *trainer, const char *path) {
  struct configuration configuration = {0};
  struct snapshot snapshot = {0};
  struct file_writer file = {0};
  bool finite;
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(argument_check(path, "path"));
  const descent_network *network = trainer->network;
  TRY(configuration_create_of_state(network, trainer->options.optimizer.kind, &configuration));
  TRY(snapshot_create(network, &trainer->program, false, &snapshot));
  TRY(snapshot_take(&trainer->program, &snapshot, &finite));
  if (!finite)
    TRY(status_set(DESCENT_ERROR_DIVERGED, "%s: not written: the weights after step %lld are not finite", path,
                   (long long)trainer->steps));
  snapshot.state = state_of(trainer);
  snapshot.step = trainer->steps;
  TRY(file_create(path, &file));
  TRY(checkpoint_write(&file, network, &configuration, &snapshot));
done:
  snapshot_clear(&snapshot);
  configuration_clear(&configuration);
  return status;
}

/* The learning rate of the coming steps, before the warm-up. That of descent_fit's last step includes its factor. */
static double rate_of(const descent_trainer *trainer, const struct snapshot *snapshot) {
  const struct fit_state *state = &snapshot->state;
  const bool warms_up = snapshot->step < trainer->options.schedule.warmup_steps;
  return warms_up ? state->rate_factor * state->plateau_rate : state->learning_rate;
}

descent_status descent_trainer_restore(descent_trainer *trainer, const char *path) {
  struct configuration configuration = {0};
  struct snapshot snapshot = {0};
  descent_status status;
  TRY(handle_check(trainer, HANDLE_TRAINER, "trainer"));
  TRY(argument_check(path, "path"));
  const descent_network *network = trainer->network;
  TRY(configuration_create_of_state(network, trainer->options.optimizer.kind, &configuration));
  TRY(snapshot_create(network, &trainer->program, false, &snapshot));
  TRY(checkpoint_read(path, network, &configuration, NULL, &snapshot));
  const double learning_rate = rate_of(trainer, &snapshot);
  if (snapshot.step < 0 || !(learning_rate >= 0 && isfinite((float)learning_rate)))
    TRY(status_set(DESCENT_ERROR_MODEL, "%s: checkpoint: inconsistent training state", path));
  trainer_forget_forward(trainer);
  trainer->gradient.state = GRADIENT_NONE; /* they were those of other parameters */
  TRY(snapshot_restore(&trainer->program, &snapshot));
  trainer->steps = snapshot.step;
  if (learning_rate > 0) trainer->learning_rate = learning_rate; /* 0 before the first step of descent_fit */
done:
  snapshot_clear(&snapshot);
  configuration_clear(&configuration);
  return status;
}
