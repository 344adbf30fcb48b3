/* What the elements of a caller's array in a device's memory are checked for. */
#ifndef DESCENT_BACKEND_DEVICE_ARRAY_H
#define DESCENT_BACKEND_DEVICE_ARRAY_H

enum array_rule_kind {
  ARRAY_FITS,         /* as float32, a finite value stays finite */
  ARRAY_NOT_INFINITE, /* NaN is a missing cell */
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

#endif
