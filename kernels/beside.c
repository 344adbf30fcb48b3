/* A weights' operation (dW, db) and the input's operation behind it (dZ of the layer below) read the same dZ and write
 * different memory, so a captured range runs them at the same time where one alone leaves the GPU partly idle: the
 * first on a second stream. Same kernels, same bits.
 *
 * The first stream waits for the second one before it overwrites a dZ that is still read there, since the dZ of layers
 * take turns in two slots of memory, and before any operation other than these two, which may read the gradients. */
#include "beside.h"

#include <stdlib.h>
#include <string.h>

/* The input's operation beside which this op of the range runs; NULL: none. */
static const struct plan_dense_backward_input *neighbour_of(const struct plan *plan, struct plan_range range,
                                                            int index) {
  const struct plan_op *const op = &plan->ops[index];
  if (op->kind != OP_DENSE_BACKWARD_WEIGHTS || index + 1 >= range.first + range.count) return NULL;
  const bool follows = op[1].kind == OP_DENSE_BACKWARD_INPUT && op[1].input.dZ == op->weights.dZ;
  return follows ? &op[1].input : NULL;
}

/* True if the product for dZ of the layer below, in tiles of 128 x 128 as cuBLASLt's largest, has at most one for each
 * multiprocessor: what it leaves idle, dW can use. A larger one occupies all of them alone. The bits do not depend on
 * this. */
static bool leaves_room(const struct backend_device *device, const struct plan_dense_backward_input *input,
                        int64_t rows) {
  enum { TILE = 128 };
  const int64_t across = (input->n_in + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
  struct product_shape shape;
  char key[TUNE_KEY];
  memset(&shape, 0, sizeof shape);
  shape.m = rows, shape.n = input->n_in, shape.k = input->n_out;
  product_library_key(device->products, &shape, key);
  if (product_library_draws(device->products)) return product_library_draw(device->products, key, "beside", 2) == 1;
  return down <= device->multiprocessors / across;
}

int beside_neighbour(const struct backend_device *device, const struct plan *plan, int op) {
  const struct plan_range all = {0, plan->n_ops};
  const struct plan_dense_backward_input *const input = neighbour_of(plan, all, op);
  return input && leaves_room(device, input, choose_captured_rows(plan, op)) ? op + 1 : -1;
}

descent_status beside_prepare(struct beside *beside, const struct backend_device *device,
                              const struct device_buffers *buffers, const struct product_choices *choices,
                              const struct work_memory *work, struct device_memory *memory) {
  const int64_t workspace = product_library_workspace_bytes(device->products);
  const struct plan *const plan = buffers->plan;
  bool any = false;
  descent_status status = DESCENT_OK;
  beside->plan = plan;
  beside->buffers = buffers;
  beside->choices = choices;
  beside->first =
      (struct launch_place){device->stream, work->scratch, product_library_workspace(device->products, 0), workspace};
  beside->takes = module_allocate(plan->n_ops, sizeof *beside->takes, "the operations of the second stream");
  if (!beside->takes) return DESCENT_ERROR_MEMORY;
  for (int i = 0; i < plan->n_ops; i++) {
    beside->takes[i] = beside_neighbour(device, plan, i) >= 0;
    any = any || beside->takes[i];
  }
  if (!any) goto done;
  TRY(work_take_scratch(work, memory, &beside->second.scratch));
  beside->second.workspace = product_library_workspace(device->products, 1);
  beside->second.workspace_bytes = workspace;
  CUDA_TRY(cudaEventCreateWithFlags(&beside->forked, cudaEventDisableTiming));
  for (int i = 0; i < BESIDE_RUNNING; i++)
    CUDA_TRY(cudaEventCreateWithFlags(&beside->running[i].done, cudaEventDisableTiming));
  beside->second.stream = device->beside;
done:
  return status;
}

void beside_release(struct beside *beside) {
  if (beside->forked) (void)cudaEventDestroy(beside->forked);
  for (int i = 0; i < BESIDE_RUNNING; i++)
    if (beside->running[i].done) (void)cudaEventDestroy(beside->running[i].done);
  device_memory_free(beside->workspaces);
  device_memory_free(beside->second.scratch.partials);
  device_memory_free(beside->second.scratch.counters);
  free(beside->takes);
}

/* Streams with a workspace. */
static int streams(const struct beside *beside) { return beside->second.stream ? 2 : 1; }

static int64_t workspace_bytes(const struct beside *beside) {
  enum { UNIT = 256 }; /* bytes: the alignment of cudaMalloc, for the second one too */
  return (choose_workspace(beside->choices) + UNIT - 1) / UNIT * UNIT;
}

int64_t beside_separate_bytes(const struct beside *beside) {
  return beside->workspaces ? 0 : streams(beside) * workspace_bytes(beside);
}

descent_status beside_separate(struct beside *beside, struct device_memory *memory, bool *taken) {
  const int64_t bytes = workspace_bytes(beside), all = beside_separate_bytes(beside);
  struct launch_place *const places[] = {&beside->first, &beside->second};
  descent_status status = DESCENT_OK;
  *taken = true;
  if (all == 0) goto done;
  TRY(device_memory_try(memory, all, &beside->workspaces));
  *taken = beside->workspaces != NULL;
  for (int i = 0; i < streams(beside) && *taken; i++) {
    places[i]->workspace = (char *)beside->workspaces + i * bytes;
    places[i]->workspace_bytes = bytes;
  }
done:
  return status;
}

/* The second stream is in order, so waiting for an operation covers those before it. */
static descent_status wait_for(struct beside *beside, int i) {
  descent_status status = DESCENT_OK;
  if (!beside->running[i].dZ) goto done;
  CUDA_TRY(cudaStreamWaitEvent(beside->first.stream, beside->running[i].done, 0));
  beside->running[i].dZ = NULL;
  launch_next_plainly();
done:
  return status;
}

void beside_abandon(struct beside *beside) {
  for (int i = 0; i < BESIDE_RUNNING; i++) beside->running[i].dZ = NULL;
}

descent_status beside_join(struct beside *beside) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < BESIDE_RUNNING; i++) TRY(wait_for(beside, i));
done:
  return status;
}

descent_status beside_order(struct beside *beside, struct plan_range range, int index,
                            const struct launch_place **place) {
  const struct plan_op *const op = &beside->plan->ops[index];
  descent_status status = DESCENT_OK;
  *place = &beside->first;
  if (beside->second.stream && beside->takes[index] && neighbour_of(beside->plan, range, index)) {
    TRY(wait_for(beside, beside->turn));
    CUDA_TRY(cudaEventRecord(beside->forked, beside->first.stream));
    CUDA_TRY(cudaStreamWaitEvent(beside->second.stream, beside->forked, 0));
    launch_next_plainly();
    *place = &beside->second;
  } else if (op->kind == OP_DENSE_BACKWARD_INPUT) {
    for (int i = 0; i < BESIDE_RUNNING; i++)
      if (beside->running[i].dZ == layout_data(beside->buffers, op->input.dZ_below)) TRY(wait_for(beside, i));
  } else if (op->kind != OP_DENSE_BACKWARD_WEIGHTS) {
    TRY(beside_join(beside));
  }
done:
  return status;
}

descent_status beside_launched(struct beside *beside, int index, const struct launch_place *place) {
  descent_status status = DESCENT_OK;
  if (place == &beside->second) {
    CUDA_TRY(cudaEventRecord(beside->running[beside->turn].done, place->stream));
    beside->running[beside->turn].dZ = layout_data(beside->buffers, beside->plan->ops[index].weights.dZ);
    beside->turn = (beside->turn + 1) % BESIDE_RUNNING;
    launch_next_plainly(); /* the first stream may have waited before the fork, for which this launch was plain */
  }
done:
  return status;
}
