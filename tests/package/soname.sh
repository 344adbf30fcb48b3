#!/bin/sh
# soname.sh READELF INCLUDE LIBRARY: the shared library's name carries the oldest interface whose programs it runs, which
# is the first version of its symbols; the last is that of the library.
set -eu
version=$(sed -n 's/^#define DESCENT_VERSION "\(.*\)\.[0-9]*"/\1/p' "$2/descent/descent.h")
found=$("$1" -d "$3" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
nodes=$("$1" -V "$3" | sed -n 's/.*Name: \(DESCENT_.*\)/\1/p')
first=$(echo "$nodes" | head -n 1) last=$(echo "$nodes" | tail -n 1)
[ "$found" = "libdescent.so.${first#DESCENT_}" ] || { echo "$3: soname '$found', but the first version is '$first'"; exit 1; }
[ "$last" = "DESCENT_$version" ] || { echo "$3: the last version is '$last', not 'DESCENT_$version'"; exit 1; }
