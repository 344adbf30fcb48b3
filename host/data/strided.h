/* Arrays of callers, descent_array, as rows of float32: checked, read and written at any stride. */
#ifndef DESCENT_DATA_STRIDED_H
#define DESCENT_DATA_STRIDED_H

#include <descent/descent.h>
#include <stdbool.h>

/* Copies `given` with the strides that it leaves out. ERROR_ARGUMENT, with the name of the argument, for NULL, an
 * invalid member, and elements beyond the address space. */
descent_status strided_complete(const descent_array *given, const char *name, descent_array *array);
/* ERROR_ARGUMENT unless the array has at most `most_rows` rows of `columns` columns. */
descent_status strided_check_shape(const descent_array *array, const char *name, int64_t most_rows, int64_t columns);
/* ERROR_ARGUMENT unless it has as many rows as X. */
descent_status strided_check_rows(const descent_array *array, const char *name, int64_t rows);
/* ERROR_ARGUMENT unless the array can take float32 values. */
descent_status strided_check_output(const descent_array *array, const char *name);
/* Whether it is (rows, columns) of aligned float32 without gaps. */
bool strided_is_dense(const descent_array *array);
/* The same of bytes. */
bool strided_is_dense_bytes(const descent_array *array);

/* Rows first .. first + rows - 1 of an array. */
descent_array strided_part(const descent_array *array, int64_t first, int64_t rows);

/* Copies elements of host memory to `values` (rows, columns), rounded to float32. ERROR_ARGUMENT for a finite one that
 * is too large. */
descent_status strided_load(const descent_array *array, const char *name, float *values);
/* Copies `values` (rows, columns) to the array, in host memory, rounded to nearest; what exceeds the type is infinite. */
void strided_store(const float *values, const descent_array *array);

#endif
