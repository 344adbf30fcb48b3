#!/bin/sh
# versions.sh COMPILER INCLUDE LIBRARY DATA FOLDER FLAGS: programs compiled against an older and a newer header work with
# this library. The older one lacks the last members of each option struct and of a group, the newer one has one more.
set -eu
compiler=$1 include=$2 library=$3 data=$4 folder=$5 flags=$6
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$folder"
mkdir -p "$folder/older/descent" "$folder/newer/descent" "$folder/current/descent"
header=$include/descent/descent.h
cp "$header" "$folder/current/descent/"
sed -e '/^  descent_unseen unseen;/,/^  char unused/d' -e '/^  const descent_activation \*activations;/d' \
  -e '/^    int64_t keep_every_steps;/,/^    bool keep_best;/d' -e 's/^    uint64_t reserved\[4\];/    uint64_t reserved[7];/' \
  -e '/^  \/\* Each may be NULL and gets/,/^  } callbacks;/d' "$header" >"$folder/older/descent/descent.h"
sed -e 's/^} descent_\([a-z]*\)_options;/  double future;\n&/' -e 's/^    uint64_t reserved\[4\];/    uint64_t reserved[3]; double future;/' "$header" \
  >"$folder/newer/descent/descent.h"
for version in older current newer; do
  flag=
  [ $version != newer ] || flag=-DNEWER
  # shellcheck disable=SC2086
  "$compiler" -std=c17 -Wall -Wextra -Werror $flags $flag -I"$folder/$version" "$here/versions.c" -o "$folder/$version/program" \
    "$library" -Wl,-rpath,"$(dirname "$library")"
  "$folder/$version/program" "$data" >"$folder/$version.txt" || { cat "$folder/$version.txt"; exit 1; }
done
sizes() { sed -n 's/^sizes //p' "$folder/$1.txt"; }
result() { sed -n 's/^trained //p' "$folder/$1.txt"; }
smaller() {
  # shellcheck disable=SC2046
  set -- $(sizes "$1") $(sizes "$2")
  [ "$1" -lt "$4" ] && [ "$2" -lt "$5" ] && [ "$3" -lt "$6" ] || { echo "not smaller: $*"; exit 1; }
}
smaller older current
smaller current newer
[ -n "$(result current)" ]
for version in older newer; do
  [ "$(result $version)" = "$(result current)" ] || { echo "$version: $(result $version), not $(result current)"; exit 1; }
done
