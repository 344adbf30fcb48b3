/* Many networks trained together: each is a training as descent_fit runs it. What descent_fit would refuse is found for
 * all of them before the first changes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/folder.h"
#include "core/clock.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/rng.h"
#include "core/status.h"
#include "train/members_memory.h"
#include "train/recovery.h"
#include "train/rounds.h"

uint64_t descent_member_seed(uint64_t seed, int64_t member) {
  if (member == 0) return seed;
  const philox4x32_ctr_t words = rng_block(seed, RNG_MEMBER, 0, 0, (uint64_t)member);
  return ((uint64_t)words.v[0] << 32 | words.v[1]) >> 11;
}

/* The members of a call. */
struct members {
  descent_member *given; /* (count) of the caller, `size` bytes each */
  size_t size;
  int64_t count;
  descent_device *device;
  descent_member *known;       /* (count) completed copies */
  descent_fit_result *results; /* (count) */
  struct fit *fits;            /* (count) */
  int64_t later;               /* bytes of a device's memory that those compiled are to take when they run together */
};

static void *place(const struct members *m, int64_t k) { return (char *)m->given + (size_t)k * m->size; }

/* ---- what is refused -------------------------------------------------------------------------------------------- */

static descent_status read_member(struct members *m, int64_t k) {
  size_t size;
  descent_status status;
  memcpy(&size, place(m, k), sizeof size);
  if (size != m->size)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "size %zu: must be that of member 0, %zu", size, m->size));
  TRY(complete_member(place(m, k), &m->known[k]));
done:
  return status;
}

/* What descent_fit takes and members do not. */
static descent_status check_options(const descent_train_options *o) {
  if (o->ranks.communicator)
    return status_set(DESCENT_ERROR_ARGUMENT, "communicator: not available for members; train on one rank");
  if (o->ranks.micro_batches > 1)
    return status_set(DESCENT_ERROR_ARGUMENT, "micro_batches %" PRId64 ": not available for members; use descent_fit",
                      o->ranks.micro_batches);
  return DESCENT_OK;
}

static descent_status check_distinct(const struct members *m, int64_t k) {
  for (int64_t i = 0; i < k; i++)
    if (m->known[i].network == m->known[k].network)
      return status_set(DESCENT_ERROR_ARGUMENT, "network: is that of member %" PRId64 ": each member needs another", i);
  return DESCENT_OK;
}

static descent_status check_member(struct members *m, int64_t k) {
  struct fit *f = &m->fits[k];
  descent_status status;
  TRY(read_member(m, k));
  TRY(complete_train_options(m->known[k].options, &f->options));
  TRY(check_options(&f->options));
  TRY(check_distinct(m, k));
  f->training = m->known[k].training;
  f->validation = m->known[k].validation;
  f->result = &m->results[k];
  f->network = m->known[k].network;
  f->device = m->device;
  f->started = clock_seconds();
  TRY(fit_check(f));
done:
  return status;
}

/* A part of setting up, of one member after another; the error names the member. */
static descent_status for_each(struct members *m, int64_t first, int64_t end,
                               descent_status (*part)(struct members *m, int64_t k)) {
  for (int64_t k = first; k < end; k++) {
    const descent_status status = part(m, k);
    if (status != DESCENT_OK) return status_set(status, "member %" PRId64 ": %s", k, descent_last_error());
  }
  return DESCENT_OK;
}

/* Many members on a device with separate memory, which must have all that they need before any is trained. */
static bool needs_room(const struct members *m) { return m->count > 1 && m->device->backend->room; }

static descent_status compile_and_place(struct members *m, int64_t k) {
  descent_status status;
  TRY(fit_compile(&m->fits[k]));
  if (needs_room(m)) TRY(fit_place_data(&m->fits[k]));
done:
  return status;
}

/* Those before k are compiled, and so fit. */
static descent_status compile_member(struct members *m, int64_t k) {
  const descent_status status = compile_and_place(m, k);
  if (status == DESCENT_OK && needs_room(m)) return members_check_next(m->fits, k, m->count, &m->later);
  if (status != DESCENT_ERROR_MEMORY || k == 0) return status;
  if (needs_room(m)) return members_refuse_next(m->fits, k, m->count, m->later);
  return status_set(status, "%s; %" PRId64 " of %" PRId64 " members would fit", descent_last_error(), k, m->count);
}

/* The first shows what the others need. */
static descent_status compile_members(struct members *m) {
  descent_status status;
  TRY(for_each(m, 0, 1, compile_member));
  TRY(members_check_memory("", m->fits, m->count));
  if (needs_room(m)) TRY(members_check_room(m->fits, m->count));
  TRY(for_each(m, 1, m->count, compile_member));
done:
  return status;
}

/* The folders of the members before k are open, and so exist. */
static descent_status open_member(struct members *m, int64_t k) {
  const char *folder = m->fits[k].options.checkpoint.folder;
  descent_status status;
  for (int64_t i = 0; folder && i < k; i++) {
    const char *other = m->fits[i].options.checkpoint.folder;
    bool same = false;
    if (other) TRY(checkpoint_folder_same(other, folder, &same));
    if (same)
      TRY(status_set(DESCENT_ERROR_ARGUMENT,
                     "checkpoint '%s': is the folder of member %" PRId64 ": each member needs another", folder, i));
  }
  TRY(recovery_open(&m->fits[k]));
done:
  return status;
}

static descent_status set_up(struct members *m) {
  descent_status status;
  m->known = memory_allocate(m->count, sizeof *m->known, "members");
  m->results = memory_allocate(m->count, sizeof *m->results, "results of members");
  m->fits = memory_allocate(m->count, sizeof *m->fits, "trainings of members");
  if (!m->known || !m->results || !m->fits) TRY(DESCENT_ERROR_MEMORY);
  TRY(for_each(m, 0, m->count, check_member));
  TRY(compile_members(m));
  TRY(for_each(m, 0, m->count, open_member));
done:
  return status;
}

/* ---- training --------------------------------------------------------------------------------------------------- */

/* Frees what was set up, and keeps the error. */
static void tear_down(struct members *m, descent_status status) {
  char text[1024];
  snprintf(text, sizeof text, "%s", descent_last_error());
  for (int64_t k = 0; m->fits && k < m->count; k++)
    if (m->fits[k].phase != FIT_ENDED) fit_end(&m->fits[k], status);
  (void)status_set(status, "%s", text);
}

/* Writes what has come of a member, as far as the caller's struct has room for it. */
static void give_result(struct members *m, int64_t k) {
  const size_t first = offsetof(descent_member, status), size = m->size < sizeof *m->known ? m->size : sizeof *m->known;
  descent_member *known = &m->known[k];
  known->status = m->fits[k].status;
  known->result = m->results[k];
  memcpy(known->error, m->fits[k].error, sizeof known->error);
  if (size > first) memcpy((char *)place(m, k) + first, (const char *)known + first, size - first);
}

/* The status of the call. */
static descent_status conclude(struct members *m) {
  for (int64_t k = 0; k < m->count; k++)
    if (m->fits[k].status == DESCENT_OK) return DESCENT_OK;
  return status_set(m->fits[0].status, "member 0: %s", m->fits[0].error);
}

descent_status descent_fit_members(descent_device *device, descent_member *members, int64_t count,
                                   const descent_members_options *options) {
  descent_members_options complete = {0};
  struct members m = {.given = members, .count = count, .device = device};
  descent_status status;
  TRY(device_check(device, "device"));
  TRY(argument_check(members, "members"));
  if (count < 1) TRY(status_set(DESCENT_ERROR_ARGUMENT, "count %" PRId64 ": must be at least 1", count));
  if (options) TRY(complete_members_options(options, &complete));
  TRY(complete_member(members, &(descent_member){0}));
  memcpy(&m.size, members, sizeof m.size);
  TRY(set_up(&m));
  for (int64_t k = 0; k < count; k++) m.fits[k].describes_epochs |= complete.on_epoch != NULL;
  TRY(rounds_run(m.fits, count, &complete));
  for (int64_t k = 0; k < count; k++) give_result(&m, k);
  status = conclude(&m);
done:
  if (status != DESCENT_OK) tear_down(&m, status);
  free(m.known);
  free(m.results);
  free(m.fits);
  return status;
}
