#!/bin/sh
# Installs missing packages, builds into build/, then trains the example network or runs the tests.
#   ./quickstart.sh train    train the example network and print its measures
#   ./quickstart.sh test     build and run every test
#   ./quickstart.sh setup    only install what `test` needs
# In the environment:
#   DESCENT_CUDA=OFF          leave out the CUDA backend; AUTO (default): build it if nvcc is found; ON: fail if it cannot be built
#   DESCENT_PYTHON_TESTS=OFF  leave out the tests that need Python packages
#   DESCENT_WERROR=1          warnings are errors
# A second run does not repeat finished steps. What a machine lacks is left out where it can be, and named with the reason.
set -eu

usage() { sed -n 's/^#   /  /p; s/^# \(In the environment:\)/\1/p' "$0"; }

case "$#:${1:-}" in
  1:train | 1:test | 1:setup) goal=$1 ;;
  1:-h | 1:--help) echo "usage:" && usage && exit 0 ;;
  *) { echo "usage:" && usage; } >&2 && exit 2 ;;
esac

cuda=${DESCENT_CUDA:-AUTO}
case $cuda in
  AUTO | ON | OFF) ;;
  *) echo "quickstart: DESCENT_CUDA is '$cuda': it must be AUTO, ON or OFF" >&2 && exit 2 ;;
esac

cd -P "$(dirname "$0")"
log=build/quickstart.log
compiler=${CC:-cc}

fail() {
  echo "quickstart: $*" >&2
  exit 1
}

if ! mkdir -p build 2>/dev/null || ! (: >>"$log") 2>/dev/null; then
  fail "cannot write to $PWD/build: run this as the owner of the folder, or in a copy of your own"
fi
: >"$log"

# attempt TEXT COMMAND...: prints TEXT without a newline; the command's output goes to the log.
attempt() {
  text=$1
  shift
  printf '%s ... ' "$text"
  printf '\n== %s: %s\n' "$text" "$*" >>"$log"
  "$@" >>"$log" 2>&1 </dev/null
}

# Prints one line of the last command's log that explains its failure: the broken connection, else the first error.
cause() {
  awk '
    /^== / { connection = error = last = "" }
    NF { last = $0 }
    /after connection broken by/ {
      connection = $0
      sub(/.*after connection broken by ./, "", connection)
      sub(/.: \/[^ ]*$/, "", connection)
      if (sub(/.* object at [^>]*>: /, "", connection)) sub(/\047.*/, "", connection)
    }
    /^[EW]: Failed to fetch/ { connection = $0 }
    /^(E:|ERROR:|error:) / && error == "" { error = $0 }
    END { print connection != "" ? connection : error != "" ? error : last }' "$log"
}

give_up() {
  echo "failed"
  tail -n 30 "$log" >&2
  fail "$text failed; all of it is in $PWD/$log"
}

# The same; stops at a failure.
step() {
  attempt "$@" || give_up
  echo "done"
}

# ---- CUDA compiler and GPUs ----

nvcc=
if [ "$cuda" != OFF ]; then
  for nvcc in "${CUDACXX:-nvcc}" "${CUDA_PATH:-}/bin/nvcc" "${CUDA_HOME:-}/bin/nvcc" /usr/local/cuda/bin/nvcc \
    /opt/cuda/bin/nvcc ''; do
    ! command -v "$nvcc" >/dev/null || break
  done
fi

[ "$cuda" != ON ] || [ -n "$nvcc" ] ||
  fail "DESCENT_CUDA=ON needs NVIDIA's compiler, and no nvcc was found (AUTO trains on the CPU then)"

has_driver() { [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ] || nvidia-smi -L; }

# The GPUs of this machine as CMake names them, "90a-real;80-real"; empty if none can be used, if they cannot be listed,
# or if nvcc does not know one: the default's code runs on that one too.
architectures() {
  known=$("$nvcc" --list-gpu-code 2>/dev/null) || return 0
  for number in $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u |
    sed -n 's/^\([89]\|1[0-9]\)\.\([0-9]\)$/\1\2/p'); do
    echo "$known" | grep -qx "sm_$number" || return 0
    found="${found:+$found;}$number$([ "$number" != 90 ] || echo a)-real"
  done
  echo "${found:-}"
}

# Advice for a machine with a driver and no compiler: a toolkit whose programs the driver runs.
advise_toolkit() {
  major=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\)\..*/\1/p')
  package="cuda-toolkit-13-0" versions="12.4 or later"
  [ "${major:-13}" -ge 13 ] || package="cuda-toolkit-12-8" versions="12.4 to 12.9"
  echo "to train on the GPU: install NVIDIA's CUDA toolkit, $versions for this driver ($package of its repository, see
  https://developer.nvidia.com/cuda-downloads), and run this again"
}

# ---- missing packages ----

# links LANGUAGE HEADER FLAG...: does a program with this header compile and link?
links() {
  language=$1 header=$2
  shift 2
  printf '#include <%s>\nint main(void) { return 0; }\n' "$header" |
    "$compiler" -x "$language" - "$@" -o build/quickstart.probe
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need PACKAGE CHECK...: adds a package (Debian's name) to $missing if the check fails and it is not installed; want: to
# $wanted, without which a part is left out.
lacks() {
  package=$1
  shift
  ! "$@" >>"$log" 2>&1 && ! installed "$package"
}
need() { ! lacks "$@" || missing="$missing $1"; }
want() { ! lacks "$@" || wanted="$wanted $1"; }

ninja_or_make() { command -v ninja || command -v make; }

find_missing() {
  missing='' wanted=''
  need gcc command -v "$compiler"
  need libc6-dev links c stdio.h
  need cmake command -v cmake
  need ninja-build ninja_or_make
  need libopenblas-dev links c cblas.h -lopenblas
  need libcsv-dev links c csv.h -lcsv
  need libcjson-dev links c cjson/cJSON.h -lcjson
  need librandom123-dev links c Random123/philox.h
  need libxxhash-dev links c xxhash.h
  need libprotobuf-c-dev links c protobuf-c/protobuf-c.h -lprotobuf-c
  need protobuf-c-compiler command -v protoc-c
  need libzip-dev links c zip.h -lzip
  need zlib1g-dev links c zlib.h -lz
  # nvcc needs g++; without it the backend is left out
  [ -z "$nvcc" ] || [ "$goal" != train ] || want g++ links c++ string -lstdc++
  needed_to_train=$missing
  [ "$goal" = train ] && return
  need g++ links c++ string -lstdc++
  need libgtest-dev links c++ gtest/gtest.h -lgtest -lstdc++
  want pkg-config command -v pkg-config
  want strace command -v strace
  want abigail-tools command -v abidiff
  want git command -v git
  want libopenmpi-dev command -v mpicc # trains on several ranks
  want openmpi-bin command -v mpirun
  want python3 command -v python3
  [ -z "$python_tests" ] || want python3-venv python3 -c 'import ensurepip, venv'
}

# Sets as_root to the prefix with which apt-get can install; false if there is none.
may_install() {
  if ! command -v apt-get >/dev/null; then
    return 1
  elif [ "$(id -u)" = 0 ]; then
    as_root="env"
  elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
  else
    return 1
  fi
}

# lacking TEXT: ends here, with TEXT before the names of the missing packages.
lacking() {
  [ -n "$needed_to_train" ] || missing="$missing
  (only the tests need them: ./quickstart.sh train works without)"
  fail "$1$missing"
}

# Without $missing nothing works; without $wanted a part is left out.
install_missing() {
  if ! command -v apt-get >/dev/null; then
    no_way="there is no apt-get"
    [ -z "$missing" ] || lacking "install these with your package manager and run again (Debian's names):"
  elif ! may_install; then
    no_way="installing needs root"
    [ -z "$missing" ] || lacking "some packages are missing and installing them needs root; run
  sudo apt-get install --no-install-recommends"
  else
    no_way=
    apt="$as_root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120"
    # shellcheck disable=SC2086
    if attempt "reading the package lists" $apt -o APT::Update::Error-Mode=any update; then
      echo "done"
    else
      echo "not complete: $(cause)"
    fi
    if [ -n "$missing" ]; then
      # shellcheck disable=SC2086
      if attempt "installing$missing" $apt install -y --no-install-recommends $missing; then
        echo "done"
      else
        echo "failed: $(cause)"
        lacking "these could not be installed (all of it: $PWD/$log):"
      fi
    fi
    if [ -n "$wanted" ]; then
      # shellcheck disable=SC2086
      if attempt "installing$wanted" $apt install -y --no-install-recommends $wanted; then
        echo "done"
      else
        no_way=$(cause)
        echo "failed"
      fi
    fi
  fi
  [ -z "$no_way" ] || echo "not installed, and what needs it left out:$wanted ($no_way)"
}

python_tests=yes test_python=$PWD/build/python/bin/python
case "$goal:${DESCENT_PYTHON_TESTS:-}" in train:* | *:0 | *:OFF) python_tests= test_python=OFF ;; esac
find_missing
[ -z "$missing$wanted" ] || install_missing

# ---- Python packages, for the tests that read and run what Descent writes ----

# A virtual environment in build/python; packages outside it are not touched.
make_environment() {
  command -v python3 || { echo "there is no python3" && return 1; }
  python3 -c 'import ensurepip, venv' || { echo "python3 has no ensurepip (Debian's package python3-venv)" && return 1; }
  python3 -m venv build/python &&
    build/python/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 \
      -r tests/requirements.txt &&
    cp tests/requirements.txt build/python/
}
if [ -n "$python_tests" ] && ! cmp -s tests/requirements.txt build/python/requirements.txt; then
  if attempt "setting up Python for tests" make_environment; then
    echo "done"
  else
    echo "not possible here: $(cause) (all of it: $PWD/$log)"
  fi
fi
[ "$goal" = setup ] && exit 0

# ---- build ----

# 0 when version $1 is at least version $2
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

cmake_version=$(cmake --version | sed -n 's/^cmake version //p')
at_least "$cmake_version" 3.25 || fail "cmake $cmake_version is too old, 3.25 is needed (pip install cmake has it)"

configure() {
  set -- -S . -B build
  # Not configured yet, or configured before the folder was moved.
  if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" build/CMakeCache.txt; then
    rm -rf build/CMakeCache.txt build/CMakeFiles build/.ninja_deps build/.ninja_log
    command -v ninja && set -- "$@" -G Ninja
    [ "$goal" = train ] && set -- "$@" -DDESCENT_BUILD_TESTS=OFF
  elif [ "$goal" = train ] && ! links c++ gtest/gtest.h -lgtest -lstdc++; then
    set -- "$@" -DDESCENT_BUILD_TESTS=OFF # configured with tests, which cannot be built now
  fi
  set -- "$@" "-DDESCENT_CUDA=$cuda"
  gpus=$(architectures)
  [ -z "$gpus" ] || set -- "$@" "-DCMAKE_CUDA_ARCHITECTURES=$gpus"
  [ "$goal" = test ] && set -- "$@" -DDESCENT_BUILD_TESTS=ON "-DDESCENT_TEST_PYTHON=$test_python"
  case ${DESCENT_WERROR:-} in
    "") ;;
    0 | OFF) set -- "$@" -DDESCENT_WERROR=OFF ;;
    *) set -- "$@" -DDESCENT_WERROR=ON ;;
  esac
  cmake "$@"
}

# If the CUDA backend fails to build, the CPU trains.
build_module() {
  began=$(date +%s)
  if attempt "$1" cmake --build build --parallel "$cores" --target descent_cuda; then
    echo "done, $(($(date +%s) - began)) s"
  elif [ "$cuda" = ON ]; then
    give_up
  else
    rm -f build/lib/libdescent_cuda.so
    module=failed
    echo "failed, left out (why: $PWD/$log)"
  fi
}

cores=$(nproc)
step "configuring" configure
sed -n 's/^-- \(CUDA backend: .*\)/\1/p' "$log"
if [ "$goal" = test ]; then
  step "building everything" cmake --build build --parallel "$cores"
else
  step "building the command" cmake --build build --parallel "$cores" --target descent
fi

# ---- run ----

if [ "$goal" = test ]; then
  set -- --test-dir build --output-on-failure --parallel "$cores"
  sed -n 's/^-- \(.*: not registered.*\|HDF5: not found.*\)/left out: \1/p' "$log"
  # ctest counts a skipped test with those that passed. Without a terminal these are not in its count.
  terminal=$(build/bin/command_terminal_test --gtest_filter='*PlotsAreColoured*' 2>&1 |
    sed -n 's/^\(no terminal can be opened: .*\)/\1/p' | head -n 1)
  if [ -n "$terminal" ]; then
    echo "left out:$(ctest --test-dir build -N -L terminal | sed -n 's/^Total Tests://p') tests on a terminal: $terminal"
    set -- "$@" --label-exclude terminal
  fi
  exec ctest "$@"
fi
# Without a GPU the module is built last, so that the training does not wait for it.
module=no device=auto
if ! grep -q '^-- CUDA backend: built' "$log"; then
  rm -f build/lib/libdescent_cuda.so # from an earlier build
elif has_driver >/dev/null 2>&1; then
  build_module "building the CUDA backend for $(sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[^=]*=//p' build/CMakeCache.txt)"
else
  module=later device=cpu
fi
model=build/breast_cancer.safetensors
echo "training a network of layers 30-16-8-1 on examples/breast_cancer.csv; a quarter of the rows is held out:"
build/bin/descent train examples/breast_cancer.csv --target diagnosis --validation 0.25 \
  --hidden 16,8 --activation sigmoid --device "$device" --out "$model"

# The model records the device. Why it is not a GPU: see the list of devices, or the configuration of the build.
device=$(build/bin/descent info "$model" --json | sed -n 's/.*"provenance":{[^{}]*"device":"\([^"]*\)".*/\1/p')
listed() { build/bin/descent devices | sed -n "s/^$1 *$2 *\(no CUDA: \)*//p"; }
if [ "$module" = later ]; then
  why="there is no NVIDIA driver and so no GPU to use"
elif [ "$module" = failed ]; then
  why="the CUDA backend failed to build"
elif [ -e build/lib/libdescent_cuda.so ]; then
  why=$(listed cuda:0 no)
else
  why="the $(sed -n 's/^-- \(CUDA backend\): /\1 is /p' "$log")"
fi
echo
case $device in
  cuda:*) echo "trained on the GPU: $(listed "$device" yes)" ;;
  *) echo "trained on the CPU: $why" ;;
esac
if [ -z "$nvcc" ] && [ "$cuda" != OFF ] && has_driver >/dev/null 2>&1; then advise_toolkit; fi
echo "
the model is $model; next, for example:
  build/bin/descent predict $model examples/breast_cancer.csv
  build/bin/descent train --help"
if [ "$module" = later ]; then
  echo
  build_module "building the CUDA backend too, for a machine with a GPU (DESCENT_CUDA=OFF leaves it out)"
fi
