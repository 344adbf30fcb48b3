/* Option structs from any version of the public header, converted to this library's version. */
#ifndef DESCENT_CORE_OPTIONS_H
#define DESCENT_CORE_OPTIONS_H

#include <descent/descent.h>

/* Copies `given`; members beyond its size take their defaults. ERROR_ARGUMENT for NULL, for an invalid size, and for
 * members that this library does not know. */
descent_status complete_dataset_options(const descent_dataset_options *given, descent_dataset_options *complete);
descent_status complete_network_options(const descent_network_options *given, descent_network_options *complete);
descent_status complete_train_options(const descent_train_options *given, descent_train_options *complete);
descent_status complete_predict_options(const descent_predict_options *given, descent_predict_options *complete);
descent_status complete_source(const descent_source *given, descent_source *complete);
descent_status complete_member(const descent_member *given, descent_member *complete);
descent_status complete_members_options(const descent_members_options *given, descent_members_options *complete);
/* The seed of the shuffles. */
static inline uint64_t options_shuffle_seed(const descent_train_options *options) {
  return options->shuffle_seed ? options->shuffle_seed : options->seed;
}
/* `name`: of the argument, in errors. */
descent_status complete_array(const descent_array *given, const char *name, descent_array *complete);
descent_status complete_preprocessing(const descent_preprocessing *given, descent_preprocessing *complete);

/* Writes the members that `out`, by its size, has room for; zeros where it knows more. ERROR_ARGUMENT for NULL and for
 * an invalid size. */
descent_status give_preprocessing(const descent_preprocessing *values, descent_preprocessing *out);

#endif
