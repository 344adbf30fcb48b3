#!/usr/bin/env bash
# Packs what bench/gpu_check.sh needs of a build folder into one file, for a machine where nothing can be built or
# installed: the programs, the CUDA backend and the shared libraries they need, but for the C library's and NVIDIA's.
#
#   bench/gpu_pack.sh BUILD-FOLDER FILE.tar.gz
#
# Build for the one GPU to keep it small: -DCMAKE_CUDA_ARCHITECTURES=90a-real for an H100 or H200. The other machine's C
# library must be as new as this one's. There: bench/gpu_check.sh --build FILE.tar.gz
set -euo pipefail
[ $# = 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2; }
build=$1 file=$2
for needed in bin/descent bin/conformance_test lib/libdescent_cuda.so; do
  [ -f "$build/$needed" ] || { echo "gpu_pack: $build/$needed is missing: build the tests and the CUDA backend" >&2; exit 1; }
done
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/bin" "$stage/lib"
find "$build/bin" -maxdepth 1 -type f -perm -u+x -exec cp -t "$stage/bin" {} +
cp "$build/lib/libdescent_cuda.so" "$stage/lib"
for program in "$stage"/bin/* "$stage"/lib/*; do ldd "$program"; done |
  awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u | while read -r name path; do
  case $name in
    libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | ld-linux* | libcublas* | libcuda* | libnv*) ;;
    *) cp -L "$path" "$stage/lib/$name" ;;
  esac
done
strip --strip-unneeded "$stage"/bin/* "$stage"/lib/*
git -C "$(dirname "$0")" describe --always --dirty >"$stage/commit" 2>/dev/null || rm "$stage/commit"
tar czf "$file" -C "$stage" .
echo "$file: $(du -h "$file" | cut -f 1)"
