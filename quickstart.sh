#!/bin/sh
# From nothing to a trained network, or to passed tests: installs what is missing, builds into build/, runs.
#   ./quickstart.sh train    train the example network and say how well it does
#   ./quickstart.sh test     build and run every test
#   ./quickstart.sh setup    only install what `test` needs
# With DESCENT_WERROR=1 in the environment warnings are errors; with DESCENT_PYTHON_TESTS=OFF the tests that need Python's
# packages are left out. Running it again repeats nothing that is done.
set -eu

usage() { sed -n 's/^#   /  /p' "$0"; }

case "$#:${1:-}" in
  1:train | 1:test | 1:setup) goal=$1 ;;
  1:-h | 1:--help) echo "usage:" && usage && exit 0 ;;
  *) { echo "usage:" && usage; } >&2 && exit 2 ;;
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

# step TEXT COMMAND...: one line of progress; what the command says goes to the log, shown where it fails.
step() {
  text=$1
  shift
  printf '%s ... ' "$text"
  printf '\n== %s: %s\n' "$text" "$*" >>"$log"
  if "$@" >>"$log" 2>&1 </dev/null; then
    echo "done"
  else
    echo "failed"
    tail -n 30 "$log" >&2
    fail "$text failed; all of it is in $PWD/$log"
  fi
}

# ---- what is missing ----

# links LANGUAGE HEADER FLAG...: can a program use it?
links() {
  language=$1 header=$2
  shift 2
  printf '#include <%s>\nint main(void) { return 0; }\n' "$header" |
    "$compiler" -x "$language" - "$@" -o build/quickstart.probe
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=
# need PACKAGE CHECK...: notes a package (by its name in Debian) that neither passes the check nor is installed.
need() {
  package=$1
  shift
  "$@" >>"$log" 2>&1 || installed "$package" || missing="$missing $package"
}

ninja_or_make() { command -v ninja || command -v make; }

find_missing() {
  missing=
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
  [ "$goal" = train ] && return
  need g++ links c++ string -lstdc++
  need libgtest-dev links c++ gtest/gtest.h -lgtest -lstdc++
  need pkg-config command -v pkg-config
  need gnuplot-nox command -v gnuplot
  need strace command -v strace
  need python3 command -v python3
  [ -z "$python_tests" ] || ! may_install || need python3-venv python3 -c 'import ensurepip, venv'
}

# Sets as_root to what lets apt-get install; false where nothing does.
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

install_missing() {
  if ! command -v apt-get >/dev/null; then
    fail "install these with your package manager and run again (Debian's names):$missing"
  fi
  may_install || fail "some packages are missing and installing them needs root; run
  sudo apt-get install --no-install-recommends$missing"
  apt="$as_root DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120"
  # shellcheck disable=SC2086
  step "reading the package lists" $apt update
  # shellcheck disable=SC2086
  step "installing$missing" $apt install -y --no-install-recommends $missing
}

python_tests=yes test_python=$PWD/build/python/bin/python
case "$goal:${DESCENT_PYTHON_TESTS:-}" in train:* | *:0 | *:OFF) python_tests= test_python=OFF ;; esac
find_missing
[ -z "$missing" ] || install_missing

# ---- Python's packages, for the tests that read and run what Descent writes ----

# An environment of its own in build/python; the packages that are there already are left alone.
make_environment() {
  python3 -m venv build/python &&
    build/python/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 \
      -r tests/requirements.txt &&
    cp tests/requirements.txt build/python/
}
if [ -n "$python_tests" ] && ! cmp -s tests/requirements.txt build/python/requirements.txt; then
  printf 'setting up Python for tests ... '
  if make_environment >>"$log" 2>&1 </dev/null; then
    echo "done"
  else
    echo "not possible here: the tests labelled python are left out (why: $PWD/$log)"
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
  # Nothing configured here yet, or configured before the folder was moved.
  if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" build/CMakeCache.txt; then
    rm -rf build/CMakeCache.txt build/CMakeFiles build/.ninja_deps build/.ninja_log
    command -v ninja && set -- "$@" -G Ninja
    [ "$goal" = train ] && set -- "$@" -DDESCENT_BUILD_TESTS=OFF
  fi
  [ "$goal" = test ] && set -- "$@" -DDESCENT_BUILD_TESTS=ON "-DDESCENT_TEST_PYTHON=$test_python"
  case ${DESCENT_WERROR:-} in
    "") ;;
    0 | OFF) set -- "$@" -DDESCENT_WERROR=OFF ;;
    *) set -- "$@" -DDESCENT_WERROR=ON ;;
  esac
  cmake "$@"
}

cores=$(nproc)
step "configuring" configure
if [ "$goal" = train ]; then
  step "building the command" cmake --build build --parallel "$cores" --target descent
else
  step "building everything" cmake --build build --parallel "$cores"
fi
sed -n 's/^-- \(CUDA backend: .*\|Python test.*not registered.*\)/\1/p' "$log"

# ---- run ----

if [ "$goal" = test ]; then
  exec ctest --test-dir build --output-on-failure --parallel "$cores"
fi
model=build/breast_cancer.safetensors
echo "training a network of layers 30-16-8-1 on examples/breast_cancer.csv; a quarter of the rows is held out:"
build/bin/descent train examples/breast_cancer.csv --target diagnosis --validation 0.25 \
  --hidden 16,8 --activation sigmoid --out "$model"
echo "
the model is $model; next, for example:
  build/bin/descent predict $model examples/breast_cancer.csv
  build/bin/descent train --help"
