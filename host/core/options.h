/* The option structs of the public header as this library sees them, whatever version of the header they come from. */
#ifndef DESCENT_CORE_OPTIONS_H
#define DESCENT_CORE_OPTIONS_H

#include <descent/descent.h>

/* Copies `given` and lets members that its size lacks take their defaults. ERROR_ARGUMENT for NULL, for a size that no
 * ..._init() has set and for members that this library does not know. */
descent_status complete_dataset_options(const descent_dataset_options *given, descent_dataset_options *complete);
descent_status complete_network_options(const descent_network_options *given, descent_network_options *complete);
descent_status complete_train_options(const descent_train_options *given, descent_train_options *complete);

#endif
