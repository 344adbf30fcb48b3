/* Collectives from messages between pairs of ranks. Sums are added in one fixed order by one rank for each element and
 * then sent to all, so every rank has the same bits, whatever the transport. */
#include "core/communicator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"
#include "core/status.h"

enum {
  SLICE_ALIGN = 16,       /* floats: a cache line */
  BLOCK = 4096,           /* floats that are added at a time, so that those of all ranks stay in the cache */
  MESSAGES_FOR_A_PEER = 4 /* at most, of one exchange: a slice and the scalars, each way */
};

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* The messages of one exchange. Empty ones are left out, on both sides. */
struct batch {
  struct descent_communicator *communicator;
  int n;
};

static void put(struct batch *batch, int peer, bool receives, void *data, int64_t bytes) {
  if (bytes > 0)
    batch->communicator->messages[batch->n++] =
        (struct message){.peer = peer, .receives = receives, .data = data, .bytes = bytes};
}

static void batch_send(struct batch *batch, int peer, const void *data, int64_t bytes) {
  put(batch, peer, false, (void *)(uintptr_t)data, bytes);
}

static void batch_receive(struct batch *batch, int peer, void *data, int64_t bytes) {
  put(batch, peer, true, data, bytes);
}

/* After a failure nothing is known of the other ranks' place in the program, so no later call reaches them. */
static descent_status batch_exchange(struct batch *batch) {
  struct descent_communicator *c = batch->communicator;
  char reason[256] = "";
  int silent = -1;
  if (c->broken)
    return status_set(DESCENT_ERROR_DEVICE, "the connection between the ranks failed earlier: start all ranks again");
  if (batch->n == 0 ||
      c->transport->exchange(c->transport, c->messages, batch->n, c->seconds, &silent, reason, sizeof reason))
    return DESCENT_OK;
  c->broken = true;
  if (silent < 0) return status_set(DESCENT_ERROR_DEVICE, "the connection between the ranks failed: %s", reason);
  return status_set(DESCENT_ERROR_DEVICE,
                    "rank %d (%s) has not answered for %g s: see whether it still runs, or allow more time", silent,
                    communicator_host(c, silent), c->seconds);
}

/* ---- sums ------------------------------------------------------------------------------------------------------- */

typedef void adder(const void *kept, void *value, int64_t n);

static void add_floats(const void *kept, void *value, int64_t n) {
  const float *restrict a = kept;
  float *restrict v = value;
  for (int64_t i = 0; i < n; i++) v[i] = a[i] + v[i];
}

static void add_doubles(const void *kept, void *value, int64_t n) {
  const double *restrict a = kept;
  double *restrict v = value;
  for (int64_t i = 0; i < n; i++) v[i] = a[i] + v[i];
}

/* The sum of all parts (size, n), in the order of plan_combine, into the last part; the others are overwritten. */
static void add_parts(void *const *parts, int size, int64_t n, adder *add) {
  enum { LEVELS = 31 };
  const void *kept[LEVELS];
  for (int k = 0; k < size; k++) {
    int level = 0;
    for (; k >> level & 1; level++) add(kept[level], parts[k], n);
    kept[level] = parts[k];
    if (k < size - 1) continue;
    while (++level < LEVELS)
      if (size >> level & 1) add(kept[level], parts[k], n);
  }
}

/* Where the values of one sum are. Slice r of them is added by rank r. */
struct slices {
  float *values, *received; /* (n); (size - 1, width), the slice of this rank as the others have it */
  double *scalars;          /* (size, n_scalars) */
  int64_t n, width;
  int n_scalars;
};

static int64_t slice_begin(const struct slices *s, int rank) {
  const int64_t begin = rank * s->width;
  return begin < s->n ? begin : s->n;
}

static int64_t slice_length(const struct slices *s, int rank) {
  return slice_begin(s, rank + 1) - slice_begin(s, rank);
}

static float *slice_of(const struct descent_communicator *c, const struct slices *s, int peer) {
  const int rank = c->transport->rank;
  return peer == rank ? s->values + slice_begin(s, rank) : s->received + (peer < rank ? peer : peer - 1) * s->width;
}

static descent_status scratch_need(struct descent_communicator *c, int64_t n) {
  if (n <= c->n_scratch) return DESCENT_OK;
  float *scratch = memory_allocate(n, sizeof *scratch, "sums over ranks");
  if (!scratch) return DESCENT_ERROR_MEMORY;
  free(c->scratch);
  c->scratch = scratch;
  c->n_scratch = n;
  return DESCENT_OK;
}

static descent_status slices_make(struct descent_communicator *c, float *values, int64_t n, const double *scalars,
                                  int n_scalars, struct slices *s) {
  const int size = c->transport->size;
  const int64_t share = (n + size - 1) / size;
  *s = (struct slices){.values = values, .n = n, .n_scalars = n_scalars};
  s->width = (share + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
  const int64_t floats = (size - 1) * s->width, doubles = (int64_t)size * n_scalars;
  const descent_status status = scratch_need(c, floats + doubles * (int64_t)(sizeof(double) / sizeof(float)));
  if (status != DESCENT_OK) return status;
  s->received = c->scratch;
  s->scalars = (double *)(void *)(c->scratch + floats); /* aligned, since width is */
  memcpy(s->scalars + (int64_t)c->transport->rank * n_scalars, scalars, (size_t)n_scalars * sizeof *scalars);
  return DESCENT_OK;
}

/* Every rank receives its slice, and all scalars, of every other. */
static descent_status scatter(struct descent_communicator *c, const struct slices *s) {
  const int rank = c->transport->rank, size = c->transport->size;
  const int64_t bytes = s->n_scalars * (int64_t)sizeof *s->scalars;
  struct batch batch = {c, 0};
  for (int i = 1; i < size; i++) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    batch_receive(&batch, from, slice_of(c, s, from), slice_length(s, rank) * (int64_t)sizeof *s->values);
    batch_receive(&batch, from, s->scalars + (int64_t)from * s->n_scalars, bytes);
    batch_send(&batch, to, s->values + slice_begin(s, to), slice_length(s, to) * (int64_t)sizeof *s->values);
    batch_send(&batch, to, s->scalars + (int64_t)rank * s->n_scalars, bytes);
  }
  return batch_exchange(&batch);
}

static void add_slices(struct descent_communicator *c, const struct slices *s, double *scalars) {
  const int rank = c->transport->rank, size = c->transport->size;
  const int64_t length = slice_length(s, rank);
  for (int64_t begin = 0; begin < length; begin += BLOCK) {
    const int64_t n = length - begin < BLOCK ? length - begin : BLOCK;
    for (int r = 0; r < size; r++) c->parts[r] = slice_of(c, s, r) + begin;
    add_parts(c->parts, size, n, add_floats);
    if (rank < size - 1) memcpy(c->parts[rank], c->parts[size - 1], (size_t)n * sizeof *s->values);
  }
  for (int r = 0; r < size; r++) c->parts[r] = s->scalars + (int64_t)r * s->n_scalars;
  add_parts(c->parts, size, s->n_scalars, add_doubles);
  memcpy(scalars, c->parts[size - 1], (size_t)s->n_scalars * sizeof *scalars);
}

/* Every rank sends its finished slice to every other. */
static descent_status collect(struct descent_communicator *c, const struct slices *s) {
  const int rank = c->transport->rank, size = c->transport->size;
  struct batch batch = {c, 0};
  for (int i = 1; i < size; i++) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    batch_receive(&batch, from, s->values + slice_begin(s, from), slice_length(s, from) * (int64_t)sizeof *s->values);
    batch_send(&batch, to, s->values + slice_begin(s, rank), slice_length(s, rank) * (int64_t)sizeof *s->values);
  }
  return batch_exchange(&batch);
}

static descent_status sum(struct descent_communicator *c, float *values, int64_t n, double *scalars, int n_scalars) {
  struct slices s;
  descent_status status = DESCENT_OK;
  if (c->transport->size == 1) return status;
  TRY(slices_make(c, values, n, scalars, n_scalars, &s));
  TRY(scatter(c, &s));
  add_slices(c, &s, scalars);
  TRY(collect(c, &s));
done:
  return status;
}

/* ---- the same data on every rank -------------------------------------------------------------------------------- */

descent_status communicator_gather(struct descent_communicator *communicator, const void *own, int64_t bytes,
                                   void *all) {
  const int rank = communicator_rank(communicator), size = communicator_size(communicator);
  char *const texts = all;
  struct batch batch = {communicator, 0};
  memmove(texts + rank * bytes, own, (size_t)bytes);
  for (int i = 1; i < size; i++) {
    const int to = (rank + i) % size, from = (rank - i + size) % size;
    batch_receive(&batch, from, texts + from * bytes, bytes);
    batch_send(&batch, to, texts + rank * bytes, bytes);
  }
  return size > 1 ? batch_exchange(&batch) : DESCENT_OK;
}

/* From one rank straight to all others: a rank that waits then waits for that one, and names it. */
static descent_status send_to_all(struct descent_communicator *c, int from, void *data, int64_t bytes) {
  struct batch batch = {c, 0};
  if (c->transport->rank != from)
    batch_receive(&batch, from, data, bytes);
  else
    for (int i = 1; i < c->transport->size; i++) batch_send(&batch, (from + i) % c->transport->size, data, bytes);
  return batch_exchange(&batch);
}

descent_status communicator_broadcast(struct descent_communicator *communicator, void *data, int64_t bytes) {
  return communicator_size(communicator) > 1 ? send_to_all(communicator, 0, data, bytes) : DESCENT_OK;
}

/* ---- agreement -------------------------------------------------------------------------------------------------- */

struct outcome {
  int64_t status, text; /* bytes of the error's text, with its end */
};

/* Have all ranks failed alike, with texts of one length? */
static bool have_one_length(const struct outcome *outcomes, int size) {
  for (int r = 1; r < size; r++)
    if (outcomes[r].status != outcomes[0].status || outcomes[r].text != outcomes[0].text) return false;
  return true;
}

/* Do all ranks have this text? Overwrites the outcomes. */
static bool have_all(struct descent_communicator *c, const char *text, const char *own_text) {
  const struct outcome own = {text && own_text && strcmp(text, own_text) == 0, 0};
  bool all = communicator_gather(c, &own, sizeof own, c->outcomes) == DESCENT_OK;
  for (int r = 0; all && r < c->transport->size; r++) all = c->outcomes[r].status != 0;
  return all;
}

/* All have the outcomes: the text of rank `failed` becomes the error of every rank. */
static descent_status share_error(struct descent_communicator *c, int failed, char *own_text) {
  const struct outcome outcome = c->outcomes[failed];
  const bool may_be_common = have_one_length(c->outcomes, c->transport->size);
  const bool receives = c->transport->rank != failed;
  char *const text = receives ? memory_allocate(outcome.text, 1, "the error of another rank") : own_text;
  descent_status status;
  if (receives && !text) TRY(DESCENT_ERROR_MEMORY);
  TRY(send_to_all(c, failed, text, outcome.text));
  if (may_be_common && have_all(c, text, own_text))
    status = status_set((descent_status)outcome.status, "%s", text);
  else
    status = status_set((descent_status)outcome.status, "rank %d (%s): %s", failed, communicator_host(c, failed),
                        text ? text : "out of memory");
done:
  if (receives) free(text);
  return status;
}

descent_status communicator_agree(struct descent_communicator *communicator, descent_status own) {
  const int size = communicator_size(communicator);
  if (size == 1 || communicator->broken) return own;
  char *text = own == DESCENT_OK ? NULL : strdup(descent_last_error());
  const struct outcome outcome = {own, text ? (int64_t)strlen(text) + 1 : 0};
  struct outcome *outcomes = communicator->outcomes;
  int failed = 0;
  descent_status status = communicator_gather(communicator, &outcome, sizeof outcome, outcomes);
  if (status == DESCENT_OK) {
    while (failed < size && outcomes[failed].status == DESCENT_OK) failed++;
    if (failed < size) status = share_error(communicator, failed, text);
  } else if (own != DESCENT_OK) { /* why this rank failed says more than that another one is silent */
    status = status_set(own, "%s", text ? text : "out of memory");
  }
  free(text);
  return status;
}

/* ---- bandwidth -------------------------------------------------------------------------------------------------- */

enum { MEASURED_FLOATS = 1 << 21, MEASUREMENTS = 4 }; /* 8 MB in the slices of all ranks; the first one is a warm-up */

static descent_status time_exchanges(struct descent_communicator *c, const struct slices *s,
                                     double seconds[MEASUREMENTS]) {
  descent_status status = DESCENT_OK;
  for (int i = 0; i < MEASUREMENTS; i++) {
    const double start = clock_seconds();
    TRY(scatter(c, s));
    TRY(collect(c, s));
    seconds[i] = clock_seconds() - start;
  }
done:
  return status;
}

/* `all`: (size, MEASUREMENTS) seconds. */
static double shortest_exchange(const double *all, int size) {
  double shortest = HUGE_VAL;
  for (int i = 1; i < MEASUREMENTS; i++) {
    double slowest = 0;
    for (int r = 0; r < size; r++) slowest = fmax(slowest, all[r * MEASUREMENTS + i]);
    shortest = fmin(shortest, slowest);
  }
  return fmax(shortest, 1e-9);
}

descent_status communicator_measure(struct descent_communicator *communicator, double *bandwidth) {
  static const char what[] = "measuring the link between ranks";
  struct descent_communicator *const c = communicator;
  const int size = communicator_size(c);
  const int64_t share = MEASURED_FLOATS / size / SLICE_ALIGN, width = (share ? share : 1) * SLICE_ALIGN;
  const double none = 0;
  double seconds[MEASUREMENTS], *all = NULL;
  float *values = NULL;
  struct slices s;
  descent_status status = DESCENT_OK;
  *bandwidth = 0;
  if (size == 1) return status;
  values = memory_allocate(size * width, sizeof *values, what);
  all = memory_allocate(size, sizeof seconds, what);
  status = values && all ? slices_make(c, values, size * width, &none, 0, &s) : DESCENT_ERROR_MEMORY;
  TRY(communicator_agree(c, status));
  TRY(time_exchanges(c, &s, seconds));
  TRY(communicator_gather(c, seconds, sizeof seconds, all));
  *bandwidth = 2.0 * (size - 1) * (double)width * (double)sizeof *values / shortest_exchange(all, size);
done:
  free(all);
  free(values);
  return status;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

const char *communicator_host(const struct descent_communicator *communicator, int rank) {
  const char *host = communicator->hosts + (size_t)rank * TRANSPORT_HOST;
  return *host ? host : "host unknown"; /* before it has answered once */
}

/* The characters of a host's name before its domain; all of an address of numbers. */
static size_t short_length(const char *host) {
  const size_t length = strcspn(host, ".");
  return strspn(host, "0123456789") == length ? strlen(host) : length;
}

/* Removes the domains, unless two hosts would then have one name. */
static void shorten_hosts(struct descent_communicator *c) {
  const int size = c->transport->size;
  for (int a = 1; a < size; a++)
    for (int b = 0; b < a; b++) {
      const char *const one = c->hosts + (size_t)a * TRANSPORT_HOST, *const other =
                                                                         c->hosts + (size_t)b * TRANSPORT_HOST;
      const size_t length = short_length(one);
      if (strcmp(one, other) != 0 && short_length(other) == length && strncmp(one, other, length) == 0) return;
    }
  for (int r = 0; r < size; r++) {
    char *const host = c->hosts + (size_t)r * TRANSPORT_HOST;
    host[short_length(host)] = '\0';
  }
}

static void communicator_clear(void *object) {
  struct descent_communicator *c = object;
  if (c->transport) c->transport->close(c->transport, c->broken);
  free(c->hosts);
  free(c->scratch);
  free(c->messages);
  free(c->parts);
  free(c->outcomes);
}

descent_status communicator_create(struct transport *transport, double seconds,
                                   struct descent_communicator **communicator) {
  static const char what[] = "the communicator";
  const int size = transport->size;
  descent_status status = DESCENT_OK;
  struct descent_communicator *c = handle_create(HANDLE_COMMUNICATOR, sizeof *c, communicator_clear, what);
  if (!c) {
    transport->close(transport, true);
    return DESCENT_ERROR_MEMORY;
  }
  c->transport = transport;
  c->seconds = seconds;
  c->sum = sum;
  c->gather = communicator_gather;
  c->hosts = memory_allocate(size, TRANSPORT_HOST, what);
  c->messages = memory_allocate((int64_t)MESSAGES_FOR_A_PEER * size, sizeof *c->messages, what);
  c->parts = memory_allocate(size, sizeof *c->parts, what);
  c->outcomes = memory_allocate(size, sizeof *c->outcomes, what);
  if (!c->hosts || !c->messages || !c->parts || !c->outcomes) TRY(DESCENT_ERROR_MEMORY);
  TRY(communicator_gather(c, transport->host, TRANSPORT_HOST, c->hosts));
  shorten_hosts(c);
  *communicator = c;
  return status;
done:
  handle_close(c, HANDLE_COMMUNICATOR);
  return status;
}
