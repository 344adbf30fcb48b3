/* Arrays of callers in a device's memory. */
#ifndef DESCENT_BACKEND_DEVICE_ARRAY_H
#define DESCENT_BACKEND_DEVICE_ARRAY_H

#include <descent/descent.h>

/* Bytes: a device reads dense float32 rows where they are if they begin at a multiple of it. */
enum { DEVICE_ARRAY_ALIGN = 16 };

/* What elements are checked for. */

enum array_rule_kind {
  ARRAY_FITS, /* as float32, a finite value stays finite */
  ARRAY_FINITE,
  ARRAY_PRESENT, /* not NaN */
  ARRAY_CLASS,   /* a whole number from 0 to below the limit */
  ARRAY_WEIGHT,  /* finite, at least 0 */
  ARRAY_AT_MOST  /* its size is at most the limit, or it is NaN */
};

struct array_rule {
  enum array_rule_kind kind;
  double limit;
};

/* ERROR_ARGUMENT, by the name of the argument, unless the array is in host memory or in that of this device. */
descent_status device_array_check_place(const descent_device *device, const descent_array *array, const char *name);
/* ERROR_ARGUMENT for a finite element that exceeds float32. */
descent_status device_array_check_fit(const descent_device *device, const descent_array *array, const char *name);
/* The first element, counted along the rows, that breaks the rule, and its value; -1: none. */
descent_status device_array_find(const descent_device *device, const descent_array *array, struct array_rule rule,
                                 int64_t *element, double *value);
/* Copies an array in the device's memory to `values` (rows, columns), and the other way. */
descent_status device_array_read(const descent_device *device, const descent_array *array, float *values);
descent_status device_array_write(const descent_device *device, const float *values, const descent_array *array);
descent_status device_array_copy(const descent_device *device, const descent_array *from, const descent_array *to);

/* `rows` dense float32 rows in host memory. */
descent_array device_array_of_host(const float *values, int64_t rows, int64_t columns);

#endif
