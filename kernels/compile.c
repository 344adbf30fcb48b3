/* Compiles a plan: lays out the buffers, chooses the algorithms, allocates the memory and captures the ranges. */
#include "compile.h"

#include <stdio.h>
#include <stdlib.h>

#include "compiled.h"
#include "plan/operations.h"
#include "together.h"

bool compile_supports(const struct backend_device *device, const struct plan *plan, const struct plan_op *op) {
  (void)device;
  int64_t n_in = 0, n_out = 0;
  if (op->kind == OP_DENSE_FORWARD) n_in = op->forward.n_in, n_out = op->forward.n_out;
  if (plan->batch > INT32_MAX || n_in > INT32_MAX || n_out > INT32_MAX) {
    module_status(DESCENT_ERROR_UNSUPPORTED,
                  "layer %d of %lld x %lld at batch %lld: GPU products take at most 2^31 - 1", op->layer,
                  (long long)n_out, (long long)n_in, (long long)plan->batch);
    return false;
  }
  return true;
}

/* Bytes of it that the custom kernels of dense operations need. */
static size_t scratch_of(const struct backend_program *program) {
  const size_t layers = program->choices.scratch, fused = program->fusion.scratch;
  return layers > fused ? layers : fused;
}

/* Bytes that compile allocates: those that grow with the batch, and the rest. */
static void count_bytes(const struct backend_program *program, double *per_row, double *fixed) {
  const struct plan *plan = program->plan;
  double batch;
  fusion_bytes(&program->fusion, &batch, fixed);
  *fixed += (double)scratch_of(program);
  if (plan->precision == DESCENT_PRECISION_BF16) *fixed += 2.0 * (double)program->buffers.flat.device_count;
  for (int i = 0; i < plan->n_buffers; i++) {
    if (!program->buffers.at[i].owned) continue;
    if (plan->buffers[i].storage == PLAN_BATCH)
      batch += (double)program->buffers.at[i].bytes / (double)plan->buffers[i].rows;
    else
      *fixed += (double)program->buffers.at[i].bytes;
  }
  for (int i = 0; i < plan->n_ops; i++) batch += (double)program->choices.masked[i].bytes / (double)plan->batch;
  *per_row = batch;
}

/* Replaces the last error by one that states the memory of all buffers and the batch size that would fit. Keeps the
 * error if the buffers should have fitted. */
static descent_status explain_memory(const struct backend_program *program, size_t free_before) {
  double per_row, fixed;
  enum { RESERVE = 64 << 20 }; /* for memory that is not counted here: scratch, graphs */
  count_bytes(program, &per_row, &fixed);
  const double batch = (double)program->plan->batch, total = fixed + per_row * batch;
  const double fit = ((double)free_before - fixed - RESERVE) / per_row;
  char advice[96];
  if (fit >= batch) return DESCENT_ERROR_MEMORY;
  if (fit >= 1)
    snprintf(advice, sizeof advice, "a batch size of %.0f would fit", fit);
  else
    snprintf(advice, sizeof advice, "the network itself does not fit: use a smaller one or a larger GPU");
  return module_status(DESCENT_ERROR_MEMORY, "out of GPU memory: batch size %.0f needs %.1f MB, %.1f MB are free; %s",
                       batch, 1e-6 * total, 1e-6 * (double)free_before, advice);
}

void compile_release(struct backend_program *program) {
  if (!program) return;
  connection_close(&program->ranks.connection, program->device->stream);
  (void)cudaStreamSynchronize(program->device->stream);
  (void)cudaStreamSynchronize(program->device->copies);
  together_forget(program);
  run_release(program);
  fusion_release(&program->fusion);
  choose_release(&program->choices);
  source_release(&program->sources);
  transfer_release(&program->transfer, program->plan);
  beside_release(&program->beside);
  ranks_release(&program->ranks);
  work_release(&program->work);
  layout_release(&program->buffers);
  (void)cudaGetLastError();
  free(program);
}

const char *compile_arithmetic(const struct backend_program *program) { return program->arithmetic; }

descent_status compile_plan(struct backend_device *device, const struct plan *plan, struct backend_program **result) {
  for (int i = 0; i < plan->n_ops; i++)
    if (!compile_supports(device, plan, &plan->ops[i])) return DESCENT_ERROR_UNSUPPORTED;
  struct backend_program *program = module_allocate(1, sizeof *program, "the compiled plan");
  if (!program) return DESCENT_ERROR_MEMORY;
  size_t free_before = 0, total = 0;
  descent_status status = DESCENT_OK;
  program->device = device;
  program->plan = plan;
  program->memory.stream = device->stream;
  CUDA_TRY(cudaMemGetInfo(&free_before, &total));
  TRY(layout_plan(&program->buffers, plan));
  TRY(choose_prepare(&program->choices, device, &program->buffers));
  TRY(fusion_prepare(&program->fusion, &program->choices, &program->buffers));
  const uint32_t digest = fusion_digest(&program->fusion, choose_digest(&program->choices, plan_training(plan)));
  snprintf(program->arithmetic, sizeof program->arithmetic, "%s, choices %08x", device->arithmetic, (unsigned)digest);
  TRY(layout_take(&program->buffers, &program->memory));
  TRY(work_prepare(&program->work, &program->buffers, scratch_of(program), &program->memory));
  TRY(ranks_prepare(&program->ranks, device, &program->buffers, &program->memory));
  TRY(beside_prepare(&program->beside, device, &program->buffers, &program->choices, &program->work, &program->memory));
  TRY(choose_take(&program->choices, &program->memory));
  TRY(fusion_take(&program->fusion, &program->work, &program->memory));
  TRY(source_prepare(&program->sources, device, plan, &program->buffers, &program->fusion, &program->memory));
  TRY(transfer_prepare(&program->transfer, plan));
  TRY(run_prepare(program));
  CUDA_TRY(cudaStreamSynchronize(device->stream));
  *result = program;
  return DESCENT_OK;
done:
  if (status == DESCENT_ERROR_MEMORY && program->choices.masked) status = explain_memory(program, free_before);
  compile_release(program);
  return status;
}
