#!/bin/sh
# core_only.sh CMAKE SOURCE FOLDER COMPILER READELF DATA: a build without formats needs a CBLAS, cJSON, libcsv and the C
# library alone, trains from memory and CSV, refuses the other formats by name, and installs a package that links.
set -eu
cmake=$1 source=$2 folder=$3 compiler=$4 readelf=$5 data=$6
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$folder"
mkdir -p "$folder/files"
# Optimisation would take longer than it saves here.
"$cmake" -S "$source" -B "$folder/build" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER="$compiler" -DDESCENT_FORMATS=OFF \
  -DDESCENT_CUDA=OFF >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
"$cmake" --build "$folder/build" --parallel 2 >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
"$cmake" --install "$folder/build" --prefix "$folder/prefix" >/dev/null

library=$(find "$folder/prefix" -name libdescent.so)
needs=$("$readelf" -d "$library" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' |
  grep -Ev '^(lib(c|m|pthread|dl|cjson|csv|openblas|openblas64_|blas|cblas|blis)|ld-linux[^.]*)\.so' || true)
[ -z "$needs" ] || { echo "the core needs: $needs"; exit 1; }
[ ! -e "$folder/prefix/bin" ] || { echo "there is a command"; exit 1; }
"$compiler" -std=c17 -Wall -Wextra -Werror -I"$folder/prefix/include" "$here/core_only/core_only.c" "$library" \
  -Wl,-rpath,"$(dirname "$library")" -o "$folder/core_only"
"$folder/core_only" "$data" "$folder/files"
"$here/outside.sh" cmake static "$folder/prefix" "$folder/outside" "$cmake" "$compiler" ""
