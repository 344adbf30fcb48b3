// Narrow networks in one kernel: which variants take a launch; the sum of the blocks' gradients.
#include "network_step.cuh"

// ---- variants ----

static int64_t tiles_of(const struct step_instance *instance, int64_t rows) {
  return (rows + instance->rows - 1) / instance->rows;
}

static unsigned blocks_of(const struct step_instance *instance, const struct network_launch *l) {
  return block_count(tiles_of(instance, l->rows), 1, l->kind == NETWORK_STEP ? STEP_BLOCKS : FORWARD_BLOCKS);
}

static struct step_instances instances_of(const struct network_launch *l) {
  return l->X.element == ELEMENT_BF16 ? network_step_bf16() : l->tf32 ? network_step_tf32() : network_step_f32();
}

static size_t bytes_of_launch(const struct step_instance *instance, const struct network_launch *l) {
  const int n_y = l->loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? l->layer[l->layers - 1].n_out : 1;
  return instance->bytes(l->kind == NETWORK_STEP, l->layers, n_y);
}

// Whether any instance might take the launch.
static bool is_narrow(const struct network_launch *l, const struct refusal *why) {
  if (l->layers < 1 || l->layers > NETWORK_LAYERS)
    return refuse(why, "%d layers, more than %d", l->layers, (int)NETWORK_LAYERS);
  if (l->rows < 1 || l->rows > INT32_MAX / 2) return refuse(why, "%lld rows", (long long)l->rows);
  if (!is_whole_units(&l->X, l->layer[0].n_in)) return refuse(why, "rows of X are not whole units of 16 bytes");
  for (int i = 0; i < l->layers; i++) {
    const struct network_layer *layer = &l->layer[i];
    if (layer->n_in > STEP_WIDTH)
      return refuse(why, "layer %d has %d inputs, more than %d", i + 1, layer->n_in, (int)STEP_WIDTH);
    if (layer->n_out > STEP_WIDTH)
      return refuse(why, "layer %d has %d outputs, more than %d", i + 1, layer->n_out, (int)STEP_WIDTH);
    if (layer->W.element != l->X.element) return refuse(why, "layer %d has weights of another element", i + 1);
    if (!is_whole_units(&layer->W, layer->n_in))
      return refuse(why, "rows of layer %d's weights are not whole units of 16 bytes", i + 1);
  }
  return true;
}

static int widest(const struct network_launch *l) {
  int n = l->layer[0].n_in;
  for (int i = 0; i < l->layers; i++) n = l->layer[i].n_out > n ? l->layer[i].n_out : n;
  return n;
}

static bool takes_layers(const struct step_instance *instance, const struct network_launch *l) {
  const int most = l->kind == NETWORK_STEP ? instance->layers : instance->forward ? (int)NETWORK_LAYERS : 0;
  return l->layers <= most && widest(l) <= instance->width;
}

static size_t most_bytes(void) { return shared_bytes() - (1 << 10); }  // some is the kernel's own

static bool takes(const struct step_instance *instance, const struct network_launch *l) {
  return takes_layers(instance, l) && bytes_of_launch(instance, l) <= most_bytes();
}

// The variant of this number among the instances of the narrowest width that has any; NULL: there is none.
static const struct step_instance *variant_of(const struct network_launch *l, int number) {
  const struct refusal silent = {NULL, 0};
  if (l->kind == NETWORK_CHAIN || !is_narrow(l, &silent)) return NULL;
  const struct step_instances instances = instances_of(l);
  int width = STEP_WIDTH;
  for (int i = 0; i < instances.n; i++)
    if (takes(&instances.all[i], l) && instances.all[i].width < width) width = instances.all[i].width;
  for (int i = 0; i < instances.n; i++)
    if (instances.all[i].width == width && takes(&instances.all[i], l) && number-- == 0) return &instances.all[i];
  return NULL;
}

// Why no instance takes the launch: too many layers for those of the least width, or too much shared memory.
static void explain(const struct network_launch *l, const struct refusal *why) {
  if (l->kind == NETWORK_CHAIN || !is_narrow(l, why)) return;
  const struct step_instances instances = instances_of(l);
  int width = 0, layers = 0;
  size_t least = 0;
  for (int i = 0; i < instances.n; i++) {
    const struct step_instance *const instance = &instances.all[i];
    if (widest(l) > instance->width) continue;
    if (layers == 0 || instance->width < width) width = instance->width, layers = 0;
    if (instance->width == width && instance->layers > layers) layers = instance->layers;
    if (!takes_layers(instance, l)) continue;
    const size_t bytes = bytes_of_launch(instance, l);
    if (least == 0 || bytes < least) least = bytes;
  }
  if (least == 0)
    refuse(why, "%d layers of up to %d units, more than %d", l->layers, width, layers);
  else
    refuse(why, "needs %zu KB of shared memory, the GPU has %zu", (least + 1023) >> 10, most_bytes() >> 10);
}

int network_step_variants(const struct network_launch *l, char *reason, size_t size) {
  const struct refusal why = {reason, size};
  int n = 0;
  while (variant_of(l, n)) n++;
  if (n == 0) explain(l, &why);
  return n;
}

size_t network_step_partials(const struct network_launch *l) {
  if (l->kind != NETWORK_STEP) return 0;
  const struct step_instances each[] = {network_step_bf16(), network_step_tf32(), network_step_f32()};
  int64_t most = 1;
  for (const struct step_instances &instances : each)
    for (int i = 0; i < instances.n; i++)
      if (blocks_of(&instances.all[i], l) > most) most = blocks_of(&instances.all[i], l);
  return STEP_BLOCKS * sizeof(double) + (size_t)(most * l->n_gradients) * sizeof(float);
}

// ---- the sum of the blocks ----

// A block adds four neighbours of CELLS places; SHARES threads of each add neighbouring slices.
enum { CELLS = 16, SHARES = BLOCK / CELLS };

static __global__ void __launch_bounds__(BLOCK) step_sum_kernel(struct network_launch l, int slices) {
  GRID_BEGIN();
  SHARED_VARIABLE(sums, float[SHARES][CELLS][4]);
  const struct step_partials partials(l);
  if (blockIdx.x == 0) {
    double total = 0;
    for (int i = (int)threadIdx.x; i < slices; i += BLOCK) total += partials.losses[i];
    total = block_sum(total);
    const double divisor = l.loss == DESCENT_LOSS_MEAN_SQUARED_ERROR ? (double)l.layer[l.layers - 1].n_out : 1;
    if (threadIdx.x == 0) l.scalars[SCALAR_LOSS] = mean_loss(total, divisor, l.scalars[SCALAR_WEIGHT_SUM]);
  }
  const int cell = (int)threadIdx.x % CELLS, share = (int)threadIdx.x / CELLS;
  const int64_t place = ((int64_t)blockIdx.x * CELLS + cell) * 4;
  const int each = (slices + SHARES - 1) / SHARES, first = share * each,
            end = first + each < slices ? first + each : slices;
  float sum[4] = {};
  if (place < l.n_gradients) {
    const float *from = partials.slices + first * l.n_gradients + place;
#pragma unroll 8
    for (int slice = first; slice < end; slice++, from += l.n_gradients) {
      float values[4];
      load_values<ELEMENT_F32, 4>(from, values);
#pragma unroll
      for (int i = 0; i < 4; i++) sum[i] += values[i];
    }
  }
  store_values<ELEMENT_F32, 4>(sums[share][cell], sum);
  __syncthreads();
  if (share > 0 || place >= l.n_gradients) return;
#pragma unroll
  for (int other = 1; other < SHARES; other++) {
    float more[4];
    load_values<ELEMENT_F32, 4>(sums[other][cell], more);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] += more[i];
  }
  store_values<ELEMENT_F32, 4>(l.gradients + place, sum);
}

cudaError_t launch_network_step(const struct network_launch *l, int variant, cudaStream_t stream) {
  const struct step_instance *const instance = variant < 0 ? NULL : variant_of(l, variant);
  if (!instance) return cudaErrorInvalidValue;
  const unsigned blocks = blocks_of(instance, l);
  const size_t bytes = bytes_of_launch(instance, l);
  if (l->kind == NETWORK_FORWARD) return instance->forward(l, blocks, bytes, stream);
  const cudaError_t error = instance->step(l, blocks, bytes, stream);
  if (error != cudaSuccess) return error;
  return LAUNCH(step_sum_kernel, block_count(l->n_gradients / 4, CELLS, INT32_MAX), BLOCK, stream, *l, (int)blocks);
}
