#!/bin/sh
# install.sh CMAKE BUILD PREFIX: installs into an empty PREFIX and checks that every file of the package is there.
set -eu
rm -rf "$3"
"$1" --install "$2" --prefix "$3" >/dev/null
find "$3" -name '*.so' -o -name '*.a' -o -name '*.pc' -o -name descentConfig.cmake -o -name descent.h | sort
"$3/bin/descent" --version
for name in libdescent.so libdescent.a descent.pc descentConfig.cmake descent.h; do
  [ -n "$(find "$3" -name "$name")" ] || { echo "not installed: $name" && exit 1; }
done
# The modules that were built are beside the library, where they are looked for.
for name in libdescent_cuda.so libdescent_mpi.so; do
  [ ! -e "$2/lib/$name" ] || [ -e "$(dirname "$(find "$3" -name libdescent.so)")/$name" ] ||
    { echo "not installed beside the library: $name" && exit 1; }
done
