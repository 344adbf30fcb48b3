#!/usr/bin/env bash
# Makes a build folder self-contained, for a machine where nothing can be installed: copies the shared libraries that its
# programs need, but for the C library's and NVIDIA's, to lib/ beside them. Configure with
# -DCMAKE_BUILD_RPATH='$ORIGIN/../lib' so that they are found there. With --strip-build what only building needs goes.
#
#   bench/gpu_pack.sh BUILD-FOLDER [--strip-build]
set -euo pipefail
[ $# -ge 1 ] && [ -d "$1/bin" ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1
readelf -d "$build/bin/descent" | grep -q 'R.*PATH.*\$ORIGIN/\.\./lib' ||
  { echo "gpu_pack: $build is not configured with -DCMAKE_BUILD_RPATH='\$ORIGIN/../lib'" >&2; exit 1; }
mkdir -p "$build/lib"
for program in "$build"/bin/* "$build"/lib/*.so*; do
  ldd "$program" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }'
done | sort -u | while read -r name path; do
  case $name in
    libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | ld-linux* | libcublas* | libcuda* | libnv*) ;;
    *) [ -e "$build/lib/$name" ] || cp -L "$path" "$build/lib/$name" ;;
  esac
done
git -C "$(dirname "$0")" rev-parse --short HEAD >"$build/commit" 2>/dev/null || true
if [ "${2:-}" = --strip-build ]; then
  find "$build" -name '*.o' -delete
  rm -rf "$build"/CMakeFiles "$build"/modules "$build"/.ninja* "$build"/lib/libdescent.a
  find "$build/bin" "$build/lib" -type f -exec strip --strip-unneeded {} + 2>/dev/null || true
fi
du -sh "$build"
