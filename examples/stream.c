/* Training on rows that a callback produces, without a dataset: the two spirals, drawn anew in every epoch. Epoch e of
 * seed s gives the same rows whenever it is asked for, so a training could be resumed exactly. */
#include <descent/descent.h>
#include <math.h>
#include <stdio.h>

enum { ROWS = 2000 };

struct spirals {
  uint64_t state;
  int64_t row;
};

/* Steele et al. 2014, splitmix64; in [0, 1). */
static float draw(struct spirals *s) {
  uint64_t z = s->state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return (float)(z >> 40) * 0x1p-24F;
}

static int64_t rewind_spirals(void *user, int64_t epoch, uint64_t seed, int64_t row) {
  (void)row;
  *(struct spirals *)user = (struct spirals){.state = seed * 1000003 + (uint64_t)epoch};
  return 0; /* the rows before `row` are skipped by the engine */
}

/* `weights` are all 1 already. */
static int64_t next_spirals(void *user, float *X, float *y, float *weights, int64_t rows) {
  struct spirals *s = user;
  int64_t n = 0;
  (void)weights;
  for (; n < rows && s->row < ROWS; n++, s->row++) {
    const float arm = draw(s) < 0.5F ? 0 : 1, t = 0.5F + 6 * draw(s), angle = t + 3.1415927F * arm;
    X[2 * n] = t * cosf(angle) + 0.1F * draw(s);
    X[2 * n + 1] = t * sinf(angle) + 0.1F * draw(s);
    y[n] = arm;
  }
  return n;
}

static int report(void *user, const descent_epoch_info *info) {
  (void)user;
  if (info->epoch % 20 == 0) printf("epoch %3lld  training loss %.4f\n", (long long)info->epoch, info->train_loss);
  return 0;
}

int main(void) {
  descent_device *device = NULL;
  descent_network *network = NULL;
  struct spirals spirals = {0};
  descent_source source = descent_source_default();
  source.inputs = 2, source.targets = 1, source.classes = 2, source.task = DESCENT_TASK_BINARY;
  source.rows_per_epoch = ROWS; /* known, so that the learning rate can follow a cosine */
  source.next = next_spirals, source.rewind = rewind_spirals, source.user = &spirals;

  descent_network_options shape = descent_network_options_default();
  shape.inputs = 2, shape.layers = 3, shape.widths = (const int64_t[]){32, 32, 1};
  descent_train_options options = descent_train_options_default();
  options.epochs = 100, options.optimizer.learning_rate = 0.01, options.schedule.kind = DESCENT_SCHEDULE_COSINE;
  options.callbacks.on_epoch = report;

  descent_fit_result result = {0};
  descent_status status = descent_device_open("auto", 0, &device);
  if (!status) status = descent_network_create(&shape, &network);
  if (!status) status = descent_network_initialise(network, DESCENT_INIT_AUTO, 1);
  if (!status) status = descent_fit_source(network, device, &source, NULL, &options, &result);
  if (status) fprintf(stderr, "stream: %s\n", descent_last_error());
  descent_network_free(network);
  descent_device_close(device);
  return status || result.train_loss > 0.1;
}
