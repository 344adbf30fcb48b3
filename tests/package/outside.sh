#!/bin/sh
# outside.sh cmake|pkg_config shared|static PREFIX FOLDER CMAKE COMPILER FLAGS: builds outside.c in FOLDER against the
# library installed in PREFIX, as a user's project does, and runs it.
set -eu
how=$1 kind=$2 prefix=$3 folder=$4 cmake=$5 compiler=$6 flags=$7
source=$(cd "$(dirname "$0")/outside" && pwd)
rm -rf "$folder"
mkdir -p "$folder"

if [ "$how" = cmake ]; then
  target=descent::descent
  [ "$kind" = shared ] || target=descent::descent_static
  "$cmake" -S "$source" -B "$folder" -DCMAKE_PREFIX_PATH="$prefix" -DDESCENT_TARGET=$target \
    -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="$flags" >"$folder/log" 2>&1 || { cat "$folder/log" && exit 1; }
  "$cmake" --build "$folder"
else
  pc=$(find "$prefix" -name descent.pc)
  PKG_CONFIG_PATH=$(dirname "$pc")
  export PKG_CONFIG_PATH
  cflags=$(pkg-config --cflags descent)
  if [ "$kind" = shared ]; then
    libs=$(pkg-config --libs descent)
  else # both libraries are in one folder: name the archive, because the linker prefers the shared one
    libs=$(pkg-config --static --libs descent | sed 's/-ldescent/-l:libdescent.a/')
  fi
  # A prefix with blanks comes out of pkg-config with backslashes, which eval undoes.
  eval "\"$compiler\" $flags -std=c17 \"$source/outside.c\" -o \"$folder/outside\" $cflags $libs"
  LD_LIBRARY_PATH=$(dirname "$(dirname "$pc")")
  export LD_LIBRARY_PATH
fi

needs=$(readelf -d "$folder/outside" | grep -c 'NEEDED.*libdescent' || true)
case $kind:$needs in
  shared:1 | static:0) ;;
  *) echo "$kind, but the program needs $needs shared libdescent" && exit 1 ;;
esac
"$folder/outside"
