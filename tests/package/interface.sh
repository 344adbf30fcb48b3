#!/bin/bash
# interface.sh COMPILER PYTHON ABIDIFF INCLUDE LIBRARY FOLDER: programs of the headers stored in interface/ work with this
# one. What abidiff finds between the interfaces is what interface/VERSION/changes.txt allows, beside new functions; and
# the library still exports each stored function at the version that these programs ask for.
# DESCENT_WRITE_GOLDEN=1 rewrites changes.txt.
set -euo pipefail
compiler=$1 python=$2 abidiff=$3 include=$4 library=$5 folder=$6
here=$(cd "$(dirname "$0")/interface" && pwd)
rm -rf "$folder"
mkdir -p "$folder"

# stub INCLUDE NAME
stub() {
  "$python" "$here/stub.py" "$compiler" "$1" >"$folder/$2.c"
  "$compiler" -g -w -shared -fPIC "$folder/$2.c" -o "$folder/$2.so"
}
stub "$include" current
nm -D --defined-only "$library" | awk '$2 == "T" { print $3 }' | sort >"$folder/exported"

failures=0
stored=0
for version in $(ls "$here" | grep '^[0-9]' | sort -V); do
  stored=$((stored + 1))
  stub "$here/$version" "$version"
  code=0
  "$abidiff" --leaf-changes-only --no-added-syms "$folder/$version.so" "$folder/current.so" >"$folder/said" || code=$?
  [ $((code & 3)) = 0 ] || { echo "abidiff failed:" && cat "$folder/said" && exit 1; }
  sed '/ summary: /d; /./,$!d; s| at [^ ]*:[0-9]*:[0-9]*||' "$folder/said" >"$folder/$version.txt"
  [ -z "${DESCENT_WRITE_GOLDEN:-}" ] || cp "$folder/$version.txt" "$here/$version/changes.txt"
  diff -u "$here/$version/changes.txt" "$folder/$version.txt" || failures=1

  # A program of version X.Y binds to the symbols of the nodes up to it.
  node=DESCENT_${version%.*}
  for function in $(nm -D --defined-only "$folder/$version.so" | awk '$2 == "T" { print $3 }'); do
    first=$(sed -n "s/^$function@@*//p" "$folder/exported" | sort -V | head -n 1)
    [ -n "$first" ] && [ "$(printf '%s\n%s\n' "$first" "$node" | sort -V | tail -n 1)" = "$node" ] ||
      { echo "$function of $version: exported from ${first:-no node}" && failures=1; }
  done
done
[ $stored -gt 0 ]
exit $failures
