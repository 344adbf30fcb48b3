/* A stand-in for CUDA's runtime, for tests only: the part that kernels/ uses, executed by the host (emulation.cpp).
 *
 * Device memory is the host's, in blocks of exactly the size asked for, filled with NaN. A stream is a queue; work runs
 * when it is enqueued or, in a late stream, not before something waits for it; a graph's nodes run in any order that
 * their dependencies allow: code that gives the same results every time is ordered properly. */
#ifndef DESCENT_TESTS_CUDA_RUNTIME_API_H
#define DESCENT_TESTS_CUDA_RUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#define CUDART_VERSION 13000

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define EMULATED_ERRORS(X)                                                                             \
  X(cudaSuccess, 0, "no error")                                                                        \
  X(cudaErrorInvalidValue, 1, "invalid argument")                                                      \
  X(cudaErrorMemoryAllocation, 2, "out of memory")                                                     \
  X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                \
  X(cudaErrorInvalidPitchValue, 12, "invalid pitch argument")                                          \
  X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")   \
  X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                      \
  X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                             \
  X(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                                     \
  X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available on the device")                \
  X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                    \
  X(cudaErrorSymbolNotFound, 500, "named symbol not found")                                            \
  X(cudaErrorNotReady, 600, "device not ready")                                                        \
  X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                          \
  X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")                     \
  X(cudaErrorNotSupported, 801, "operation not supported")                                             \
  X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing")        \
  X(cudaErrorStreamCaptureInvalidated, 901, "operation failed due to a previous error during capture") \
  X(cudaErrorStreamCaptureUnjoined, 904, "capturing stream has unjoined work")                         \
  X(cudaErrorStreamCaptureIsolation, 905, "dependency created on uncaptured work in another stream")   \
  X(cudaErrorInvalidClusterSize, 912, "cluster misconfiguration")
#define EMULATED_ENUMERATOR(name, value, text) name = value,
typedef enum cudaError { EMULATED_ERRORS(EMULATED_ENUMERATOR) } cudaError_t;
#undef EMULATED_ENUMERATOR
const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);

/* ---- devices ---- */

typedef struct CUuuid_st {
  char bytes[16];
} cudaUUID_t;
struct cudaDeviceProp {
  char name[256];
  cudaUUID_t uuid; /* e0ffeeee-...: the second digit is the ordinal */
  size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
  int pciDomainID, pciBusID, pciDeviceID;
};
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
enum { cudaEnableDefault = 0 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
/* Knows the functions of contexts that kernels/context.c uses. */
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *found);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device);
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  int numRegs, ptxVersion, maxDynamicSharedSizeBytes;
};
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDeviceSynchronize(void);

/* ---- memory ---- */

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
  enum cudaMemoryType type;
  int device;
  void *devicePointer, *hostPointer;
};
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total);
typedef struct CUstream_st *cudaStream_t;
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              enum cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);

/* ---- streams, events, graphs ---- */

enum { cudaStreamDefault = 0, cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
enum { cudaEventRecordDefault = 0, cudaEventRecordExternal = 1 }; /* external: a node of the graph being captured */
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
typedef struct CUgraphNode_st *cudaGraphNode_t;
cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags);
/* Of one that was captured and waits for nothing but other nodes of itself. */
cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                                       size_t n_after, cudaGraph_t child);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);

/* ---- not part of CUDA ---- */

/* Enqueues run(context) as a kernel would be: recorded while the stream captures. Calls release(context) once, at the
 * end. */
cudaError_t emulate_enqueue(cudaStream_t stream, void (*run)(void *), void *context, void (*release)(void *));

/* Enqueues an exchange with other threads: poll(context, begins) is called until it returns nonzero, the first time with
 * `begins`. What is enqueued behind it waits. */
cudaError_t emulate_enqueue_exchange(cudaStream_t stream, int (*poll)(void *context, int begins), void *context,
                                     void (*release)(void *));

int emulate_is_capturing(cudaStream_t stream);

/* Restarts counting and sets the faults to inject, "name=value,...": memory (bytes of the device), allocation (the
 * number of the one that fails, from 1), context (of the one that does not fit), launch (of the one refused), child (1: no
 * graph is taken as a part of another), fault (of
 * the kernel that hits a bad address), devices, driver (its version), busy (a bit for each device of whose memory other
 * programs hold half), mig (one GPU in so many parts, CUDA_VISIBLE_DEVICES names the one to be seen), nvml and cublas
 * (0: that library is not there), code (0: of kernels, for this device), ptx (of the kernels: its compute capability
 * times 10), load (of the question about a kernel for whose code there is no memory), major (of the compute
 * capability), processors (the number of multiprocessors), cluster (the most blocks of a cluster that it has room for),
 * own (bytes of every kernel's shared variables), late (1: every stream created from now on, 2: each with a chance of
 * one half), guess (1: events measure times drawn at random, so that whatever might be chosen by time is), seed (of all
 * that is drawn, such as the order in which blocks and threads run). Before the first use: the environment's
 * DESCENT_EMULATE. */
void emulate_configure(const char *settings);
int emulate_failed(void);            /* true if that allocation, context, launch or kernel has failed since */
long long emulate_launches(void);    /* of kernels and graphs, also while a stream is captured, since */
long long emulate_choices(void);     /* times that a graph could run one of several nodes, since */
int emulate_current(void);           /* the device of this thread's current context; -1: none */
long long emulate_live(void);        /* allocations, streams, events and graphs that exist */
long long emulate_free(int ordinal); /* bytes, as the management library reports; -1: no library */
int emulate_cublas(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
