/* Values between the host's memory and the plan's buffers, in pieces through pinned memory. */
#include "transfer.h"

#include <stdlib.h>
#include <string.h>

#include "compiled.h"
#include "core/half.h"
#include "plan/operations.h"

enum { TRANSFER_BYTES = 2 << 20 };

static size_t device_size(const struct backend_program *program, int buffer) {
  if (program->plan->buffers[buffer].type != PLAN_F32) return 8;
  return program->buffers.at[buffer].element == ELEMENT_BF16 ? 2 : 4;
}

/* Converts `count` elements of `size` bytes each to the host's type; integers and equal types bit for bit. */
static void load_elements(const char *from, size_t size, enum plan_type device, enum plan_type type, void *to,
                          int64_t count) {
  if ((type == PLAN_F32 && size == 4) || (type != PLAN_F32 && device != PLAN_F32)) {
    memcpy(to, from, (size_t)count * size);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    double wide;
    float narrow;
    uint16_t half;
    if (size == 8) {
      memcpy(&wide, from + 8 * i, 8);
    } else if (size == 4) {
      memcpy(&narrow, from + 4 * i, 4);
      wide = (double)narrow;
    } else {
      memcpy(&half, from + 2 * i, 2);
      wide = (double)bf16_to_float(half);
    }
    if (type == PLAN_F32)
      ((float *)to)[i] = (float)wide;
    else
      ((double *)to)[i] = wide;
  }
}

static void store_elements(char *to, size_t size, enum plan_type device, enum plan_type type, const void *from,
                           int64_t count) {
  if ((type == PLAN_F32 && size == 4) || (type != PLAN_F32 && device != PLAN_F32)) {
    memcpy(to, from, (size_t)count * size);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    const double wide = type == PLAN_F32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
    const float narrow = (float)wide;
    const uint16_t half = bf16_from_float(narrow);
    memcpy(to + size * (size_t)i,
           size == 8   ? (const void *)&wide
           : size == 4 ? (const void *)&narrow
                       : (const void *)&half,
           size);
  }
}

/* Checks that `count` elements from `offset` on can be copied as `type`. */
static descent_status check_copy(const struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                 enum plan_type type) {
  char reason[128];
  if (plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason)) return DESCENT_OK;
  return module_status(DESCENT_ERROR_ARGUMENT, "%s", reason);
}

/* Copies elements from `offset` on between the device and `pinned`, which holds them adjacent; *copied: their number,
 * as many as fit. */
static descent_status copy_piece(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                 bool writing, char *pinned, int64_t *copied) {
  const size_t size = device_size(program, buffer);
  const cudaStream_t stream = program->device->stream;
  descent_status status = DESCENT_OK;
  if (count > TRANSFER_BYTES / (int64_t)size) count = TRANSFER_BYTES / (int64_t)size;
  for (int64_t done = 0; done < count;) {
    const struct device_block block = layout_block(&program->buffers, buffer, offset + done, count - done);
    char *device = (char *)program->buffers.at[buffer].data + (size_t)block.device * size;
    char *host = pinned + (size_t)done * size;
    const size_t width = (size_t)block.cols * size, pitch = (size_t)block.ld * size, rows = (size_t)block.rows;
    const enum cudaMemcpyKind kind = writing ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
    if (rows == 1)
      CUDA_TRY(cudaMemcpyAsync(writing ? device : host, writing ? host : device, width, kind, stream));
    else if (writing)
      CUDA_TRY(cudaMemcpy2DAsync(device, pitch, host, width, width, rows, kind, stream));
    else
      CUDA_TRY(cudaMemcpy2DAsync(host, width, device, pitch, width, rows, kind, stream));
    done += block.rows * block.cols;
  }
  *copied = count;
done:
  return status;
}

static descent_status take_pinned(struct transfer *transfer) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < 2; i++) {
    if (!transfer->pinned[i]) CUDA_TRY(cudaMallocHost((void **)&transfer->pinned[i], TRANSFER_BYTES));
    if (!transfer->copied[i]) CUDA_TRY(cudaEventCreateWithFlags(&transfer->copied[i], cudaEventDisableTiming));
  }
done:
  return status;
}

/* While one piece is copied from the device, the host unpacks the previous one. */
static descent_status read_values(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                  enum plan_type type, char *values) {
  const struct transfer *transfer = &program->transfer;
  const enum plan_type kind = program->plan->buffers[buffer].type;
  const size_t size = device_size(program, buffer), host_size = type == PLAN_F32 ? 4 : 8;
  int64_t part[2] = {0, 0};
  descent_status status = DESCENT_OK;
  for (int64_t asked = 0, unpacked = 0, turn = 0; unpacked < count; turn = 1 - turn) {
    part[turn] = 0;
    if (asked < count) {
      TRY(copy_piece(program, buffer, offset + asked, count - asked, false, transfer->pinned[turn], &part[turn]));
      CUDA_TRY(cudaEventRecord(transfer->copied[turn], program->device->stream));
      asked += part[turn];
    }
    const int64_t before = 1 - turn;
    if (part[before] == 0) continue;
    CUDA_TRY(cudaEventSynchronize(transfer->copied[before]));
    load_elements(transfer->pinned[before], size, kind, type, values + (size_t)unpacked * host_size, part[before]);
    unpacked += part[before];
  }
done:
  return status;
}

/* While one piece is copied to the device, the host packs the next. */
static descent_status write_values(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, const char *values) {
  const struct transfer *transfer = &program->transfer;
  const enum plan_type kind = program->plan->buffers[buffer].type;
  const size_t size = device_size(program, buffer), host_size = type == PLAN_F32 ? 4 : 8;
  const int64_t room = TRANSFER_BYTES / (int64_t)size;
  descent_status status = DESCENT_OK;
  for (int64_t done = 0, turn = 0, part; done < count; done += part, turn = 1 - turn) {
    part = count - done < room ? count - done : room;
    CUDA_TRY(cudaEventSynchronize(transfer->copied[turn])); /* returns at once if never recorded */
    store_elements(transfer->pinned[turn], size, kind, type, values + (size_t)done * host_size, part);
    TRY(copy_piece(program, buffer, offset + done, part, true, transfer->pinned[turn], &part));
    CUDA_TRY(cudaEventRecord(transfer->copied[turn], program->device->stream));
  }
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  return status;
}

/* Updates the state derived from the parameters. */
static descent_status parameters_changed(struct backend_program *program) {
  const cudaStream_t stream = program->device->stream;
  descent_status status = DESCENT_OK;
  TRY(work_clear_flag(&program->work, stream));
  if (program->buffers.working)
    CUDA_TRY(launch_cast(program->buffers.at[program->buffers.parameters].data, program->buffers.working,
                         program->buffers.flat.device_count, stream));
done:
  return status;
}

/* A buffer of the step's rows is about to be written, in part perhaps: the others must not be computed from it later. */
static descent_status before_write(struct backend_program *program, int buffer) {
  return program->plan->buffers[buffer].storage == PLAN_BATCH ? run_values(program) : DESCENT_OK;
}

descent_status transfer_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                             enum plan_type type, void *data) {
  descent_status status;
  TRY(check_copy(program, buffer, offset, count, type));
  if (run_leaves_out(program, buffer)) TRY(run_values(program));
  TRY(take_pinned(&program->transfer));
  TRY(read_values(program, buffer, offset, count, type, data));
done:
  return status;
}

descent_status transfer_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                              enum plan_type type, const void *data) {
  descent_status status;
  TRY(check_copy(program, buffer, offset, count, type));
  TRY(before_write(program, buffer));
  TRY(take_pinned(&program->transfer));
  source_written(&program->sources, buffer); /* also if only a part arrives */
  TRY(write_values(program, buffer, offset, count, type, data));
  if (buffer == program->buffers.parameters) TRY(parameters_changed(program));
done:
  return status;
}

static descent_status copy_on_device(struct backend_program *program, void *to, const void *from, int64_t bytes) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, program->device->stream));
done:
  return status;
}

descent_status transfer_save(struct backend_program *program, int buffer) {
  descent_status status;
  TRY(check_copy(program, buffer, 0, 0, PLAN_F32));
  if (run_leaves_out(program, buffer)) TRY(run_values(program));
  const int64_t bytes = program->buffers.at[buffer].bytes;
  void **saved = &program->transfer.saved[buffer];
  if (!*saved) TRY(device_memory_take(&program->memory, bytes, "a copy of the state", saved));
  TRY(copy_on_device(program, *saved, program->buffers.at[buffer].data, bytes));
done:
  return status;
}

descent_status transfer_restore(struct backend_program *program, int buffer) {
  descent_status status;
  TRY(check_copy(program, buffer, 0, 0, PLAN_F32));
  if (!program->transfer.saved[buffer])
    return module_status(DESCENT_ERROR_ARGUMENT, "buffer %s has not been saved", program->plan->buffers[buffer].name);
  TRY(before_write(program, buffer));
  source_written(&program->sources, buffer);
  TRY(copy_on_device(program, program->buffers.at[buffer].data, program->transfer.saved[buffer],
                     program->buffers.at[buffer].bytes));
  if (buffer == program->buffers.parameters) TRY(parameters_changed(program));
done:
  return status;
}

descent_status transfer_view(struct backend_program *program, int buffer, int64_t rows, descent_array *array) {
  descent_status status;
  if (buffer >= 0 && run_leaves_out(program, buffer)) TRY(run_values(program));
  TRY(layout_view(&program->buffers, program->device->ordinal, buffer, rows, array));
done:
  return status;
}

descent_status transfer_prepare(struct transfer *transfer, const struct plan *plan) {
  transfer->saved = module_allocate(plan->n_buffers, sizeof *transfer->saved, "the plan's buffers");
  return transfer->saved ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

void transfer_release(struct transfer *transfer, const struct plan *plan) {
  for (int i = 0; transfer->saved && i < plan->n_buffers; i++) device_memory_free(transfer->saved[i]);
  for (int i = 0; i < 2; i++) {
    if (transfer->pinned[i]) (void)cudaFreeHost(transfer->pinned[i]);
    if (transfer->copied[i]) (void)cudaEventDestroy(transfer->copied[i]);
  }
  free(transfer->saved);
}
