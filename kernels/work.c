/* Scratch memory of launches, and the pieces of the flat buffers. */
#include "work.h"

#include <stdlib.h>

/* Cuts each layer's part of the flat buffers into pieces of one block's work. */
static descent_status take_pieces(struct work_memory *work, const struct device_buffers *buffers,
                                  struct device_memory *memory) {
  const struct plan *plan = buffers->plan;
  const int64_t each = flat_piece_floats(buffers->flat.device_count);
  struct flat_piece *pieces = NULL;
  descent_status status = DESCENT_OK;
  int64_t n = 0;
  for (int l = 0; l < plan->layers; l++) {
    const int64_t begin = flat_position(&buffers->flat, plan->segments[l].begin);
    n += (flat_position(&buffers->flat, plan->segments[l].end) - begin + each - 1) / each;
  }
  if (n > INT32_MAX)
    return module_status(DESCENT_ERROR_UNSUPPORTED, "a network of more than %lld parameters",
                         (long long)INT32_MAX * each);
  pieces = module_allocate(n, sizeof *pieces, "the pieces of the flat buffers");
  if (!pieces) return DESCENT_ERROR_MEMORY;
  for (int l = 0; l < plan->layers; l++) {
    int64_t begin = flat_position(&buffers->flat, plan->segments[l].begin);
    const int64_t end = flat_position(&buffers->flat, plan->segments[l].end);
    const int64_t terms = plan->segments[l].end - plan->segments[l].begin;
    for (; begin < end; begin += each)
      pieces[work->n_pieces++] = (struct flat_piece){
          .begin = begin,
          .end = end - begin < each ? end : begin + each,
          .layer = l + 1,
          .terms = (int32_t)(terms < INT32_MAX ? terms : INT32_MAX),
      };
  }
  TRY(device_memory_take(memory, n * (int64_t)sizeof *pieces, "the pieces of the flat buffers",
                         (void **)&work->pieces));
  CUDA_TRY(cudaMemcpyAsync(work->pieces, pieces, (size_t)n * sizeof *pieces, cudaMemcpyHostToDevice, memory->stream));
  CUDA_TRY(cudaStreamSynchronize(memory->stream));
done:
  free(pieces);
  return status;
}

/* Where each layer's b begins in the flat buffers. */
static descent_status take_biases(struct work_memory *work, const struct device_buffers *buffers,
                                  struct device_memory *memory) {
  const struct plan *plan = buffers->plan;
  const size_t bytes = (size_t)plan->layers * sizeof *work->biases;
  int64_t *biases = module_allocate(plan->layers, sizeof *biases, "the places of the biases");
  descent_status status = biases ? DESCENT_OK : DESCENT_ERROR_MEMORY;
  if (status != DESCENT_OK) return status;
  for (int l = 0; l < plan->layers; l++) biases[l] = flat_position(&buffers->flat, plan->segments[l].b);
  TRY(device_memory_take(memory, (int64_t)bytes, "the places of the biases", (void **)&work->biases));
  CUDA_TRY(cudaMemcpyAsync(work->biases, biases, bytes, cudaMemcpyHostToDevice, memory->stream));
  CUDA_TRY(cudaStreamSynchronize(memory->stream));
done:
  free(biases);
  return status;
}

static bool has_trust_ratio(const struct plan *plan) {
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_TRUST_RATIO) return true;
  return false;
}

static void at_least(size_t *bytes, size_t least) {
  if (least > *bytes) *bytes = least;
}

static size_t scratch_bytes(const struct plan *plan, int n_pieces, int64_t rows) {
  size_t bytes = 0;
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    switch (op->kind) {
      case OP_GATHER: at_least(&bytes, gather_scratch(rows)); break;
      case OP_LOSS: at_least(&bytes, loss_scratch(rows)); break;
      case OP_DENSE_BACKWARD_WEIGHTS: at_least(&bytes, column_sums_scratch(rows, op->weights.n_out)); break;
      case OP_DENSE_BACKWARD_INPUT: at_least(&bytes, column_sums_scratch(rows, op->input.n_in)); break;
      case OP_GRADIENT_NORM: at_least(&bytes, norm_scratch(n_pieces, plan->layers)); break;
      case OP_TRUST_RATIO: at_least(&bytes, trust_scratch(n_pieces, plan->layers)); break;
      case OP_UPDATE: at_least(&bytes, update_scratch(n_pieces, plan->layers)); break;
      case OP_STATISTICS: at_least(&bytes, statistics_scratch(rows, op->statistics.n)); break;
      case OP_DENSE_FORWARD:
      case OP_BACKWARD_OUTPUT:
      case OP_ACCUMULATE:
      case OP_COMBINE:
      case OP_ALLREDUCE:
      case OP_METRICS:
      case OP_OUTPUT:
      case OP_KINDS: break;
    }
  }
  return bytes;
}

descent_status work_take_scratch(const struct work_memory *work, struct device_memory *memory,
                                 struct scratch *scratch) {
  descent_status status;
  TRY(device_memory_take(memory, work->scratch_bytes, "partial sums", &scratch->partials));
  TRY(device_memory_take(memory, COUNTERS * (int64_t)sizeof(unsigned), "counters", (void **)&scratch->counters));
done:
  return status;
}

static descent_status take_scratch(struct work_memory *work, const struct plan *plan, size_t least,
                                   struct device_memory *memory) {
  descent_status status;
  size_t bytes = scratch_bytes(plan, work->n_pieces, plan->batch);
  at_least(&bytes, least);
  if (plan->train_rows) at_least(&bytes, scratch_bytes(plan, work->n_pieces, plan->train_rows));
  work->scratch_bytes = (int64_t)bytes;
  TRY(work_take_scratch(work, memory, &work->scratch));
  TRY(device_memory_take(memory, (int64_t)sizeof(int), "a flag", (void **)&work->bad_parameters));
done:
  return status;
}

descent_status work_prepare(struct work_memory *work, const struct device_buffers *buffers, size_t scratch,
                            struct device_memory *memory) {
  descent_status status;
  TRY(take_pieces(work, buffers, memory));
  if (has_trust_ratio(buffers->plan)) TRY(take_biases(work, buffers, memory));
  TRY(take_scratch(work, buffers->plan, scratch, memory));
done:
  return status;
}

void work_release(struct work_memory *work) {
  device_memory_free(work->pieces);
  device_memory_free(work->biases);
  device_memory_free(work->scratch.partials);
  device_memory_free(work->scratch.counters);
  device_memory_free(work->bad_parameters);
}

descent_status work_clear_flag(const struct work_memory *work, cudaStream_t stream) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemsetAsync(work->bad_parameters, 0, sizeof *work->bad_parameters, stream));
done:
  return status;
}
