/* Key set-up of the keyed permutation. */
#include "core/rng.h"

struct permutation permutation_create(uint64_t seed, enum rng_purpose purpose, uint64_t epoch, uint64_t n) {
  struct permutation p = {.n = n, .half_bits = 1};
  while (p.half_bits < 31 && UINT64_C(1) << (2 * p.half_bits) < n) p.half_bits++;
  for (uint64_t block = 0; block < PERMUTATION_ROUNDS / 4; block++) {
    philox4x32_ctr_t words = rng_block(seed, purpose, 0, epoch, block);
    for (int lane = 0; lane < 4; lane++) p.keys[4 * block + (uint64_t)lane] = words.v[lane];
  }
  return p;
}
