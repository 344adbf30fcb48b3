/* Arguments that are arrays of the caller. */
#include "train/arguments.h"

#include <stdlib.h>

#include "backend/device_array.h"
#include "core/memory.h"
#include "core/status.h"
#include "data/strided.h"
#include "train/staging.h"

void staging_free(struct staging *staging) {
  free(staging->X);
  free(staging->y);
  free(staging->weights);
  free(staging->outputs);
  free(staging->dOutputs);
  free(staging->dX);
  *staging = (struct staging){0};
}

descent_status argument_take(const descent_array *given, const char *name, const descent_device *device,
                             struct shape shape, struct argument *argument) {
  descent_array *array = &argument->array;
  descent_status status;
  argument->name = name;
  argument->most_rows = shape.most_rows;
  TRY(strided_complete(given, name, array));
  TRY(device_array_check_place(device, array, name));
  TRY(strided_check_shape(array, name, shape.most_rows, shape.columns));
  if (shape.rows) TRY(strided_check_rows(array, name, shape.rows));
done:
  return status;
}

descent_status argument_take_result(const descent_array *given, const char *name, const descent_device *device,
                                    struct shape shape, struct argument *argument) {
  descent_status status;
  TRY(argument_take(given, name, device, shape, argument));
  TRY(strided_check_output(&argument->array, name));
done:
  return status;
}

static descent_status take_staging(const struct argument *argument, float **staging) {
  const int64_t rows = argument->most_rows, columns = argument->array.columns;
  int64_t count;
  if (*staging) return DESCENT_OK;
  if (!size_product(rows, columns, &count))
    return status_set(DESCENT_ERROR_MEMORY, "%s: %lld rows of %lld columns exceed the address space", argument->name,
                      (long long)rows, (long long)columns);
  *staging = memory_allocate(count, sizeof **staging, argument->name);
  return *staging ? DESCENT_OK : DESCENT_ERROR_MEMORY;
}

descent_status argument_rows(const struct argument *argument, const descent_device *device, float **staging,
                             const float **values) {
  const descent_array *array = &argument->array;
  descent_status status = DESCENT_OK;
  *values = array->data;
  if (!argument_on_device(argument) && strided_is_dense(array)) goto done;
  TRY(take_staging(argument, staging));
  *values = *staging;
  if (argument_on_device(argument)) {
    TRY(device_array_check_fit(device, array, argument->name));
    TRY(device_array_read(device, array, *staging));
  } else {
    TRY(strided_load(array, argument->name, *staging));
  }
done:
  return status;
}

descent_status argument_values(const struct argument *argument, float **staging, float **values) {
  descent_status status = DESCENT_OK;
  *values = argument->array.data;
  if (!argument_on_device(argument) && strided_is_dense(&argument->array)) goto done;
  TRY(take_staging(argument, staging));
  *values = *staging;
done:
  return status;
}

descent_status argument_give(const struct argument *argument, const descent_device *device, const float *values) {
  if (values == argument->array.data) return DESCENT_OK;
  if (argument_on_device(argument)) return device_array_write(device, values, &argument->array);
  strided_store(values, &argument->array);
  return DESCENT_OK;
}
