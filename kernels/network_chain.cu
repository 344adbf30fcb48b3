// Networks of medium width in one kernel: which variants take a launch, and how their blocks share the rows.
#include "network_chain.cuh"

enum { WIDEST = 320, BLOCKS = 512 };

static struct chain_instances instances_of(const struct network_launch *l) {
  return l->X.element == ELEMENT_BF16 ? chain_bf16() : l->tf32 ? chain_tf32() : chain_f32();
}

static bool has_whole_units(const struct device_matrix &m, enum element element) {
  return m.element == element && m.ld % (element == ELEMENT_BF16 ? 8 : 4) == 0;
}

static bool takes_layer(const struct network_launch *l, int i, const struct refusal *reason) {
  const struct network_layer *const at = &l->layer[i];
  const enum element element = l->X.element;
  const bool chain = l->kind == NETWORK_CHAIN, hidden = i + 1 < l->layers;
  if (at->n_out > WIDEST) return refuse(reason, "layer %d has %d outputs, more than %d", i + 1, at->n_out, WIDEST);
  if (at->n_in < 1 || at->n_out < 1 || at->n_in != (i == 0 ? at->n_in : l->layer[i - 1].n_out))
    return refuse(reason, "layer %d does not follow the one before it", i + 1);
  if (!has_whole_units(at->W, element) || (chain && !has_whole_units(at->dZ, element)) ||
      (chain && hidden && !has_whole_units(at->A, element)) ||
      (chain && hidden && slope_is_from_z(at->activation) && !has_whole_units(at->Z, element)))
    return refuse(reason, "layer %d has rows that are not whole 16-byte units of one type", i + 1);
  return true;
}

static bool takes(const struct network_launch *l, const struct refusal *reason) {
  if (l->kind == NETWORK_STEP) return false;
  if (l->layers < 1 || l->layers > NETWORK_LAYERS)
    return refuse(reason, "%d layers, more than %d", l->layers, NETWORK_LAYERS);
  if (l->layer[0].n_in > WIDEST)
    return refuse(reason, "the network has %d inputs, more than %d", l->layer[0].n_in, WIDEST);
  for (int i = 0; i < l->layers; i++)
    if (!takes_layer(l, i, reason)) return false;
  if (!has_whole_units(l->X, l->X.element)) return refuse(reason, "X has rows that are not whole 16-byte units");
  if (l->kind == NETWORK_FORWARD && l->A.data && !has_whole_units(l->A, ELEMENT_F32))
    return refuse(reason, "the outputs have rows that are not whole 16-byte units of float32");
  if (l->rows < 1 || l->rows > INT32_MAX / 2)
    return refuse(reason, "%lld rows, which are not 1 to %d", (long long)l->rows, INT32_MAX / 2);
  return true;
}

static int widest_of(const struct network_launch *l) {
  int n = l->layer[0].n_in;
  for (int i = 0; i < l->layers; i++)
    if (l->layer[i].n_out > n) n = l->layer[i].n_out;
  return n;
}

// The variants of a launch are its instances of the fewest columns that suffice. Gives the one of this number, NULL
// beyond the last one.
static const struct chain_instance *variant_of(const struct network_launch *l, int number,
                                               const struct refusal *reason) {
  if (number < 0 || !takes(l, reason)) return NULL;
  const struct chain_instances instances = instances_of(l);
  const int widest = widest_of(l);
  enum { STATIC = 1 << 10 };  // of the sums over a block, at most
  const size_t most = shared_bytes() - STATIC;
  size_t needed = 0;
  int columns = 0;
  for (int i = 0; i < instances.n; i++) {
    const struct chain_instance *const instance = &instances.all[i];
    if (columns == 0 && instance->columns >= widest) columns = instance->columns;
    if (instance->columns != columns) continue;
    const size_t bytes = (size_t)instance->bytes(l->layers);
    if (bytes > most) {
      if (needed == 0 || bytes < needed) needed = bytes;
    } else if (number-- == 0) {
      return instance;
    }
  }
  if (needed > 0)
    (void)refuse(reason, "needs %zu KB of shared memory, the GPU has %zu", (needed + 1023) >> 10, (most + 1023) >> 10);
  return NULL;
}

int network_chain_variants(const struct network_launch *l, char *reason, size_t size) {
  const struct refusal text = {reason, size}, none = {NULL, 0};
  int n = 0;
  while (variant_of(l, n, n == 0 ? &text : &none)) n++;
  return n;
}

size_t network_chain_partials(const struct network_launch *) { return BLOCKS * sizeof(double); }

cudaError_t launch_network_chain(const struct network_launch *l, int variant, cudaStream_t stream) {
  const struct refusal none = {NULL, 0};
  const struct chain_instance *const instance = variant_of(l, variant, &none);
  if (!instance) return cudaErrorInvalidValue;
  const int64_t all = (l->rows + instance->rows - 1) / instance->rows;
  const int64_t tiles = (all + BLOCKS - 1) / BLOCKS, blocks = (all + tiles - 1) / tiles;
  return instance->launch(l, (int)tiles, (unsigned)blocks, stream);
}
