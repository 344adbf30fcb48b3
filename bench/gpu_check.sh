#!/usr/bin/env bash
# Everything that only a GPU can show, in at most ten minutes: the tests on the device, the sanitizer tools where they are
# installed, and the benchmark beside PyTorch; one folder of results to commit, its table printed last.
#
#   bench/gpu_check.sh [--build WHERE] [--out FOLDER] [--only PART,...] [--seconds N]
#
#   --build    a build folder, or a .tar.gz that bench/gpu_pack.sh made of one (default build); a folder without
#              bin/descent is built now
#   --out      where the results go (default bench/results/<gpu>, with --only bench/results/<gpu>-<parts>)
#   --only     of tests, sanitizers, bench (default all); the time is shared out among those asked for
#   --seconds  for everything, building apart (default 570)
#
# Leaves in --out: table.txt, check.json (what ran where, every check's result), bench.json (every figure), log.txt. What
# has no time left or cannot run is said and counted as not passed; stopped from outside, it still writes what there is.
# Exit code 0: every check asked for passed (aims of the benchmark may be missed: the table says so), 1: not, 4: no GPU.
#
# The machine needs NVIDIA's driver, libcublasLt (the toolkit's or the one that came with PyTorch), bash and coreutils; for
# the benchmark python3. Nothing is downloaded and no setting of the GPU is changed.
set -euo pipefail
cd "$(dirname "$0")/.."
every=tests,sanitizers,bench
root=$PWD build=build out='' only=$every seconds=570
fail() { echo "gpu_check: $2" >&2; exit "$1"; }
while [ $# -gt 0 ]; do
  case $1 in
    --build | --out | --only | --seconds)
      [ $# -ge 2 ] || fail 2 "$1 needs a value"
      case $1 in --build) build=$2 ;; --out) out=$2 ;; --only) only=$2 ;; *) seconds=$2 ;; esac
      shift 2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d'; exit 0 ;;
    *) fail 2 "unknown argument '$1' (see --help)" ;;
  esac
done
for part in ${only//,/ }; do
  case $part in tests | sanitizers | bench) ;; *) fail 2 "--only '$part': must be of tests, sanitizers, bench" ;; esac
done
case $seconds in '' | *[!0-9]*) fail 2 "--seconds '$seconds': must be a whole number" ;; esac

# ---- the build ----

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
case $build in
  *.tar.gz)
    [ -f "$build" ] || fail 1 "$build: no such file"
    mkdir "$scratch/build"
    tar xzf "$build" -C "$scratch/build"
    build=$scratch/build ;;
  *)
    if [ ! -x "$build/bin/descent" ]; then
      command -v cmake >/dev/null || fail 1 "$build has no bin/descent and there is no cmake to build it (see --build)"
      echo "building in $build ..."
      cmake -S . -B "$build" >"$scratch/cmake" || { cat "$scratch/cmake" >&2; fail 1 "cmake failed"; }
      cmake --build "$build" --parallel >"$scratch/cmake" || { tail -n 50 "$scratch/cmake" >&2; fail 1 "build failed"; }
    fi ;;
esac
build=$(cd "$build" && pwd)
module=${DESCENT_TEST_MODULE:-$build/lib/libdescent_cuda.so}
[ -f "$module" ] || fail 1 "$module is missing: the build has no CUDA backend"
SECONDS=0

# The library of matrix products where the loader does not look: the toolkit's, or the one that PyTorch brings.
find_cublas() {
  compgen -G "/usr/local/cuda*/lib64/$1" || compgen -G "/usr/local/cuda*/targets/*/lib/$1" ||
    python3 -c 'import glob, sys
for folder in sys.path:
  for file in glob.glob(folder + "/nvidia/*/lib/" + sys.argv[1]): print(file)' "$1" 2>/dev/null
}
search_path=$build/lib
cublas=$(ldd "$module" 2>/dev/null | sed -n 's/^\s*\(libcublasLt\S*\) => not found.*/\1/p' || true)
if [ -n "$cublas" ]; then
  files=$(find_cublas "$cublas" || true)
  [ -n "$files" ] || fail 4 "$cublas, which the module was built with, is not installed"
  files=${files%%$'\n'*}
  search_path=$search_path:${files%/*}
fi
search_path=$search_path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# For our programs alone: PyTorch brings libraries of its own, and must find them.
ours=(env "LD_LIBRARY_PATH=$search_path" "DESCENT_TEST_MODULE=$module" "DESCENT_BACKEND_PATH=${module%/*}"
  "DESCENT_TEST_SOURCE=$root")
export XDG_CACHE_HOME=$scratch/cache # what was chosen on another day is not trusted

timeout 60 "${ours[@]}" "$build/bin/descent" devices >"$scratch/devices" 2>&1 || true
device=$(sed -n 's/^cuda:0 *yes *//p' "$scratch/devices")
gpu=${device#cuda:0: }
gpu=${gpu%%,*}
[ -n "$device" ] || { cat "$scratch/devices" >&2; fail 4 "no GPU can be used"; }

# ---- results ----

if [ -z "$out" ]; then
  out=bench/results/$(tr 'A-Z /' 'a-z--' <<<"$gpu")
  [ "$only" = $every ] || out=$out-${only//,/-}
fi
mkdir -p "$out"
rm -f "$out/bench.json"
table=$out/table.txt failures=0 passes=0 child='' finished=false
commit=$(cat "$build/commit" 2>/dev/null || git describe --always --dirty 2>/dev/null || echo unknown)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || driver=''
started=$(date -u +%Y-%m-%dT%H:%MZ)
: >"$table"
: >"$out/log.txt"
: >"$scratch/checks"

say() { echo "$*" >>"$table"; }
# A JSON string.
quote() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//[[:cntrl:]]/ }"
}

write_json() {
  {
    printf '{\n "gpu": %s,\n "device": %s,\n "driver": %s,\n' "$(quote "$gpu")" "$(quote "$device")" "$(quote "$driver")"
    printf ' "commit": %s,\n "date": %s,\n "parts": %s,\n' "$(quote "$commit")" "$(quote "$started")" "$(quote "$only")"
    printf ' "seconds": %d,\n "finished": %s,\n "passed": %d,\n "not_passed": %d,\n' \
      "$SECONDS" "$finished" "$passes" "$failures"
    printf ' "checks": [%s\n ]\n}\n' "$(sed '$s/,$//' "$scratch/checks")"
  } >"$out/check.json"
}

# Whatever ends this script, the results are written and the table comes last.
finish() {
  local code=$?
  trap - EXIT TERM INT
  [ -z "$child" ] || kill "$child" 2>/dev/null || true
  if ! $finished; then
    say "STOPPED after $SECONDS s: what is not listed above did not run"
    [ $code != 0 ] || code=1
  fi
  write_json
  cat "$table"
  rm -rf "$scratch"
  exit "$code"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# record PART NAME RESULT SECONDS: one check, a line of the table and an object for check.json.
record() {
  say "$(printf '  %-42s %s' "$2" "$3$([ "$4" = 0 ] || printf ', %d s' "$4")")"
  printf '\n  {"part": %s, "name": %s, "result": %s, "seconds": %d},' \
    "$(quote "$1")" "$(quote "$2")" "$(quote "$3")" "$4" >>"$scratch/checks"
  if [ "$3" = passed ]; then passes=$((passes + 1)); else failures=$((failures + 1)); fi
}

# limited SECONDS COMMAND...: its exit code, 124 when it was stopped; output to $scratch/output. In the background and
# waited for, so that a signal to this script is acted on at once.
limited() {
  local code=0
  timeout -k 5 "$1" "${@:2}" >"$scratch/output" 2>&1 &
  child=$!
  wait "$child" || code=$?
  child=''
  [ $code != 137 ] || code=124
  return $code
}

# check PART NAME SECONDS COMMAND...: one line of the table, the end of the output in the log.
check() {
  local part=$1 name=$2 limit=$3 begin=$SECONDS code=0 result
  shift 3
  if [ "$limit" -lt 2 ]; then
    record "$part" "$name" "NOT RUN: no time left" 0
    return
  fi
  printf '== %s: %s\n' "$name" "${*##*/}" >>"$out/log.txt"
  limited "$limit" "$@" || code=$?
  tail -n 400 "$scratch/output" >>"$out/log.txt"
  result=passed
  if [ $code = 124 ]; then
    result="NOT FINISHED"
  elif [ "$part" = sanitizers ] && grep -qi 'device not supported' "$scratch/output"; then
    result="NOT RUN: the tool does not support this machine"
  elif [ $code != 0 ]; then
    result="FAILED with exit code $code"
  elif grep -q '^\[=*\] 0 tests' "$scratch/output"; then
    result="FAILED: the filter fits no test"
  elif grep -q '^\[  SKIPPED' "$scratch/output"; then
    result="FAILED: tests were skipped"
  elif [ "$part" = sanitizers ] && ! grep -q 'ERROR SUMMARY: 0 errors\|RACECHECK SUMMARY: 0 hazards' "$scratch/output"; then
    result="FAILED: no clean summary"
  fi
  record "$part" "$name" "$result" $((SECONDS - begin))
  [ "$result" != passed ] || return 0
  grep -E 'FAIL|ailure|rror' "$scratch/output" >"$scratch/why" || tail -n 3 "$scratch/output" >"$scratch/why"
  head -n 5 "$scratch/why" | cut -c1-160 | sed 's/^/      /' >>"$table"
}

wanted() { case ,$only, in *,"$1",*) true ;; *) false ;; esac; }

# Seconds for a part: its weight's share of what is left for it and the parts after it that are wanted.
share() {
  local weight=0 sum=0 pair
  for pair in tests:3 sanitizers:2 bench:6; do
    [ "${pair%:*}" != "$1" ] || sum=0 weight=${pair#*:}
    wanted "${pair%:*}" && sum=$((sum + ${pair#*:}))
  done
  echo $(((seconds - SECONDS) * weight / sum))
}

say "GPU     $gpu"
say "device  $device"
say "driver  ${driver:-not known: there is no nvidia-smi}"
say "commit  $commit"
say "date    $started"
say ""

# ---- tests ----

train() {
  "${ours[@]}" "$build/bin/descent" train "$root/examples/optdigits_train.csv" --target digit --hidden 96,64 \
    --dropout 0.2 --device cuda --epochs 3 --batch-size 100 --quiet --out "$scratch/$1" "${@:2}"
}

# The same command twice, then with the data streamed instead of resident: the models must be the same bytes.
same_bytes() {
  train a.safetensors --precision "$1" && train b.safetensors --precision "$1" &&
    DESCENT_GPU_DATA_MB=0 train c.safetensors --precision "$1" &&
    cmp "$scratch/a.safetensors" "$scratch/b.safetensors" && cmp "$scratch/a.safetensors" "$scratch/c.safetensors"
}

if wanted tests; then
  say "tests on the device"
  end=$((SECONDS + $(share tests)))
  tested() { check tests "$1" $((end - SECONDS)) "${ours[@]}" "$build/bin/$2" "${@:3}"; }
  tested "verify, one network, default precision" descent verify --inputs 30 --outputs 3 --hidden 33,17 --device cuda
  tested "conformance, three precisions" conformance_test '--gtest_filter=*cuda*' --gtest_brief=1
  tested "trajectories of 100 steps" trajectory_test --gtest_brief=1
  tested "graphs, streaming, fusion: the same bytes" cuda_module_test '--gtest_filter=*CudaModule*' --gtest_brief=1
  tested "resumed from every step: the same bits" resume_test '--gtest_filter=*gpu*' --gtest_brief=1
  for name in notes pytorch divergence evaluate verify train; do
    tested "$name tests, on every device" "${name}_test" --gtest_brief=1
  done
  for precision in fp32 tf32 bf16; do
    tested "verify --all, $precision" descent verify --all --device cuda --precision $precision
  done
  declare -p ours build root scratch >"$scratch/setting"
  declare -f train same_bytes >>"$scratch/setting"
  for precision in fp32 bf16; do
    check tests "same bytes: twice, and streamed, $precision" $((end - SECONDS)) \
      bash -c ". '$scratch/setting'; same_bytes $precision"
  done
  say ""
fi

# ---- sanitizer tools ----

if wanted sanitizers; then
  say "sanitizer tools, on a few shapes of every operation"
  tool=$(command -v compute-sanitizer || compgen -G '/usr/local/cuda*/bin/compute-sanitizer' ||
    compgen -G '/usr/local/cuda*/compute-sanitizer/compute-sanitizer' || true)
  tool=${tool%%$'\n'*}
  end=$((SECONDS + $(share sanitizers))) left=4
  # The tools are a hundred times slower than the kernels.
  small='*cuda*17of32*:*cuda*gather*:*cuda*loss*:*cuda*update_adam*:*cuda*norm*:*cuda*statistics*5of8*'
  for name in memcheck racecheck initcheck synccheck; do
    if [ -z "$tool" ]; then
      record sanitizers $name "NOT RUN: compute-sanitizer is not installed" 0
    else
      check sanitizers $name $(((end - SECONDS) / left)) "${ours[@]}" "$tool" --tool $name --error-exitcode 9 \
        "$build/bin/conformance_test" "--gtest_filter=$small" --gtest_brief=1
    fi
    left=$((left - 1))
  done
  say ""
fi

# ---- benchmark ----

if wanted bench; then
  say "benchmark: medians; products, floor: share of the step that they take; N x: a peer's step in ours"
  begin=$SECONDS budget=$(($(share bench) - 60)) result=passed code=0
  if ! command -v python3 >/dev/null; then
    result="NOT RUN: there is no python3"
  elif [ $budget -lt 5 ]; then
    result="NOT RUN: no time left"
  else
    read -ra more <<<"${GPU_CHECK_BENCH_ARGUMENTS:-}"
    limited $((budget + 15)) env "DESCENT_BACKEND_PATH=${module%/*}" python3 bench/gpu_bench.py \
      --descent "$build/bin/descent" --search-path "$search_path" --json "$out/bench.json" \
      --seconds-in-all $budget "${more[@]}" || code=$?
    sed 's/^/  /' "$scratch/output" >>"$table"
    [ $code = 0 ] || result="FAILED with exit code $code"
    [ $code != 124 ] || result="NOT FINISHED"
  fi
  record bench "every workload timed" "$result" $((SECONDS - begin))
  # An epoch over a file that is mapped, from starting the command to its end: first byte to last update and measure.
  rows=${GPU_CHECK_ROWS:-11000000} name="an epoch of $rows x 28 rows from a file" left=$((seconds - SECONDS))
  if ! command -v python3 >/dev/null; then
    record bench "$name" "NOT RUN: there is no python3" 0
  elif [ "$(df -Pk "$scratch" | awk 'END{print $4}')" -lt $((rows * 29 * 4 / 1024 + 100000)) ]; then
    record bench "$name" "NOT RUN: no room for the file" 0
  elif [ $left -lt 30 ] || ! limited 60 python3 bench/large_rows.py "$scratch/rows.safetensors" "$rows" 28; then
    record bench "$name" "NOT RUN: no time left" 0
  else
    check bench "$name" $((seconds - SECONDS)) "${ours[@]}" "$build/bin/descent" train "$scratch/rows.safetensors" \
      --hidden 300,300,300,300 --activation tanh --batch-size 65536 --precision bf16 --validation 0 --device cuda \
      --epochs 1 --quiet --out "$scratch/rows.model"
    { grep '^trained' "$scratch/output" || true; } | sed 's/^/      /' >>"$table"
    rm -f "$scratch/rows.safetensors"
  fi
  say ""
fi

say "$passes checks passed, $failures did not, in $SECONDS s"
finished=true
[ "$failures" = 0 ]
