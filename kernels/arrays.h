/* Arrays of callers in device memory: checked, copied, and ordered with the caller's stream. */
#ifndef DESCENT_KERNELS_ARRAYS_H
#define DESCENT_KERNELS_ARRAYS_H

#include "device.h"
#include "kernels.h"

struct array_view arrays_view(const descent_array *array);

/* As specified in struct backend; all but check_place expect arrays that it has accepted. */
descent_status arrays_check_place(const struct backend_device *device, const descent_array *array);
descent_status arrays_copy(const struct backend_device *device, const descent_array *from, const descent_array *to);
descent_status arrays_check(const struct backend_device *device, const descent_array *array, struct array_rule rule,
                            int64_t *element, double *value);
descent_status arrays_set_stream(const struct backend_device *device, void *stream);

/* Round work on such arrays: the device's stream waits for the caller's, then the caller's for the device's. Until the
 * caller has set a stream it is CUDA's default stream. */
descent_status arrays_begin(const struct backend_device *device);
descent_status arrays_end(const struct backend_device *device);

#endif
