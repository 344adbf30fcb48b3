/* What a training's result depends on, as names and texts: the options, the network, the data, the device. Two
 * trainings of one configuration, by one build on one kind of processor, end with the same bits. */
#ifndef DESCENT_CHECKPOINT_CONFIGURATION_H
#define DESCENT_CHECKPOINT_CONFIGURATION_H

#include <cjson/cJSON.h>

#include "data/dataset.h"
#include "model/network.h"

struct configuration {
  cJSON *values; /* {NAME: TEXT, ..} */
};

/* `device`: its name; `validation` may be NULL. Of X of more than 64 MB only some rows are looked at. ERROR_MEMORY. */
descent_status configuration_create(const descent_network *network, const char *device, const descent_dataset *training,
                                    const descent_dataset *validation, const descent_train_options *options,
                                    struct configuration *configuration);
void configuration_clear(struct configuration *configuration);

/* Adds it to an object; false when memory ran out. */
bool configuration_write(const struct configuration *configuration, cJSON *object, const char *member);

/* ERROR_ARGUMENT, "<path>: <name> was <text>, is <text>; ..", when `kept` has other values under names that are not in
 * `may_change`, or under one that never may. ERROR_MODEL when `kept` is no configuration. */
descent_status configuration_compare(const char *path, const struct configuration *configuration, const cJSON *kept,
                                     const char *may_change);

/* Is each name of the list one that may change? ERROR_ARGUMENT names the first that is not. NULL is an empty list. */
descent_status configuration_check_names(const char *may_change);
/* Has `kept` another value under this name? */
bool configuration_differs(const struct configuration *configuration, const cJSON *kept, const char *name);

#endif
