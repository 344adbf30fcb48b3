/* Executes kernels on the host: the threads of a block as fibers, warp by warp from barrier to barrier; the blocks of a
 * cluster in turns, to the next barrier or to the next one of the cluster. */
#include <cuda_runtime.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <deque>
#include <string>
#include <vector>

#if !defined(__x86_64__) || defined(EMULATE_UCONTEXT)
#undef EMULATE_UCONTEXT
#define EMULATE_UCONTEXT 1
#include <ucontext.h>
#endif
#if EMULATED_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
uint64_t emulate_random = 1;
unsigned emulate_rank;
uint64_t emulate_turn;

uint64_t emulate_draw() { /* xorshift64 (Marsaglia 2003) */
  uint64_t &state = emulate_random;
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

void emulate_misuse(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("emulated device: ", stderr);
  vfprintf(stderr, format, arguments);
  fputs("\n", stderr);
  abort();
}

namespace {

/* The frames of threads that take turns are far apart: without an offset that differs from stack to stack they would
 * share a few sets of the caches. */
enum { LANES = 32, STACK = 256 << 10, COLOURS = 61, COLOUR = 7 * 64 };

/* The numbers below n in an order that changes from use to use. */
class Scrambled {
 public:
  explicit Scrambled(uint64_t n) : n_(n), mask_(emulate_draw()) {
    while (size_ < n) size_ *= 2;
  }
  bool next(uint64_t *number) {
    while (i_ < size_)
      if ((*number = (i_++ ^ mask_) & (size_ - 1)) < n_) return true;
    return false;
  }

 private:
  uint64_t n_, mask_, size_ = 1, i_ = 0;
};

/* ---- fibers ---- */

struct Fiber {
#if EMULATE_UCONTEXT
  ucontext_t context;
#else
  void *sp;
#endif
  const void *stack;
  size_t size;
  void *fake_stack; /* AddressSanitizer's */
};

enum State { READY, AT_BARRIER, AT_CLUSTER_BARRIER, EXCHANGES, ENDED };
struct Thread {
  Fiber *fiber = nullptr; /* none before it begins */
  State state = READY;
  const char *file = nullptr; /* where it waits */
  int line = 0;
  unsigned mask = 0, source = 0; /* of an exchange */
  uint64_t value = 0;
  void (*all)(void *const lanes[LANES]) = nullptr; /* of an operation of the whole warp, and what this lane brings */
  void *lane = nullptr;
  bool waited = false; /* has passed GRID_BEGIN */
};
struct Block {
  std::vector<Thread> threads;
  uint3 index;
  State state = READY;
  unsigned char *dynamic = nullptr; /* shared memory of the launch's size */
  std::vector<std::pair<const emulated_variable *, void *>> variables;
};
std::vector<Block> cluster(1);                      /* the blocks that run together */
std::vector<Thread> *threads = &cluster[0].threads; /* of the block whose turn it is */
Fiber scheduler, *left = nullptr;                   /* whose turn it was before the last switch */
std::deque<Fiber> fibers;
std::vector<Fiber *> idle;         /* wait for a thread to run */
const std::function<void()> *body; /* the kernel with its arguments */
Thread *current = nullptr;         /* null: the scheduler */
bool must_wait, is_closed;         /* the kernel needs GRID_BEGIN; device memory is closed until then */
uint64_t first_lane;               /* of the warp whose lanes take turns */
Scrambled lanes(0);                /* those still to come */

#if !EMULATE_UCONTEXT
extern "C" __attribute__((visibility("hidden"))) void emulate_switch(void **from, void *to);
asm(R"(.text
.globl emulate_switch
.hidden emulate_switch
.type emulate_switch, @function
emulate_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
.size emulate_switch, . - emulate_switch
)");
#endif

/* First thing on a fiber's stack after a switch to it. */
void arrived([[maybe_unused]] Fiber *self) {
#if EMULATED_ASAN
  __sanitizer_finish_switch_fiber(self->fake_stack, &left->stack, &left->size);
#endif
}

void switch_fiber(Fiber *self, Fiber *to) {
  left = self;
#if EMULATED_ASAN
  __sanitizer_start_switch_fiber(&self->fake_stack, to->stack, to->size);
#endif
#if EMULATE_UCONTEXT
  swapcontext(&self->context, &to->context);
#else
  emulate_switch(&self->sp, to->sp);
#endif
  arrived(self);
}

void next_lane() {
  uint64_t lane;
  current = nullptr;
  while (!current && lanes.next(&lane))
    if ((*threads)[first_lane + lane].state == READY) {
      current = &(*threads)[first_lane + lane];
      threadIdx.x = (unsigned)(first_lane + lane);
    }
}

/* Runs the threads that have not started yet, one after another. */
void fiber_main() {
  Fiber *const self = current->fiber;
  arrived(self);
  for (;;) {
    (*body)();
    emulate_end_thread();
    if (must_wait && !current->waited)
      emulate_misuse("thread %u of block %u,%u,%u ends without GRID_BEGIN", threadIdx.x, blockIdx.x, blockIdx.y,
                     blockIdx.z);
    current->state = ENDED;
    current->fiber = nullptr;
    next_lane();
    if (current && !current->fiber) {
      current->fiber = self;
      continue;
    }
    idle.push_back(self);
    switch_fiber(self, current ? current->fiber : &scheduler);
  }
}

Fiber *idle_fiber() {
  if (idle.empty()) {
    void *const stack =
        mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) emulate_misuse("no memory for the stack of a thread");
    const size_t size = STACK - fibers.size() % COLOURS * COLOUR;
    Fiber *const made = &fibers.emplace_back();
    made->stack = stack;
    made->size = size;
#if EMULATE_UCONTEXT
    getcontext(&made->context);
    made->context.uc_stack.ss_sp = stack;
    made->context.uc_stack.ss_size = size;
    makecontext(&made->context, fiber_main, 0);
#else
    void **top = (void **)((char *)stack + size) - 1; /* where a caller's address would be: 16 k + 8 */
    *--top = (void *)fiber_main;
    made->sp = top - 6; /* registers */
#endif
    idle.push_back(made);
  }
  Fiber *const fiber = idle.back();
  idle.pop_back();
  return fiber;
}

/* Switches to the next lane, after the last one to the scheduler. */
void give_turn(Fiber *self) {
  next_lane();
  if (current && !current->fiber) current->fiber = idle_fiber();
  Fiber *const to = current ? current->fiber : &scheduler;
  if (to != self) switch_fiber(self, to);
}

void wait(State state, unsigned mask, void (*all)(void *const *), const char *file, int line) {
  if (!current) emulate_misuse("%s:%d: a barrier or shuffle outside a kernel", file, line);
  current->state = state;
  current->mask = mask;
  current->all = all;
  current->file = file;
  current->line = line;
  give_turn(current->fiber);
}

bool at_same_place(const Thread &a, const Thread &b) {
  return a.state == b.state && a.line == b.line && a.mask == b.mask && a.all == b.all &&
         (a.file == b.file || strcmp(a.file, b.file) == 0);
}

/* Thread `other` of a block should be where `waiting`, of the block whose turn it is, waits. */
[[noreturn]] void diverged(const Thread &waiting, const Block &block, size_t other, const char *what) {
  const Thread *const t = other < block.threads.size() ? &block.threads[other] : nullptr;
  const uint3 at = block.index;
  std::string name, text = !t ? "does not exist" : t->state == ENDED ? "has ended" : "waits at ";
  if (t && t->state != ENDED) text += std::string(t->file) + ":" + std::to_string(t->line);
  if (threads != &block.threads)
    name = " of block " + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z);
  emulate_misuse("%s:%d: a %s of thread %zu in block %u,%u,%u is not reached by thread %zu%s, which %s", waiting.file,
                 waiting.line, what, (size_t)(&waiting - threads->data()), blockIdx.x, blockIdx.y, blockIdx.z, other,
                 name.c_str(), text.c_str());
}

/* Called once no lane of the warp can continue: false if none waits for another lane. */
bool exchange() {
  std::vector<Thread> &now = *threads;
  uint64_t brought[LANES] = {};
  bool any = false;
  const size_t end = std::min(now.size(), (size_t)first_lane + LANES);
  for (size_t i = first_lane; i < end; i++) brought[i - first_lane] = now[i].value;
  for (size_t i = first_lane; i < end; i++) {
    Thread &t = now[i];
    if (t.state != EXCHANGES) continue;
    any = true;
    if (!(t.mask >> (i - first_lane) & 1))
      emulate_misuse("%s:%d: thread %zu is not in its own mask", t.file, t.line, i);
    const size_t least = first_lane + (size_t)__builtin_ctz(t.mask); /* which is compared with all of its mask */
    const size_t last = i == least ? first_lane + LANES - 1 : least;
    for (size_t other = least; other <= last; other++)
      if (t.mask >> (other - first_lane) & 1 && !(other < end && at_same_place(t, now[other])))
        diverged(t, cluster[emulate_rank], other, t.all ? "warp's operation" : "shuffle");
    if (!(t.mask >> t.source & 1))
      emulate_misuse("%s:%d: a shuffle reads lane %u outside its mask", t.file, t.line, t.source);
    t.value = brought[t.source];
  }
  if (any && now[first_lane].all) {
    void *operands[LANES];
    for (size_t i = 0; i < LANES; i++) operands[i] = now[first_lane + i].lane;
    now[first_lane].all(operands);
  }
  for (size_t i = first_lane; i < end && any; i++)
    if (now[i].state == EXCHANGES) now[i].state = READY;
  return any;
}

/* The memory of the block whose turn it is, and its threads, take the place of another's. */
void enter(size_t rank) {
  Block *const block = &cluster[rank];
  threads = &block->threads;
  blockIdx = block->index;
  emulate_rank = (unsigned)rank;
  emulate_turn++;
}

/* Runs the block until all of its threads wait at one barrier, or have ended, and returns which it is. */
State run_to_barrier() {
  uint64_t warp;
  Scrambled warps((blockDim.x + LANES - 1) / LANES);
  while (warps.next(&warp)) {
    first_lane = warp * LANES;
    do {
      lanes = Scrambled(std::min<uint64_t>(LANES, blockDim.x - first_lane));
      give_turn(&scheduler);
    } while (exchange());
  }
  const Thread *waiting = nullptr;
  for (const Thread &t : *threads)
    if (t.state != ENDED) waiting = &t;
  if (!waiting) return ENDED;
  const State state = waiting->state;
  for (size_t i = 0; i < threads->size(); i++)
    if (!at_same_place(*waiting, (*threads)[i]))
      diverged(*waiting, cluster[emulate_rank], i, state == AT_BARRIER ? "barrier" : "CLUSTER_SYNC");
  if (state == AT_BARRIER)
    for (Thread &t : *threads) t.state = READY;
  return state;
}

/* Runs blocks until each waits at a barrier of the cluster, or has ended. Each runs without a switch, or they switch at
 * their barriers; the order is random either way. So between two barriers of the cluster a block may see all, none or
 * part of what another writes. */
void run_to_cluster_barrier() {
  static std::vector<size_t> ready;
  ready.clear();
  for (size_t rank = 0; rank < cluster.size(); rank++) ready.push_back(rank);
  const bool uninterrupted = cluster.size() == 1 || emulate_draw() % 2;
  while (!ready.empty()) {
    const size_t choice = ready.size() > 1 ? emulate_draw() % ready.size() : 0;
    Block *const block = &cluster[ready[choice]];
    enter(ready[choice]);
    do block->state = run_to_barrier();
    while (uninterrupted && block->state == AT_BARRIER);
    if (block->state != AT_BARRIER) ready.erase(ready.begin() + (ptrdiff_t)choice);
  }
}

void run_cluster() {
  for (;;) {
    run_to_cluster_barrier();
    size_t waiting = 0;
    while (waiting < cluster.size() && cluster[waiting].state == ENDED) waiting++;
    if (waiting == cluster.size()) return;
    enter(waiting);
    for (const Block &block : cluster) /* the threads of a block are all at one place */
      if (!at_same_place((*threads)[0], block.threads[0])) diverged((*threads)[0], block, 0, "CLUSTER_SYNC");
    for (Block &block : cluster)
      for (Thread &t : block.threads) t.state = READY;
  }
}

size_t dynamic_bytes = 0;
bool is_cluster = false; /* the launch asks for clusters */

unsigned char *take_shared(size_t bytes) {
  void *shared = nullptr;
  if (posix_memalign(&shared, 128, bytes) != 0) emulate_misuse("no memory for %zu bytes of shared memory", bytes);
  return (unsigned char *)shared;
}

}  // namespace

void __syncthreads(const char *file, int line) { wait(AT_BARRIER, 0, nullptr, file, line); }

uint64_t emulate_exchange(unsigned mask, uint64_t value, unsigned source, const char *file, int line) {
  Thread *const self = current;
  if (self) self->value = value, self->source = source;
  wait(EXCHANGES, mask, nullptr, file, line);
  return self->value;
}

void emulate_together(void (*all)(void *const lanes[LANES]), void *lane, const char *file, int line) {
  if (current) current->lane = lane, current->source = threadIdx.x % LANES;
  wait(EXCHANGES, 0xffffffffu, all, file, line);
}

void emulate_grid_begin(const char *file, int line) {
  if (!current) emulate_misuse("%s:%d: GRID_BEGIN outside a kernel", file, line);
  if (current->waited) emulate_misuse("%s:%d: a second GRID_BEGIN", file, line);
  current->waited = true;
  if (!is_closed) return;
  wait(AT_BARRIER, 0, nullptr, file, line);
  if (is_closed) emulate_open_memory(true);
  is_closed = false;
}

void emulate_cluster_sync(const char *file, int line) {
  if (current && !is_cluster) emulate_misuse("%s:%d: CLUSTER_SYNC in a launch without clusters", file, line);
  wait(AT_CLUSTER_BARRIER, 0, nullptr, file, line);
}

void *emulate_make_variable(emulated_variable *variable, const char *file, int line) {
  if (!current) emulate_misuse("%s:%d: shared memory outside a kernel", file, line);
  auto &made = cluster[emulate_rank].variables;
  variable->turn = emulate_turn;
  for (const auto &one : made)
    if (one.first == variable) return variable->at = one.second;
  variable->at = memset(take_shared(variable->bytes), EMULATED_NAN, variable->bytes);
  made.emplace_back(variable, variable->at);
  return variable->at;
}

bool emulate_in_kernel() { return current != nullptr; }

unsigned char *emulate_shared_memory(const char *file, int line) {
  if (!dynamic_bytes) emulate_misuse("%s:%d: a kernel without shared memory from its launch", file, line);
  return cluster[emulate_rank].dynamic;
}

void emulate_check_shared(const void *at, const char *file, int line) {
  const uintptr_t p = (uintptr_t)at;
  const auto holds = [p](const void *memory, size_t bytes) {
    return p >= (uintptr_t)memory && p - (uintptr_t)memory + 16 <= bytes;
  };
  const Block &block = cluster[emulate_rank];
  bool inside = holds(block.dynamic, dynamic_bytes);
  for (size_t i = 0; i < block.variables.size() && !inside; i++)
    inside = holds(block.variables[i].second, block.variables[i].first->bytes);
  if (!inside) emulate_misuse("%s:%d: thread %u names 16 bytes outside shared memory", file, line, threadIdx.x);
  if (p % 16) emulate_misuse("%s:%d: the address of thread %u is not a multiple of 16", file, line, threadIdx.x);
}

struct emulated_grid {
  const emulated_kernel *kernel;
  Scrambled order; /* of its clusters */
  uint64_t left;
  std::vector<unsigned char *> dynamic; /* of the blocks of a cluster */
  bool closed; /* its first cluster is to come, which finds device memory closed until GRID_BEGIN */
};

static uint3 place(uint64_t i, dim3 n) {
  return {(unsigned)(i % n.x), (unsigned)(i / n.x % n.y), (unsigned)(i / n.x / n.y)};
}

emulated_grid *emulate_grid_start(const emulated_kernel *kernel) {
  if (current) emulate_misuse("a kernel launches a kernel");
  const uint64_t clusters = emulated_volume(kernel->blocks) / emulated_volume(kernel->cluster);
  std::vector<unsigned char *> dynamic(emulated_volume(kernel->cluster), nullptr);
  for (unsigned char *&each : dynamic)
    if (kernel->shared) each = take_shared(kernel->shared);
  return new emulated_grid{kernel, Scrambled(clusters), clusters, dynamic, kernel->programmatic && EMULATED_ASAN};
}

bool emulate_grid_turn(emulated_grid *grid) {
  uint64_t which = 0;
  const emulated_kernel *const kernel = grid->kernel;
  const dim3 size = kernel->cluster;
  grid->order.next(&which);
  body = &kernel->thread;
  gridDim = kernel->blocks;
  blockDim = dim3(kernel->threads);
  must_wait = kernel->programmatic;
  is_cluster = kernel->is_cluster;
  is_closed = grid->closed;
  grid->closed = false;
  if (is_closed) emulate_open_memory(false);
  dynamic_bytes = kernel->shared;
  cluster.resize(grid->dynamic.size());
  const uint3 at = place(which, dim3(gridDim.x / size.x, gridDim.y / size.y, gridDim.z / size.z));
  for (size_t rank = 0; rank < cluster.size(); rank++) {
    const uint3 within = place(rank, size);
    cluster[rank].threads.assign(blockDim.x, Thread());
    cluster[rank].index = {at.x * size.x + within.x, at.y * size.y + within.y, at.z * size.z + within.z};
    cluster[rank].dynamic = grid->dynamic[rank];
    if (dynamic_bytes) memset(cluster[rank].dynamic, EMULATED_NAN, dynamic_bytes);
  }
  run_cluster();
  for (Block &block : cluster) {
    block.dynamic = nullptr;
    for (const auto &variable : block.variables) free(variable.second);
    block.variables.clear();
  }
  if (--grid->left) return true;
  for (unsigned char *each : grid->dynamic) free(each);
  delete grid;
  return false;
}
