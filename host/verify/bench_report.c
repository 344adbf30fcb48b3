/* Turns samples into the rows of a measurement. Operations that one kernel computes together make one row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "plan/operations.h"
#include "verify/bench_internal.h"

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Also sorts the samples. */
static double median(double *samples, int n) {
  qsort(samples, (size_t)n, sizeof *samples, compare_doubles);
  return n % 2 ? samples[n / 2] : 0.5 * (samples[n / 2 - 1] + samples[n / 2]);
}

/* The least work of a group, or of several. */
struct work {
  double flops, bytes, link_bytes;
};

static double floor_seconds(const descent_bench_result *result, const struct work *work) {
  const double link = result->link_bandwidth > 0 ? work->link_bytes / result->link_bandwidth : 0;
  return fmax(fmax(work->flops / result->peak_flops, work->bytes / result->peak_bandwidth), link);
}

/* Is op i of the part's range computed with later ones? `text`: "layers 1 to 5", all that they belong to, "all
 * operations" of the step, or the op's name. */
static bool name_group(const struct bench *b, const struct bench_part *part, int i, char *text, size_t size) {
  const struct plan_op *const ops = &b->plan->ops[part->range.first];
  int members = 0, lowest = 0, highest = 0;
  for (int j = i; j < part->range.count; j++) {
    if (part->group[j] != i) continue;
    members++;
    if (ops[j].layer && (!lowest || ops[j].layer < lowest)) lowest = ops[j].layer;
    if (ops[j].layer > highest) highest = ops[j].layer;
  }
  if (members == 1 || !highest)
    plan_op_name(&ops[i], text, size);
  else if (members == b->n_ops)
    snprintf(text, size, "all operations");
  else if (lowest == highest)
    snprintf(text, size, "layer %d", highest);
  else
    snprintf(text, size, "layers %d to %d", lowest, highest);
  return members > 1;
}

/* Of one execution on so many rows. The plan counts an index of the gather's rows, and the rows have none. */
static struct work execution_work(const struct bench *b, const struct bench_part *part, int number, int64_t rows) {
  struct work work = {0, 0, 0};
  plan_group_cost(b->plan, part->range, part->group, number, rows, &work.flops, &work.bytes);
  for (int i = 0; i < part->range.count; i++) {
    const struct plan_op *const op = &b->plan->ops[part->range.first + i];
    if (part->group[i] != number) continue;
    work.link_bytes += plan_link_bytes(b->plan, op);
    if (op->kind == OP_GATHER && op->gather.source_index != PLAN_NONE)
      work.bytes -= (double)rows * (double)sizeof(int64_t);
  }
  return work;
}

static void add_work(struct work *sum, struct work work, double times) {
  sum->flops += times * work.flops;
  sum->bytes += times * work.bytes;
  sum->link_bytes += times * work.link_bytes;
}

/* Of a whole step. */
static struct work group_work(const struct bench *b, const struct bench_part *part, int number) {
  const struct bench_rows rows = bench_rows(part);
  struct work work = {0, 0, 0};
  add_work(&work, execution_work(b, part, number, rows.least), part->executions - rows.larger);
  if (rows.larger) add_work(&work, execution_work(b, part, number, rows.least + 1), rows.larger);
  return work;
}

/* The least memory traffic of a prediction: that of one kernel. A training step has to store gradients in between. */
static double prediction_bytes(const struct bench *b) {
  const struct bench_part *const part = &b->parts[0];
  int *const together = part->group; /* no longer used */
  for (int i = 0; i < part->range.count; i++) together[i] = 0;
  return group_work(b, part, 0).bytes;
}

/* Where rows go, and their sum. */
struct report {
  void (*on_row)(void *user, const descent_bench_row *row);
  void *user;
  const descent_bench_result *result;
  struct work work;
  double gemm_seconds;
};

static void report_row(struct report *report, descent_bench_row *row, const struct work *work) {
  row->flops = work->flops;
  row->bytes = work->bytes;
  row->link_bytes = report->result->link_bandwidth > 0 ? work->link_bytes : 0; /* no link: nothing is sent */
  row->floor_seconds = floor_seconds(report->result, work);
  if (report->on_row) report->on_row(report->user, row);
}

/* `op` and `product` are the timings of the part's first ones. Returns how many products it has. */
static int report_part(struct bench *b, const struct bench_part *part, struct bench_timing *op,
                       struct bench_timing *products, struct report *report) {
  const struct backend *const backend = b->program.backend;
  struct bench_timing *next = products;
  for (int i = 0; i < part->range.count; i++) {
    char name[64], path[BACKEND_PATH] = "";
    const int number = part->range.first + i;
    struct bench_timing *const product = plan_has_product(&b->plan->ops[number]) ? next++ : NULL;
    if (part->group[i] != i) continue;
    const bool is_fused = name_group(b, part, i, name, sizeof name);
    const struct work work = group_work(b, part, i);
    descent_bench_row row = {.operation = name, .path = path, .seconds = median(op[i].samples, b->rounds)};
    if (backend->path) backend->path(b->program.compiled, part->range, number, path);
    if (is_fused)
      row.gemm_seconds = row.seconds;
    else if (product)
      row.gemm_seconds = median(product->samples, b->rounds);
    add_work(&report->work, work, 1);
    report->gemm_seconds += row.gemm_seconds;
    report_row(report, &row, &work);
  }
  return (int)(next - products);
}

void bench_report(struct bench *b, bool predicts, void (*on_row)(void *user, const descent_bench_row *row), void *user,
                  descent_bench_result *result) {
  struct report report = {.on_row = on_row, .user = user, .result = result};
  struct bench_timing *const whole = &b->timings[0];
  descent_bench_row step = {.operation = predicts ? "prediction" : "step", .path = ""};
  struct bench_timing *op = whole + 1, *products = op + b->n_ops; /* in the order of their ops */
  step.seconds = median(whole->samples, b->rounds);
  for (int p = 0; p < b->n_parts; p++) {
    products += report_part(b, &b->parts[p], op, products, &report);
    op += b->parts[p].range.count;
  }
  step.gemm_seconds = report.gemm_seconds;
  if (predicts) report.work.bytes = prediction_bytes(b);
  report_row(&report, &step, &report.work);
  result->step_seconds = step.seconds;
  result->step_seconds_min = whole->samples[0];
  result->step_seconds_max = whole->samples[b->rounds - 1];
  result->gemm_seconds = step.gemm_seconds;
  result->memory = b->program.backend->memory(b->program.compiled);
}
