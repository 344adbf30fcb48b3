/* Sources that do not change are reserved on the device if they fit; otherwise the host collects the rows of the next
 * steps, in their order, into pinned windows that a second stream copies while the first computes. The gather reads the
 * same values either way, so the result does not depend on the placement. */
#include "source.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "plan/operations.h"

static const int64_t window_bytes = INT64_C(64) << 20; /* of a slot, at most, unless one step needs more */

/* ---- the plan's sources ---- */

static void set_dtype(struct source_set *set, int source, descent_dtype dtype) {
  const int64_t element = dtype == DESCENT_DTYPE_U8 ? 1 : dtype == DESCENT_DTYPE_I64 ? 8 : 4;
  struct bound_source *const at = &set->at[source];
  at->dtype = dtype;
  at->row_bytes = set->plan->buffers[at->buffer].cols * element;
}

descent_status source_prepare(struct source_set *set, const struct backend_device *device, const struct plan *plan,
                              const struct device_buffers *buffers, const struct fusion *fusion,
                              struct device_memory *memory) {
  set->device = device;
  set->fusion = fusion;
  set->plan = plan;
  set->memory = memory;
  for (int k = 0; k < SOURCES; k++) set->at[k].buffer = PLAN_NONE;
  for (int i = 0; i < plan->n_ops; i++) {
    const struct plan_gather *g = &plan->ops[i].gather;
    if (plan->ops[i].kind != OP_GATHER) continue;
    const int bound[SOURCES] = {g->source_X, g->source_y, g->source_w, g->source_index};
    for (int k = 0; k < SOURCES; k++) {
      if (bound[k] == PLAN_NONE) continue;
      set->at[k].buffer = bound[k];
      set_dtype(set, k, k == SOURCE_INDEX ? DESCENT_DTYPE_I64 : DESCENT_DTYPE_F32);
    }
  }
  set->stale = true;
  resident_prepare(&set->residents, device, plan, buffers, memory);
  return device_memory_take(memory, (int64_t)sizeof *set->table, "the table of sources", (void **)&set->table);
}

static void release_window(struct window *window) {
  for (int k = 0; k < SOURCES; k++) {
    if (window->host[k]) (void)cudaFreeHost(window->host[k]);
    device_memory_free(window->device[k]);
  }
  for (int s = 0; s < 2; s++) {
    if (window->copied[s]) (void)cudaEventDestroy(window->copied[s]);
    if (window->consumed[s]) (void)cudaEventDestroy(window->consumed[s]);
  }
  free(window->placed);
  memset(window, 0, sizeof *window);
}

void source_release(struct source_set *set) {
  resident_release(&set->residents);
  for (int k = 0; k < SOURCES; k++) device_memory_free(set->staging[k]);
  release_window(&set->window);
  device_memory_free(set->table);
}

int64_t source_bytes(const struct source_set *set) {
  return 2 * set->window.rows * set->window.row_bytes + set->residents.piece_bytes;
}

/* ---- resident data ---- */

/* Copies the source to the device if it fits; otherwise leaves source->on_device NULL. Few rows may fit as they are where
 * normalised ones and the piece that they are made from do not. */
static descent_status make_resident(struct source_set *set, int source) {
  struct bound_source *const at = &set->at[source];
  const bool normalises = source == SOURCE_X && resident_normalises(&set->residents, at->dtype);
  descent_status status = DESCENT_OK;
  for (int normalised = normalises; normalised >= 0 && !at->resident; normalised--)
    TRY(resident_take(&set->residents, at->data, at->rows, at->row_bytes, normalised == 1, &at->resident));
  if (at->resident) at->on_device = at->resident->device;
done:
  return status;
}

/* ---- windows ---- */

static int64_t bound_row_bytes(const struct source_set *set) {
  int64_t bytes = 0;
  for (int k = SOURCE_X; k < SOURCE_INDEX; k++)
    if (set->at[k].buffer != PLAN_NONE) bytes += set->at[k].row_bytes;
  return bytes;
}

/* Two slots for every source of the plan, bound now or later. */
static descent_status take_window(struct source_set *set) {
  struct window *window = &set->window;
  const int64_t batch = set->plan->batch;
  int64_t room = 0;
  descent_status status = DESCENT_OK;
  TRY(resident_free(&room));
  window->row_bytes = bound_row_bytes(set);
  int64_t steps = (room / 4 < window_bytes ? room / 4 : window_bytes) / (batch * window->row_bytes);
  if (steps < 1) steps = 1;
  if (steps > QUEUE_STEPS) steps = QUEUE_STEPS;
  window->rows = steps * batch;
  window->placed = module_allocate(QUEUE_STEPS, sizeof *window->placed, "the steps of a window");
  if (!window->placed) TRY(DESCENT_ERROR_MEMORY);
  for (int k = SOURCE_X; k < SOURCE_INDEX; k++) {
    const int64_t bytes = 2 * window->rows * set->at[k].row_bytes;
    if (set->at[k].buffer == PLAN_NONE) continue;
    CUDA_TRY(cudaMallocHost((void **)&window->host[k], (size_t)bytes));
    TRY(device_memory_take(set->memory, bytes, "the windows of streamed data", (void **)&window->device[k]));
  }
  for (int s = 0; s < 2; s++) {
    CUDA_TRY(cudaEventCreateWithFlags(&window->copied[s], cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&window->consumed[s], cudaEventDisableTiming));
  }
  CUDA_TRY(cudaStreamSynchronize(set->device->stream)); /* zeroed before the other stream writes */
done:
  if (status != DESCENT_OK) release_window(window);
  return status;
}

/* Two slots that the rows bound now fit into, also after a bind of a wider type: the slots taken first may be those of
 * bytes. */
static descent_status fit_window(struct source_set *set) {
  struct window *window = &set->window;
  descent_status status = DESCENT_OK;
  if (window->rows > 0 && bound_row_bytes(set) <= window->row_bytes) goto done;
  if (window->rows > 0) {
    CUDA_TRY(cudaStreamSynchronize(set->device->copies));
    CUDA_TRY(cudaStreamSynchronize(set->device->stream));
    set->memory->bytes -= 2 * window->rows * window->row_bytes;
    release_window(window);
  }
  TRY(take_window(set));
done:
  return status;
}

/* ---- binding ---- */

static void describe_data(struct source_set *set) {
  int64_t bytes = 0, room = 0;
  bool constant = true;
  set->placement[0] = 0;
  for (int k = 0; k < SOURCES; k++) {
    if (!set->at[k].data) continue;
    constant = constant && set->at[k].constant;
    bytes +=
        set->at[k].resident && !set->streaming ? set->at[k].resident->bytes : set->at[k].rows * set->at[k].row_bytes;
  }
  if (!constant || bytes == 0 || resident_room(&set->residents, &room) != DESCENT_OK) return;
  if (set->streaming)
    snprintf(set->placement, sizeof set->placement,
             "data streamed from the host's memory: %.1f MB, of which the GPU has room for %.1f MB",
             1e-6 * (double)bytes, 1e-6 * (double)(room > 0 ? room : 0));
  else
    snprintf(set->placement, sizeof set->placement, "data in GPU memory: %.1f MB, room for %.1f MB more",
             1e-6 * (double)bytes, 1e-6 * (double)(room > 0 ? room : 0));
}

/* Appends to the placement, the line that the device shows when a training starts. */
static void note(struct source_set *set, const char *text) {
  const size_t length = strlen(set->placement);
  snprintf(set->placement + length, sizeof set->placement - length, "%s%s", length ? "; " : "", text);
}

static void note_kernel(struct source_set *set) {
  char name[BACKEND_PATH], text[16 + BACKEND_PATH];
  if (!fusion_of_training(set->fusion, name)) return;
  snprintf(text, sizeof text, "kernels: %s", name);
  note(set, text);
}

static void describe(struct source_set *set) {
  describe_data(set);
  note_kernel(set);
  if (set->members) note(set, set->members);
  if (set->exchange) note(set, set->exchange);
  if (product_library_untrusted(set->device->products))
    note(set, "cuBLASLt's flags are unknown: its algorithms are chosen by tests");
  if (product_library_forgets(set->device->products))
    note(set,
         "the fastest kernels cannot be remembered (set XDG_CACHE_HOME to a folder that can be written), so the last "
         "bits may differ from run to run");
}

void source_tell(struct source_set *set, const char *members) {
  if (set->members == members) return;
  set->members = members;
  describe(set);
}

descent_status source_bind(struct source_set *set, int buffer, descent_dtype dtype, const void *data, int64_t rows,
                           bool constant) {
  int64_t bytes;
  descent_status status = DESCENT_OK;
  char reason[96];
  if (!plan_can_bind(set->plan, buffer, dtype, data, rows, reason, sizeof reason))
    return module_status(DESCENT_ERROR_ARGUMENT, "%s", reason);
  for (int k = 0; k < SOURCES; k++) {
    struct bound_source *source = &set->at[k];
    if (source->buffer != buffer) continue;
    if (data) set_dtype(set, k, dtype);
    if (__builtin_mul_overflow(rows, source->row_bytes, &bytes))
      return module_status(DESCENT_ERROR_ARGUMENT, "bind: %lld rows of %lld bytes", (long long)rows,
                           (long long)source->row_bytes);
    source->data = data;
    source->rows = data ? rows : 0;
    source->constant = constant;
    source->resident = NULL;
    source->on_device = NULL;
    source->in_place = false;
    set->stale = true;
    if (data && constant) TRY(make_resident(set, k));
    if (data && !source->on_device && k != SOURCE_INDEX) TRY(fit_window(set));
  }
done:
  return status;
}

/* ---- arrays in the device's memory ---- */

/* The gather reads up to DEVICE_ARRAY_ALIGN bytes at a time. */
static bool is_usable(const struct source_set *set, int buffer, const descent_array *array) {
  return array->place == DESCENT_PLACE_CUDA && plan_source_holds(set->plan, buffer, array->dtype) &&
         (uintptr_t)array->data % DEVICE_ARRAY_ALIGN == 0 && (array->column_stride == 1 || array->columns == 1) &&
         (array->row_stride == array->columns || array->rows == 1);
}

/* A dense copy of the array in the source's staging. */
static descent_status stage(struct source_set *set, int source, const descent_array *array, const void **copy) {
  const int64_t batch = set->plan->batch;
  descent_array to = *array;
  descent_status status = DESCENT_OK;
  if (array->rows > batch)
    TRY(module_status(DESCENT_ERROR_ARGUMENT, "bind: an array of %lld rows that must be converted: at most %lld",
                      (long long)array->rows, (long long)batch));
  if (!set->staging[source])
    TRY(device_memory_take(set->memory, batch * array->columns * (int64_t)sizeof(float), "rows of the caller's",
                           &set->staging[source]));
  to.place = DESCENT_PLACE_CUDA;
  to.data = set->staging[source];
  to.dtype = DESCENT_DTYPE_F32;
  to.row_stride = array->columns;
  to.column_stride = 1;
  TRY(arrays_copy(set->device, array, &to));
  *copy = to.data;
done:
  return status;
}

descent_status source_bind_array(struct source_set *set, int buffer, const descent_array *array, bool constant) {
  char reason[96];
  descent_status status = DESCENT_OK;
  if (!plan_can_bind(set->plan, buffer, DESCENT_DTYPE_F32, array->data, array->rows, reason, sizeof reason))
    return module_status(DESCENT_ERROR_ARGUMENT, "%s", reason);
  for (int k = SOURCE_X; k < SOURCE_INDEX; k++) {
    struct bound_source *source = &set->at[k];
    const void *data = array->data;
    if (source->buffer != buffer) continue;
    const bool usable = is_usable(set, buffer, array);
    if (array->columns != set->plan->buffers[buffer].cols)
      TRY(module_status(DESCENT_ERROR_ARGUMENT, "bind: %lld columns for rows of %lld", (long long)array->columns,
                        (long long)set->plan->buffers[buffer].cols));
    if (!usable) TRY(stage(set, k, array, &data));
    set_dtype(set, k, usable ? array->dtype : DESCENT_DTYPE_F32);
    source->data = source->on_device = data;
    source->resident = NULL;
    source->rows = array->rows;
    source->constant = constant;
    source->in_place = true;
    set->stale = true;
  }
done:
  return status;
}

void source_written(struct source_set *set, int buffer) {
  if (resident_written(&set->residents, buffer)) set->stale = true;
}

bool source_in_place(const struct source_set *set) {
  for (int k = 0; k < SOURCES; k++)
    if (set->at[k].data && set->at[k].in_place) return true;
  return false;
}

static bool must_stream(const struct source_set *set) {
  for (int k = 0; k < SOURCES; k++)
    if (set->at[k].data && !set->at[k].on_device) return true;
  return false;
}

/* Normalised rows with the constants of now: without room for them, the rows as they are, or none. */
static descent_status renew_inputs(struct source_set *set) {
  struct bound_source *const X = &set->at[SOURCE_X];
  descent_status status = DESCENT_OK;
  if (!X->data || !X->resident || !X->resident->normalised) goto done;
  X->on_device = NULL;
  TRY(resident_renew(&set->residents, &X->resident, X->rows));
  if (!X->resident) TRY(resident_take(&set->residents, X->data, X->rows, X->row_bytes, false, &X->resident));
  if (X->resident) X->on_device = X->resident->device;
done:
  return status;
}

descent_status source_ready(struct source_set *set, bool *streaming) {
  descent_status status = DESCENT_OK;
  if (!set->stale) goto done;
  if (!must_stream(set)) TRY(renew_inputs(set));
  set->streaming = must_stream(set);
  if (set->streaming && source_in_place(set))
    TRY(module_status(DESCENT_ERROR_MEMORY,
                      "out of GPU memory: no room for the targets, weights or row numbers of data that is in it"));
  if (set->streaming) TRY(fit_window(set)); /* where only the index does not fit, there is none yet */
  struct bound_source *const X = &set->at[SOURCE_X];
  const bool normalised = X->data && !set->streaming && X->resident && X->resident->normalised;
  const void *at[SOURCES] = {0};
  for (int k = 0; k < SOURCES; k++)
    if (set->at[k].data) at[k] = set->streaming ? set->window.device[k] : set->at[k].on_device;
  set->uploaded = (struct source_table){
      .X = at[SOURCE_X],
      .y = at[SOURCE_Y],
      .w = at[SOURCE_W],
      .index = at[SOURCE_INDEX],
      .form = normalised                     ? INPUT_NORMALISED
              : X->dtype == DESCENT_DTYPE_U8 ? INPUT_BYTES
                                             : INPUT_FLOATS,
      .ld = normalised ? resident_ld(&set->residents) : set->plan->buffers[X->buffer].cols,
  };
  CUDA_TRY(
      cudaMemcpyAsync(set->table, &set->uploaded, sizeof set->uploaded, cudaMemcpyHostToDevice, set->device->stream));
  CUDA_TRY(cudaStreamSynchronize(set->device->stream)); /* the next bind may change it */
  describe(set);
  set->stale = false;
done:
  *streaming = set->streaming;
  return status;
}

/* ---- filling a window ---- */

struct collection {
  const struct source_set *set;
  const struct plan_step *steps;
  const int64_t *first;            /* (n + 1) rows of the slot before each step */
  int64_t n, slot_row, begin, end; /* rows of the slot that this part collects */
  bool shuffle;
};

static void collect(const struct collection *c) {
  const struct window *window = &c->set->window;
  const int64_t *index = c->set->at[SOURCE_INDEX].data;
  int64_t s = 0;
  for (int64_t r = c->begin; r < c->end; r++) {
    while (r >= c->first[s + 1]) s++;
    const struct plan_step *step = &c->steps[s];
    int64_t t = step->first_row + r - c->first[s];
    if (c->shuffle && step->order) t = (int64_t)permutation_index(step->order, (uint64_t)t);
    if (index) t = index[t];
    for (int k = SOURCE_X; k < SOURCE_INDEX; k++) {
      const struct bound_source *source = &c->set->at[k];
      const size_t bytes = (size_t)source->row_bytes;
      if (source->data)
        memcpy(window->host[k] + (size_t)(c->slot_row + r) * bytes, (const char *)source->data + (size_t)t * bytes,
               bytes);
    }
  }
}

static void *collect_part(void *context) {
  collect(context);
  return NULL;
}

/* The caller's thread collects the first part, and the parts of threads that cannot be started. */
static void collect_all(const struct collection *all, int threads) {
  enum { MOST = 16, LEAST_BYTES = 1 << 20 };
  struct collection parts[MOST];
  pthread_t started[MOST];
  bool running[MOST] = {false};
  int64_t n = all->end * all->set->window.row_bytes / LEAST_BYTES + 1;
  if (n > threads) n = threads;
  if (n > MOST) n = MOST;
  for (int64_t i = 0; i < n; i++) {
    parts[i] = *all;
    parts[i].begin = all->end * i / n;
    parts[i].end = all->end * (i + 1) / n;
    if (i > 0) running[i] = pthread_create(&started[i], NULL, collect_part, &parts[i]) == 0;
    if (i > 0 && !running[i]) collect(&parts[i]);
  }
  collect(&parts[0]);
  for (int64_t i = 1; i < n; i++)
    if (running[i]) pthread_join(started[i], NULL);
}

/* Places as many of the steps as fit the slot, one after another, and returns their number. */
static int64_t place_steps(const struct window *window, int64_t slot_row, const struct plan_step *steps, int64_t n,
                           int64_t *first) {
  int64_t taken = 0;
  first[0] = 0;
  while (taken < n && first[taken] + steps[taken].rows <= window->rows) {
    window->placed[taken] = steps[taken];
    window->placed[taken].first_row = slot_row + first[taken];
    window->placed[taken].order = NULL;
    first[taken + 1] = first[taken] + steps[taken].rows;
    taken++;
  }
  return taken;
}

static descent_status check_rows(const struct source_set *set, const struct plan_step *steps, int64_t n) {
  const struct bound_source *counted = set->at[SOURCE_INDEX].data ? &set->at[SOURCE_INDEX] : &set->at[SOURCE_X];
  for (int64_t s = 0; s < n; s++)
    if (steps[s].first_row < 0 || steps[s].first_row > counted->rows - steps[s].rows)
      return module_status(DESCENT_ERROR_ARGUMENT, "run: rows %lld to %lld of %lld", (long long)steps[s].first_row,
                           (long long)(steps[s].first_row + steps[s].rows - 1), (long long)counted->rows);
  return DESCENT_OK;
}

descent_status source_fill(struct source_set *set, bool shuffle, const struct plan_step *steps, int64_t n,
                           const struct plan_step **placed, int64_t *taken) {
  struct window *window = &set->window;
  const int slot = window->next;
  const int64_t slot_row = slot * window->rows;
  int64_t first[QUEUE_STEPS + 1];
  descent_status status;
  *taken = place_steps(window, slot_row, steps, n, first);
  *placed = window->placed;
  TRY(check_rows(set, steps, *taken));
  if (window->used[slot]) {
    CUDA_TRY(cudaEventSynchronize(window->copied[slot])); /* the pinned rows are free again */
    CUDA_TRY(cudaStreamWaitEvent(set->device->copies, window->consumed[slot], 0));
  }
  const struct collection all = {set, steps, first, *taken, slot_row, 0, first[*taken], shuffle};
  collect_all(&all, set->device->threads);
  for (int k = SOURCE_X; k < SOURCE_INDEX; k++) {
    const size_t bytes = (size_t)set->at[k].row_bytes;
    if (set->at[k].data)
      CUDA_TRY(cudaMemcpyAsync(window->device[k] + (size_t)slot_row * bytes, window->host[k] + (size_t)slot_row * bytes,
                               (size_t)all.end * bytes, cudaMemcpyHostToDevice, set->device->copies));
  }
  CUDA_TRY(cudaEventRecord(window->copied[slot], set->device->copies));
  CUDA_TRY(cudaStreamWaitEvent(set->device->stream, window->copied[slot], 0));
  window->used[slot] = true;
done:
  return status;
}

descent_status source_consumed(struct source_set *set) {
  struct window *window = &set->window;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventRecord(window->consumed[window->next], set->device->stream));
  window->next = 1 - window->next;
done:
  return status;
}
