#!/bin/sh
# exports.sh COMPILER INCLUDE LIBRARY...: the functions that the public header declares and the symbols that a library,
# shared or static, exports are the same set, whatever their versions. (The header's inline functions are the program's
# own.) A shared library also has those of host/versions/older.c.
set -eu
compiler=$1 include=$2
shift 2
declared=$(echo '#include <descent/descent.h>' | "$compiler" -E -P -I"$include" - |
  sed 's/static inline [a-z_]* [a-z_]*(/(/g; s/^typedef [a-z]* [a-z_]*(/(/' |
  grep -oE '\bdescent_[a-z0-9_]+\(' | tr -d '(' | sort -u)
older=$(sed -n 's/^#undef //p' "$(dirname "$0")/../../host/versions/older.c")
[ -n "$declared" ] && [ -n "$older" ]
bad=0
for library in "$@"; do
  case $library in *.a) kind=-g ;; *) kind=-D ;; esac
  exported=$(nm $kind --defined-only "$library" | awk 'NF == 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u)
  case $library in *.a) expected=$declared ;; *) expected=$(printf '%s\n%s\n' "$declared" "$older" | sort) ;; esac
  if [ "$expected" != "$exported" ]; then
    echo "$library: declared and not exported, or exported and not declared:"
    printf '%s\n%s\n' "$expected" "$exported" | sort | uniq -u
    bad=1
  fi
done
exit $bad
