#!/bin/sh
# header.sh COMPILER c17|c++17 INCLUDE: the public header and its initialisers compile without a warning.
set -eu
language=c
[ "$2" = c17 ] || language=c++
"$1" -x $language -std="$2" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I"$3" -fsyntax-only - <<'PROGRAM'
#include <descent/descent.h>
int main(void) {
  descent_dataset_options dataset = descent_dataset_options_default();
  descent_network_options network = descent_network_options_default();
  descent_train_options train = descent_train_options_default();
  descent_predict_options predict = descent_predict_options_default();
  descent_source source = descent_source_default();
  return dataset.size && network.size && train.size && predict.size && source.size && descent_version() ? DESCENT_OK : DESCENT_ERROR_INTERNAL;
}
PROGRAM
