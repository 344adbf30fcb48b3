#!/usr/bin/env bash
# Everything that only a GPU can show, in at most ten minutes: the tests on the device, the sanitizer tools where they are
# installed, and the benchmark beside PyTorch; one folder of results to commit, its table printed last.
#
#   bench/gpu_check.sh [--build FOLDER] [--out FOLDER] [--only PART,...]
#
#   --build   a folder built here or elsewhere (default build); when it has no bin/descent, it is built now
#   --out     where the results go (default bench/results/<gpu>)
#   --only    of tests, sanitizers, bench (default all)
#
# To build elsewhere, for a machine without compilers: configure with -DCMAKE_CUDA_ARCHITECTURES=90a-real (or the GPU's)
# and -DCMAKE_BUILD_RPATH='$ORIGIN/../lib', build, run bench/gpu_pack.sh on the folder and carry it; the machine needs the
# NVIDIA driver, libcublasLt and bash, for the benchmark Python. Nothing is downloaded and no setting of the GPU changed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD build=build out='' only=tests,sanitizers,bench
while [ $# -gt 0 ]; do
  case $1 in
    --build | --out | --only)
      [ $# -ge 2 ] || { echo "gpu_check: $1 needs a value" >&2; exit 2; }
      case $1 in --build) build=$2 ;; --out) out=$2 ;; *) only=$2 ;; esac
      shift 2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu_check: unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
done
# Seconds that each part may take; together with starting up under ten minutes.
tests_seconds=${GPU_CHECK_TESTS:-150} sanitizer_seconds=${GPU_CHECK_SANITIZERS:-120} bench_seconds=${GPU_CHECK_BENCH:-300}

if [ ! -x "$build/bin/descent" ]; then
  echo "building in $build ..."
  cmake -S . -B "$build" >/dev/null && cmake --build "$build" --parallel >/dev/null
fi
build=$(cd "$build" && pwd)
module=${DESCENT_TEST_MODULE:-$build/lib/libdescent_cuda.so}
[ -f "$module" ] || { echo "gpu_check: $module is missing: the build has no CUDA backend" >&2; exit 1; }
export DESCENT_TEST_MODULE=$module DESCENT_BACKEND_PATH=${module%/*}
for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib; do
  [ ! -d "$folder" ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder # where cuBLASLt may be
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CACHE_HOME=$scratch/cache

gpu=$("$build/bin/descent" devices | sed -n 's/^cuda:0 *yes *cuda:0: *\([^,]*\),.*/\1/p')
if [ -z "$gpu" ]; then
  "$build/bin/descent" devices >&2 || true
  echo "gpu_check: no GPU can be used" >&2
  exit 4
fi
[ -n "$out" ] || out=bench/results/$(echo "$gpu" | tr 'A-Z /' 'a-z--')
mkdir -p "$out"
table=$out/table.txt failures=0
: >"$table"

say() { echo "$*" | tee -a "$table"; }

# check NAME SECONDS COMMAND...: one line of the table, its output in the log; 124 is a limit that was reached.
check() {
  local name=$1 seconds=$2 begin=$SECONDS code=0
  shift 2
  printf '== %s: %s\n' "$name" "$*" >>"$out/log.txt"
  timeout "$seconds" "$@" >"$scratch/output" 2>&1 || code=$?
  if grep -q '^\[=*\] Running 0 tests' "$scratch/output"; then
    echo "gpu_check: the filter fits no test" >>"$scratch/output"
    code=1
  fi
  tail -n 400 "$scratch/output" >>"$out/log.txt"
  case $code in
    0) say "$(printf '%-44s passed   %4d s' "$name" $((SECONDS - begin)))" ;;
    124) say "$(printf '%-44s NOT FINISHED within %d s' "$name" "$seconds")"; failures=$((failures + 1)) ;;
    *) say "$(printf '%-44s FAILED   exit code %d' "$name" "$code")"; failures=$((failures + 1))
      grep -E 'FAILED|Failure|failed|error' "$scratch/output" | head -n 5 | sed 's/^/    /' | tee -a "$table" ;;
  esac
}

wanted() { case ,$only, in *,"$1",*) true ;; *) false ;; esac; }

: >"$out/log.txt"
say "GPU       $gpu"
say "date      $(date -u +%Y-%m-%d)"
say "commit    $(git rev-parse --short HEAD 2>/dev/null || cat "$build/commit" 2>/dev/null || echo unknown)"
say "device    $("$build/bin/descent" devices | sed -n 's/^cuda:0 *yes *//p')"
if command -v nvidia-smi >/dev/null; then
  say "driver    $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
fi
say ""

# ---- tests ----

train() {
  "$build/bin/descent" train "$root/examples/optdigits_train.csv" --target digit --hidden 96,64 --dropout 0.2 \
    --device cuda --epochs 3 --batch-size 100 --quiet --out "$1" "${@:2}"
}

# The same command twice, then with the data streamed: the models must be the same bytes.
repeats() {
  local precision=$1
  train "$scratch/a.safetensors" --precision "$precision" &&
    train "$scratch/b.safetensors" --precision "$precision" &&
    DESCENT_GPU_DATA_MB=0 train "$scratch/c.safetensors" --precision "$precision" &&
    cmp "$scratch/a.safetensors" "$scratch/b.safetensors" && cmp "$scratch/a.safetensors" "$scratch/c.safetensors"
}

if wanted tests; then
  say "tests on the device"
  end=$((SECONDS + tests_seconds))
  left() { echo $((end > SECONDS + 5 ? end - SECONDS : 5)); }
  check "conformance, three precisions" "$(left)" "$build/bin/conformance_test" '--gtest_filter=*cuda*'
  check "trajectories of 100 steps" "$(left)" "$build/bin/trajectory_test"
  check "graphs, streaming, fusion: the same bytes" "$(left)" "$build/bin/cuda_module_test" '--gtest_filter=*CudaModule*'
  for name in notes pytorch divergence evaluate verify train; do
    check "$name tests, on every device" "$(left)" "$build/bin/${name}_test"
  done
  for precision in fp32 tf32 bf16; do
    check "verify --all, $precision" "$(left)" "$build/bin/descent" verify --all --device cuda --precision $precision
  done
  for precision in fp32 bf16; do
    export -f repeats train
    export build root scratch
    check "same bytes: twice, and streamed, $precision" "$(left)" bash -c "repeats $precision"
  done
  say ""
fi

# ---- sanitizer tools ----

if wanted sanitizers; then
  say "compute-sanitizer"
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1 || true)
  if [ -z "$tool" ]; then
    say "  not run: compute-sanitizer is not installed"
  else
    # One shape of every operation: the tools are a hundred times slower than the kernels.
    small='*cuda*17of32*:*cuda*gather*:*cuda*loss*:*cuda*update_adam*:*cuda*norm*:*cuda*statistics*5of8*'
    for name in memcheck racecheck initcheck synccheck; do
      check "$name" $((sanitizer_seconds / 4)) "$tool" --tool $name --error-exitcode 9 "$build/bin/conformance_test" \
        "--gtest_filter=$small"
    done
  fi
  say ""
fi

# ---- benchmark ----

if wanted bench; then
  say "benchmark: medians; products and floor: their share of the step; N x: a peer's step in ours"
  if command -v python3 >/dev/null; then
    code=0
    timeout $((bench_seconds + 60)) python3 bench/gpu_bench.py --descent "$build/bin/descent" --json "$out/bench.json" \
      --seconds-in-all "$bench_seconds" ${GPU_CHECK_BENCH_ARGUMENTS:-} >"$scratch/bench" 2>&1 || code=$?
    tee -a "$table" <"$scratch/bench" >/dev/null
    [ $code = 0 ] || { say "  benchmark ended with exit code $code"; failures=$((failures + 1)); }
  else
    say "  not run: there is no python3"
  fi
  say "an epoch of 11 million x 28 rows from a file: not run: there is no binary reader in this version"
  say ""
fi

say "$failures of the checks failed or did not finish"
cat "$table"
[ "$failures" = 0 ]
