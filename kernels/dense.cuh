// The element-wise work of a dense layer on a few neighbouring columns of a row: shared by the passes (dense.cu) and by
// the epilogues of products (fused.cuh).
#ifndef DESCENT_KERNELS_DENSE_CUH
#define DESCENT_KERNELS_DENSE_CUH

#include "common.cuh"

// ---- a thread's columns of one row, as in memory or one by one ----

template <enum element ELEMENT, int COUNT, bool WIDE>
struct pack {
  typedef typename Element<ELEMENT>::type type;
  enum { PER_WORD = WIDE && ELEMENT == ELEMENT_BF16 ? 2 : 1, WORDS = COUNT / PER_WORD };
  uint32_t words[WORDS];  // WIDE: as in memory; else a float32 each

  __device__ void load(const type *p) {
    if constexpr (!WIDE) {
#pragma unroll
      for (int i = 0; i < COUNT; i++) words[i] = float_bits(Element<ELEMENT>::load(p + i));
    } else if constexpr (WORDS == 4) {
      const uint4 word = *(const uint4 *)p;
      words[0] = word.x, words[1] = word.y, words[2] = word.z, words[3] = word.w;
    } else {
      const uint64_t word = *(const uint64_t *)p;
      words[0] = (uint32_t)word, words[1] = (uint32_t)(word >> 32);
    }
  }
  __device__ void store(type *p) const {
    if constexpr (!WIDE) {
#pragma unroll
      for (int i = 0; i < COUNT; i++) Element<ELEMENT>::store(p + i, float_from_bits(words[i]));
    } else if constexpr (WORDS == 4) {
      *(uint4 *)p = make_uint4(words[0], words[1], words[2], words[3]);
    } else {
      *(uint64_t *)p = (uint64_t)words[1] << 32 | words[0];
    }
  }
  __device__ float value(int i) const {
    if (PER_WORD == 1) return float_from_bits(words[i]);
    return float_from_bits(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
  }
  // Rounds to the element.
  __device__ void set(const float (&values)[COUNT]) {
#pragma unroll
    for (int i = 0; i < WORDS; i++)
      words[i] = PER_WORD == 2 ? bf16_pair(values[2 * i % COUNT], values[(2 * i + 1) % COUNT])
                               : float_bits(Element<ELEMENT>::rounded(values[i]));
  }
};

// ---- element-wise ----

// The hardware's tanh where the result is rounded more coarsely anyway.
template <enum element ELEMENT>
static __device__ inline float activate(descent_activation activation, float z) {
  if (ELEMENT == ELEMENT_BF16 && activation == DESCENT_ACTIVATION_TANH) return coarse_tanh(z);
  return formula_activate(activation, z);
}

// Where g' is 0 at a = 0, dropped values need no mask: their gradient is 0 anyway.
static constexpr __host__ __device__ bool slope_drops(descent_activation activation) {
  return activation == DESCENT_ACTIVATION_SIGMOID || activation == DESCENT_ACTIVATION_RELU;
}

struct dropout {
  uint64_t seed, step;
  int64_t batch_row;  // the first row of this part of the step
  uint32_t layer, threshold;
  float dropout_scale;
};

// `masks` false: the step is not read, and there may be none.
template <class PASS>
static __device__ inline struct dropout dropout_of(const PASS &l, bool masks = true) {
  return {l.seed,
          masks ? (uint64_t)l.state->current.number : 0,
          masks ? l.state->current.batch_row : 0,
          l.layer,
          l.threshold,
          l.dropout_scale};
}

// The number of an element within the step: a mask does not depend on how the step is cut.
static __device__ inline int64_t mask_index(const struct dropout &d, int64_t row, int64_t n, int64_t column) {
  return (d.batch_row + row) * n + column;
}

// Applies dropout to the elements from `index` on: kept ones are multiplied by dropout_scale, dropped ones become 0.
// COUNT is 1, or COUNT and `index` are multiples of 4, the words of a Philox block.
template <int COUNT>
static __device__ inline void drop(const struct dropout &d, int64_t index, float (&values)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i += 4) {
    const philox4x32_ctr_t block = rng_block(d.seed, RNG_DROPOUT, d.layer, d.step, (uint64_t)(index + i) / 4);
    const uint32_t words[4] = {block.v[0], block.v[1], block.v[2], block.v[3]};
    if (COUNT == 1) {
      const uint32_t even = index & 2 ? words[2] : words[0], odd = index & 2 ? words[3] : words[1];
      values[0] = formula_dropout(values[0], index & 1 ? odd : even, d.threshold, d.dropout_scale);
    } else {
#pragma unroll
      for (int k = 0; k < 4; k++)
        values[(i + k) % COUNT] = formula_dropout(values[(i + k) % COUNT], words[k], d.threshold, d.dropout_scale);
    }
  }
}

#endif
