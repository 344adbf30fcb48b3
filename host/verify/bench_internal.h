/* What a measurement keeps: the ranges that are timed, and the samples of each. bench.c sets it up and decides how often
 * to measure, bench_timing.c takes samples, bench_report.c makes rows of them. */
#ifndef DESCENT_VERIFY_BENCH_INTERNAL_H
#define DESCENT_VERIFY_BENCH_INTERNAL_H

#include "backend/program.h"
#include "core/rng.h"
#include "verify/synthetic.h"

enum { BENCH_MAX_ROUNDS = 64, BENCH_MAX_PARTS = 2 };

/* The timing of one op or, for op < 0, of the whole step; `product`: only of the op's matrix product. */
struct bench_timing {
  int part, op;
  bool product;
  int64_t repeat;                   /* steps per sample */
  double samples[BENCH_MAX_ROUNDS]; /* (rounds) seconds per step */
};

/* A range of the plan that every step executes. */
struct bench_part {
  struct plan_range range;
  int executions;          /* of one step: its micro-batches on this rank, or 1 */
  struct plan_step *steps; /* (max_steps, executions) */
  int *group;              /* (range.count) of each op the first one that is computed with it, counted in the range */
};

struct bench {
  struct program program;
  const struct plan *plan;                   /* the program's */
  struct descent_communicator *communicator; /* of the ranks; NULL: one */
  bool ended;                                /* with an error that all ranks know */
  struct bench_part parts[BENCH_MAX_PARTS];  /* (n_parts) what is timed: train, or predict, or micro_batch and finish */
  int n_parts, n_ops;                        /* n_ops: of all parts */
  struct synthetic data;
  struct permutation order;
  int64_t max_steps;            /* per timing of the step or of an operation */
  float *state[3];              /* parameters, moment1, moment2 after the warm-up, if the backend cannot save them */
  float *zeros;                 /* (parameters), for buffers of gradients; NULL: none is added to in place alone */
  struct bench_timing *timings; /* (n_timings) the step, every op, then the products */
  int n_timings, rounds;
  bool by_clock;  /* operations are timed inside steps by the host's clock, not by backend->time; products alone */
  double *inside; /* (2 n_ops) seconds of the operations of a part and of their products; NULL: all are timed alone */
  int64_t inside_steps; /* steps per sample */
};

/* Of one step: its micro-batches on this rank differ by one row at most. `larger` of them have least + 1 rows. */
struct bench_rows {
  int64_t least;
  int larger;
};
static inline struct bench_rows bench_rows(const struct bench_part *part) {
  struct bench_rows rows = {part->steps[0].rows, 0};
  for (int e = 1; e < part->executions; e++)
    if (part->steps[e].rows < rows.least) rows.least = part->steps[e].rows;
  for (int e = 0; e < part->executions; e++) rows.larger += part->steps[e].rows > rows.least;
  return rows;
}

/* ---- bench_timing.c ---- */

/* The error of the lowest rank that has one, on all ranks. Each rank calls it once for every call of the others, or ends
 * with one call for its error, so that none waits for one that has left. */
descent_status bench_agree(struct bench *b, descent_status own);
/* The same; if no rank has an error, *value becomes that of rank 0, whose clock decides how often all ranks measure. */
descent_status bench_follow(struct bench *b, descent_status own, int64_t *value);

/* Runs so many steps, from the first. */
descent_status bench_run_steps(struct bench *b, int64_t n);
/* Keeps the state, to which every sample returns. */
descent_status bench_save_state(struct bench *b);
descent_status bench_check_divergence(struct bench *b);

/* The timings [0, 1) and [bench_first_alone, n_timings) are of what runs alone, the others are taken inside steps. */
static inline int bench_first_alone(const struct bench *b) {
  return !b->inside ? 1 : b->by_clock ? 1 + b->n_ops : b->n_timings;
}
/* Decides how many steps make a sample: of timing `index` about `budget` seconds, or of all timings inside a step. */
descent_status bench_calibrate(struct bench *b, int index, double budget);
descent_status bench_calibrate_inside(struct bench *b, double budget);
/* Takes one sample of each timing. */
descent_status bench_run_round(struct bench *b);

/* ---- bench_report.c ---- */

/* Calls on_row (may be NULL) with each row, and completes the result, which has the ceilings. */
void bench_report(struct bench *b, bool predicts, void (*on_row)(void *user, const descent_bench_row *row), void *user,
                  descent_bench_result *result);

#endif
