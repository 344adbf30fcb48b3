/* Normalised rows replace the float32 rows on the device, at half the bytes: a step's gather then only copies rows. They
 * are made when a run first needs them, and again when fill, shift or scale have been written since.
 *
 * All programs of a device that are bound to the same rows of the host have one copy: as long as one of them has it, the
 * rows do not change. Calls take their turns on a device, so the list of copies needs no lock. */
#include "resident.h"

#include <stdlib.h>
#include <string.h>

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

/* The last user frees it. */
static void leave(const struct backend_device *device, struct resident *resident) {
  struct resident **link = &device->shared->residents;
  if (!resident || --resident->users > 0) return;
  while (*link != resident) link = &(*link)->next;
  *link = resident->next;
  device_memory_free(resident->device);
  free(resident->constants);
  free(resident);
}

void resident_release(struct resident_set *set) {
  for (int i = 0; i < set->n; i++) leave(set->device, set->at[i].resident);
  device_memory_free(set->piece);
  device_memory_free(set->input);
}

int64_t resident_ld(const struct resident_set *set) { return set->launch.X.ld; }

int64_t resident_bytes(const struct resident_set *set) {
  int64_t bytes = 0;
  for (int i = 0; i < set->n; i++) bytes += set->at[i].resident->bytes;
  return bytes;
}

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
    const int64_t most = (int64_t)(megabytes * 1e6) - set->piece_bytes - resident_bytes(set);
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

static struct resident_use *find(struct resident_set *set, const void *host, int64_t host_bytes, bool normalised) {
  for (int i = 0; i < set->n; i++) {
    const struct resident *r = set->at[i].resident;
    if (r->host == host && r->host_bytes == host_bytes && r->normalised == normalised) return &set->at[i];
  }
  return NULL;
}

/* fill, shift and scale as the plan's buffers have them now: (3, n_x). One that the plan lacks is NaN, as none of a network
 * is, but for a fill of NaN, which leaves a cell as no fill does. */
static descent_status read_constants(const struct resident_set *set, float *constants) {
  const float *const at[] = {set->launch.fill, set->launch.shift, set->launch.scale};
  const size_t bytes = (size_t)set->launch.n_x * sizeof(float);
  descent_status status = DESCENT_OK;
  memset(constants, 0xff, 3 * bytes);
  for (int i = 0; i < 3; i++)
    if (at[i])
      CUDA_TRY(
          cudaMemcpyAsync(constants + i * set->launch.n_x, at[i], bytes, cudaMemcpyDeviceToHost, set->device->stream));
  CUDA_TRY(cudaStreamSynchronize(set->device->stream));
done:
  return status;
}

/* The size of the constants of normalised rows. */
static size_t constants_bytes(const struct resident_set *set) { return 3 * (size_t)set->launch.n_x * sizeof(float); }

/* A copy of another program of the device, with these constants if its rows are normalised (NULL: they are not). */
static struct resident *find_shared(const struct resident_set *set, const void *host, int64_t host_bytes,
                                    const float *constants) {
  for (struct resident *r = set->device->shared->residents; r; r = r->next) {
    if (r->host != host || r->host_bytes != host_bytes || r->normalised != (constants != NULL)) continue;
    if (!constants) return r;
    const bool same_rows = r->n_x == set->launch.n_x && r->ld == resident_ld(set);
    if (same_rows && memcmp(r->constants, constants, constants_bytes(set)) == 0) return r;
  }
  return NULL;
}

/* A copy without its rows; *made is NULL if there is no memory for it. Takes `constants` over. */
static descent_status add_copy(struct resident_set *set, const void *host, int64_t host_bytes, int64_t bytes,
                               float **constants, struct resident **made) {
  struct resident **const list = &set->device->shared->residents;
  struct device_memory shared = {.stream = set->device->stream}; /* it may outlive the program */
  void *device = NULL;
  descent_status status = DESCENT_OK;
  *made = NULL;
  struct resident *resident = module_allocate(1, sizeof *resident, "a copy of data");
  if (!resident) return DESCENT_ERROR_MEMORY;
  TRY(device_memory_try(&shared, bytes, &device));
  if (!device) goto done; /* the free memory is fragmented */
  *resident = (struct resident){.next = *list,
                                .users = 1,
                                .host = host,
                                .host_bytes = host_bytes,
                                .bytes = bytes,
                                .device = device,
                                .normalised = *constants != NULL,
                                .n_x = set->launch.n_x,
                                .ld = resident_ld(set),
                                .constants = *constants};
  *constants = NULL;
  *list = *made = resident;
  resident = NULL;
done:
  free(resident);
  return status;
}

static int64_t copy_bytes(const struct resident_set *set, int64_t rows, int64_t row_bytes, bool normalised) {
  return rows * (normalised ? resident_ld(set) * 2 : row_bytes);
}

/* Makes a copy if it fits; else *made is NULL. */
static descent_status make_copy(struct resident_set *set, const void *host, int64_t rows, int64_t row_bytes,
                                float **constants, struct resident **made) {
  const cudaStream_t stream = set->device->stream;
  const bool normalised = *constants != NULL;
  const int64_t bytes = copy_bytes(set, rows, row_bytes, normalised);
  const int64_t piece = normalised ? piece_bytes(rows, row_bytes) : 0;
  int64_t room = 0;
  struct resident *resident = NULL;
  descent_status status = DESCENT_OK;
  *made = NULL;
  TRY(resident_room(set, &room));
  if (bytes + (piece > set->piece_bytes ? piece - set->piece_bytes : 0) > room) goto done;
  if (normalised) {
    TRY(take_piece(set, piece));
    if (!set->piece) goto done;
  }
  TRY(add_copy(set, host, rows * row_bytes, bytes, constants, &resident));
  if (resident && !normalised) {
    CUDA_TRY(cudaMemcpyAsync(resident->device, host, (size_t)bytes, cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaStreamSynchronize(stream));
    resident->made = true;
  }
  *made = resident;
  resident = NULL;
done:
  leave(set->device, resident);
  return status;
}

descent_status resident_take(struct resident_set *set, const void *host, int64_t rows, int64_t row_bytes,
                             bool normalised, struct resident **resident) {
  const int64_t host_bytes = rows * row_bytes;
  const struct resident_use *const use = find(set, host, host_bytes, normalised);
  float *constants = NULL;
  descent_status status = DESCENT_OK;
  *resident = use ? use->resident : NULL;
  if (*resident || set->n == MOST_RESIDENTS) return DESCENT_OK;
  if (normalised) {
    constants = module_allocate(3 * set->launch.n_x, sizeof *constants, "fill, shift and scale");
    if (!constants) return DESCENT_ERROR_MEMORY;
    TRY(read_constants(set, constants));
  }
  *resident = find_shared(set, host, host_bytes, constants);
  if (*resident)
    (*resident)->users++;
  else
    TRY(make_copy(set, host, rows, row_bytes, &constants, resident));
  if (*resident) set->at[set->n++] = (struct resident_use){*resident, 0};
done:
  free(constants);
  return status;
}

/* Pieces follow each other in the stream, so each is read before the next replaces it. */
static descent_status make_rows(struct resident_set *set, struct resident *resident, int64_t rows) {
  const cudaStream_t stream = set->device->stream;
  const int64_t ld = resident_ld(set), row_bytes = set->launch.n_x * (int64_t)sizeof(float);
  descent_status status;
  TRY(take_piece(set, piece_bytes(rows, row_bytes)));
  if (!set->piece)
    TRY(module_status(DESCENT_ERROR_MEMORY, "cannot allocate %.1f MB on the GPU to normalise the inputs",
                      1e-6 * (double)piece_bytes(rows, row_bytes)));
  struct gather_launch launch = set->launch;
  const int64_t each = set->piece_bytes / row_bytes;
  for (int64_t first = 0; first < rows; first += each) {
    launch.rows = rows - first < each ? rows - first : each;
    launch.X.data = (uint16_t *)resident->device + first * ld;
    CUDA_TRY(cudaMemcpyAsync(set->piece, (const char *)resident->host + first * row_bytes,
                             (size_t)(launch.rows * row_bytes), cudaMemcpyHostToDevice, stream));
    CUDA_TRY(launch_gather(&launch, stream));
  }
  CUDA_TRY(cudaStreamSynchronize(stream));
  resident->made = true;
done:
  return status;
}

/* The program's copy with these constants, which are not those that its copy has: the same one if no other program uses
 * it. Without room for another, the program has none. */
static descent_status change_copy(struct resident_set *set, struct resident_use *use, float **constants) {
  struct resident *const old = use->resident;
  struct resident *other = find_shared(set, old->host, old->host_bytes, *constants);
  int64_t room = 0;
  descent_status status = DESCENT_OK;
  if (!other && old->users == 1) {
    memcpy(old->constants, *constants, constants_bytes(set));
    old->made = false;
    return DESCENT_OK;
  }
  if (other)
    other->users++;
  else
    TRY(resident_room(set, &room));
  if (!other && old->bytes <= room) TRY(add_copy(set, old->host, old->host_bytes, old->bytes, constants, &other));
  leave(set->device, old);
  use->resident = other;
done:
  return status;
}

descent_status resident_renew(struct resident_set *set, struct resident **resident, int64_t rows) {
  struct resident_use *use = set->at;
  float *constants = NULL;
  descent_status status = DESCENT_OK;
  while (use->resident != *resident) use++;
  if (use->constants == set->constants) return DESCENT_OK;
  constants = module_allocate(3 * set->launch.n_x, sizeof *constants, "fill, shift and scale");
  if (!constants) return DESCENT_ERROR_MEMORY;
  TRY(read_constants(set, constants));
  if (memcmp((*resident)->constants, constants, constants_bytes(set)) != 0) TRY(change_copy(set, use, &constants));
  *resident = use->resident;
  if (!*resident) {
    *use = set->at[--set->n];
    goto done;
  }
  if (!(*resident)->made) TRY(make_rows(set, *resident, rows));
  use->constants = set->constants;
done:
  free(constants);
  return status;
}
