/* NCCL, NVIDIA's library for exchanges between GPUs, loaded at run time. Declared here is what is used of it, so that a
 * build needs no NCCL; these functions have had this form since NCCL 2.7 (nccl.h). */
#ifndef DESCENT_KERNELS_NCCL_H
#define DESCENT_KERNELS_NCCL_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

#include "nccl_functions.h"

enum { NCCL_LEAST_VERSION = 2700, NCCL_CAPTURED_VERSION = 20900 }; /* the first with send and receive; in CUDA graphs */
enum { NCCL_PROBLEM = 160 };                                       /* bytes of a text */

typedef struct ncclComm *ncclComm_t;
typedef struct {
  char internal[128];
} ncclUniqueId;
typedef enum {
  ncclSuccess = 0,
  ncclSystemError = 2,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclNumResults = 8 /* all but success are failures */
} ncclResult_t;
typedef enum { ncclFloat32 = 7, ncclFloat64 = 8 } ncclDataType_t;

/* The functions of a loaded library under their names. */
struct nccl {
#define NCCL_MEMBER(result, name, parameters) result(*name) parameters;
  NCCL_FUNCTIONS(NCCL_MEMBER)
#undef NCCL_MEMBER
  int version; /* 22703: 2.27.3; 2.8 and older are counted otherwise: 2708 is 2.7.8 */
};

/* False, with the reason in `problem`, where there is no library that can be used. The environment's DESCENT_NCCL names
 * the library's file, or is "off". A library stays loaded. */
bool nccl_load(struct nccl *nccl, char problem[NCCL_PROBLEM]);
/* "2.27.3" */
void nccl_version_text(int version, char *text, size_t size);

#endif
