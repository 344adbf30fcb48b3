/* Training one network over epochs. */
#include "train/fit.h"

#include "core/clock.h"
#include "core/options.h"
#include "core/status.h"
#include "train/check.h"
#include "train/ranks.h"
#include "train/recovery.h"
#include "train/rounds.h"

static descent_status set_up(struct fit *f) {
  descent_status status;
  TRY(fit_check(f));
  TRY(fit_compile(f));
done:
  return status;
}

/* Trains on f->training or f->source; `own`: the outcome of what was checked before. The ranks can tell each other of
 * every error but one of the options, which name the communicator. */
static descent_status fit(struct fit *f, descent_status own, descent_network *network, descent_device *device,
                          const descent_train_options *options, descent_fit_result *result) {
  descent_status status;
  f->network = network;
  f->device = device;
  f->result = result;
  f->started = clock_seconds();
  TRY(complete_train_options(options, &f->options));
  TRY(check_communicator(&f->options));
  TRY(ranks_begin(f, own == DESCENT_OK ? set_up(f) : own));
  TRY(recovery_open(f));
  TRY(rounds_run(f, 1, NULL));
done:
  if (f->phase != FIT_ENDED) fit_end(f, status);
  return f->status;
}

descent_status descent_fit(descent_network *network, descent_device *device, const descent_dataset *training,
                           const descent_dataset *validation, const descent_train_options *options,
                           descent_fit_result *result) {
  struct fit f = {.training = training, .validation = validation};
  return fit(&f, DESCENT_OK, network, device, options, result);
}

descent_status descent_fit_source(descent_network *network, descent_device *device, const descent_source *source,
                                  const descent_dataset *validation, const descent_train_options *options,
                                  descent_fit_result *result) {
  descent_source complete;
  struct fit f = {.source = &complete, .validation = validation};
  return fit(&f, complete_source(source, &complete), network, device, options, result);
}
