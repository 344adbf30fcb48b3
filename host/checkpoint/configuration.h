/* The configuration of a training: everything that its result depends on (options, network, data, device), as names and
 * texts, and the arithmetic that its bits depend on. Trainings with equal configurations and arithmetic, by the same
 * build, give the same bits. */
#ifndef DESCENT_CHECKPOINT_CONFIGURATION_H
#define DESCENT_CHECKPOINT_CONFIGURATION_H

#include <cjson/cJSON.h>

#include "data/dataset.h"
#include "model/network.h"

struct configuration {
  cJSON *values; /* {NAME: TEXT, ..} */
};

/* `device`: its name; `arithmetic`: as in struct backend, or NULL; `validation` may be NULL. If X exceeds 64 MB, only
 * some of its rows are included. ERROR_MEMORY. */
descent_status configuration_create(const descent_network *network, const char *device, const char *arithmetic,
                                    const descent_dataset *training, const descent_dataset *validation,
                                    const descent_train_options *options, struct configuration *configuration);
/* Only what the tensors of a training's state depend on: network and optimizer. */
descent_status configuration_create_of_state(const descent_network *network, descent_optimizer optimizer,
                                             struct configuration *configuration);
void configuration_clear(struct configuration *configuration);

/* Adds it to an object as `member`, by reference; false if out of memory. */
bool configuration_write(const struct configuration *configuration, cJSON *object, const char *member);

/* ERROR_ARGUMENT, with "<name> was <text> and is <text>, ..", if values in `recorded` differ whose names are not in
 * `may_change`. ERROR_MODEL if `recorded` is not a configuration. `path` names the file in errors. */
descent_status configuration_compare(const char *path, const struct configuration *configuration, const cJSON *recorded,
                                     const char *may_change);

/* The arithmetic of `recorded` if both have one and it differs, otherwise NULL. Configurations do not differ by it. */
const char *configuration_other_arithmetic(const struct configuration *configuration, const cJSON *recorded);
/* ERROR_ARGUMENT if a name of the list is unknown or must not change. NULL is an empty list. */
descent_status configuration_check_names(const char *may_change);
/* Does `recorded` have a different value, or none, for this name of the configuration? */
bool configuration_differs(const struct configuration *configuration, const cJSON *recorded, const char *name);

#endif
