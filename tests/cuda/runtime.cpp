/* The emulated runtime: streams, events and graphs as lists of closures; device memory as blocks of the host's. */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#if EMULATED_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* A function, a kernel, or a wait for others: `poll` is called until it returns true, the first time with true. */
struct Work {
  std::function<void()> run;
  std::shared_ptr<const emulated_kernel> kernel;
  std::function<bool(bool begins)> poll = nullptr;
};
struct Node {
  Work work;
  std::vector<size_t> after; /* nodes before it */
};

using Time = std::shared_ptr<double>; /* milliseconds; NaN: not yet recorded */

struct CUgraph_st {
  std::vector<Node> nodes;
  std::vector<Time> records;     /* of event nodes */
  cudaStream_t origin = nullptr; /* where the capture began; null: made without one */
  bool is_global = false;        /* its capture forbids calls to all threads */
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<Node>> nodes;
  std::vector<Time> records;
};
struct CUstream_st {
  bool blocking = true; /* waits for the default stream, and it for this one */
  bool late = false;    /* runs when something waits for it; false: at once */
  bool destroyed = false;
  int ordinal = 0;        /* of its device */
  bool polled = false;    /* the wait at the front of the queue was tried, and is not over */
  bool exchanged = false; /* an exchange of NCCL is the last that was enqueued */
  std::deque<Work> queue;
  uint64_t enqueued = 0, done = 0;
  cudaGraph_t graph = nullptr; /* that it is being captured into */
  std::vector<size_t> tail;    /* the nodes that the next one waits for */
};
struct CUevent_st {
  bool timed = true;
  cudaStream_t stream = nullptr;
  uint64_t ticket = 0; /* complete when so much of the stream is done */
  Time milliseconds;
  cudaGraph_t graph = nullptr; /* recorded while captured */
  std::vector<size_t> tail;    /* of the stream then */
};

namespace {

std::recursive_mutex device; /* one call at a time */
thread_local int depth;      /* of this thread's locks */
struct Lock {
  Lock() { device.lock(), depth++; }
  ~Lock() { depth--, device.unlock(); }
  Lock(const Lock &) = delete;
  Lock &operator=(const Lock &) = delete;
};
#define LOCK const Lock lock

struct Settings {
  unsigned long long memory = 8ULL << 30, allocation = 0, launch = 0, fault = 0, devices = 1, driver = CUDART_VERSION;
  unsigned long long context = 0, late = 0, guess = 0, seed = 1, busy = 0, mig = 0, nvml = 1, cublas = 1, code = 1;
  unsigned long long major = 9, processors = 2, cluster = 16, ptx = 90, load = 0, own = 0;
  unsigned long long slow = 0, capture = 0, child = 0;
} settings;
struct {
  unsigned long long allocations, launches, kernels, contexts, loads, instances;
  long long choices;
  cudaError_t last, sticky;
  bool configured, failed;
  int captures; /* under way that forbid calls to all threads */
} now;
thread_local struct {
  bool invalidated;
  int captures;
  cudaStreamCaptureMode mode;
} here; /* this thread's capture */
long long live;
size_t device_bytes;
std::map<uintptr_t, size_t> on_device, pinned;     /* sizes by address */
std::map<uintptr_t, int> ordinals;                 /* of the devices that hold the blocks */
std::vector<std::unique_ptr<CUstream_st>> streams; /* also those destroyed: events may know them */

/* The devices of this thread's current contexts; the last one counts. A call that needs a context and finds none makes
 * that of device 0 current. */
struct context_stack { /* without a destructor: a device may be closed after this thread's have run */
  enum { DEEPEST = 64 };
  int ordinals[DEEPEST], depth;
  bool empty() const { return depth == 0; }
  int back() const { return ordinals[depth - 1]; }
  void push_back(int ordinal) { depth < DEEPEST ? (void)(ordinals[depth++] = ordinal) : abort(); }
  void pop_back() { depth--; }
};
thread_local context_stack contexts;
int current() { return contexts.empty() ? 0 : contexts.back(); }

/* True if this call is the one to fail. */
bool goes_wrong(unsigned long long *calls, unsigned long long wrong) {
  if (++*calls == wrong) now.failed = true;
  return *calls == wrong;
}

cudaError_t fail(cudaError_t error) {
  if (error != cudaSuccess) now.last = error;
  return error;
}
#define REFUSE(condition, error) \
  if (condition) return fail(error)

void configure_once() {
  if (!now.configured) emulate_configure(getenv("DESCENT_EMULATE"));
}

/* Every call begins with this. `blocking`: not allowed while a stream captures. */
cudaError_t ready(bool blocking) {
  configure_once();
  if (settings.driver < CUDART_VERSION / 1000 * 1000) return fail(cudaErrorInsufficientDriver);
  if (settings.devices == 0) return fail(cudaErrorNoDevice);
  if (now.sticky != cudaSuccess) return fail(now.sticky);
  const bool forbids = here.captures && here.mode != cudaStreamCaptureModeRelaxed;
  if (!blocking || (!forbids && !now.captures)) return cudaSuccess;
  here.invalidated = true;
  return fail(cudaErrorStreamCaptureUnsupported);
}
#define BEGIN_WITHOUT_CONTEXT(blocking) \
  LOCK;                                 \
  if (const cudaError_t not_ready = ready(blocking)) return not_ready
#define BEGIN(blocking)            \
  BEGIN_WITHOUT_CONTEXT(blocking); \
  if (contexts.empty()) contexts.push_back(0)
/* Calls that release something do so on a lost device too, and return its error. */
#define BEGIN_RELEASE(blocking)             \
  LOCK;                                     \
  const cudaError_t lost = ready(blocking); \
  if (lost != now.sticky) return lost

double read_clock() { /* milliseconds */
  static double drawn = 0;
  if (settings.guess) return drawn += 1e-3 * (double)(1 + emulate_draw() % 1024);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/* ---- work ---- */

const size_t small = 1 << 20; /* bytes of a block that is guarded completely */

}  // namespace

/* Outside kernels the host must not access device memory: small blocks are guarded against it. */
void emulate_open_memory([[maybe_unused]] bool open) {
#if EMULATED_ASAN
  for (const auto &block : on_device) {
    if (block.second > small) continue;
    if (open) ASAN_UNPOISON_MEMORY_REGION((void *)block.first, block.second);
    if (!open) ASAN_POISON_MEMORY_REGION((void *)block.first, block.second);
  }
#endif
}

namespace {

/* Starts a kernel, or returns null after the work, or because it fails. */
emulated_grid *start(const Work &work) {
  if (now.sticky != cudaSuccess) return nullptr;
  if (!work.kernel) {
    work.run();
    return nullptr;
  }
  if (goes_wrong(&now.kernels, settings.fault)) now.sticky = cudaErrorIllegalAddress;
  return now.sticky == cudaSuccess ? emulate_grid_start(work.kernel.get()) : nullptr;
}

void run(const Work &work) {
  emulated_grid *const grid = start(work);
  while (grid && emulate_grid_turn(grid)) continue;
}

/* Any order that the graph allows; kernels that may run at the same time take turns. */
void run_graph(const std::vector<Node> &nodes) {
  std::vector<size_t> missing(nodes.size()), ready;
  std::vector<std::vector<size_t>> then(nodes.size());
  std::vector<emulated_grid *> grids(nodes.size(), nullptr);
  for (size_t i = 0; i < nodes.size(); i++) {
    missing[i] = nodes[i].after.size();
    for (const size_t before : nodes[i].after) then[before].push_back(i);
    if (!missing[i]) ready.push_back(i);
  }
  while (!ready.empty()) {
    now.choices += ready.size() > 1;
    const size_t choice = ready.size() > 1 ? emulate_draw() % ready.size() : 0, node = ready[choice];
    if (!grids[node]) grids[node] = start(nodes[node].work);
    if (grids[node] && emulate_grid_turn(grids[node])) continue;
    ready.erase(ready.begin() + (ptrdiff_t)choice);
    for (const size_t next : then[node])
      if (--missing[next] == 0) ready.push_back(next);
  }
}

/* Is the wait at the front of the queue, if it is one, over? */
bool is_over(cudaStream_t stream) {
  const Work &front = stream->queue.front();
  if (!front.poll || now.sticky != cudaSuccess) return true;
  const bool begins = !stream->polled;
  stream->polled = true;
  return front.poll(begins);
}

/* Lets other threads in, for which this one waits. */
void let_others_in() {
  const int locks = depth;
  emulate_open_memory(false);
  for (depth = 0; depth < locks; depth++) device.unlock();
  usleep(50);
  for (depth = 0; depth < locks; depth++) device.lock();
  emulate_open_memory(true);
}

/* Without `waits`, as far as it goes. */
void run_until(cudaStream_t stream, uint64_t ticket, bool waits = true) {
  while (stream->done < ticket) {
    if (!is_over(stream)) {
      if (!waits) return;
      let_others_in();
      continue; /* another thread may have run it */
    }
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->polled = false;
    if (!work.poll) run(work);
    stream->done++;
  }
}

/* Runs the work that is waited for: the whole stream, or up to the ticket of an event. */
void drain(cudaStream_t stream, uint64_t ticket, bool waits = true) {
  if (stream->done >= ticket) return;
  emulate_open_memory(true);
  run_until(stream, ticket, waits);
  emulate_open_memory(false);
}

/* The streams of the current device. */
void drain_all(bool blocking_only) {
  for (size_t i = 0; i < streams.size(); i++) { /* their number may change while it waits */
    CUstream_st *const stream = streams[i].get();
    if ((stream->blocking || !blocking_only) && stream->ordinal == current()) drain(stream, stream->enqueued);
  }
}

cudaStream_t default_stream() {
  static CUstream_st stream;
  return &stream;
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  if (stream) stream->exchanged = false;
  if (stream && stream->graph) {
    std::vector<Node> &nodes = stream->graph->nodes;
    nodes.push_back({std::move(work), std::move(stream->tail)});
    stream->tail = {nodes.size() - 1};
    return cudaSuccess;
  }
  if (!stream) {
    drain_all(true);
    stream = default_stream();
  }
  stream->queue.push_back(std::move(work));
  stream->enqueued++;
  if (!stream->late) drain(stream, stream->enqueued, false);
  return fail(now.sticky);
}

/* The memory of a device that other programs leave free. */
size_t available(int ordinal) { return settings.busy >> ordinal & 1 ? settings.memory / 2 : settings.memory; }

unsigned long long first_part; /* the second digit of the first device's UUID */

/* Of a GPU in parts CUDA shows a process the first part, or the one that CUDA_VISIBLE_DEVICES names. */
void show_part(const char *name) {
  settings.devices = 0;
  for (first_part = 0; first_part < settings.mig && !settings.devices; first_part += !settings.devices)
    settings.devices = !name || strncmp(name, ("MIG-e" + std::to_string(first_part)).c_str(), 6) == 0;
}

bool inside(const std::map<uintptr_t, size_t> &blocks, const void *at, size_t bytes) {
  const uintptr_t address = (uintptr_t)at;
  auto block = blocks.upper_bound(address);
  if (block == blocks.begin()) return false;
  --block;
  return address - block->first <= block->second && bytes <= block->second - (address - block->first);
}

/* A large block is mapped, with an inaccessible page behind it. For one of malloc, AddressSanitizer would initialise
 * megabytes of shadow memory. */
const size_t PAGE = 4096, ALIGNMENT = 256;
size_t whole(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

void *take(size_t bytes) {
  void *memory = nullptr;
  if (bytes <= small) return posix_memalign(&memory, ALIGNMENT, bytes ? bytes : 1) == 0 ? memory : nullptr;
  const size_t pages = whole(bytes, PAGE);
  char *const base =
      (char *)mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  mprotect(base + pages, PAGE, PROT_NONE);
  return base + pages - whole(bytes, ALIGNMENT);
}

void give_back(void *memory, size_t bytes) {
  if (bytes <= small)
    free(memory);
  else
    munmap((void *)((uintptr_t)memory / PAGE * PAGE), whole(bytes, PAGE) + PAGE);
}

cudaError_t allocate(void **memory, size_t bytes, std::map<uintptr_t, size_t> &blocks) {
  BEGIN(true);
  const bool is_device = &blocks == &on_device;
  REFUSE(goes_wrong(&now.allocations, settings.allocation), cudaErrorMemoryAllocation);
  const size_t most = available(current());
  REFUSE(is_device && (bytes > most || device_bytes > most - bytes), cudaErrorMemoryAllocation);
  *memory = take(bytes);
  REFUSE(!*memory, cudaErrorMemoryAllocation);
  memset(*memory, EMULATED_NAN, bytes < small ? bytes : small);
  if (is_device) device_bytes += bytes;
  ordinals[(uintptr_t)*memory] = current();
  blocks[(uintptr_t)*memory] = bytes;
  emulate_open_memory(false);
  live++;
  return cudaSuccess;
}

cudaError_t release(void *memory, std::map<uintptr_t, size_t> &blocks) {
  if (!memory) return cudaSuccess;
  BEGIN_RELEASE(true);
  const auto block = blocks.find((uintptr_t)memory);
  REFUSE(block == blocks.end(), cudaErrorInvalidValue);
  drain_all(false);
  emulate_open_memory(true);
  const size_t bytes = block->second;
  if (&blocks == &on_device) device_bytes -= bytes;
  blocks.erase(block);
  give_back(memory, bytes);
  emulate_open_memory(false);
  live--;
  return lost;
}

}  // namespace

void emulate_configure(const char *text) {
  LOCK;
  const struct {
    const char *name;
    unsigned long long *value;
  } known[] = {{"memory", &settings.memory},
               {"allocation", &settings.allocation},
               {"launch", &settings.launch},
               {"fault", &settings.fault},
               {"devices", &settings.devices},
               {"driver", &settings.driver},
               {"late", &settings.late},
               {"guess", &settings.guess},
               {"seed", &settings.seed},
               {"busy", &settings.busy},
               {"mig", &settings.mig},
               {"nvml", &settings.nvml},
               {"cublas", &settings.cublas},
               {"code", &settings.code},
               {"context", &settings.context},
               {"major", &settings.major},
               {"processors", &settings.processors},
               {"cluster", &settings.cluster},
               {"ptx", &settings.ptx},
               {"load", &settings.load},
               {"own", &settings.own},
               {"slow", &settings.slow},
               {"capture", &settings.capture},
               {"child", &settings.child}};
  settings = Settings();
  now = {};
  now.configured = true;
  for (const char *at = text ? text : ""; *at; at += *at == ',') {
    char name[16] = "";
    int length = 0;
    unsigned long long value = 0, *found = nullptr;
    if (sscanf(at, "%15[a-z]=%llu%n", name, &value, &length) == 2)
      for (const auto &setting : known)
        if (strcmp(setting.name, name) == 0) found = setting.value;
    if (!found || !strchr(",", at[length])) {
      fprintf(stderr, "DESCENT_EMULATE: '%s' is not name=value,...\n", at);
      abort();
    }
    *found = value;
    at += length;
  }
  if (settings.mig) show_part(getenv("CUDA_VISIBLE_DEVICES"));
  emulate_own_shared = (size_t)settings.own;
  emulate_random = 2 * settings.seed + 1;
  for (int i = 0; i < 4; i++) emulate_random *= 0x9e3779b97f4a7c15U;
}

long long emulate_live(void) {
  LOCK;
  return live;
}

long long emulate_free(int ordinal) {
  LOCK;
  configure_once();
  return settings.nvml ? (long long)available(ordinal) : -1;
}

long long emulate_launches(void) {
  LOCK;
  return (long long)now.launches;
}

long long emulate_choices(void) {
  LOCK;
  return now.choices;
}

int emulate_cublas(void) {
  LOCK;
  configure_once();
  return settings.cublas != 0;
}

int emulate_failed(void) {
  LOCK;
  return now.failed;
}

int emulate_is_capturing(cudaStream_t stream) {
  LOCK;
  return stream && stream->graph;
}

cudaError_t emulate_enqueue(cudaStream_t stream, void (*run)(void *), void *context, void (*release)(void *)) {
  const std::shared_ptr<void> owned(context, release); /* released also when refused */
  BEGIN(false);
  return enqueue(stream, {[run, owned] { run(owned.get()); }, nullptr});
}

cudaError_t emulate_enqueue_exchange(cudaStream_t stream, int (*poll)(void *, int), void *context,
                                     void (*release)(void *)) {
  const std::shared_ptr<void> owned(context, release);
  BEGIN(false);
  const cudaError_t error =
      enqueue(stream, {nullptr, nullptr, [poll, owned](bool begins) { return poll(owned.get(), begins) != 0; }});
  if (stream) stream->exchanged = true;
  return error;
}

bool emulate_is_global(const void *at) {
  LOCK;
  return inside(on_device, at, 1);
}

cudaError_t emulate_set_attribute(const void *kernel, enum cudaFuncAttribute attribute, int value) {
  BEGIN(false);
  return fail(emulate_request(kernel, attribute, value));
}

cudaError_t emulate_launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> thread) {
  BEGIN(false);
  emulate_list_launch(config, kernel);
  REFUSE(goes_wrong(&now.launches, settings.launch), cudaErrorLaunchOutOfResources);
  auto launched = std::make_shared<emulated_kernel>();
  launched->thread = std::move(thread);
  if (const cudaError_t refused = emulate_read_launch(config, kernel, (int)settings.major, launched.get()))
    return fail(refused);
  REFUSE(emulated_volume(launched->cluster) > settings.cluster, cudaErrorInvalidClusterSize);
  if (launched->programmatic && config->stream && config->stream->exchanged)
    emulate_misuse("a kernel that may start before an exchange through NCCL is over");
  return enqueue(config->stream, {nullptr, launched});
}

cudaError_t emulate_active_clusters(int *clusters, const void *kernel, const cudaLaunchConfig_t *config) {
  BEGIN(false);
  emulated_kernel launched;
  *clusters = 0;
  if (const cudaError_t refused = emulate_read_launch(config, kernel, (int)settings.major, &launched))
    return fail(refused);
  REFUSE(!launched.is_cluster, cudaErrorInvalidValue);
  const unsigned long long size = emulated_volume(launched.cluster);
  if (size <= settings.cluster) *clusters = (int)std::max(1ULL, settings.processors / size);
  return cudaSuccess;
}

/* ---- errors and devices ---- */

#define EMULATED_TEXTS(name, value, text) {value, #name, text},
static const struct {
  int value;
  const char *name, *text;
} errors[] = {EMULATED_ERRORS(EMULATED_TEXTS)};
const char *cudaGetErrorName(cudaError_t error) {
  for (const auto &known : errors)
    if (known.value == error) return known.name;
  return "unrecognized error code";
}
const char *cudaGetErrorString(cudaError_t error) {
  for (const auto &known : errors)
    if (known.value == error) return known.text;
  return "unrecognized error code";
}

cudaError_t cudaGetLastError(void) {
  LOCK;
  const cudaError_t error = now.sticky != cudaSuccess ? now.sticky : now.last;
  now.last = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 0;
  BEGIN_WITHOUT_CONTEXT(false);
  *count = (int)settings.devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int ordinal) {
  BEGIN_WITHOUT_CONTEXT(false);
  REFUSE(ordinal < 0 || ordinal >= (int)settings.devices, cudaErrorInvalidDevice);
  if (!contexts.empty()) contexts.pop_back();
  contexts.push_back(ordinal);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *ordinal) {
  BEGIN(false);
  *ordinal = current();
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int ordinal) {
  BEGIN_WITHOUT_CONTEXT(false);
  REFUSE(ordinal < 0 || ordinal >= (int)settings.devices, cudaErrorInvalidDevice);
  *properties = cudaDeviceProp();
  snprintf(properties->name, sizeof properties->name, "emulated GPU%s", settings.mig ? " MIG 1g.8gb" : "");
  memset(properties->uuid.bytes, 0xee, sizeof properties->uuid.bytes);
  properties->uuid.bytes[0] = (char)(0xe0 | (settings.mig ? first_part : (unsigned)ordinal));
  properties->uuid.bytes[1] = (char)0xff;
  properties->pciBusID = 0x3b + ordinal;
  properties->totalGlobalMem = settings.memory;
  properties->major = (int)settings.major;
  properties->multiProcessorCount = (int)settings.processors;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal) {
  BEGIN_WITHOUT_CONTEXT(false);
  REFUSE(ordinal < 0 || ordinal >= (int)settings.devices, cudaErrorInvalidDevice);
  *value = attribute == cudaDevAttrMemoryClockRate                ? 1000000 /* kHz */
           : attribute == cudaDevAttrClockRate                    ? 10000   /* kHz */
           : attribute == cudaDevAttrL2CacheSize                  ? 1 << 16 /* bytes */
           : attribute == cudaDevAttrComputeCapabilityMajor       ? (int)settings.major
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? EMULATED_SHARED
                                                                  : 64; /* bits */
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel) {
  BEGIN(false);
  *attributes = {};
  REFUSE(goes_wrong(&now.loads, settings.load), cudaErrorMemoryAllocation);
  attributes->sharedSizeBytes = emulate_own_shared;
  attributes->ptxVersion = (int)settings.ptx;
  attributes->maxDynamicSharedSizeBytes = (int)emulate_allowed_shared(kernel);
  return fail(settings.code ? cudaSuccess : cudaErrorNoKernelImageForDevice);
}
cudaError_t cudaDriverGetVersion(int *version) {
  LOCK;
  configure_once();
  *version = (int)settings.driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

/* ---- the driver's contexts ---- */

namespace {

struct CUctx_st {
  int ordinal;
} primary[64];

int device_get(int *found, int ordinal) {
  BEGIN_WITHOUT_CONTEXT(false);
  REFUSE(ordinal < 0 || ordinal >= (int)settings.devices, cudaErrorInvalidDevice);
  *found = ordinal;
  return cudaSuccess;
}
int primary_retain(CUctx_st **context, int ordinal) {
  BEGIN_WITHOUT_CONTEXT(false);
  REFUSE(goes_wrong(&now.contexts, settings.context), cudaErrorMemoryAllocation);
  primary[ordinal].ordinal = ordinal;
  *context = &primary[ordinal];
  return cudaSuccess;
}
int push(CUctx_st *context) {
  LOCK;
  contexts.push_back(context->ordinal);
  return cudaSuccess;
}
int pop(CUctx_st **context) {
  LOCK;
  if (contexts.empty()) return 201; /* CUDA_ERROR_INVALID_CONTEXT */
  *context = &primary[contexts.back()];
  contexts.pop_back();
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *found) {
  static const std::map<std::string, void *> functions = {{"cuDeviceGet", (void *)device_get},
                                                          {"cuDevicePrimaryCtxRetain", (void *)primary_retain},
                                                          {"cuCtxPushCurrent", (void *)push},
                                                          {"cuCtxPopCurrent", (void *)pop}};
  BEGIN_WITHOUT_CONTEXT(false);
  const auto known = functions.find(symbol);
  REFUSE(version > settings.driver || flags != cudaEnableDefault, cudaErrorInvalidValue);
  *function = known == functions.end() ? nullptr : known->second;
  *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

int emulate_current(void) {
  LOCK;
  return contexts.empty() ? -1 : contexts.back();
}

cudaError_t cudaDeviceSynchronize(void) {
  BEGIN(true);
  drain_all(false);
  return fail(now.sticky);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **memory, size_t bytes) { return allocate(memory, bytes, on_device); }
cudaError_t cudaFree(void *memory) { return release(memory, on_device); }
cudaError_t cudaMallocHost(void **memory, size_t bytes) { return allocate(memory, bytes, pinned); }
cudaError_t cudaFreeHost(void *memory) { return release(memory, pinned); }
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
  BEGIN_WITHOUT_CONTEXT(false);
  *attributes = {};
  if (inside(pinned, pointer, 1)) attributes->type = cudaMemoryTypeHost;
  if (!inside(on_device, pointer, 1)) return cudaSuccess;
  attributes->type = cudaMemoryTypeDevice;
  attributes->device = std::prev(ordinals.upper_bound((uintptr_t)pointer))->second;
  attributes->devicePointer = const_cast<void *>(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  BEGIN(false);
  *free_bytes = device_bytes < available(current()) ? available(current()) - device_bytes : 0;
  *total = settings.memory;
  return cudaSuccess;
}

/* A copy between pageable host memory and the device is over when the call returns. */
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              enum cudaMemcpyKind kind, cudaStream_t stream) {
  BEGIN(false);
  REFUSE(to_pitch < width || from_pitch < width, cudaErrorInvalidPitchValue);
  const size_t to_bytes = rows ? (rows - 1) * to_pitch + width : 0;
  const size_t from_bytes = rows ? (rows - 1) * from_pitch + width : 0;
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  REFUSE(to_device != inside(on_device, to, to_bytes), cudaErrorInvalidValue);
  REFUSE(from_device != inside(on_device, from, from_bytes), cudaErrorInvalidValue);
  const bool pageable =
      !(to_device || inside(pinned, to, to_bytes)) || !(from_device || inside(pinned, from, from_bytes));
  const auto copy = [=] {
    for (size_t r = 0; r < rows; r++) memcpy((char *)to + r * to_pitch, (const char *)from + r * from_pitch, width);
  };
  const cudaError_t error = enqueue(stream, {copy, nullptr});
  if (stream && pageable && !stream->graph) drain(stream, stream->enqueued);
  return error != cudaSuccess ? error : fail(now.sticky);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
  BEGIN(true);
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
  BEGIN(false);
  REFUSE(!inside(on_device, memory, bytes), cudaErrorInvalidValue);
  return enqueue(stream, {[=] { memset(memory, value, bytes); }, nullptr});
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  BEGIN(false);
  streams.emplace_back(*stream = new CUstream_st());
  (*stream)->blocking = flags != cudaStreamNonBlocking;
  (*stream)->ordinal = current();
  (*stream)->late = settings.late == 1 || (settings.late == 2 && emulate_draw() % 2);
  live++;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  BEGIN_RELEASE(true);
  REFUSE(!stream || stream->destroyed, cudaErrorInvalidResourceHandle);
  drain(stream, stream->enqueued);
  stream->destroyed = true;
  live--;
  return lost;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  BEGIN(false);
  REFUSE(!stream || stream->graph, cudaErrorStreamCaptureUnsupported);
  drain(stream, stream->enqueued, false);
  REFUSE(now.sticky != cudaSuccess, now.sticky);
  return stream->done < stream->enqueued ? fail(cudaErrorNotReady) : cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  BEGIN(true);
  REFUSE(stream && stream->graph, cudaErrorStreamCaptureUnsupported);
  if (stream) drain(stream, stream->enqueued);
  if (!stream) drain_all(true);
  return fail(now.sticky);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  BEGIN(false);
  *event = new CUevent_st();
  (*event)->timed = !(flags & cudaEventDisableTiming);
  live++;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  BEGIN_RELEASE(false);
  delete event;
  live--;
  return lost;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
  BEGIN(false);
  cudaGraph_t const graph = stream ? stream->graph : nullptr;
  REFUSE(flags > cudaEventRecordExternal || (flags == cudaEventRecordExternal && !graph), cudaErrorInvalidValue);
  const bool is_node = graph && flags == cudaEventRecordExternal;
  event->graph = is_node ? nullptr : graph;
  if (event->graph) {
    event->tail = stream->tail;
    return cudaSuccess;
  }
  const Time milliseconds = std::make_shared<double>(NAN);
  if (is_node) graph->records.push_back(milliseconds);
  const cudaError_t error = enqueue(stream, {[milliseconds] { *milliseconds = read_clock(); }, nullptr});
  event->milliseconds = milliseconds;
  event->stream = stream ? stream : default_stream();
  event->ticket = is_node ? 0 : event->stream->enqueued;
  return error;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, cudaEventRecordDefault);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  BEGIN(false);
  REFUSE(flags != 0 || (stream && stream->graph && !event->graph), cudaErrorInvalidValue);
  REFUSE(event->graph && stream && stream->graph && stream->graph != event->graph, cudaErrorStreamCaptureIsolation);
  if (event->graph && stream) { /* joins the capture */
    stream->graph = event->graph;
    for (const size_t node : event->tail)
      if (std::find(stream->tail.begin(), stream->tail.end(), node) == stream->tail.end()) stream->tail.push_back(node);
  }
  if (event->graph || !event->stream) return cudaSuccess;
  return enqueue(stream, {nullptr, nullptr, [other = event->stream, ticket = event->ticket](bool) {
                            run_until(other, ticket, false);
                            return other->done >= ticket;
                          }});
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  BEGIN(true);
  if (event->stream) drain(event->stream, event->ticket);
  return fail(now.sticky);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  BEGIN(false);
  if (event->stream) drain(event->stream, event->ticket, false);
  REFUSE(now.sticky != cudaSuccess, now.sticky);
  return event->stream && event->stream->done < event->ticket ? fail(cudaErrorNotReady) : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  BEGIN(false);
  REFUSE(!start->timed || !end->timed || !start->stream || !end->stream, cudaErrorInvalidResourceHandle);
  REFUSE(start->stream->done < start->ticket || end->stream->done < end->ticket, cudaErrorNotReady);
  *milliseconds = (float)(*end->milliseconds - *start->milliseconds);
  REFUSE(std::isnan(*milliseconds), cudaErrorNotReady);
  return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
  BEGIN(false);
  REFUSE(!stream, cudaErrorStreamCaptureUnsupported);
  REFUSE(stream->graph, cudaErrorInvalidValue);
  stream->graph = new CUgraph_st();
  stream->graph->origin = stream;
  stream->graph->is_global = mode == cudaStreamCaptureModeGlobal;
  now.captures += stream->graph->is_global;
  here.captures++;
  here.mode = mode;
  here.invalidated = false;
  return cudaSuccess;
}
/* Are all nodes before those of the tail, or among them? Nodes come after those that they wait for. */
static bool is_joined(const std::vector<Node> &nodes, const std::vector<size_t> &tail) {
  std::vector<bool> before(nodes.size(), false);
  for (const size_t node : tail) before[node] = true;
  for (size_t i = nodes.size(); i-- > 0;)
    if (before[i])
      for (const size_t node : nodes[i].after) before[node] = true;
  return std::find(before.begin(), before.end(), false) == before.end();
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  BEGIN(false);
  *graph = nullptr;
  REFUSE(!stream || !stream->graph || stream->graph->origin != stream, cudaErrorInvalidValue);
  cudaGraph_t captured = stream->graph;
  const bool joined = is_joined(captured->nodes, stream->tail);
  for (const auto &each : streams)
    if (each->graph == captured) each->graph = nullptr, each->tail.clear();
  now.captures -= captured->is_global;
  here.captures--;
  if (here.invalidated || !joined) {
    delete captured;
    return fail(here.invalidated ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
  }
  *graph = captured;
  live++;
  return cudaSuccess;
}
static bool has_exchange(const std::vector<Node> &nodes) {
  return std::any_of(nodes.begin(), nodes.end(), [](const Node &node) { return node.work.poll != nullptr; });
}
cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned flags) {
  BEGIN(false);
  REFUSE(flags != 0, cudaErrorInvalidValue);
  *graph = new CUgraph_st();
  live++;
  return cudaSuccess;
}
/* The nodes of the child become nodes of the graph, as they are now. */
cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t *node, cudaGraph_t graph, const cudaGraphNode_t *after,
                                       size_t n_after, cudaGraph_t child) {
  BEGIN(false);
  REFUSE(after || n_after || child == graph || child->nodes.empty(), cudaErrorInvalidValue);
  REFUSE(graph->origin || !child->origin || has_exchange(child->nodes), cudaErrorNotSupported);
  REFUSE(settings.child, cudaErrorNotSupported);
  const size_t first = graph->nodes.size();
  for (Node each : child->nodes) {
    for (size_t &before : each.after) before += first;
    graph->nodes.push_back(std::move(each));
  }
  graph->records.insert(graph->records.end(), child->records.begin(), child->records.end());
  *node = nullptr; /* nothing that is emulated takes it */
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  BEGIN_RELEASE(false);
  delete graph;
  live--;
  return lost;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  BEGIN(false);
  REFUSE(goes_wrong(&now.instances, settings.capture), cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{std::make_shared<std::vector<Node>>(graph->nodes), graph->records};
  live++;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  BEGIN_RELEASE(false);
  delete exec;
  live--;
  return lost;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { /* there is nothing to upload */
  BEGIN(false);
  return cudaSuccess;
}
/* A graph that may wait for other threads is run node by node, in the order of its capture. */
static cudaError_t enqueue_nodes(cudaStream_t stream, const std::vector<Node> &nodes) {
  cudaError_t error = cudaSuccess;
  for (size_t i = 0; i < nodes.size() && error == cudaSuccess; i++) error = enqueue(stream, nodes[i].work);
  return error;
}
/* So many milliseconds pass on the stream. */
static cudaError_t enqueue_delay(cudaStream_t stream, unsigned long long milliseconds) {
  using Clock = std::chrono::steady_clock;
  return enqueue(stream, {nullptr, nullptr, [milliseconds, since = std::make_shared<Clock::time_point>()](bool begins) {
                            if (begins) *since = Clock::now();
                            return Clock::now() - *since >= std::chrono::milliseconds(milliseconds);
                          }});
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  BEGIN(false);
  REFUSE(goes_wrong(&now.launches, settings.launch), cudaErrorLaunchOutOfResources);
  for (const Time &record : exec->records) *record = NAN;
  if (has_exchange(*exec->nodes)) return enqueue_nodes(stream, *exec->nodes);
  if (settings.slow && enqueue_delay(stream, settings.slow) != cudaSuccess) return now.last;
  return enqueue(stream, {[nodes = exec->nodes] { run_graph(*nodes); }, nullptr});
}
