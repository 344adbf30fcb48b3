#!/bin/sh
# older_program.sh COMPILER PYTHON INCLUDE LIBRARY DATA FOLDER FLAGS: a program that was compiled and linked with an older
# library runs with this one, which it was not linked with, and prints what it prints when it is compiled for this one.
set -eu
compiler=$1 python=$2 include=$3 library=$4 data=$5 folder=$6 flags=$7
here=$(cd "$(dirname "$0")/interface" && pwd)
rm -rf "$folder"
mkdir -p "$folder"
soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
# shellcheck disable=SC2086
compile() { "$compiler" -std=c17 -Wall -Wextra -Werror $flags "$here/program.c" "$@"; }

compile -I"$include" "$library" -Wl,-rpath,"$(dirname "$library")" -o "$folder/current"
"$folder/current" "$data" >"$folder/expected" || { cat "$folder/expected"; exit 1; }
for version in $(ls "$here" | grep '^[0-9]'); do
  mkdir "$folder/$version"
  "$python" "$here/stub.py" "$compiler" "$here/$version" >"$folder/$version/stub.c"
  "$compiler" -w -shared -fPIC "$folder/$version/stub.c" -Wl,-soname,"$soname" -o "$folder/$version/libdescent.so"
  compile -I"$here/$version" "$folder/$version/libdescent.so" -o "$folder/$version/program"
  LD_LIBRARY_PATH=$(dirname "$library") "$folder/$version/program" "$data" >"$folder/$version/said" ||
    { cat "$folder/$version/said"; exit 1; }
  diff "$folder/expected" "$folder/$version/said"
done
