/* Compiling a plan for the device: every buffer allocated, every algorithm chosen, the ranges captured; and moving
 * values between the host's buffers and the device's. */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/operations.h"

/* ---- what can be compiled --------------------------------------------------------------------------------------- */

static bool device_supports(const struct backend_device *device, const struct plan *plan, const struct plan_op *op) {
  (void)device;
  int64_t n_in = 0, n_out = 0;
  if (op->kind == OP_DENSE_FORWARD) n_in = op->forward.n_in, n_out = op->forward.n_out;
  if (plan->batch > INT32_MAX || n_in > INT32_MAX || n_out > INT32_MAX) {
    module_status(DESCENT_ERROR_UNSUPPORTED, "layer %d of %lld x %lld at batch %lld: the GPU's products reach 2^31 - 1",
                  op->layer, (long long)n_out, (long long)n_in, (long long)plan->batch);
    return false;
  }
  return true;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

descent_status program_take(struct backend_program *program, int64_t bytes, const char *what, void **memory) {
  if (bytes < 1) bytes = 1;
  const cudaError_t error = cudaMalloc(memory, (size_t)bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    *memory = NULL;
    return module_status(DESCENT_ERROR_MEMORY, "cannot allocate %.1f MB on the GPU for %s", 1e-6 * (double)bytes, what);
  }
  descent_status status = DESCENT_OK;
  CUDA_TRY(error);
  program->bytes += bytes;
  CUDA_TRY(cudaMemsetAsync(*memory, 0, (size_t)bytes, program->device->stream));
done:
  return status;
}

/* Bytes that compile will take: those that grow with the batch, and the others. */
static void count_bytes(const struct backend_program *program, double *per_row, double *fixed) {
  const struct plan *plan = program->plan;
  double batch = 8; /* gathered */
  *fixed = plan->precision == DESCENT_PRECISION_BF16 ? 2.0 * (double)program->flat.device_count : 0;
  for (int i = 0; i < plan->n_buffers; i++) {
    if (!program->buffers[i].owned) continue;
    if (plan->buffers[i].storage == PLAN_BATCH)
      batch += (double)program->buffers[i].bytes / (double)plan->buffers[i].rows;
    else
      *fixed += (double)program->buffers[i].bytes;
  }
  for (int i = 0; i < plan->n_ops; i++) batch += (double)program->masked[i].bytes / (double)plan->batch;
  *per_row = batch;
}

/* Replaces the last error by one that says what all buffers need and which batch would fit; keeps it where they should
 * have found room. */
static descent_status explain_memory(const struct backend_program *program, size_t free_before) {
  double per_row, fixed;
  enum { RESERVE = 64 << 20 }; /* for what is not counted: scratch, graphs */
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

static descent_status take_buffers(struct backend_program *program) {
  const struct plan *plan = program->plan;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < plan->n_buffers; i++)
    if (program->buffers[i].owned)
      TRY(program_take(program, program->buffers[i].bytes, plan->buffers[i].name, &program->buffers[i].data));
  for (int i = 0; i < plan->n_buffers; i++)
    for (int j = 0; plan->buffers[i].slot && j < i && !program->buffers[i].data; j++)
      if (plan->buffers[j].slot == plan->buffers[i].slot) program->buffers[i].data = program->buffers[j].data;
  if (plan->precision == DESCENT_PRECISION_BF16 && program->parameters != PLAN_NONE)
    TRY(program_take(program, 2 * program->flat.device_count, "the bf16 copy of the parameters", &program->working));
done:
  return status;
}

descent_status program_zero(struct backend_program *program) {
  const cudaStream_t stream = program->device->stream;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < program->plan->n_buffers; i++) {
    const struct device_buffer *b = &program->buffers[i];
    if (b->owned && b->bytes) CUDA_TRY(cudaMemsetAsync(b->data, 0, (size_t)b->bytes, stream));
  }
  if (program->working) CUDA_TRY(cudaMemsetAsync(program->working, 0, 2 * (size_t)program->flat.device_count, stream));
  CUDA_TRY(cudaMemsetAsync(program->bad_parameters, 0, sizeof *program->bad_parameters, stream));
done:
  return status;
}

/* Cuts each layer's part of the flat buffers into pieces of one block's work. */
static descent_status take_pieces(struct backend_program *program) {
  const struct plan *plan = program->plan;
  const int64_t each = flat_piece_floats(program->flat.device_count);
  struct flat_piece *pieces = NULL;
  descent_status status = DESCENT_OK;
  int64_t n = 0;
  for (int l = 0; l < plan->layers; l++) {
    const int64_t begin = flat_position(&program->flat, plan->segments[l].begin);
    n += (flat_position(&program->flat, plan->segments[l].end) - begin + each - 1) / each;
  }
  if (n > INT32_MAX)
    return module_status(DESCENT_ERROR_UNSUPPORTED, "a network of more than %lld parameters",
                         (long long)INT32_MAX * each);
  pieces = module_allocate(n, sizeof *pieces, "the pieces of the flat buffers");
  if (!pieces) return DESCENT_ERROR_MEMORY;
  for (int l = 0; l < plan->layers; l++) {
    int64_t begin = flat_position(&program->flat, plan->segments[l].begin);
    const int64_t end = flat_position(&program->flat, plan->segments[l].end);
    const int64_t terms = plan->segments[l].end - plan->segments[l].begin;
    for (; begin < end; begin += each)
      pieces[program->n_pieces++] = (struct flat_piece){
          .begin = begin,
          .end = end - begin < each ? end : begin + each,
          .layer = l + 1,
          .terms = (int32_t)(terms < INT32_MAX ? terms : INT32_MAX),
      };
  }
  TRY(program_take(program, n * (int64_t)sizeof *pieces, "the pieces of the flat buffers", (void **)&program->pieces));
  CUDA_TRY(cudaMemcpyAsync(program->pieces, pieces, (size_t)n * sizeof *pieces, cudaMemcpyHostToDevice,
                           program->device->stream));
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  free(pieces);
  return status;
}

static void at_least(size_t *bytes, size_t asked) {
  if (asked > *bytes) *bytes = asked;
}

static size_t scratch_bytes(const struct backend_program *program, int64_t rows) {
  const struct plan *plan = program->plan;
  size_t bytes = 0;
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_op *op = &plan->ops[i];
    switch (op->kind) {
      case OP_GATHER: at_least(&bytes, gather_scratch(rows)); break;
      case OP_LOSS: at_least(&bytes, loss_scratch(rows, op->loss.n)); break;
      case OP_DENSE_BACKWARD_WEIGHTS: at_least(&bytes, column_sums_scratch(rows, op->weights.n_out)); break;
      case OP_DENSE_BACKWARD_INPUT: at_least(&bytes, column_sums_scratch(rows, op->input.n_in)); break;
      case OP_GRADIENT_NORM: at_least(&bytes, norm_scratch(program->n_pieces, plan->layers)); break;
      case OP_UPDATE: at_least(&bytes, update_scratch(program->n_pieces, plan->layers)); break;
      case OP_STATISTICS: at_least(&bytes, statistics_scratch(rows, op->statistics.n)); break;
      case OP_DENSE_FORWARD:
      case OP_METRICS:
      case OP_OUTPUT:
      case OP_KINDS: break;
    }
  }
  return bytes;
}

static descent_status take_scratch(struct backend_program *program) {
  descent_status status;
  size_t bytes = scratch_bytes(program, program->plan->batch);
  if (program->plan->train_rows) at_least(&bytes, scratch_bytes(program, program->plan->train_rows));
  TRY(program_take(program, (int64_t)bytes, "partial sums", &program->scratch.partials));
  TRY(program_take(program, COUNTERS * (int64_t)sizeof(unsigned), "counters", (void **)&program->scratch.counters));
  TRY(program_take(program, program->plan->batch * 8, "the gathered rows", (void **)&program->gathered));
  TRY(program_take(program, (int64_t)sizeof(int), "a flag", (void **)&program->bad_parameters));
done:
  return status;
}

static void release_staging(struct staging *staging) {
  for (int i = 0; i < 2; i++) {
    if (staging->memory[i]) (void)cudaFreeHost(staging->memory[i]);
    if (staging->copied[i]) (void)cudaEventDestroy(staging->copied[i]);
  }
}

static void give(void *memory) {
  if (memory) (void)cudaFree(memory);
}

static void program_release(struct backend_program *program) {
  if (!program) return;
  (void)cudaSetDevice(program->device->ordinal);
  (void)cudaStreamSynchronize(program->device->stream);
  (void)cudaStreamSynchronize(program->device->copies);
  run_release(program);
  choose_release(program);
  source_release(program);
  for (int i = 0; program->buffers && i < program->plan->n_buffers; i++)
    if (program->buffers[i].owned) give(program->buffers[i].data);
  for (int i = 0; program->saved && i < program->plan->n_buffers; i++) give(program->saved[i]);
  release_staging(&program->staging_area);
  give(program->working);
  give(program->pieces);
  give(program->scratch.partials);
  give(program->scratch.counters);
  give(program->gathered);
  give(program->bad_parameters);
  layout_release(program);
  free(program->buffers);
  free(program->saved);
  (void)cudaGetLastError();
  free(program);
}

static descent_status device_compile(struct backend_device *device, const struct plan *plan,
                                     struct backend_program **result) {
  for (int i = 0; i < plan->n_ops; i++)
    if (!device_supports(device, plan, &plan->ops[i])) return DESCENT_ERROR_UNSUPPORTED;
  struct backend_program *program = module_allocate(1, sizeof *program, "the compiled plan");
  if (!program) return DESCENT_ERROR_MEMORY;
  size_t free_before = 0, total = 0;
  descent_status status = DESCENT_OK;
  program->device = device;
  program->plan = plan;
  program->buffers = module_allocate(plan->n_buffers, sizeof *program->buffers, "the plan's buffers");
  program->saved = module_allocate(plan->n_buffers, sizeof *program->saved, "the plan's buffers");
  if (!program->buffers || !program->saved) TRY(DESCENT_ERROR_MEMORY);
  CUDA_TRY(cudaSetDevice(device->ordinal));
  CUDA_TRY(cudaMemGetInfo(&free_before, &total));
  TRY(layout_plan(program));
  TRY(choose_prepare(program));
  TRY(take_buffers(program));
  TRY(take_pieces(program));
  TRY(take_scratch(program));
  TRY(choose_take(program));
  TRY(source_prepare(program));
  TRY(run_prepare(program));
  CUDA_TRY(cudaStreamSynchronize(device->stream));
  *result = program;
  return DESCENT_OK;
done:
  if (status == DESCENT_ERROR_MEMORY && program->masked) status = explain_memory(program, free_before);
  program_release(program);
  return status;
}

/* ---- values in and out ------------------------------------------------------------------------------------------ */

enum { STAGING_BYTES = 2 << 20 }; /* of each of two pinned buffers, that take turns */

static size_t device_size(const struct backend_program *program, int buffer) {
  if (program->plan->buffers[buffer].type != PLAN_F32) return 8;
  return program->buffers[buffer].element == ELEMENT_BF16 ? 2 : 4;
}

static float from_bf16(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float x;
  memcpy(&x, &wide, sizeof x);
  return x;
}

/* To nearest, ties to even. */
static uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return x != x ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* `count` elements of the device's kind (`size` bytes) to the host's; integers and equal types bit for bit. */
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
      wide = (double)from_bf16(half);
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
    const uint16_t half = to_bf16(narrow);
    memcpy(to + size * (size_t)i,
           size == 8   ? (const void *)&wide
           : size == 4 ? (const void *)&narrow
                       : (const void *)&half,
           size);
  }
}

/* May elements offset .. of this buffer be copied as `type`? */
static descent_status check_copy(const struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                 enum plan_type type) {
  char reason[128];
  if (plan_can_copy(program->plan, buffer, offset, count, type, reason, sizeof reason)) return DESCENT_OK;
  return module_status(DESCENT_ERROR_ARGUMENT, "%s", reason);
}

/* Copies the first of the elements from `offset` on between the device and `staging`, where they lie side by side;
 * *copied: as many as it has room for. */
static descent_status copy_piece(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                 bool writing, char *staging, int64_t *copied) {
  const size_t size = device_size(program, buffer);
  const cudaStream_t stream = program->device->stream;
  descent_status status = DESCENT_OK;
  if (count > STAGING_BYTES / (int64_t)size) count = STAGING_BYTES / (int64_t)size;
  for (int64_t done = 0; done < count;) {
    const struct device_block block = layout_block(program, buffer, offset + done, count - done);
    char *device = (char *)program->buffers[buffer].data + (size_t)block.device * size;
    char *host = staging + (size_t)done * size;
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

static descent_status take_staging(struct backend_program *program) {
  struct staging *staging = &program->staging_area;
  descent_status status = DESCENT_OK;
  for (int i = 0; i < 2; i++) {
    if (!staging->memory[i]) CUDA_TRY(cudaMallocHost((void **)&staging->memory[i], STAGING_BYTES));
    if (!staging->copied[i]) CUDA_TRY(cudaEventCreateWithFlags(&staging->copied[i], cudaEventDisableTiming));
  }
done:
  return status;
}

/* Piece by piece: while one is copied from the device, the host unpacks the one before. */
static descent_status read_values(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                  enum plan_type type, char *values) {
  const struct staging *staging = &program->staging_area;
  const enum plan_type kind = program->plan->buffers[buffer].type;
  const size_t size = device_size(program, buffer), host_size = type == PLAN_F32 ? 4 : 8;
  int64_t part[2] = {0, 0};
  descent_status status = DESCENT_OK;
  for (int64_t asked = 0, unpacked = 0, turn = 0; unpacked < count; turn = 1 - turn) {
    part[turn] = 0;
    if (asked < count) {
      TRY(copy_piece(program, buffer, offset + asked, count - asked, false, staging->memory[turn], &part[turn]));
      CUDA_TRY(cudaEventRecord(staging->copied[turn], program->device->stream));
      asked += part[turn];
    }
    const int64_t before = 1 - turn;
    if (part[before] == 0) continue;
    CUDA_TRY(cudaEventSynchronize(staging->copied[before]));
    load_elements(staging->memory[before], size, kind, type, values + (size_t)unpacked * host_size, part[before]);
    unpacked += part[before];
  }
done:
  return status;
}

/* While one piece is copied to the device, the host packs the next. */
static descent_status write_values(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, const char *values) {
  const struct staging *staging = &program->staging_area;
  const enum plan_type kind = program->plan->buffers[buffer].type;
  const size_t size = device_size(program, buffer), host_size = type == PLAN_F32 ? 4 : 8;
  const int64_t room = STAGING_BYTES / (int64_t)size;
  descent_status status = DESCENT_OK;
  for (int64_t done = 0, turn = 0, part; done < count; done += part, turn = 1 - turn) {
    part = count - done < room ? count - done : room;
    CUDA_TRY(cudaEventSynchronize(staging->copied[turn])); /* never recorded: at once */
    store_elements(staging->memory[turn], size, kind, type, values + (size_t)done * host_size, part);
    TRY(copy_piece(program, buffer, offset + done, part, true, staging->memory[turn], &part));
    CUDA_TRY(cudaEventRecord(staging->copied[turn], program->device->stream));
  }
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  return status;
}

/* What follows the parameters, once they have other values. */
static descent_status parameters_changed(struct backend_program *program) {
  const cudaStream_t stream = program->device->stream;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemsetAsync(program->bad_parameters, 0, sizeof(int), stream));
  if (program->working)
    CUDA_TRY(
        launch_cast(program->buffers[program->parameters].data, program->working, program->flat.device_count, stream));
done:
  return status;
}

static descent_status program_read(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                   enum plan_type type, void *data) {
  descent_status status;
  TRY(check_copy(program, buffer, offset, count, type));
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  TRY(take_staging(program));
  TRY(read_values(program, buffer, offset, count, type, data));
done:
  return status;
}

static descent_status program_write(struct backend_program *program, int buffer, int64_t offset, int64_t count,
                                    enum plan_type type, const void *data) {
  descent_status status;
  TRY(check_copy(program, buffer, offset, count, type));
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  TRY(take_staging(program));
  TRY(write_values(program, buffer, offset, count, type, data));
  if (buffer == program->parameters) TRY(parameters_changed(program));
done:
  return status;
}

static descent_status copy_on_device(struct backend_program *program, void *to, const void *from, int64_t bytes) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, program->device->stream));
done:
  return status;
}

static descent_status program_save(struct backend_program *program, int buffer) {
  descent_status status;
  TRY(check_copy(program, buffer, 0, 0, PLAN_F32));
  const int64_t bytes = program->buffers[buffer].bytes;
  void **saved = &program->saved[buffer];
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  if (!*saved) TRY(program_take(program, bytes, "a copy of the state", saved));
  TRY(copy_on_device(program, *saved, program->buffers[buffer].data, bytes));
done:
  return status;
}

static descent_status program_restore(struct backend_program *program, int buffer) {
  descent_status status;
  TRY(check_copy(program, buffer, 0, 0, PLAN_F32));
  if (!program->saved[buffer])
    return module_status(DESCENT_ERROR_ARGUMENT, "buffer %s has not been saved", program->plan->buffers[buffer].name);
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  TRY(copy_on_device(program, program->buffers[buffer].data, program->saved[buffer], program->buffers[buffer].bytes));
  if (buffer == program->parameters) TRY(parameters_changed(program));
done:
  return status;
}

static descent_status program_synchronise(struct backend_program *program) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaStreamSynchronize(program->device->stream));
done:
  return status;
}

static int64_t program_memory(const struct backend_program *program) {
  return program->bytes + product_library_bytes(program->device->products);
}

static const char *program_placement(const struct backend_program *program) { return program->sources.placement; }

static descent_status program_run_product(struct backend_program *program, int op, int64_t rows, int repeat) {
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaSetDevice(program->device->ordinal));
  for (int i = 0; i < repeat; i++) TRY(lower_product(program, op, rows));
done:
  return status;
}

extern const struct backend backend_cuda_program;
const struct backend backend_cuda_program = {
    .supports = device_supports,
    .compile = device_compile,
    .release = program_release,
    .bind = source_bind,
    .placement = program_placement,
    .run = run_steps,
    .run_product = program_run_product,
    .read = program_read,
    .write = program_write,
    .synchronise = program_synchronise,
    .memory = program_memory,
    .save = program_save,
    .restore = program_restore,
    .time = clock_steps,
    .evaluation_bytes = 64 << 20, /* products that fill the device, and few launches and copies */
    .evaluation_rows = 1 << 16,
};
