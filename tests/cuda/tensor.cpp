/* Tensor core products and matrix loads of a warp, by the PTX ISA's maps of lanes; asynchronous copies, which arrive as
 * late and as mixed up as they may. */
#include <cuda_runtime.h>
#include <stdlib.h>

#include <vector>

namespace {

enum { LANES = 32, M = 16, N = 8 };

/* AddressSanitizer's checks would keep the loops over local arrays from being vectorised. */
#if EMULATED_ASAN
#define UNCHECKED __attribute__((no_sanitize("address")))
#else
#define UNCHECKED
#endif

/* ---- products ---- */

UNCHECKED uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
UNCHECKED double double_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* d (M, N) += a (M, K) b (K, N), as coarse as tensor cores have been found to be (Khattak and Mikaitis, "FTTN: feature
 * testing for numerical matrix arithmetic", arXiv 2403.00232): the exact products and d are aligned to the largest of
 * them and cut off behind the bit of 2^-24 relative to its power of two, one more than a float32 has (A100; the H100
 * keeps two or more); their sum is exact and is cut off to a float32. All K products are one such step. A sum that is
 * not finite is IEEE's. */
template <int K>
UNCHECKED void multiply(const float (&a)[M][K], const float (&b)[K][N], float (&d)[M][N]) {
  const int fraction = 52, bias = 1023; /* of a double */
  for (int i = 0; i < M; i++) {
    double terms[K + 1][N], largest[N], plain[N], scale[N], unit[N], finite = 0;
    int32_t units[N] = {};
    for (int j = 0; j < N; j++) plain[j] = terms[K][j] = d[i][j], largest[j] = fabs(terms[K][j]);
    for (int k = 0; k < K; k++)
      for (int j = 0; j < N; j++) {
        terms[k][j] = (double)a[i][k] * b[k][j];
        plain[j] += terms[k][j];
        largest[j] = fabs(terms[k][j]) > largest[j] ? fabs(terms[k][j]) : largest[j];
      }
    for (int j = 0; j < N; j++) finite += plain[j] * 0;
    for (int j = 0; j < N; j++) { /* unit: 2^-24 of the largest term's power of two, scale: its inverse */
      const uint64_t power = largest[j] > 0 && largest[j] < HUGE_VAL ? bits_of(largest[j]) >> fraction : (uint64_t)bias;
      unit[j] = double_of((power - 24) << fraction);
      scale[j] = double_of((2 * bias + 24 - power) << fraction);
    }
    if (finite != 0)
      for (int k = 0; k <= K; k++)
        for (int j = 0; j < N; j++) terms[k][j] = std::isfinite(plain[j]) ? terms[k][j] : 0;
    for (int k = 0; k <= K; k++)
      for (int j = 0; j < N; j++) units[j] += (int32_t)(terms[k][j] * scale[j]);
    for (int j = 0; j < N; j++)
      d[i][j] = (float)double_of(bits_of(units[j] * unit[j]) & ~(uint64_t)0 << (fraction - 23));
    if (finite != 0)
      for (int j = 0; j < N; j++) d[i][j] = std::isfinite(plain[j]) ? d[i][j] : (float)plain[j];
  }
}

float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The accumulators of the lanes as a matrix, or back. */
void move_accumulators(void *const lanes[LANES], float (&d)[M][N], bool back) {
  for (int lane = 0; lane < LANES; lane++)
    for (int i = 0; i < 4; i++) {
      float *const held = &((emulated_mma *)lanes[lane])->d[i];
      float *const element = &d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
      back ? *held = *element : *element = *held;
    }
}

/* ---- copies ---- */

struct Copy {
  unsigned char *shared;
  const unsigned char *global;
  int bytes;
  unsigned group;
  bool is_read;
  unsigned char read[16];
};
struct Copies { /* of a thread */
  std::vector<Copy> pending;
  unsigned groups = 0; /* committed */
};
std::vector<Copies> copies; /* of the threads of the cluster */

void read_source(Copy *copy) {
  memset(copy->read, 0, sizeof copy->read);
  memcpy(copy->read, copy->global, (size_t)copy->bytes);
  copy->is_read = true;
}

size_t own_index() { return (size_t)emulate_rank * blockDim.x + threadIdx.x; }

Copies *own_copies() {
  const size_t i = own_index();
  if (copies.size() <= i) copies.resize(i + 1);
  return &copies[i];
}

}  // namespace

void emulate_mma_bf16(void *const lanes[LANES]) {
  float a[M][16], b[16][N], d[M][N];
  for (int lane = 0; lane < LANES; lane++) {
    const auto *held = (const emulated_mma *)lanes[lane];
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 8; i++)
      a[group + i / 2 % 2 * 8][member * 2 + i % 2 + i / 4 * 8] = from_bits(held->a[i / 2] >> i % 2 * 16 << 16);
    for (int i = 0; i < 4; i++)
      b[member * 2 + i % 2 + i / 2 * 8][group] = from_bits(held->b[i / 2] >> i % 2 * 16 << 16);
  }
  move_accumulators(lanes, d, false);
  multiply(a, b, d);
  move_accumulators(lanes, d, true);
}

void emulate_mma_tf32(void *const lanes[LANES]) {
  const uint32_t upper = 0xffffe000u; /* sign, 8 bits of exponent, 10 of significand */
  float a[M][8], b[8][N], d[M][N];
  for (int lane = 0; lane < LANES; lane++) {
    const auto *held = (const emulated_mma *)lanes[lane];
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; i++) a[group + i % 2 * 8][member + i / 2 * 4] = from_bits(held->a[i] & upper);
    for (int i = 0; i < 2; i++) b[member + i * 4][group] = from_bits(held->b[i] & upper);
  }
  move_accumulators(lanes, d, false);
  multiply(a, b, d);
  move_accumulators(lanes, d, true);
}

void emulate_load_matrices(void *const lanes[LANES]) {
  for (int lane = 0; lane < LANES; lane++)
    for (int i = 0; i < 4; i++) {
      const auto *row = ((const emulated_matrices *)lanes[8 * i + lane / 4])->row;
      memcpy(&((emulated_matrices *)lanes[lane])->words[i], row + lane % 4 * 2, 4);
    }
}

void emulate_load_matrices_transposed(void *const lanes[LANES]) {
  for (int lane = 0; lane < LANES; lane++)
    for (int i = 0; i < 4; i++) {
      const int first = 8 * i + lane % 4 * 2;
      const uint16_t low = ((const emulated_matrices *)lanes[first])->row[lane / 4];
      const uint16_t high = ((const emulated_matrices *)lanes[first + 1])->row[lane / 4];
      ((emulated_matrices *)lanes[lane])->words[i] = low | (uint32_t)high << 16;
    }
}

/* The destination is NaN until the thread waits. The source is read at once or not before that, by chance. */
void copy_async(void *shared, const void *global, int bytes, const char *file, int line) {
  if (!emulate_in_kernel()) emulate_misuse("%s:%d: a copy outside a kernel", file, line);
  emulate_check_shared(shared, file, line);
  if ((uintptr_t)global % 16) emulate_misuse("%s:%d: a copy from an address that is not a multiple of 16", file, line);
  if (bytes < 0 || bytes > 16) emulate_misuse("%s:%d: a copy of %d bytes", file, line, bytes);
  Copies *const own = own_copies();
  Copy copy = {(unsigned char *)shared, (const unsigned char *)global, bytes, own->groups, false, {}};
  memset(shared, EMULATED_NAN, 16);
  if (emulate_draw() % 2) read_source(&copy);
  own->pending.push_back(copy);
}

void copy_commit(void) { own_copies()->groups++; }

void emulate_copy_wait(unsigned left) {
  Copies *const own = own_copies();
  std::vector<Copy> &pending = own->pending;
  size_t complete = 0;
  while (complete < pending.size() && pending[complete].group + left < own->groups) complete++;
  for (size_t i = complete; i > 0; i--) {
    std::swap(pending[emulate_draw() % i], pending[i - 1]);
    Copy &copy = pending[i - 1];
    if (!copy.is_read) read_source(&copy);
    memcpy(copy.shared, copy.read, sizeof copy.read);
  }
  pending.erase(pending.begin(), pending.begin() + (ptrdiff_t)complete);
}

void emulate_end_thread() {
  if (copies.size() <= own_index()) return;
  Copies *const own = &copies[own_index()];
  if (!own->pending.empty()) emulate_misuse("thread %u ends without waiting for its copies", threadIdx.x);
  own->groups = 0;
}
