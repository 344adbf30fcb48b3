/* A stand-in for NCCL, for tests only: ranks are threads of one process, each with an emulated device. What is sent is
 * copied when its stream reaches it, and an exchange is over when all that it receives has arrived. It refuses what
 * NVIDIA's library refuses, and what would wait without end or is undefined there: two ranks on a device, other lengths or
 * types on the two sides, messages outside of a group, messages of a rank to itself without a receipt in the same group,
 * messages that arrive in what another of the group uses, the end of a communicator whose exchanges a graph holds, an
 * exchange that is captured on one side only. */
#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "nccl_controls.h"

extern "C" {
#include "nccl.h"
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED struct emulated_nccl emulated_nccl;
struct emulated_nccl emulated_nccl;

namespace {

struct emulated_nccl &controls = emulated_nccl;

enum { DEFAULT_VERSION = 22703 };

struct Message {
  ncclDataType_t type;
  bool captured;
  std::vector<char> data;
};

/* The ranks of one communicator. */
struct Clique {
  int size = 0;
  std::map<int, int> devices; /* by rank: those that have arrived */
  bool refused = false;
  std::map<std::pair<int, int>, std::deque<Message>> sent; /* (from, to) */
};

std::mutex lock;
std::condition_variable arrived;
std::map<std::string, std::shared_ptr<Clique>> cliques; /* by id */
unsigned long long ids;

/* ---- the emulation, inside the module that calls ---- */

struct Runtime {
  cudaError_t (*enqueue)(cudaStream_t, int (*)(void *, int), void *, void (*)(void *));
  cudaError_t (*get_device)(int *);
  int (*is_capturing)(cudaStream_t);
  cudaError_t (*query)(cudaStream_t);
  explicit Runtime(void *caller) {
    Dl_info info{};
    if (!dladdr(caller, &info)) std::abort();
    void *const module = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    find(module, "emulate_enqueue_exchange", &enqueue);
    find(module, "cudaGetDevice", &get_device);
    find(module, "emulate_is_capturing", &is_capturing);
    find(module, "cudaStreamQuery", &query);
    if (module) dlclose(module);
  }

 private:
  template <typename Function>
  static void find(void *module, const char *name, Function *function) {
    void *const symbol = module ? dlsym(module, name) : nullptr;
    if (!symbol) std::fprintf(stderr, "the emulated NCCL is not called by the emulation: no %s\n", name), std::abort();
    std::memcpy(function, &symbol, sizeof symbol);
  }
};
#define RUNTIME Runtime(__builtin_return_address(0))

int current_device(const Runtime &runtime) {
  int device = 0;
  (void)runtime.get_device(&device);
  return device;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank, device;
  ncclResult_t error = ncclSuccess; /* found while an exchange ran */
  bool aborted = false;
  int started = 0;               /* exchanges */
  int held = 0;                  /* by graphs, and what was launched of them */
  cudaStream_t stream = nullptr; /* of those */
};

namespace {

struct Call {
  bool receives;
  void *data;
  size_t bytes;
  ncclDataType_t type;
  int peer;
};

/* What a group gives to one stream. The communicator outlives it: streams hold it until they are drained. */
struct Exchange {
  std::shared_ptr<ncclComm> comm;
  std::vector<Call> calls;
  bool captured = false;
  bool sent = false;
  std::chrono::steady_clock::time_point begin; /* of this run of it */
};

void release(void *context) {
  auto *const exchange = static_cast<Exchange *>(context);
  {
    const std::lock_guard<std::mutex> locked(lock);
    if (exchange->captured) exchange->comm->held--;
  }
  delete exchange;
}

/* ThreadSanitizer knows waits until a time of the system's clock. */
std::chrono::system_clock::time_point after(double seconds) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::duration<double>(seconds));
}

/* Or until the waits end. */
void wait_for(double seconds) {
  std::unique_lock<std::mutex> locked(lock);
  arrived.wait_until(locked, after(seconds), [] { return controls.released != 0; });
}

std::map<ncclComm_t, std::shared_ptr<ncclComm>> comms;

void send(Exchange &exchange) {
  const ncclComm &comm = *exchange.comm;
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - exchange.begin;
  if (exchange.sent || (controls.late == comm.device + 1 && waited.count() < controls.lateness)) return;
  exchange.sent = true;
  if (controls.silent == comm.device + 1 && comm.started > controls.after) return;
  for (const Call &call : exchange.calls) {
    if (call.receives) continue;
    const char *const data = static_cast<const char *>(call.data);
    comm.clique->sent[{comm.rank, call.peer}].push_back(
        {call.type, exchange.captured, std::vector<char>(data, data + call.bytes)});
  }
}

/* Takes all that is to be received, once it has arrived. */
bool receive(const Exchange &exchange) {
  ncclComm &comm = *exchange.comm;
  std::map<int, size_t> expected;
  for (const Call &call : exchange.calls)
    if (call.receives && comm.clique->sent[{call.peer, comm.rank}].size() < ++expected[call.peer]) return false;
  for (const Call &call : exchange.calls) {
    if (!call.receives) continue;
    std::deque<Message> &queue = comm.clique->sent[{call.peer, comm.rank}];
    const Message &message = queue.front();
    if (message.data.size() != call.bytes || message.type != call.type || message.captured != exchange.captured)
      comm.error = ncclInvalidUsage;
    else if (controls.loses != comm.device + 1)
      std::memcpy(call.data, message.data.data(), call.bytes);
    queue.pop_front();
  }
  return comm.error == ncclSuccess;
}

/* An exchange that has failed is never over: it ends when the communicator is aborted. */
int poll(void *context, int begins) {
  Exchange &exchange = *static_cast<Exchange *>(context);
  ncclComm &comm = *exchange.comm;
  const std::lock_guard<std::mutex> locked(lock);
  if (comm.aborted) return 1;
  comm.started += begins;
  controls.graph_runs += begins != 0 && exchange.captured;
  if (controls.fails == comm.device + 1 && comm.started > controls.after) comm.error = ncclRemoteError;
  if (comm.error != ncclSuccess) return 0;
  if (begins) exchange.sent = false, exchange.begin = std::chrono::steady_clock::now();
  send(exchange);
  return exchange.sent && receive(exchange);
}

thread_local int group_depth;
thread_local ncclResult_t group_error;
thread_local std::map<std::pair<ncclComm_t, cudaStream_t>, std::vector<Call>> group;

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, const Call &call) {
  const std::lock_guard<std::mutex> locked(lock);
  ncclResult_t result = ncclSuccess;
  if (comms.find(comm) == comms.end() || comm->aborted)
    result = ncclInvalidArgument;
  else if (group_depth == 0 || call.peer < 0 || call.peer >= comm->clique->size)
    result = ncclInvalidUsage;
  else
    group[{comm, stream}].push_back(call);
  if (result != ncclSuccess) group_error = result;
  return result;
}

/* A rank receives from itself what it sends to itself in the same group. */
bool is_matched(ncclComm_t comm, const std::vector<Call> &calls) {
  std::vector<const void *> sent, received;
  for (const Call &call : calls)
    if (call.peer == comm->rank) (call.receives ? received : sent).push_back(call.data);
  for (size_t i = 0; i < sent.size() && i < received.size(); i++) {
    const std::lock_guard<std::mutex> locked(lock);
    controls.in_place += sent[i] == received[i];
  }
  return sent.size() == received.size();
}

/* No message arrives in what another of the group sends or receives. */
bool is_apart(const std::vector<Call> &calls) {
  for (const Call &one : calls)
    for (const Call &other : calls) {
      const char *const begin = static_cast<const char *>(one.data), *const other_begin =
                                                                         static_cast<const char *>(other.data);
      if (&one == &other || (!one.receives && !other.receives)) continue;
      if (begin < other_begin + other.bytes && other_begin < begin + one.bytes) return false;
    }
  return true;
}

size_t bytes_of(ncclDataType_t type) { return type == ncclFloat32 ? 4 : type == ncclFloat64 ? 8 : 0; }

/* Waits for all ranks, as NVIDIA's library does without end. */
bool all_arrive(std::unique_lock<std::mutex> &locked, Clique &clique) {
  const auto is_complete = [&] { return static_cast<int>(clique.devices.size()) == clique.size; };
  arrived.notify_all();
  arrived.wait_until(locked, after(controls.patience > 0 ? controls.patience : 30),
                     [&] { return controls.released != 0 || is_complete(); });
  return is_complete();
}

}  // namespace

EXPORTED long long emulated_nccl_settle() {
  const std::lock_guard<std::mutex> locked(lock);
  return controls.live;
}

EXPORTED void emulated_nccl_release() {
  const std::lock_guard<std::mutex> locked(lock);
  controls.released = 1;
  arrived.notify_all();
}

EXPORTED ncclResult_t ncclGetVersion(int *version) {
  const int device = current_device(RUNTIME);
  const int given = device < EMULATED_NCCL_DEVICES ? controls.version[device] : 0;
  *version = given ? given : DEFAULT_VERSION;
  return ncclSuccess;
}

EXPORTED const char *ncclGetErrorString(ncclResult_t result) {
  return result == ncclSystemError       ? "unhandled system error"
         : result == ncclInvalidArgument ? "invalid argument"
         : result == ncclInvalidUsage    ? "invalid usage"
         : result == ncclRemoteError     ? "remote process exited or there was a network error"
                                         : "no error";
}

EXPORTED ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  const std::lock_guard<std::mutex> locked(lock);
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->internal, sizeof id->internal, "clique %llu", ++ids);
  cliques[id->internal] = std::make_shared<Clique>();
  return ncclSuccess;
}

EXPORTED ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank) {
  const int device = current_device(RUNTIME);
  wait_for(0.01); /* so that a time limit of next to nothing ends first; NVIDIA's library takes longer */
  std::unique_lock<std::mutex> locked(lock);
  const auto found = cliques.find(id.internal);
  if (found == cliques.end() || rank < 0 || rank >= size) return ncclInvalidArgument;
  const std::shared_ptr<Clique> clique = found->second;
  if (clique->size && clique->size != size) return ncclInvalidArgument;
  clique->size = size;
  for (const auto &other : clique->devices) clique->refused |= other.second == device || other.first == rank;
  if (controls.absent == device + 1) return ncclSystemError;
  clique->devices[rank] = device;
  if (!clique->refused && !all_arrive(locked, *clique)) return ncclSystemError;
  arrived.notify_all();
  if (clique->refused) return ncclInvalidUsage;
  const bool half_made = controls.half_made == device + 1;
  const auto made = std::make_shared<ncclComm>();
  made->clique = clique;
  made->rank = rank;
  made->device = device;
  comms[made.get()] = made;
  controls.live++;
  *comm = made.get();
  return half_made ? ncclSystemError : ncclSuccess;
}

/* Waits until no graph holds an exchange, as NVIDIA's library does without end: false, after some time, which is less than
 * the limits of tests. */
static bool let_go(const Runtime &runtime, ncclComm &comm) {
  for (double waited = 0; waited < 0.3; waited += 1e-3) {
    {
      const std::lock_guard<std::mutex> locked(lock);
      if (comm.held == 0) return true;
    }
    (void)runtime.query(comm.stream);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

/* Streams keep what their exchanges use. */
static ncclResult_t end(const Runtime &runtime, ncclComm_t comm, bool aborts) {
  std::shared_ptr<ncclComm> ended;
  {
    const std::lock_guard<std::mutex> locked(lock);
    if (comms.find(comm) == comms.end()) return ncclInvalidArgument;
    ended = comms[comm];
    ended->aborted |= aborts;
  }
  const bool free = let_go(runtime, *ended);
  if (!aborts) wait_for(controls.parting);
  const std::lock_guard<std::mutex> locked(lock);
  comms.erase(comm);
  controls.live--;
  controls.stuck += !free;
  (aborts ? controls.aborted : controls.destroyed)++;
  return ncclSuccess;
}
EXPORTED ncclResult_t ncclCommDestroy(ncclComm_t comm) { return end(RUNTIME, comm, false); }
EXPORTED ncclResult_t ncclCommAbort(ncclComm_t comm) { return end(RUNTIME, comm, true); }

EXPORTED ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result) {
  const std::lock_guard<std::mutex> locked(lock);
  if (comms.find(comm) == comms.end()) return ncclInvalidArgument;
  *result = comm->error;
  return ncclSuccess;
}

EXPORTED ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                               cudaStream_t stream) {
  return add(comm, stream, {false, const_cast<void *>(data), count * bytes_of(type), type, peer});
}
EXPORTED ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                               cudaStream_t stream) {
  return add(comm, stream, {true, data, count * bytes_of(type), type, peer});
}

EXPORTED ncclResult_t ncclGroupStart() {
  if (group_depth++ == 0) group_error = ncclSuccess;
  return ncclSuccess;
}

EXPORTED ncclResult_t ncclGroupEnd() {
  const Runtime runtime = RUNTIME;
  if (group_depth == 0) return ncclInvalidUsage;
  if (--group_depth > 0) return ncclSuccess;
  ncclResult_t result = group_error;
  const auto calls = std::move(group);
  group.clear();
  std::vector<Call> all;
  for (const auto &part : calls) all.insert(all.end(), part.second.begin(), part.second.end());
  if (!is_apart(all)) result = ncclInvalidUsage;
  for (const auto &part : calls) {
    if (result != ncclSuccess) break;
    const cudaStream_t stream = part.first.second;
    const bool captures = runtime.is_capturing(stream) != 0; /* its lock comes before the one here */
    if (!captures) wait_for(controls.slow);
    if (captures && controls.uncapturable == current_device(runtime) + 1) result = ncclInvalidUsage;
    if (!is_matched(part.first.first, part.second)) result = ncclInvalidUsage;
    if (result != ncclSuccess) break;
    auto *const exchange = new Exchange();
    {
      const std::lock_guard<std::mutex> locked(lock);
      exchange->comm = comms[part.first.first];
      exchange->captured = captures;
      if (captures) exchange->comm->held++, exchange->comm->stream = stream;
      controls.groups++;
      controls.captured += captures;
    }
    exchange->calls = part.second;
    if (runtime.enqueue(stream, poll, exchange, release) != cudaSuccess) result = ncclSystemError;
  }
  return result;
}
