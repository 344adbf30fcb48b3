/* Normalised rows replace the float32 rows on the device, at half the bytes: a step's gather then only copies rows. They
 * are made when a run first needs them, and again when fill, shift or scale have been written since. */
#include "resident.h"

#include <stdlib.h>

#include "plan/operations.h"

static const int64_t reserve = INT64_C(256) << 20;  /* device memory that resident data leaves free */
static const int64_t most_piece = INT64_C(8) << 20; /* of float32 rows, unless one row is larger */

/* All rows of the piece are rows of its step. */
struct resident_input {
  struct step_state state;
  struct source_table table;
};

/* ---- the plan's gather ---- */

static bool same_inputs(const struct plan_gather *a, const struct plan_gather *b) {
  return a->X == b->X && a->n_x == b->n_x && a->fill == b->fill && a->shift == b->shift && a->scale == b->scale;
}

void resident_prepare(struct resident_set *set, const struct backend_device *device, const struct plan *plan,
                      const struct device_buffers *buffers, struct device_memory *memory) {
  const struct plan_gather *first = NULL;
  set->device = device;
  set->memory = memory;
  set->constants = 1;
  for (int i = 0; i < plan->n_ops; i++) {
    if (plan->ops[i].kind != OP_GATHER) continue;
    if (!first) first = &plan->ops[i].gather;
    if (!same_inputs(first, &plan->ops[i].gather)) return; /* one copy serves all gathers or none */
  }
  if (!first) return;
  set->gather = *first;
  set->launch = (struct gather_launch){.fill = layout_data(buffers, first->fill),
                                       .shift = layout_data(buffers, first->shift),
                                       .scale = layout_data(buffers, first->scale),
                                       .X = layout_matrix(buffers, first->X, first->n_x),
                                       .n_x = first->n_x};
  set->launch.X.ld = (first->n_x + 7) / 8 * 8;
}

void resident_release(struct resident_set *set) {
  for (int i = 0; i < set->n; i++) device_memory_free(set->at[i].device);
  device_memory_free(set->piece);
  device_memory_free(set->input);
}

int64_t resident_ld(const struct resident_set *set) { return set->launch.X.ld; }

/* Bytes are smaller as they are, and so are very narrow rows of float32, since normalised ones are padded. */
bool resident_normalises(const struct resident_set *set, descent_dtype dtype) {
  return set->launch.X.element == ELEMENT_BF16 && dtype == DESCENT_DTYPE_F32 &&
         2 * resident_ld(set) < 4 * set->launch.n_x;
}

bool resident_written(struct resident_set *set, int buffer) {
  if (set->launch.X.element != ELEMENT_BF16) return false;
  if (buffer != set->gather.fill && buffer != set->gather.shift && buffer != set->gather.scale) return false;
  set->constants++;
  return true;
}

/* ---- memory ---- */

descent_status resident_free(int64_t *bytes) {
  size_t free_bytes, total;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaMemGetInfo(&free_bytes, &total));
  const int64_t reserved = reserve < (int64_t)(total / 16) ? reserve : (int64_t)(total / 16);
  *bytes = (int64_t)free_bytes - reserved;
done:
  return status;
}

descent_status resident_room(const struct resident_set *set, int64_t *bytes) {
  const char *limit = getenv("DESCENT_GPU_DATA_MB");
  const descent_status status = resident_free(bytes);
  if (status == DESCENT_OK && limit) {
    char *end = NULL;
    const double megabytes = *limit >= '0' && *limit <= '9' ? strtod(limit, &end) : -1;
    if (!end || *end || !(megabytes <= 1e9))
      return module_status(DESCENT_ERROR_ARGUMENT,
                           "DESCENT_GPU_DATA_MB: '%s' is not a number of megabytes (give one, or unset it)", limit);
    int64_t most = (int64_t)(megabytes * 1e6) - set->piece_bytes;
    for (int i = 0; i < set->n; i++) most -= set->at[i].bytes;
    if (most < *bytes) *bytes = most;
  }
  return status;
}

static int64_t piece_bytes(int64_t rows, int64_t row_bytes) {
  int64_t most = most_piece / row_bytes;
  if (most < 1) most = 1;
  return (rows < most ? rows : most) * row_bytes;
}

/* A piece of so many bytes, or the one that there is if that is larger or there is no memory for another; set->piece is
 * NULL if there is neither. Any piece holds a row. */
static descent_status take_piece(struct resident_set *set, int64_t bytes) {
  const cudaStream_t stream = set->device->stream;
  void *piece = NULL;
  descent_status status = DESCENT_OK;
  if (set->piece_bytes >= bytes) return DESCENT_OK;
  if (!set->input)
    TRY(device_memory_take(set->memory, (int64_t)sizeof *set->input, "the input of normalised rows",
                           (void **)&set->input));
  set->launch.state = &set->input->state;
  set->launch.sources = &set->input->table;
  TRY(device_memory_try(set->memory, bytes, &piece));
  if (!piece) goto done;
  device_memory_free(set->piece);
  set->memory->bytes -= set->piece_bytes;
  set->piece = piece;
  set->piece_bytes = bytes;
  const struct resident_input input = {
      .state.current.rows = INT64_MAX,
      .table = {.X = set->piece, .form = INPUT_FLOATS, .ld = set->launch.n_x},
  };
  CUDA_TRY(cudaMemcpyAsync(set->input, &input, sizeof input, cudaMemcpyHostToDevice, stream));
  CUDA_TRY(cudaStreamSynchronize(stream)); /* `input` ends here */
done:
  return status;
}

/* ---- copies ---- */

static struct resident *find(struct resident_set *set, const void *host, int64_t host_bytes, bool normalised) {
  for (int i = 0; i < set->n; i++) {
    struct resident *r = &set->at[i];
    if (r->host == host && r->host_bytes == host_bytes && r->normalised == normalised) return r;
  }
  return NULL;
}

descent_status resident_take(struct resident_set *set, const void *host, int64_t rows, int64_t row_bytes,
                             bool normalised, struct resident **resident) {
  const cudaStream_t stream = set->device->stream;
  const int64_t host_bytes = rows * row_bytes;
  const int64_t bytes = normalised ? rows * resident_ld(set) * 2 : host_bytes;
  int64_t room = 0, piece = normalised ? piece_bytes(rows, row_bytes) : 0;
  void *device = NULL;
  descent_status status = DESCENT_OK;
  *resident = find(set, host, host_bytes, normalised);
  if (*resident || set->n == MOST_RESIDENTS) return DESCENT_OK;
  TRY(resident_room(set, &room));
  if (bytes + (piece > set->piece_bytes ? piece - set->piece_bytes : 0) > room) return DESCENT_OK;
  if (normalised) {
    TRY(take_piece(set, piece));
    if (!set->piece) return DESCENT_OK;
  }
  TRY(device_memory_try(set->memory, bytes, &device));
  if (!device) return DESCENT_OK; /* the free memory is fragmented */
  if (!normalised) {
    CUDA_TRY(cudaMemcpyAsync(device, host, (size_t)bytes, cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaStreamSynchronize(stream));
  }
  *resident = &set->at[set->n++];
  **resident = (struct resident){host, host_bytes, bytes, device, normalised, 0};
  device = NULL;
done:
  device_memory_free(device);
  return status;
}

/* Pieces follow each other in the stream, so each is read before the next replaces it. */
descent_status resident_renew(struct resident_set *set, struct resident *resident, int64_t rows) {
  const cudaStream_t stream = set->device->stream;
  const int64_t ld = resident_ld(set), row_bytes = set->launch.n_x * (int64_t)sizeof(float);
  struct gather_launch launch = set->launch;
  descent_status status = DESCENT_OK;
  if (resident->constants == set->constants) return DESCENT_OK;
  resident->constants = 0;
  const int64_t each = set->piece_bytes / row_bytes;
  for (int64_t first = 0; first < rows; first += each) {
    launch.rows = rows - first < each ? rows - first : each;
    launch.X.data = (uint16_t *)resident->device + first * ld;
    CUDA_TRY(cudaMemcpyAsync(set->piece, (const char *)resident->host + first * row_bytes,
                             (size_t)(launch.rows * row_bytes), cudaMemcpyHostToDevice, stream));
    CUDA_TRY(launch_gather(&launch, stream));
  }
  CUDA_TRY(cudaStreamSynchronize(stream));
  resident->constants = set->constants;
done:
  return status;
}
