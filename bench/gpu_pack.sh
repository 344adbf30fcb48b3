#!/usr/bin/env bash
# Packs the parts of a build folder that bench/gpu_check.sh needs into one file, for a machine where nothing can be
# installed: the programs that it runs, the CUDA backend, their shared libraries except those of the compiler, the C
# library and NVIDIA, and the backend's sources with Random123's headers, so that the backend can be rebuilt there.
#
#   bench/gpu_pack.sh BUILD-FOLDER FILE.tar.xz [GLIBC]
#
# GLIBC is the version of the other machine's C library (default 2.35): a program that needs a newer one is refused. To
# keep the file small, build for one GPU: -DCMAKE_CUDA_ARCHITECTURES=90a-real for an H100 or H200.
set -euo pipefail
[ $# -ge 2 ] && [ $# -le 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 file=$2 glibc=${3:-2.35} root=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "gpu_pack: $1" >&2; exit 1; }
programs=(descent members_time)
for name in conformance trajectory cuda_module resume notes pytorch divergence evaluate verify train differentiate \
  own_loss predictor trainer_state shared_device fit_source; do
  programs+=("${name}_test")
done
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,lib,source/third}
for program in "${programs[@]}"; do
  [ -f "$build/bin/$program" ] || fail "$build/bin/$program is missing: build it"
  cp "$build/bin/$program" "$stage/bin"
done
[ -f "$build/lib/libdescent_cuda.so" ] || fail "$build/lib/libdescent_cuda.so is missing: build the CUDA backend"
cp "$build/lib/libdescent_cuda.so" "$stage/lib"
for program in "$stage"/bin/* "$stage"/lib/*; do ldd "$program"; done |
  awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u | while read -r name path; do
  case $name in
    libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | ld-linux* | libcublas* | libcuda* | libnv*) ;;
    libstdc++.so* | libgcc_s.so*) ;; # the compilers there bring theirs; ours would need the newest C library of all
    *) cp -L "$path" "$stage/lib/$name" ;;
  esac
done
strip --strip-unneeded "$stage"/bin/* "$stage"/lib/*
# The module of MPI uses the other machine's MPI: the one of its mpirun.
[ ! -f "$build/lib/libdescent_mpi.so" ] || cp "$build/lib/libdescent_mpi.so" "$stage/lib"

# What each file asks of the C library, the newest last.
needs=$(for each in "$stage"/bin/* "$stage"/lib/*; do
  objdump -T "$each" | sed -n "s|.*GLIBC_\([0-9.]*\).*|\1 ${each##*/}|p"
done | sort -uV | tail -n 1)
[ "$(printf '%s\n' "${needs% *}" "$glibc" | sort -V | tail -n 1)" = "$glibc" ] ||
  fail "${needs#* } needs glibc ${needs% *}, newer than $glibc: build on an older system, or name the other machine's"

(cd "$root" && cp -r --parents kernels include host/plan host/backend host/core "$stage/source")
random123=$(sed -n 's/^RANDOM123_INCLUDE_DIR:PATH=//p' "$build/CMakeCache.txt")
cp -r "$random123/Random123" "$stage/source/third"
git -C "$root" describe --always --dirty >"$stage/commit" 2>/dev/null || rm "$stage/commit"
git -C "$root" log -1 --format=%H -- kernels >"$stage/kernels_commit" 2>/dev/null || rm "$stage/kernels_commit"
tar c -C "$stage" . | xz -9e -T0 >"$file"
echo "$file: $(du -h "$file" | cut -f 1), needs glibc ${needs% *}"
