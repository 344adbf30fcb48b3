/* The choice of a way for each dense operation: of all ways the cheapest is taken. relu with a mask is an alternative for
 * three operations together. */
#include "choose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

int64_t choose_captured_rows(const struct plan *plan, int op) {
  const struct plan_range ranges[] = {plan->train,       plan->train_with_statistics,       plan->backward,
                                      plan->micro_batch, plan->micro_batch_with_statistics, plan->input_gradient};
  bool training = false;
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
    if (op >= ranges[i].first && op < ranges[i].first + ranges[i].count) training = true;
  return training && plan->train_rows ? plan->train_rows : plan->batch;
}

/* ---- one operation ---- */

/* True if a pass writes dZ; it can then sum its columns too. */
static bool is_passed(const struct plan *plan, int dZ) {
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    if (op->kind == OP_DENSE_BACKWARD_INPUT && op->input.dZ_below == dZ)
      return op->input.activation != DESCENT_ACTIVATION_IDENTITY || op->input.dropout > 0;
  }
  return false;
}

/* By the estimated passes alone where not all are timed, and then no custom kernel beside a product; the later one where
 * two cost the same. */
static int cheapest(const struct way_list *list) {
  const bool timed = ways_are_timed(list);
  double least = INFINITY;
  int best = 0;
  for (int i = 0; i < list->n; i++) {
    const double seconds = (timed ? list->at[i].timed : 0) + list->at[i].passes;
    if (!timed && !list->at[i].way.product && list->at[0].way.product) continue;
    if (seconds <= least) best = i, least = seconds;
  }
  return best;
}

/* Draws until a product or a variant that passes its trial is drawn; *drawn is -1 if none is left. */
static descent_status draw_way(struct product_choices *choices, const struct dense_work *work, const char *key,
                               struct way_list *list, int *drawn) {
  bool passes = false;
  descent_status status = DESCENT_OK;
  for (*drawn = -1; list->n > 0 && *drawn < 0;) {
    const int i = product_library_draw(choices->ways.device->products, key, "way", list->n);
    passes = list->at[i].way.product != NULL;
    if (!passes)
      TRY(custom_passes(choices->ways.device->products, &work->launch, list->at[i].way.variant,
                        choices->ways.device->stream, &passes));
    if (passes)
      *drawn = i;
    else
      list->at[i] = list->at[--list->n];
  }
done:
  return status;
}

static void name_way(const struct dense_way *way, char text[BACKEND_PATH]) {
  if (!way->product)
    snprintf(text, BACKEND_PATH, "custom %d", way->variant);
  else
    snprintf(text, BACKEND_PATH, "cublaslt%s", way->mask ? "+mask" : way->fused ? "+epilogue" : "");
}

/* "taken=custom variant=1", and the seconds of each way. */
static void trace_choice(const struct product_choices *choices, const struct dense_work *work, const char *key,
                         const struct way_list *list, int taken) {
  static const char *const kinds[OP_KINDS] = {
      [OP_DENSE_FORWARD] = "forward", [OP_DENSE_BACKWARD_WEIGHTS] = "weights", [OP_DENSE_BACKWARD_INPUT] = "input"};
  char text[512];
  int at = 0;
  for (int i = -1; i < list->n && at < (int)sizeof text; i++) {
    const struct timed_way *const p = &list->at[i < 0 ? taken : i];
    const char *const name = !p->way.product ? "custom" : p->way.fused ? "fused" : "plain";
    if (i < 0)
      at += snprintf(text, sizeof text, p->way.product ? "taken=%s" : "taken=%s variant=%d", name, p->way.variant);
    else
      at += snprintf(text + at, sizeof text - (size_t)at, " %s_seconds=%.4g+%.4g", name, p->timed, p->passes);
  }
  product_library_trace(choices->ways.device->products, "choice", key, "op=%d layer=%d kind=%s %s", work->index,
                        work->op->layer, kinds[work->op->kind], text);
}

static descent_status choose(struct product_choices *choices, const struct dense_work *work, bool with_custom,
                             struct dense_choice *choice) {
  const struct plan_op *const op = work->op;
  const bool has_sums = op->kind == OP_DENSE_BACKWARD_WEIGHTS && is_passed(choices->ways.plan, op->weights.dZ);
  struct way_list list;
  char key[TUNE_KEY];
  int taken;
  descent_status status;
  product_library_key(choices->ways.device->products, &work->shape, key);
  TRY(ways_list(&choices->ways, work, with_custom, has_sums, &list));
  if (ways_draw(&choices->ways))
    TRY(draw_way(choices, work, key, &list, &taken));
  else
    taken = cheapest(&list);
  if (taken < 0) TRY(module_status(DESCENT_ERROR_UNSUPPORTED, "no kernel passes its trial for the product %s", key));
  choice->way = list.at[taken].way;
  choice->seconds = ways_are_timed(&list) ? list.at[taken].timed + list.at[taken].passes : 0;
  trace_choice(choices, work, key, &list, taken);
done:
  return status;
}

/* The choice without a mask, made when it is first needed. On other rows than the captured ones, which occur only in
 * checks, a custom kernel is used where it is on those, so that the checks reach it. */
static descent_status choose_dense(struct product_choices *choices, int index, int64_t rows,
                                   const struct dense_choice **result) {
  const bool captured = rows == choose_captured_rows(choices->ways.plan, index);
  struct dense_choice *const choice = &choices->dense[index][captured ? 0 : 1];
  const struct dense_way *const usual = &choices->dense[index][0].way;
  descent_status status = DESCENT_OK;
  if (choice->rows != rows) {
    struct dense_choice made = {.rows = rows};
    struct dense_work work;
    ways_describe(&choices->ways, index, rows, &work);
    if (!captured && choices->dense[index][0].rows && !usual->product && usual->variant < custom_variants(&work.launch))
      made.way = *usual;
    else
      TRY(choose(choices, &work, captured, &made));
    *choice = made;
  }
  *result = choice;
done:
  return status;
}

/* ---- relu with a mask ---- */

/* The op of the same step before `index` that writes relu's A for this backward_input; -1: none. */
static int forward_of(const struct plan *plan, int index) {
  for (int i = index - 1; i >= 0 && plan->ops[i].kind != OP_GATHER && plan->ops[i].kind != OP_BACKWARD_OUTPUT; i--)
    if (plan->ops[i].kind == OP_DENSE_FORWARD && plan->ops[i].forward.A == plan->ops[index].input.A) return i;
  return -1;
}

/* A mask saves the pass over dZ and costs its own memory traffic. That pass also sums the columns, which then takes the
 * weights' epilogue, a separate pass, or the weights' custom kernel. */
static descent_status choose_mask(struct product_choices *choices, int index) {
  const struct plan *plan = choices->ways.plan;
  const struct plan_dense_backward_input *op = &plan->ops[index].input;
  const int forward = forward_of(plan, index), weights = ways_weights_behind(plan, index);
  const struct product_library *const library = choices->ways.device->products;
  if (!plan->autotune && !ways_draw(&choices->ways)) return DESCENT_OK; /* nothing is measured */
  if (op->activation != DESCENT_ACTIVATION_RELU || op->dropout > 0 || op->Z != PLAN_NONE || forward < 0 || weights < 0)
    return DESCENT_OK;
  const int64_t rows = choose_captured_rows(plan, index), mask_ld = (op->n_in + 127) / 128 * 128;
  struct dense_work F, I, W;
  const struct product *masking = NULL, *masked = NULL;
  struct way_list list;
  char key[TUNE_KEY];
  int taken;
  descent_status status;
  ways_describe(&choices->ways, forward, rows, &F);
  ways_describe(&choices->ways, index, rows, &I);
  ways_describe(&choices->ways, weights, rows, &W);
  TRY(ways_product(&choices->ways, &F, EPILOGUE_RELU_MASK_BIAS, mask_ld, &masking));
  TRY(ways_product(&choices->ways, &I, EPILOGUE_MASKED, mask_ld, &masked));
  if (!masking || !masked) goto done;
  product_library_key(library, &I.shape, key);
  TRY(ways_list(&choices->ways, &W, true, false, &list));
  if (ways_draw(&choices->ways))
    TRY(draw_way(choices, &W, key, &list, &taken));
  else
    taken = cheapest(&list);
  if (taken < 0) goto done;
  const double by_mask =
      product_seconds(masking) + product_seconds(masked) + list.at[taken].timed + list.at[taken].passes;
  const double apart[] = {choices->dense[forward][0].seconds, choices->dense[index][0].seconds,
                          choices->dense[weights][0].seconds};
  const double by_pass = apart[0] + apart[1] + apart[2];
  const bool timed = product_seconds(masking) > 0 && product_seconds(masked) > 0 && ways_are_timed(&list) &&
                     apart[0] > 0 && apart[1] > 0 && apart[2] > 0;
  const bool chosen =
      ways_draw(&choices->ways) ? product_library_draw(library, key, "mask", 2) == 1 : timed && by_mask < by_pass;
  product_library_trace(library, "choice", key, "op=%d layer=%d taken=%s mask_seconds=%.4g pass_seconds=%.4g", index,
                        plan->ops[index].layer, chosen ? "mask" : "pass", by_mask, by_pass);
  if (!chosen) goto done;
  choices->masked[forward] =
      (struct masked_choice){true, {.product = masking, .fused = true}, index, rows * mask_ld / 8, by_mask};
  choices->masked[index] = (struct masked_choice){true, {.product = masked}, forward, 0, 0};
  choices->masked[weights] = (struct masked_choice){true, list.at[taken].way, forward, 0, 0};
done:
  return status;
}

/* The choice with a mask if one was made and the range has all of its operations; else NULL. */
static const struct masked_choice *find_masked(const struct product_choices *choices, struct plan_range range, int op,
                                               int64_t rows) {
  const struct masked_choice *choice = &choices->masked[op];
  const int end = range.first + range.count;
  if (!choice->taken || rows != choose_captured_rows(choices->ways.plan, op)) return NULL;
  const int forward = choice->bytes ? op : choice->partner, input = choices->masked[forward].partner;
  return forward >= range.first && input < end ? choice : NULL;
}

descent_status choose_way(struct product_choices *choices, struct plan_range range, int op, int64_t rows,
                          struct dense_way *way) {
  const struct masked_choice *masked = find_masked(choices, range, op, rows);
  const struct dense_choice *dense;
  descent_status status = DESCENT_OK;
  if (!masked) TRY(choose_dense(choices, op, rows, &dense));
  *way = masked ? masked->way : dense->way;
done:
  return status;
}

void choose_path(struct product_choices *choices, struct plan_range range, int op, char text[BACKEND_PATH]) {
  struct dense_way way;
  text[0] = 0;
  if (!plan_has_product(&choices->ways.plan->ops[op])) return;
  if (choose_way(choices, range, op, choose_captured_rows(choices->ways.plan, op), &way) == DESCENT_OK)
    name_way(&way, text);
}

double choose_seconds(const struct product_choices *choices, struct plan_range range, int op) {
  const struct dense_choice *const dense = &choices->dense[op][0];
  const struct masked_choice *const masked = find_masked(choices, range, op, dense->rows);
  return masked ? masked->seconds : dense->seconds;
}

int64_t choose_workspace(const struct product_choices *choices) {
  int64_t most = 0;
  for (int i = 0; i < choices->ways.plan->n_ops; i++) {
    const struct product *const used[] = {choices->dense[i][0].way.product, choices->dense[i][1].way.product,
                                          choices->masked[i].way.product};
    for (int k = 0; k < CHOICES + 1; k++)
      if (used[k] && product_workspace(used[k]) > most) most = product_workspace(used[k]);
  }
  return most;
}

uint32_t choose_digest(const struct product_choices *choices, struct plan_range range) {
  uint32_t digest = 2166136261u; /* FNV-1a (Fowler, Noll, Vo 1991) */
  for (int i = range.first; i < range.first + range.count; i++) {
    const struct masked_choice *const masked = find_masked(choices, range, i, choices->dense[i][0].rows);
    const struct dense_way *const way = masked ? &masked->way : &choices->dense[i][0].way;
    uint64_t words[2 + TUNE_WORDS] = {!way->product + 2u * way->fused + 4u * (masked != NULL), (uint64_t)way->variant};
    if (!choices->dense[i][0].rows) continue;
    if (way->product) product_algorithm(way->product, words + 2);
    for (size_t b = 0; b < sizeof words; b++) digest = (digest ^ ((const unsigned char *)words)[b]) * 16777619u;
  }
  return digest;
}

/* ---- the whole ---- */

/* On as many rows as any range may have. */
static void count_scratch(struct product_choices *choices, int index, const struct dense_way *way) {
  struct dense_work work;
  ways_describe(&choices->ways, index, choices->ways.plan->batch, &work);
  const size_t bytes = way->product ? 0 : custom_scratch(&work.launch);
  if (bytes > choices->scratch) choices->scratch = bytes;
}

descent_status choose_prepare(struct product_choices *choices, const struct backend_device *device,
                              const struct device_buffers *buffers) {
  const struct plan *plan = buffers->plan;
  const struct dense_choice *choice;
  descent_status status;
  TRY(ways_prepare(&choices->ways, device, buffers));
  choices->dense = module_allocate(plan->n_ops, sizeof *choices->dense, "the choice of algorithms");
  choices->masked = module_allocate(plan->n_ops, sizeof *choices->masked, "the choice of algorithms");
  if (!choices->dense || !choices->masked) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < plan->n_ops; i++)
    if (plan_has_product(&plan->ops[i])) TRY(choose_dense(choices, i, choose_captured_rows(plan, i), &choice));
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT) TRY(choose_mask(choices, i));
  for (int i = 0; i < plan->n_ops; i++) {
    if (choices->dense[i][0].rows) count_scratch(choices, i, &choices->dense[i][0].way);
    if (choices->masked[i].taken) count_scratch(choices, i, &choices->masked[i].way);
  }
done:
  return status;
}

descent_status choose_take(struct product_choices *choices, struct device_memory *memory) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < choices->ways.plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->bytes) TRY(device_memory_take(memory, choice->bytes, "a mask of relu", &choice->way.mask));
  }
  for (int i = 0; i < choices->ways.plan->n_ops; i++) {
    struct masked_choice *choice = &choices->masked[i];
    if (choice->taken && choices->ways.plan->ops[i].kind == OP_DENSE_BACKWARD_INPUT)
      choice->way.mask = choices->masked[choice->partner].way.mask;
  }
done:
  return status;
}

void choose_release(struct product_choices *choices) {
  for (int i = 0; choices->masked && i < choices->ways.plan->n_ops; i++)
    if (choices->masked[i].bytes) device_memory_free(choices->masked[i].way.mask);
  ways_release(&choices->ways);
  free(choices->masked);
  free(choices->dense);
}
