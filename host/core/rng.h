/* Random numbers as a function of (seed, purpose, index): Philox 4x32-10 (Salmon et al. 2011, Random123). Without
 * state, so every backend and thread count gives the same bits. */
#ifndef DESCENT_CORE_RNG_H
#define DESCENT_CORE_RNG_H

#include <Random123/philox.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define RNG_FUNCTION static inline __host__ __device__
#else
#define RNG_FUNCTION static inline
#endif

enum rng_purpose { RNG_WEIGHTS = 1, RNG_SHUFFLE, RNG_DROPOUT, RNG_SPLIT, RNG_SYNTHETIC, RNG_MEMBER, RNG_FOLD };

/* Four random words: block `block` (< 2^48) of the stream (seed, purpose, stream < 2^24, step < 2^48). */
RNG_FUNCTION philox4x32_ctr_t rng_block(uint64_t seed, enum rng_purpose purpose, uint32_t stream, uint64_t step,
                                        uint64_t block) {
  philox4x32_ctr_t counter = {{(uint32_t)block, (uint32_t)step,
                               (uint32_t)(block >> 32) << 16 | (uint32_t)(step >> 32 & 0xffff),
                               (uint32_t)purpose << 24 | (stream & 0xffffff)}};
  philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
  return philox4x32(counter, key);
}

/* Word `index` of the stream: word index % 4 of block index / 4. */
RNG_FUNCTION uint32_t rng_word(uint64_t seed, enum rng_purpose purpose, uint32_t stream, uint64_t step,
                               uint64_t index) {
  return rng_block(seed, purpose, stream, step, index / 4).v[index % 4];
}

/* In (0, 1): (word + 1/2) 2^-32, exact in double. */
RNG_FUNCTION double rng_uniform(uint64_t seed, enum rng_purpose purpose, uint32_t stream, uint64_t step,
                                uint64_t index) {
  return (rng_word(seed, purpose, stream, step, index) + 0.5) * 0x1p-32;
}

/* Dropout with probability p, 0 <= p < 1, to within 2^-32: words below this threshold are dropped. */
RNG_FUNCTION uint32_t rng_drop_threshold(double p) { return (uint32_t)(p * 0x1p32); }

/* Whether dropout keeps element `index` (row * n + column, rows counted within the batch) of `layer` at this step. */
RNG_FUNCTION bool rng_keep(uint64_t seed, uint32_t layer, uint64_t step, uint64_t index, uint32_t threshold) {
  return rng_word(seed, RNG_DROPOUT, layer, step, index) >= threshold;
}

/* A keyed permutation of 0 .. n-1, computed per index without an index array: an 8-round Feistel network on the
 * smallest domain of an even number of bits that holds n, with round keys from Philox and cycle walking. */
enum { PERMUTATION_ROUNDS = 8 };
struct permutation {
  uint64_t n;
  uint32_t half_bits; /* the domain is 2^(2 half_bits) >= n */
  uint32_t keys[PERMUTATION_ROUNDS];
};

/* 1 <= n <= 2^62. `epoch` selects the order, one per epoch for shuffles. */
struct permutation permutation_create(uint64_t seed, enum rng_purpose purpose, uint64_t epoch, uint64_t n);

RNG_FUNCTION uint32_t permutation_mix(uint32_t x) {
  x ^= x >> 16; /* a 32-bit integer hash, constants from Wellons' hash prospector */
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  x ^= x >> 16;
  return x;
}

/* One pass through the network: a permutation of the domain. */
RNG_FUNCTION uint64_t permutation_pass(const struct permutation *p, uint64_t i) {
  const uint32_t mask = (uint32_t)((UINT64_C(1) << p->half_bits) - 1);
  uint32_t left = (uint32_t)(i >> p->half_bits), right = (uint32_t)i & mask;
  for (int round = 0; round < PERMUTATION_ROUNDS; round++) {
    uint32_t next = left ^ (permutation_mix(right ^ p->keys[round]) & mask);
    left = right;
    right = next;
  }
  return (uint64_t)left << p->half_bits | right;
}

/* The image of index `i` < n; < n. */
RNG_FUNCTION uint64_t permutation_index(const struct permutation *p, uint64_t i) {
  do i = permutation_pass(p, i);
  while (i >= p->n);
  return i;
}

#endif
