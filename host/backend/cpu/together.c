/* Many programs at once. Programs are independent: one thread runs all steps of one without synchronisation, and programs
 * that read the same rows gather them once. Invariant: every program ends with the bytes that its run alone leaves. */
#include <stddef.h>
#include <string.h>

#include "backend/cpu/cpu.h"
#include "core/rng.h"

enum {
  MOST_SLOTS = 16,          /* steps whose rows are gathered ahead */
  SLOT_BYTES = 2048 * 1024, /* of them, which stay in the second-level cache */
  MOST_GROUP = 8,           /* programs of a group: enough to share a gather, and few enough to balance the threads */
};

/* Where a program's gather writes. */
struct rows {
  float *X, *y, *w; /* y and w NULL where no targets are gathered */
};

struct member {
  const struct backend_job *job;
  const struct plan_op *gather; /* the first operation; NULL where the range has no gather to share */
  const double *bad_step;       /* or NULL */
  uint64_t key;                 /* equal where the rows are */
  double alone;                 /* flops of all steps, for one thread */
  double shared;                /* the same, for the busiest of all threads that share every product */
  int set;                      /* of members that read the same rows; the number of its longest one */
  struct rows rows;             /* its buffers */
  int64_t last;                 /* its last step in a group's block, or -1 while it has more */
};

/* Members that one thread runs. */
struct group {
  struct member *members; /* (count) of one set, by falling number of steps */
  int count;
  double work;
};

/* ---- the work of a job ------------------------------------------------------------------------------------------- */

/* What sharing a product costs, in flops of one thread. At batch 64 a second thread did not make a step of 784-128-64-10
 * faster (bench/results/members.md): it takes half of the 29e6 flops, in five products, so sharing each costs a fifth of
 * that half. */
static const double SHARING_FLOPS = 3e6;

/* The flops of the member's products, each step of as many rows as the first. */
static void count_flops(struct member *m, int threads) {
  const struct backend_job *job = m->job;
  for (int i = job->range.first; i < job->range.first + job->range.count; i++) {
    double flops;
    const int64_t tiles = cpu_dense_tiles(&job->program->plan->ops[i], job->steps[0].rows, &flops);
    m->alone += flops;
    m->shared += tiles < 2 ? flops : flops * (double)cpu_tiles(tiles, threads) / (double)tiles + SHARING_FLOPS;
  }
  m->alone *= (double)job->n_steps;
  m->shared *= (double)job->n_steps;
}

/* ---- who reads the same rows ------------------------------------------------------------------------------------- */

/* The range's gather, if it is the only one, comes first, and has buffers that nothing else uses. */
static const struct plan_op *shared_gather(const struct backend_job *job) {
  const struct plan *plan = job->program->plan;
  const struct plan_op *gather = &plan->ops[job->range.first];
  if (job->range.count == 0 || gather->kind != OP_GATHER) return NULL;
  for (int i = 1; i < job->range.count; i++)
    if (gather[i].kind == OP_GATHER) return NULL;
  return plan->buffers[gather->gather.X].slot == 0 ? gather : NULL;
}

/* Whether a shared gather saves more than it costs. It saves reading the rows of each step, and costs reading a member's
 * parameters and moments into the caches once in a block, of about MOST_GROUP steps. With 64-200-100-10, where the rows of
 * a block are a quarter of the state, sharing took 10 % more time than none; with 784-128-64-10, 0.9 of it, less. */
static bool gains_by_one_gather(const struct backend_job *job, const struct plan_op *gather) {
  const struct plan *plan = job->program->plan;
  const double rows = (double)job->steps[0].rows * (double)gather->gather.n_x * sizeof(float);
  double state = 0;
  for (int i = 0; i < plan->n_buffers; i++)
    if (plan->buffers[i].storage == PLAN_STATE && plan->buffers[i].type == PLAN_F32)
      state += (double)plan->buffers[i].rows * (double)plan->buffers[i].cols * sizeof(float);
  return rows * MOST_GROUP >= state / 2;
}

static uint64_t rows_key(const struct backend_job *job, const struct plan_op *gather) {
  const struct plan_step *step = job->steps;
  const uint64_t order =
      step->order && gather->gather.shuffle ? (uint64_t)step->order->keys[0] << 32 | step->order->keys[1] : 0;
  return (uint64_t)(uintptr_t)job->program->buffers[gather->gather.source_X].data ^ order ^ (uint64_t)step->first_row;
}

static struct member describe(const struct backend_job *job, int threads) {
  struct backend_program *program = job->program;
  struct member m = {.job = job, .set = -1, .last = -1};
  m.bad_step = cpu_bad_step_flag(program, job->range);
  count_flops(&m, threads);
  m.gather = shared_gather(job);
  if (m.gather && !gains_by_one_gather(job, m.gather)) m.gather = NULL;
  if (!m.gather) return m;
  const struct plan_gather *o = &m.gather->gather;
  m.rows.X = cpu_floats(program, o->X);
  if (cpu_gather_has_targets(program, m.gather)) /* otherwise each program's y and w remain as they are */
    m.rows.y = cpu_floats(program, o->y), m.rows.w = cpu_floats(program, o->w);
  m.key = rows_key(job, m.gather);
  return m;
}

/* Whether all steps of `m` read what those of `longest` read. */
static bool same_rows(const struct member *longest, const struct member *m) {
  if (!longest->gather || !m->gather || longest->key != m->key) return false;
  if (!cpu_gather_same(longest->job->program, longest->gather, m->job->program, m->gather)) return false;
  for (int64_t s = 0; s < m->job->n_steps; s++)
    if (!cpu_gather_same_step(m->gather, &longest->job->steps[s], &m->job->steps[s])) return false;
  return true;
}

/* Orders members by falling number of steps, in the jobs' order where equal. */
static void sort_by_steps(struct member *members, int count) {
  for (int i = 1; i < count; i++) {
    const struct member m = members[i];
    int at = i;
    for (; at > 0 && members[at - 1].job->n_steps < m.job->n_steps; at--) members[at] = members[at - 1];
    members[at] = m;
  }
}

/* Brings the members of each set together, sets in the order of their longest members. */
static void form_sets(const struct member *members, int count, struct member *sorted) {
  bool taken[BACKEND_MOST_JOBS] = {false};
  int n = 0;
  for (int i = 0; i < count; i++) {
    if (taken[i]) continue;
    for (int j = i; j < count; j++) {
      if (taken[j] || (j > i && !same_rows(&members[i], &members[j]))) continue;
      taken[j] = true;
      sorted[n] = members[j];
      sorted[n++].set = i;
    }
  }
}

/* ---- a group on one thread --------------------------------------------------------------------------------------- */

/* The operations cannot fail: all steps were checked, and none exchanges gradients. */
static void run_alone(const struct member *m) {
  const struct backend_job *job = m->job;
  for (int64_t s = 0; s < job->n_steps; s++) {
    cpu_run_ops(job->program, job->range, &job->steps[s]);
    if (m->bad_step && *m->bad_step != 0) return;
  }
}

/* The rows of some coming steps, each in the buffers of one of the members. */
struct block {
  int64_t first; /* step */
  int count;
  struct member *owner[MOST_SLOTS];
  double weight_sum[MOST_SLOTS];
};

static void point_at(const struct member *m, const struct rows *rows) {
  const struct plan_gather *o = &m->gather->gather;
  struct cpu_buffer *buffers = m->job->program->buffers;
  buffers[o->X].data = rows->X;
  if (rows->y) buffers[o->y].data = rows->y, buffers[o->w].data = rows->w;
}

static double *weight_sum_of(const struct member *m) {
  return m->rows.y ? cpu_doubles(m->job->program, m->gather->gather.scalars) + SCALAR_WEIGHT_SUM : NULL;
}

/* Gathers the steps of the longest member from `first` on, one into each running member's buffers. A member gathers only
 * steps that it has: others may have more rows than its buffers. */
static struct block gather_block(const struct group *g, int64_t first) {
  const struct member *longest = &g->members[0];
  struct block block = {.first = first};
  const int64_t row_bytes = longest->gather->gather.n_x * (int64_t)sizeof(float);
  int64_t bytes = 0;
  for (int i = 0; i < g->count && block.count < MOST_SLOTS && first + block.count < longest->job->n_steps; i++) {
    struct member *m = &g->members[i];
    if (m->last >= 0 || first + block.count >= m->job->n_steps) continue;
    const struct plan_step *step = &m->job->steps[first + block.count];
    bytes += step->rows * row_bytes;
    if (block.count > 0 && bytes > SLOT_BYTES) break;
    cpu_gather(m->job->program, m->gather, step);
    block.owner[block.count] = m;
    block.weight_sum[block.count++] = weight_sum_of(m) ? *weight_sum_of(m) : 0;
  }
  return block;
}

/* Runs the block's steps of one member on the rows of their owners. */
static void run_block(const struct block *block, struct member *m) {
  const struct backend_job *job = m->job;
  const struct plan_range rest = {job->range.first + 1, job->range.count - 1};
  for (int i = 0; i < block->count && m->last < 0; i++) {
    const int64_t s = block->first + i;
    point_at(m, &block->owner[i]->rows);
    if (weight_sum_of(m)) *weight_sum_of(m) = block->weight_sum[i];
    cpu_run_ops(job->program, rest, &job->steps[s]);
    if ((m->bad_step && *m->bad_step != 0) || s + 1 == job->n_steps) m->last = s;
  }
  point_at(m, &m->rows);
}

static void copy_rows(const struct member *from, const struct member *to, int64_t rows) {
  const struct plan_gather *o = &to->gather->gather;
  memcpy(to->rows.X, from->rows.X, (size_t)(rows * o->n_x) * sizeof(float));
  if (!to->rows.y) return;
  memcpy(to->rows.y, from->rows.y, (size_t)(rows * o->n_y) * sizeof(float));
  memcpy(to->rows.w, from->rows.w, (size_t)rows * sizeof(float));
}

/* Gives the members that have ended in the block the rows of their last step, which other code reads after the run: by a
 * copy for those that ended with the first of them, whose owner's buffers then still hold the rows. Others, which ended
 * elsewhere by a bad step, gather again. */
static void leave_rows(const struct group *g, const struct block *block) {
  int64_t common = -1;
  for (int i = 0; i < g->count; i++) {
    const struct member *m = &g->members[i];
    if (m->last < block->first) continue;
    if (common < 0) common = m->last;
    const struct member *owner = block->owner[common - block->first];
    if (m->last == common && m != owner) copy_rows(owner, m, m->job->steps[common].rows);
  }
  for (int i = 0; i < g->count; i++) {
    const struct member *m = &g->members[i];
    if (m->last >= block->first && m->last != common) cpu_gather(m->job->program, m->gather, &m->job->steps[m->last]);
  }
}

static void run_sharing(const struct group *g) {
  for (int64_t first = 0, n = 1; n > 0; first += n) {
    const struct block block = gather_block(g, first);
    n = block.count;
    for (int i = 0; i < g->count; i++)
      if (g->members[i].last < 0) run_block(&block, &g->members[i]);
    leave_rows(g, &block);
  }
}

static void run_group(void *context, int64_t number) {
  const struct group *g = (const struct group *)context + number;
  if (g->count == 1)
    run_alone(g->members);
  else
    run_sharing(g);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* Cuts the set of `count` members into groups of almost equal size, as many as are a multiple of the threads. */
static int cut_set(struct member *members, int count, int threads, struct group *groups) {
  const int rounds = (count + threads * MOST_GROUP - 1) / (threads * MOST_GROUP);
  const int parts = rounds * threads < count ? rounds * threads : count;
  for (int i = 0, first = 0, end; i < parts; i++, first = end) {
    end = (i + 1) * count / parts;
    groups[i] = (struct group){.members = members + first, .count = end - first};
    for (int j = first; j < end; j++) groups[i].work += members[j].alone;
  }
  return parts;
}

/* Heaviest first: the heaviest groups begin the ranges of tiles that the pool's threads start with. */
static void deal(const struct pool *pool, struct group *groups, int count, struct group *dealt) {
  for (int i = 1; i < count; i++) {
    const struct group g = groups[i];
    int at = i;
    for (; at > 0 && groups[at - 1].work < g.work; at--) groups[at] = groups[at - 1];
    groups[at] = g;
  }
  const int threads = pool_threads(pool);
  for (int n = 0, depth = 0; n < count; depth++)
    for (int i = 0; i < threads; i++) {
      const int64_t tile = pool_range_begin(pool, count, i) + depth;
      if (tile < pool_range_begin(pool, count, i + 1)) dealt[tile] = groups[n++];
    }
}

/* ---- members for all threads in turn ----------------------------------------------------------------------------- */

static bool gains_by_sharing(const struct member *m) { return m->shared < m->alone; }

/* Flops until all have ended, if the first `turns` members that gain by it are shared by all threads in turn, and each of
 * the others has one thread. Members by falling work. The others take at least as long as all of them evenly spread, and
 * as the k T + 1 heaviest of them, of which one of T threads has k + 1. */
static double flops_until_end(const struct member *members, int n, int turns, int threads) {
  double in_turn = 0, total = 0, longest = 0;
  int others = 0;
  for (int i = 0; i < n; i++) {
    if (turns > 0 && gains_by_sharing(&members[i])) {
      in_turn += members[i].shared;
      turns--;
      continue;
    }
    total += members[i].alone;
    const double heaviest = (double)(others++ / threads + 1) * members[i].alone;
    if (heaviest > longest) longest = heaviest;
  }
  return in_turn + (longest > total / threads ? longest : total / threads);
}

/* How many members all threads take in turn. */
static int count_turns(const struct member *members, int n, int threads) {
  int gaining = 0, best = 0;
  double least = flops_until_end(members, n, 0, threads);
  for (int i = 0; i < n; i++) gaining += gains_by_sharing(&members[i]);
  for (int turns = 1; turns <= gaining; turns++) {
    const double flops = flops_until_end(members, n, turns, threads);
    if (flops < least) least = flops, best = turns;
  }
  return best;
}

static void sort_by_work(struct member *members, int count) {
  for (int i = 1; i < count; i++) {
    const struct member m = members[i];
    int at = i;
    for (; at > 0 && members[at - 1].alone < m.alone; at--) members[at] = members[at - 1];
    members[at] = m;
  }
}

/* The members that have steps. Returns how many have one thread each; behind them are those for all threads in turn,
 * whose number is *turns. */
static int choose(const struct backend_job *jobs, int64_t count, int threads, struct member *members, int *turns) {
  struct member all[BACKEND_MOST_JOBS];
  int n = 0, beside = 0;
  for (int64_t i = 0; i < count; i++)
    if (jobs[i].n_steps > 0) all[n++] = describe(&jobs[i], threads);
  sort_by_work(all, n);
  *turns = count_turns(all, n, threads);
  for (int i = 0, behind = n - *turns; i < n; i++)
    if (behind < n && gains_by_sharing(&all[i]))
      members[behind++] = all[i];
    else
      members[beside++] = all[i];
  return beside;
}

descent_status cpu_run_together(struct backend_device *device, const struct backend_job *jobs, int64_t count) {
  struct member members[BACKEND_MOST_JOBS], sorted[BACKEND_MOST_JOBS];
  struct group groups[BACKEND_MOST_JOBS], dealt[BACKEND_MOST_JOBS];
  const int threads = pool_threads(device->pool);
  for (int64_t i = 0; i < count; i++)
    for (int64_t s = 0; s < jobs[i].n_steps; s++) {
      const descent_status status = cpu_check_step(jobs[i].program, jobs[i].range, &jobs[i].steps[s]);
      if (status != DESCENT_OK) return status;
    }
  int turns, n_groups = 0;
  const int n = choose(jobs, count, threads, members, &turns);
  sort_by_steps(members, n);
  form_sets(members, n, sorted);
  for (int i = 0, end; i < n; i = end) {
    for (end = i + 1; end < n && sorted[end].set == sorted[i].set; end++) continue;
    n_groups += cut_set(sorted + i, end - i, threads, groups + n_groups);
  }
  deal(device->pool, groups, n_groups, dealt);
  pool_run(device->pool, run_group, dealt, n_groups);
  for (int i = n; i < n + turns; i++) run_alone(&members[i]);
  return DESCENT_OK;
}
