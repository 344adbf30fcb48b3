// Dense layers in one kernel: which variants take a launch, and how their blocks share the rows.
#include "fused.cuh"

// A launch without its pass: what decides about variants.
struct fused_shape {
  struct device_matrix left, W, out, other;  // other: Z forward; A or Z backward, if it is read
  int64_t rows, n, k;
  bool tf32, backward;
};

struct fused_variant {
  const struct fused_instance *instance;  // NULL: none
  bool resident;
  size_t bytes;
  int chunks;
};

static struct fused_instances instances_of(enum element element, bool tf32) {
  return element == ELEMENT_BF16 ? fused_bf16() : tf32 ? fused_tf32() : fused_f32();
}

static int64_t parts(int64_t n, int64_t each) { return (n + each - 1) / each; }

static bool takes(const struct fused_shape *s) {
  const enum element element = s->left.element;
  const int piece = element == ELEMENT_BF16 ? 8 : 4;
  const struct device_matrix all[] = {s->left, s->W, s->out, s->other};
  for (int i = 0; i < 4; i++)
    if (all[i].ld % piece != 0 || (all[i].element != element && (i < 3 || all[i].ld != 0))) return false;
  return s->rows > 0 && s->n > 0 && s->k > 0 && s->k <= INT32_MAX - 64 && s->rows <= INT32_MAX / 2;
}

// The variant of this number; beyond the last one there is none. First each tile with W copied for every tile of rows,
// then those whose W can stay in shared memory.
static struct fused_variant variant_of(const struct fused_shape *s, int number) {
  enum { STATIC = 1 << 10 };  // of the column sums, at most
  const struct fused_variant none = {NULL, false, 0, 0};
  if (number < 0 || !takes(s)) return none;
  const struct fused_instances instances = instances_of(s->left.element, s->tf32);
  const int chunks = (int)parts(s->k, s->left.element == ELEMENT_BF16 ? 32 : 16);
  const size_t most = shared_bytes() - STATIC;
  for (int i = 0; i < 2 * instances.n; i++) {
    const struct fused_instance *const instance = &instances.all[i % instances.n];
    const bool resident = i >= instances.n;
    const auto &memory = s->backward ? instance->backward_bytes : instance->forward_bytes;
    const size_t bytes = memory.fixed + (size_t)(resident ? chunks : instance->stages) * memory.slab;
    if (bytes > most || parts(s->n, instance->columns) > COUNTERS) continue;
    if (resident && parts(s->rows, instance->rows) < 2) continue;
    if (number-- == 0) return {instance, resident, bytes, chunks};
  }
  return none;
}

static int variants_of(const struct fused_shape *s) {
  int n = 0;
  while (variant_of(s, n).instance) n++;
  return n;
}

// The runs of a launch: blocks that share the tiles of rows evenly. A resident W wants long ones; column sums want few.
enum { BLOCKS = 512, BLOCKS_RESIDENT = 256 };
static int64_t tiles_of_run(int64_t tiles, int64_t across, bool resident) {
  const int64_t runs = (resident ? BLOCKS_RESIDENT : BLOCKS) / across;
  return parts(tiles, runs < 1 ? 1 : runs);
}

static struct fused_product product_of(const struct fused_shape *s, const struct fused_variant *variant, dim3 *blocks) {
  const struct fused_instance *const instance = variant->instance;
  const int64_t all = parts(s->rows, instance->rows), across = parts(s->n, instance->columns);
  const int64_t tiles = tiles_of_run(all, across, variant->resident);
  *blocks = dim3((unsigned)across, (unsigned)parts(all, tiles));
  return {s->left.data, s->W.data, s->left.ld, s->W.ld, (int)s->k, variant->chunks, (int)tiles, variant->resident};
}

// ---- forward ----

static struct fused_shape shape_of(const struct fused_forward_launch *l) {
  return {l->A_in, l->W, l->pass.A, l->pass.Z, l->pass.rows, l->pass.n, l->n_in, l->tf32, false};
}

int fused_forward_variants(const struct fused_forward_launch *l) {
  const struct fused_shape shape = shape_of(l);
  return variants_of(&shape);
}

cudaError_t launch_fused_forward(const struct fused_forward_launch *l, cudaStream_t stream) {
  const struct fused_shape shape = shape_of(l);
  const struct fused_variant variant = variant_of(&shape, l->variant);
  if (!variant.instance) return cudaErrorInvalidValue;
  dim3 blocks;
  const struct fused_product product = product_of(&shape, &variant, &blocks);
  return variant.instance->forward(&l->pass, &product, blocks, variant.bytes, stream);
}

// ---- backward ----

static struct fused_shape shape_of(const struct fused_input_launch *l) {
  const struct device_matrix none = {NULL, 0, l->dZ_above.element};
  const struct device_matrix from = l->pass.activation == DESCENT_ACTIVATION_IDENTITY ? none
                                    : slope_is_from_z(l->pass.activation)             ? l->pass.Z
                                                                                      : l->pass.A;
  return {l->dZ_above, l->W, l->pass.dZ, from, l->pass.rows, l->pass.n, l->n_out, l->tf32, true};
}

int fused_input_variants(const struct fused_input_launch *l) {
  const struct fused_shape shape = shape_of(l);
  return variants_of(&shape);
}

size_t fused_input_scratch(int64_t rows, int64_t n) {
  const struct fused_instances each[] = {fused_bf16(), fused_tf32(), fused_f32()};
  size_t bytes = 0;
  for (const struct fused_instances &instances : each)
    for (int i = 0; i < instances.n; i++) {
      const struct fused_instance *const instance = &instances.all[i];
      const int64_t across = parts(n, instance->columns), tiles = parts(rows, instance->rows);
      const int64_t most = across < BLOCKS ? BLOCKS / across : 1, runs = tiles < most ? tiles : most;
      const size_t needed = (size_t)(runs * across * instance->columns) * sizeof(float);
      if (needed > bytes) bytes = needed;
    }
  return bytes;
}

cudaError_t launch_fused_input(const struct fused_input_launch *l, cudaStream_t stream) {
  const struct fused_shape shape = shape_of(l);
  const struct fused_variant variant = variant_of(&shape, l->variant);
  if (!variant.instance) return cudaErrorInvalidValue;
  dim3 blocks;
  const struct fused_product product = product_of(&shape, &variant, &blocks);
  return variant.instance->backward(&l->pass, &product, blocks, variant.bytes, stream);
}
