/* Ensembles: several networks of one shape and preprocessing in one network. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"
#include "model/network.h"

int64_t descent_network_members(const descent_network *network) {
  return handle_alive(network, HANDLE_NETWORK) ? network->members : 0;
}

static void copy_member(const descent_network *from, int64_t member, descent_network *to, int64_t at) {
  memcpy(to->parameters + at * to->n_parameters, from->parameters + member * from->n_parameters,
         (size_t)from->n_parameters * sizeof *to->parameters);
}

descent_status descent_network_member(const descent_network *network, int64_t member, descent_network **copy) {
  descent_network *created = NULL;
  descent_status status;
  TRY(handle_check(network, HANDLE_NETWORK, "network"));
  TRY(argument_check(copy, "copy"));
  if (member < 0 || member >= network->members)
    TRY(status_set(DESCENT_ERROR_ARGUMENT, "member %" PRId64 ": must be 0 to %" PRId64, member, network->members - 1));
  TRY(network_copy_frame(network, 1, &created));
  copy_member(network, member, created, 0);
  *copy = created;
done:
  return status;
}

static descent_status check_join(const descent_network *const *networks, int64_t count) {
  descent_status status = DESCENT_OK;
  if (count < 1) return status_set(DESCENT_ERROR_ARGUMENT, "count %" PRId64 ": must be at least 1", count);
  for (int64_t k = 0; k < count; k++) {
    char name[48];
    snprintf(name, sizeof name, "networks[%" PRId64 "]", k);
    TRY(handle_check(networks[k], HANDLE_NETWORK, name));
    TRY(network_check_plain(networks[k], name));
    TRY(network_check_joins(networks[k], name, networks[0]));
  }
done:
  return status;
}

descent_status descent_network_join(const descent_network *const *networks, int64_t count, descent_network **ensemble) {
  descent_network *created = NULL;
  descent_status status;
  TRY(argument_check(networks, "networks"));
  TRY(argument_check(ensemble, "ensemble"));
  TRY(check_join(networks, count));
  TRY(network_copy_frame(networks[0], count, &created));
  for (int64_t k = 0; k < count; k++) copy_member(networks[k], 0, created, k);
  if (count > 1) created->checkpoint_step = -1;
  *ensemble = created;
done:
  return status;
}
