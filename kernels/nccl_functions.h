/* The functions of NCCL that are used: result, name, parameters. Apart from nccl.h, so that a test compares them with the
 * library's header. */
#ifndef DESCENT_KERNELS_NCCL_FUNCTIONS_H
#define DESCENT_KERNELS_NCCL_FUNCTIONS_H

#define NCCL_FUNCTIONS(X)                                                                                  \
  X(ncclResult_t, ncclGetVersion, (int *version))                                                          \
  X(const char *, ncclGetErrorString, (ncclResult_t result))                                               \
  X(ncclResult_t, ncclGetUniqueId, (ncclUniqueId * id))                                                    \
  X(ncclResult_t, ncclCommInitRank, (ncclComm_t * comm, int size, ncclUniqueId id, int rank))              \
  X(ncclResult_t, ncclCommDestroy, (ncclComm_t comm))                                                      \
  X(ncclResult_t, ncclCommAbort, (ncclComm_t comm))                                                        \
  X(ncclResult_t, ncclCommGetAsyncError, (ncclComm_t comm, ncclResult_t * result))                         \
  X(ncclResult_t, ncclGroupStart, (void))                                                                  \
  X(ncclResult_t, ncclGroupEnd, (void))                                                                    \
  X(ncclResult_t, ncclSend,                                                                                \
    (const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)) \
  X(ncclResult_t, ncclRecv,                                                                                \
    (void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream))

#endif
