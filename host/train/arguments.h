/* Arguments that are arrays of the caller: checked, and as dense float32 rows in host memory where these are needed. */
#ifndef DESCENT_TRAIN_ARGUMENTS_H
#define DESCENT_TRAIN_ARGUMENTS_H

#include <descent/descent.h>
#include <stdbool.h>

/* Most rows and columns that an argument may have; rows, unless 0: those that it must have, the number of X. */
struct shape {
  int64_t most_rows, columns, rows;
};

/* An argument, with all its strides. */
struct argument {
  const char *name;
  descent_array array;
  int64_t most_rows;
};

/* ERROR_ARGUMENT, by its name, unless it has the shape and is in host memory or that of the device. */
descent_status argument_take(const descent_array *given, const char *name, const descent_device *device,
                             struct shape shape, struct argument *argument);
/* The same for a result, whose dtype must be a float's. */
descent_status argument_take_result(const descent_array *given, const char *name, const descent_device *device,
                                    struct shape shape, struct argument *argument);

static inline bool argument_on_device(const struct argument *argument) {
  return argument->array.place != DESCENT_PLACE_HOST;
}

/* Its rows in host memory: the array's own, or a copy in `*staging`, allocated when it is first needed. ERROR_ARGUMENT
 * for a finite element that exceeds float32. */
descent_status argument_rows(const struct argument *argument, const descent_device *device, float **staging,
                             const float **values);

/* Where to write a result's values in host memory: in the array, or in `*staging`. */
descent_status argument_values(const struct argument *argument, float **staging, float **values);
/* Copies them to the array unless they are in it. */
descent_status argument_give(const struct argument *argument, const descent_device *device, const float *values);

#endif
