/* Compiled where NCCL's header is found: kernels/nccl.h declares the same functions, types and values. */
#include <nccl.h>

#include "kernels/nccl_functions.h"

#define CHECK(result, name, parameters) \
  _Static_assert(__builtin_types_compatible_p(__typeof__(name), result parameters), #name);
NCCL_FUNCTIONS(CHECK)

_Static_assert(sizeof(ncclUniqueId) == 128, "passed by value");
_Static_assert(sizeof(ncclResult_t) == sizeof(int) && ncclSuccess == 0, "results");
_Static_assert(sizeof(ncclDataType_t) == sizeof(int) && ncclFloat32 == 7 && ncclFloat64 == 8, "types of values");
