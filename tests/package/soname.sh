#!/bin/sh
# soname.sh READELF INCLUDE LIBRARY: the shared library's name carries the version of its interface, which before 1.0 is
# major and minor: a program is never loaded with a library of another interface.
set -eu
version=$(sed -n 's/^#define DESCENT_VERSION "\(.*\)"/\1/p' "$2/descent/descent.h")
major=${version%%.*}
interface=$major
[ "$major" != 0 ] || interface=${version%.*}
found=$("$1" -d "$3" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ "$found" = "libdescent.so.$interface" ] || { echo "$3: soname '$found', not libdescent.so.$interface"; exit 1; }
