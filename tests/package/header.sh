#!/bin/sh
# header.sh COMPILER c17|c++17 INCLUDE: the public header and its initialisers compile without a warning.
set -eu
language=c
[ "$2" = c17 ] || language=c++
"$1" -x $language -std="$2" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I"$3" -fsyntax-only - <<'PROGRAM'
#include <descent/descent.h>
int main(void) {
  descent_dataset_options dataset = DESCENT_DATASET_OPTIONS_INIT;
  descent_network_options network = DESCENT_NETWORK_OPTIONS_INIT;
  descent_train_options train = DESCENT_TRAIN_OPTIONS_INIT;
  return dataset.size && network.size && train.size && descent_version() ? DESCENT_OK : DESCENT_ERROR_INTERNAL;
}
PROGRAM
