// A small training step by one cluster of blocks: which variants take a launch, and how the blocks share the rows.
#include "network_cluster.cuh"

static const unsigned cluster_blocks[] = {16, 8};
enum { SIZES = sizeof cluster_blocks / sizeof *cluster_blocks };

static struct cluster_instances instances_of(const struct network_launch *l) {
  return l->X.element == ELEMENT_BF16 ? cluster_bf16() : l->tf32 ? cluster_tf32() : cluster_f32();
}

static bool has_clusters(void) {
  int ordinal = 0, major = 0;
  return cudaGetDevice(&ordinal) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) == cudaSuccess && major >= 9;
}

// The widest layer, which is what a tile's columns have to hold.
static int widest_output(const struct network_launch *l) {
  int n = 0;
  for (int i = 0; i < l->layers; i++) n = l->layer[i].n_out > n ? l->layer[i].n_out : n;
  return n;
}
static int widest_operand(const struct network_launch *l) {
  const int n = widest_output(l);
  return l->layer[0].n_in > n ? l->layer[0].n_in : n;
}

static int most_columns(struct cluster_instances instances) {
  int most = 0;
  for (int i = 0; i < instances.n; i++) most = instances.all[i].columns > most ? instances.all[i].columns : most;
  return most;
}

// Whether any instance might take the launch.
static bool is_small(const struct network_launch *l, const struct refusal *why) {
  const int most = most_columns(instances_of(l));
  if (l->kind != NETWORK_STEP) return false;
  if (!has_clusters()) return refuse(why, "the GPU has no clusters of blocks");
  if (l->layers < 1 || l->layers > NETWORK_LAYERS)
    return refuse(why, "%d layers, more than %d", l->layers, (int)NETWORK_LAYERS);
  if (l->rows < 1) return refuse(why, "%lld rows", (long long)l->rows);
  if (l->rows > CLUSTER_ROWS) return refuse(why, "%lld rows, more than %d", (long long)l->rows, (int)CLUSTER_ROWS);
  if (l->n_gradients > CLUSTER_PARAMETERS)
    return refuse(why, "%lld parameters, more than %d", (long long)l->n_gradients, (int)CLUSTER_PARAMETERS);
  if (!is_whole_units(&l->X, l->layer[0].n_in)) return refuse(why, "rows of X are not whole units of 16 bytes");
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *layer = &l->layer[i];
    if (layer->n_out > most) return refuse(why, "layer %d has %d outputs, more than %d", i + 1, layer->n_out, most);
    if (layer->n_in < 1 || layer->n_out < 1 || (i > 0 && layer->n_in != layer[-1].n_out))
      return refuse(why, "layer %d does not follow the one before it", i + 1);
    if (layer->W.element != l->X.element) return refuse(why, "layer %d has weights of another element", i + 1);
    if (!is_whole_units(&layer->W, layer->n_in))
      return refuse(why, "rows of layer %d's weights are not whole units of 16 bytes", i + 1);
  }
  return true;
}

// A variant is an instance of the fewest columns that suffice, and a number of blocks.
struct cluster_variant {
  const struct cluster_instance *instance;  // NULL: there is none
  unsigned blocks;
};

static struct cluster_variant variant_of(const struct network_launch *l, int number, const struct refusal *why) {
  if (number < 0 || !is_small(l, why)) return {NULL, 0};
  const struct cluster_instances instances = instances_of(l);
  const int output = widest_output(l), operand = widest_operand(l);
  const size_t all = shared_bytes();
  size_t needed = 0;
  int columns = 0;
  bool fits = false;
  for (int i = 0; i < instances.n; i++) {
    const struct cluster_instance *const instance = &instances.all[i];
    if (columns == 0 && instance->columns >= output) columns = instance->columns;
    if (instance->columns != columns) continue;
    const size_t own = (size_t)instance->own_bytes(), bytes = (size_t)instance->bytes(operand) + own;
    if (bytes > all) {
      if (needed == 0 || bytes < needed) needed = bytes;
      continue;
    }
    fits = true;
    for (const unsigned blocks : cluster_blocks)
      if (instance->can_run(blocks, all - own) && number-- == 0) return {instance, blocks};
  }
  if (fits)
    refuse(why, "the GPU cannot run %u blocks of %zu KB as a cluster", cluster_blocks[SIZES - 1], all >> 10);
  else
    refuse(why, "needs %zu KB of shared memory, the GPU has %zu", (needed + 1023) >> 10, all >> 10);
  return {NULL, 0};
}

int network_cluster_variants(const struct network_launch *l, char *reason, size_t size) {
  const struct refusal why = {reason, size}, silent = {NULL, 0};
  int n = 0;
  while (variant_of(l, n, n == 0 ? &why : &silent).instance) n++;
  return n;
}

// ---- memory between the two phases ----

static int64_t whole_units(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Gives the launch its A, Z and dZ, and returns the bytes they take: of so many rows.
static size_t place_partials(const struct network_launch *l, struct cluster_launch *to, int64_t rows) {
  const int64_t size = element_bytes(l->X.element);
  size_t at = 256;
  const auto place = [&](struct device_matrix *m, int n) {
    const int64_t ld = whole_units(n, 16 / size);
    if (to) *m = {(unsigned char *)l->partials + at, ld, l->X.element};
    at += (size_t)whole_units(rows * ld * size, 256);
  };
  for (int i = 0; i < l->layers; i++) {
    struct network_layer *const layer = to ? &to->network.layer[i] : NULL;
    const int n = l->layer[i].n_out;
    place(layer ? &layer->dZ : NULL, n);
    if (i + 1 == l->layers) break;
    place(layer ? &layer->A : NULL, n);
    if (slope_is_from_z(l->layer[i].activation)) place(layer ? &layer->Z : NULL, n);
  }
  static_assert(CLUSTER_MOST * sizeof(double) <= 256, "the losses come first");
  if (to) to->loss = (double *)l->partials;
  return at;
}

size_t network_cluster_partials(const struct network_launch *l) {
  const struct refusal silent = {NULL, 0};
  struct network_launch most = *l;  // memory for more rows has to suffice for these
  if (most.rows > CLUSTER_ROWS) most.rows = CLUSTER_ROWS;
  return variant_of(&most, 0, &silent).instance ? place_partials(&most, NULL, most.rows) : 0;
}

cudaError_t launch_network_cluster(const struct network_launch *l, int variant, cudaStream_t stream) {
  const struct refusal silent = {NULL, 0};
  const struct cluster_variant chosen = variant_of(l, variant, &silent);
  const struct cluster_instance *const instance = chosen.instance;
  if (!instance) return cudaErrorInvalidValue;
  struct cluster_launch launch = {};
  launch.network = *l;
  launch.network.kind = NETWORK_CHAIN;
  launch.network.whole = NULL;
  (void)place_partials(l, &launch, l->rows);
  const int64_t tiles = (l->rows + instance->rows - 1) / instance->rows;
  launch.tiles = (int)((tiles + chosen.blocks - 1) / chosen.blocks);
  for (int i = 0; i < l->layers; i++)
    launch.pieces += (l->layer[i].n_out + instance->piece_out - 1) / instance->piece_out *
                     ((l->layer[i].n_in + instance->piece_in - 1) / instance->piece_in);
  return instance->launch(&launch, chosen.blocks, (size_t)instance->bytes(widest_operand(l)), l->whole, stream);
}
