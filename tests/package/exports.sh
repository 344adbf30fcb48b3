#!/bin/sh
# exports.sh COMPILER INCLUDE LIBRARY: the functions that the public header declares and the symbols that the shared
# library exports are the same set.
set -eu
declared=$(echo '#include <descent/descent.h>' | "$1" -E -P -I"$2" - | grep -oE '\bdescent_[a-z0-9_]+\(' | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$3" | awk '{ print $3 }' | sort -u)
[ -n "$declared" ]
if [ "$declared" != "$exported" ]; then
  echo "declared and not exported, or exported and not declared:"
  printf '%s\n%s\n' "$declared" "$exported" | sort | uniq -u
  exit 1
fi
