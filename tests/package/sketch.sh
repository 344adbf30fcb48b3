#!/bin/sh
# sketch.sh COMPILER c17|c++17 INCLUDE LIBRARY DATA FOLDER FLAGS: the sketch of use at the top of the public header is a
# whole program but for its includes: it compiles, trains on the file DATA and saves a model.
set -eu
compiler=$1 standard=$2 include=$3 library=$4 data=$5 folder=$6 flags=$7
language=c
[ "$standard" = c17 ] || language=c++
rm -rf "$folder"
mkdir -p "$folder"
sketch=$(sed -n '1,/^ \*\// s/^ \*     //p' "$include/descent/descent.h")
lines=$(printf '%s\n' "$sketch" | wc -l)
[ "$lines" -ge 10 ] && [ "$lines" -le 20 ] || { echo "the sketch has $lines lines"; exit 1; }
printf '#include <descent/descent.h>\n#include <stdio.h>\nint main(void) {\n%s\nreturn 0;\n}\n' "$sketch" >"$folder/program"
cp "$data" "$folder/"
cd "$folder"
# shellcheck disable=SC2086
"$compiler" -x $language -std="$standard" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror $flags -I"$include" \
  program -x none -o sketch "$library" -Wl,-rpath,"$(dirname "$library")"
said=$(./sketch 2>&1)
[ -z "$said" ] || { echo "$said"; exit 1; }
[ -s model.safetensors ]
