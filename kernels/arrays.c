/* Arrays of callers in device memory. Copies to and from the host go through a scratch of the device in pieces. */
#include "arrays.h"

#include <stdlib.h>

enum { SCRATCH = 1 << 20 }; /* float32 values */

struct caller_arrays {
  cudaStream_t caller;      /* NULL: CUDA's default stream */
  cudaEvent_t theirs, ours; /* the caller's work so far, and the device's */
  bool ordered;             /* the device's work is ordered with the caller's stream */
  float *scratch;           /* on the device; NULL: not needed yet */
  struct array_finding *found;
};

struct array_view arrays_view(const descent_array *array) {
  return (struct array_view){array->data, array->dtype, array->columns, array->row_stride, array->column_stride};
}

static struct array_view dense_view(void *data) { return (struct array_view){data, DESCENT_DTYPE_F32, 1, 1, 1}; }

descent_status arrays_check_place(const struct backend_device *device, const descent_array *array) {
  struct cudaPointerAttributes attributes = {0};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, array->data);
  (void)cudaGetLastError();
  if (error != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered || attributes.type == cudaMemoryTypeHost)
    return module_status(DESCENT_ERROR_ARGUMENT, "an array at %p: not GPU memory", array->data);
  if ((uintptr_t)array->data % (size_t)dtype_size(array->dtype) != 0)
    return module_status(DESCENT_ERROR_ARGUMENT, "an array at %p: not aligned to its elements of %zu bytes",
                         array->data, (size_t)dtype_size(array->dtype));
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != device->ordinal)
    return module_status(DESCENT_ERROR_ARGUMENT, "an array at %p: in the memory of cuda:%d, not of cuda:%d",
                         array->data, attributes.device, device->ordinal);
  return DESCENT_OK;
}

/* ---- order ---- */

static descent_status take_event(cudaEvent_t *event) {
  descent_status status = DESCENT_OK;
  if (!*event) CUDA_TRY(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
done:
  return status;
}

descent_status arrays_set_stream(const struct backend_device *device, void *stream) {
  descent_status status;
  TRY(take_event(&device->arrays->theirs));
  TRY(take_event(&device->arrays->ours));
  device->arrays->caller = stream;
  device->arrays->ordered = true;
done:
  return status;
}

descent_status arrays_begin(const struct backend_device *device) {
  struct caller_arrays *const arrays = device->arrays;
  descent_status status = DESCENT_OK;
  if (!arrays->ordered) TRY(arrays_set_stream(device, NULL));
  CUDA_TRY(cudaEventRecord(arrays->theirs, arrays->caller));
  CUDA_TRY(cudaStreamWaitEvent(device->stream, arrays->theirs, 0));
  launch_next_plainly();
done:
  return status;
}

descent_status arrays_end(const struct backend_device *device) {
  struct caller_arrays *const arrays = device->arrays;
  descent_status status = DESCENT_OK;
  CUDA_TRY(cudaEventRecord(arrays->ours, device->stream));
  CUDA_TRY(cudaStreamWaitEvent(arrays->caller, arrays->ours, 0));
done:
  return status;
}

descent_status arrays_prepare(struct backend_device *device) {
  device->arrays = module_allocate(1, sizeof *device->arrays, "the cuda device");
  return device->arrays ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

void arrays_release(struct backend_device *device) {
  struct caller_arrays *const arrays = device->arrays;
  if (!arrays) return;
  if (arrays->theirs) (void)cudaEventDestroy(arrays->theirs);
  if (arrays->ours) (void)cudaEventDestroy(arrays->ours);
  if (arrays->scratch) (void)cudaFree(arrays->scratch);
  if (arrays->found) (void)cudaFree(arrays->found);
  free(arrays);
}

/* ---- checks ---- */

descent_status arrays_check(const struct backend_device *device, const descent_array *array, struct array_rule rule,
                            int64_t *element, double *value) {
  const struct array_view view = arrays_view(array);
  struct array_finding found;
  descent_status status;
  if (!device->arrays->found) CUDA_TRY(cudaMalloc((void **)&device->arrays->found, sizeof found));
  TRY(arrays_begin(device));
  CUDA_TRY(launch_check_array(&view, array->rows, rule, device->arrays->found, device->stream));
  CUDA_TRY(cudaMemcpyAsync(&found, device->arrays->found, sizeof found, cudaMemcpyDeviceToHost, device->stream));
  CUDA_TRY(cudaStreamSynchronize(device->stream));
  *element = found.element == ARRAY_NOTHING ? -1 : (int64_t)found.element;
  *value = found.value;
done:
  return status;
}

/* ---- copies ---- */

static descent_status copy_piece(const struct backend_device *device, const descent_array *from,
                                 const descent_array *to, int64_t first, int64_t count) {
  const struct array_view scratch = dense_view(device->arrays->scratch);
  const struct array_view from_view = arrays_view(from), to_view = arrays_view(to);
  const size_t bytes = (size_t)count * sizeof(float);
  descent_status status = DESCENT_OK;
  if (to->place == DESCENT_PLACE_HOST) {
    CUDA_TRY(launch_copy_array(&from_view, first, &scratch, 0, count, device->stream));
    CUDA_TRY(cudaMemcpyAsync((float *)to->data + first, device->arrays->scratch, bytes, cudaMemcpyDeviceToHost,
                             device->stream));
  } else {
    CUDA_TRY(cudaMemcpyAsync(device->arrays->scratch, (const float *)from->data + first, bytes, cudaMemcpyHostToDevice,
                             device->stream));
    CUDA_TRY(launch_copy_array(&scratch, 0, &to_view, first, count, device->stream));
  }
done:
  return status;
}

static descent_status copy_through_scratch(const struct backend_device *device, const descent_array *from,
                                           const descent_array *to) {
  const int64_t count = from->rows * from->columns;
  descent_status status = DESCENT_OK;
  if (!device->arrays->scratch) CUDA_TRY(cudaMalloc((void **)&device->arrays->scratch, SCRATCH * sizeof(float)));
  for (int64_t first = 0; first < count; first += SCRATCH)
    TRY(copy_piece(device, from, to, first, count - first < SCRATCH ? count - first : SCRATCH));
done:
  return status;
}

descent_status arrays_copy(const struct backend_device *device, const descent_array *from, const descent_array *to) {
  const struct array_view from_view = arrays_view(from), to_view = arrays_view(to);
  descent_status status;
  TRY(arrays_begin(device));
  if (from->place == to->place)
    CUDA_TRY(launch_copy_array(&from_view, 0, &to_view, 0, from->rows * from->columns, device->stream));
  else
    TRY(copy_through_scratch(device, from, to));
  TRY(arrays_end(device));
  CUDA_TRY(cudaStreamSynchronize(device->stream));
done:
  return status;
}
