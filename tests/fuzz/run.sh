#!/usr/bin/env bash
# run.sh [SECONDS] [TARGET...]: runs every fuzz target, or those named (csv, npy, ..), from its corpus for SECONDS each
# (default 60), with clang's libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer. Findings are written to
# build-fuzz/found/; corpus/ does not change.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift $(($# > 0 ? 1 : 0))
build=$PWD/build-fuzz
clang=$(command -v clang || ls /usr/bin/clang-[0-9]* 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$clang" ] || { echo "fuzz: clang is not here" >&2 && exit 2; }

mkdir -p "$build"
cmake -S . -B "$build" -DCMAKE_C_COMPILER="$clang" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DDESCENT_FUZZ=ON \
  -DDESCENT_CUDA=OFF -DDESCENT_BUILD_TESTS=OFF >"$build/configure.log" || { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --parallel "$(nproc)" --target fuzz >"$build/build.log" || { tail -n 50 "$build/build.log"; exit 1; }

[ $# -gt 0 ] || for source in tests/fuzz/fuzz_*.c; do
  name=${source##*/fuzz_}
  set -- "$@" "${name%.c}"
done
mkdir -p "$build/found"

fuzz() {
  local name=$1 grown=$build/corpus/$1
  mkdir -p "$grown"
  "$build/bin/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=2048 -max_len=16384 \
    -artifact_prefix="$build/found/$name-" -print_final_stats=1 "$grown" "tests/fuzz/corpus/$name" \
    >"$build/$name.log" 2>&1
}
export -f fuzz
export build seconds
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {} || echo {} >>"$build/found/failed"' || true
for name in "$@"; do
  printf 'fuzz: %s: %s runs\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log")"
done
[ -s "$build/found/failed" ] || echo "fuzz: $# targets, $seconds s each: no crash"
if [ -s "$build/found/failed" ]; then
  while read -r name; do tail -n 40 "$build/$name.log"; done <"$build/found/failed"
  rm "$build/found/failed"
  exit 1
fi
