/* The sum over ranks. What is sent has the plan's layout, so that its length and order do not depend on the device. */
#include "ranks.h"

#include "core/communicator.h"

static const struct plan_allreduce *find(const struct plan *plan) {
  for (int i = 0; i < plan->n_ops; i++)
    if (plan->ops[i].kind == OP_ALLREDUCE) return &plan->ops[i].allreduce;
  return NULL;
}

descent_status ranks_prepare(struct rank_sums *sums, const struct backend_device *device,
                             const struct device_buffers *buffers, struct device_memory *memory) {
  const struct plan *const plan = buffers->plan;
  const struct plan_allreduce *const op = find(plan);
  descent_status status = DESCENT_OK;
  if (!op || !communicator_exchanges(plan->communicator)) return DESCENT_OK;
  CUDA_TRY(cudaMallocHost((void **)&sums->gradients, (size_t)op->n * sizeof *sums->gradients));
  CUDA_TRY(cudaMallocHost((void **)&sums->loss, sizeof *sums->loss));
  TRY(connection_prepare(&sums->connection, device, plan->communicator, layout_data(buffers, op->gradients),
                         buffers->flat.device_count, (double *)layout_data(buffers, op->scalars) + SCALAR_LOSS,
                         memory));
done:
  return status;
}

void ranks_release(struct rank_sums *sums) {
  connection_release(&sums->connection);
  if (sums->gradients) (void)cudaFreeHost(sums->gradients);
  if (sums->loss) (void)cudaFreeHost(sums->loss);
}

/* Rows of W are padded on the device: the padding stays as it is. */
static descent_status copy_gradients(const struct rank_sums *sums, const struct device_buffers *buffers,
                                     const struct plan_allreduce *op, bool writing, cudaStream_t stream) {
  descent_status status = DESCENT_OK;
  for (int64_t done = 0; done < op->n;) {
    const struct device_block block = layout_block(buffers, op->gradients, done, op->n - done);
    float *const device = (float *)layout_data(buffers, op->gradients) + block.device, *const host =
                                                                                           sums->gradients + done;
    const size_t width = (size_t)block.cols * sizeof(float), pitch = (size_t)block.ld * sizeof(float);
    if (writing)
      CUDA_TRY(
          cudaMemcpy2DAsync(device, pitch, host, width, width, (size_t)block.rows, cudaMemcpyHostToDevice, stream));
    else
      CUDA_TRY(
          cudaMemcpy2DAsync(host, width, device, pitch, width, (size_t)block.rows, cudaMemcpyDeviceToHost, stream));
    done += block.rows * block.cols;
  }
done:
  return status;
}

descent_status ranks_sum(const struct rank_sums *sums, const struct device_buffers *buffers,
                         const struct plan_allreduce *op, cudaStream_t stream) {
  struct descent_communicator *const communicator = buffers->plan->communicator;
  double *loss;
  descent_status status = DESCENT_OK;
  if (!sums->gradients) return DESCENT_OK;
  if (sums->connection.exchange.comm || sums->connection.failed) return connection_sum(&sums->connection, stream);
  loss = (double *)layout_data(buffers, op->scalars) + SCALAR_LOSS;
  TRY(copy_gradients(sums, buffers, op, false, stream));
  CUDA_TRY(cudaMemcpyAsync(sums->loss, loss, sizeof *loss, cudaMemcpyDeviceToHost, stream));
  CUDA_TRY(cudaStreamSynchronize(stream));
  TRY(communicator->sum(communicator, sums->gradients, op->n, sums->loss, 1));
  TRY(copy_gradients(sums, buffers, op, true, stream));
  CUDA_TRY(cudaMemcpyAsync(loss, sums->loss, sizeof *loss, cudaMemcpyHostToDevice, stream));
done:
  return status;
}

const char *ranks_path(const struct rank_sums *sums) {
  if (!sums->gradients) return "";
  return sums->connection.exchange.comm ? "nccl" : "host memory";
}
