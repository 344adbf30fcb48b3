/* Many networks trained together. */
#include <inttypes.h>
#include <stdio.h>

#include "core/handle.h"
#include "core/options.h"
#include "core/rng.h"
#include "core/status.h"

uint64_t descent_member_seed(uint64_t seed, int64_t member) {
  if (member == 0) return seed;
  const philox4x32_ctr_t words = rng_block(seed, RNG_MEMBER, 0, 0, (uint64_t)member);
  return ((uint64_t)words.v[0] << 32 | words.v[1]) >> 11;
}

descent_status descent_fit_members(descent_device *device, descent_member *members, int64_t count,
                                   const descent_members_options *options) {
  descent_members_options complete;
  descent_status status = DESCENT_OK, first = DESCENT_OK;
  int64_t succeeded = 0;
  TRY(argument_check(members, "members"));
  if (count < 1) TRY(status_set(DESCENT_ERROR_ARGUMENT, "count %" PRId64 ": must be at least 1", count));
  if (options) TRY(complete_members_options(options, &complete));
  for (int64_t k = 0; k < count; k++) {
    descent_member *m = &members[k];
    m->status = descent_fit(m->network, device, m->training, m->validation, m->options, &m->result);
    snprintf(m->error, sizeof m->error, "%s", m->status == DESCENT_OK ? "" : descent_last_error());
    succeeded += m->status == DESCENT_OK;
    if (k == 0) first = m->status;
  }
  if (!succeeded) status = first;
done:
  return status;
}
