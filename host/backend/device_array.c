/* Arrays of callers in a device's memory: what the library asks of the backend, with errors that name the argument. */
#include "backend/device_array.h"

#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "core/status.h"

descent_status descent_device_set_stream(descent_device *device, void *stream) {
  descent_status status = device_check(device, "device");
  if (status != DESCENT_OK) return status;
  if (!device->backend->set_stream)
    return status_set(DESCENT_ERROR_ARGUMENT, "device: %s has no streams: only a GPU has", device->name);
  return device->backend->set_stream(device->device, stream);
}

/* The error of the backend, which does not know the argument, with its name. */
static descent_status name_error(descent_status status, const char *name) {
  char text[512];
  if (status != DESCENT_ERROR_ARGUMENT) return status;
  snprintf(text, sizeof text, "%s", descent_last_error());
  return status_set(status, "%s: %s", name, text);
}

descent_status device_array_check_place(const descent_device *device, const descent_array *array, const char *name) {
  char place[32];
  if (array->place == DESCENT_PLACE_HOST) return DESCENT_OK;
  snprintf(place, sizeof place, "%s:%d", descent_place_name(array->place), (int)array->ordinal);
  if (device->backend->check_place && strcmp(place, device->name) == 0)
    return name_error(device->backend->check_place(device->device, array), name);
  return status_set(DESCENT_ERROR_ARGUMENT, "%s: is in the memory of %s, but the device is %s", name, place,
                    device->name);
}

descent_status device_array_find(const descent_device *device, const descent_array *array, struct array_rule rule,
                                 int64_t *element, double *value) {
  return device->backend->check_array(device->device, array, rule, element, value);
}

descent_status device_array_check_fit(const descent_device *device, const descent_array *array, const char *name) {
  int64_t element = -1;
  double value = 0;
  if (array->dtype != DESCENT_DTYPE_F64) return DESCENT_OK;
  descent_status status = device_array_find(device, array, (struct array_rule){.kind = ARRAY_FITS}, &element, &value);
  if (status == DESCENT_OK && element >= 0)
    status = status_set(DESCENT_ERROR_ARGUMENT, "%s: row %lld, column %lld: %g exceeds float32", name,
                        (long long)(element / array->columns), (long long)(element % array->columns), value);
  return status;
}

descent_status device_array_copy(const descent_device *device, const descent_array *from, const descent_array *to) {
  return device->backend->copy_array(device->device, from, to);
}

descent_array device_array_of_host(const float *values, int64_t rows, int64_t columns) {
  return (descent_array){.size = sizeof(descent_array),
                         .data = (void *)values, /* const: what is read is not written */
                         .dtype = DESCENT_DTYPE_F32,
                         .rows = rows,
                         .columns = columns,
                         .row_stride = columns,
                         .column_stride = 1};
}

descent_status device_array_read(const descent_device *device, const descent_array *array, float *values) {
  const descent_array to = device_array_of_host(values, array->rows, array->columns);
  return device_array_copy(device, array, &to);
}

descent_status device_array_write(const descent_device *device, const float *values, const descent_array *array) {
  const descent_array from = device_array_of_host(values, array->rows, array->columns);
  return device_array_copy(device, &from, array);
}
