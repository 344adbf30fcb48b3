/* Evaluates the validation data on all ranks. Block i of the rows, the same blocks as on one rank, is computed by rank
 * i mod R. Every rank then has all outputs and adds up the blocks in the order of the rows, so that measures and loss
 * have the bits of one rank, on each of them. */
#include <math.h>
#include <stdlib.h>

#include "core/memory.h"
#include "core/status.h"
#include "core/terms.h"
#include "plan/operations.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/ranks.h"

/* What a rank has computed of a round of R blocks; its outputs (block, outputs) follow. */
struct packet {
  int64_t failed, stop;
  double scalars[2]; /* weight sum and J of the block */
};

struct sharing {
  struct fit *f;
  int64_t block, outputs, bytes; /* rows of a block; of a packet with its outputs */
  int shown;                     /* the buffer of the outputs */
  struct plan_range metrics;     /* the metrics operation alone */
  struct packet *own;
  char *all; /* (ranks, bytes) */
  struct metrics_sums *sums;
  double totals[2]; /* loss and weight of the blocks so far, as SCALAR_TOTAL_LOSS and SCALAR_TOTAL_WEIGHT */
};

static float *outputs_of(struct packet *packet) { return (float *)(void *)(packet + 1); }

static struct plan_range find_metrics(const struct plan *plan) {
  struct plan_range found = {plan->evaluate.first, 1};
  while (plan->ops[found.first].kind != OP_METRICS) found.first++;
  return found;
}

static descent_status prepare(struct fit *f, struct sharing *s) {
  const struct program *program = &f->trainer->program;
  const descent_network *network = f->trainer->network;
  const int size = options_ranks(&f->options);
  s->f = f;
  s->block = program_block_rows(program, f->validation->rows);
  s->outputs = network_outputs(network);
  s->bytes = (int64_t)sizeof(struct packet) + s->block * s->outputs * (int64_t)sizeof(float);
  s->bytes = (s->bytes + 7) / 8 * 8; /* so that every packet is aligned */
  s->shown = loss_is_regression(network->loss) ? program->at.P : program->at.A;
  s->metrics = find_metrics(program->plan);
  s->own = memory_allocate(1, (size_t)s->bytes, "predictions");
  s->all = memory_allocate(size, (size_t)s->bytes, "predictions of all ranks");
  if (!s->own || !s->all) return DESCENT_ERROR_MEMORY;
  return metrics_create(network, f->validation->rows, 0, &s->sums);
}

static void clear(struct sharing *s) {
  metrics_free(s->sums);
  free(s->own);
  free(s->all);
}

static int64_t rows_from(const struct sharing *s, int64_t first) {
  const int64_t left = s->f->validation->rows - first;
  return left < s->block ? left : s->block;
}

/* Computes the block that starts at row `first`; one behind the last row has none. */
static descent_status compute(struct sharing *s, int64_t first) {
  struct program *program = &s->f->trainer->program;
  const int64_t rows = rows_from(s, first);
  descent_status status = DESCENT_OK;
  if (rows <= 0) return status;
  _Static_assert(SCALAR_WEIGHT_SUM == 0 && SCALAR_LOSS == 1, "both are read and written at once");
  TRY(program_run_block(program, program->plan->evaluate, first, rows));
  TRY(program_read(program, s->shown, 0, rows * s->outputs, PLAN_F32, outputs_of(s->own)));
  TRY(program_read(program, program->at.scalars, SCALAR_WEIGHT_SUM, 2, PLAN_F64, s->own->scalars));
done:
  return status;
}

/* Adds the blocks of a round, which starts at row `first`. The device adds the losses: its addition is that of one
 * rank. */
static descent_status add(struct sharing *s, int64_t first) {
  struct program *program = &s->f->trainer->program;
  const descent_dataset *dataset = s->f->validation;
  const struct dataset_storage *storage = dataset->storage;
  const int size = options_ranks(&s->f->options);
  double loss;
  descent_status status;
  TRY(evaluate_begin(program, s->totals[0], s->totals[1])); /* compute has added a block out of turn */
  for (int rank = 0; rank < size && rows_from(s, first) > 0; rank++, first += s->block) {
    struct packet *packet = (struct packet *)(void *)(s->all + rank * s->bytes);
    const int64_t rows = rows_from(s, first);
    TRY(program_write(program, program->at.scalars, SCALAR_WEIGHT_SUM, 2, PLAN_F64, packet->scalars));
    TRY(program_run_block(program, s->metrics, first, rows));
    for (int64_t r = 0; r < rows; r++)
      metrics_add(s->sums, outputs_of(packet) + r * s->outputs,
                  storage->y + dataset_source_row(dataset, first + r) * storage->targets);
  }
  TRY(evaluate_mean_loss(program, s->totals, &loss));
done:
  return status;
}

/* One block on each rank. A rank that fails says so in its packet, so that the others do not wait for it. */
static descent_status run_round(struct sharing *s, int64_t first, bool stop, bool *stopped) {
  struct descent_communicator *communicator = s->f->options.ranks.communicator;
  const int size = communicator_size(communicator);
  const descent_status own = compute(s, first + communicator_rank(communicator) * s->block);
  bool failed = false;
  descent_status status;
  s->own->failed = own != DESCENT_OK;
  s->own->stop = stop;
  TRY(communicator_gather(communicator, s->own, s->bytes, s->all));
  for (int rank = 0; rank < size; rank++) {
    const struct packet *packet = (const struct packet *)(const void *)(s->all + rank * s->bytes);
    failed |= packet->failed != 0;
    *stopped |= packet->stop != 0;
  }
  if (failed) TRY(communicator_agree(communicator, own));
  if (!*stopped) TRY(communicator_agree(communicator, add(s, first)));
done:
  return status;
}

descent_status ranks_evaluate(struct fit *f, bool (*stop)(void *user), void *user, bool *stopped,
                              descent_metrics *metrics) {
  struct descent_communicator *communicator = f->options.ranks.communicator;
  const int64_t rows = f->validation->rows;
  struct sharing s = {0};
  descent_status status;
  *stopped = false;
  TRY(communicator_agree(communicator, prepare(f, &s)));
  const int64_t round = s.block * communicator_size(communicator);
  for (int64_t first = 0; first < rows && !*stopped; first += round)
    TRY(run_round(&s, first, first > 0 && stop(user), stopped));
  if (!*stopped)
    TRY(communicator_agree(communicator,
                           metrics_finish(s.sums, s.totals[1] > 0 ? s.totals[0] / s.totals[1] : NAN, metrics)));
done:
  clear(&s);
  return status;
}
