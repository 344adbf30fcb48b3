#!/usr/bin/env bash
# Coverage of host/: builds for gcov in build-coverage/ (-O0, without asserts as in a release), runs the tests and
# prints the covered lines and branches of each folder; with FILE, the uncovered ones of each source whose path contains
# it. tests/coverage.sh                    build, test, print; the whole report is build-coverage/coverage.json
# tests/coverage.sh --report [FILE]    print the results of the last run again Left out: tests that build packages, and
# programs that are killed or whose writes fail, because gcov's writes would be lost too. Failed tests are ignored,
# because tests that look at a program's last writes see gcov's as well.
set -euo pipefail
cd -P "$(dirname "$0")/.."
build=build-coverage
report=$build/coverage.json
gcovr=$build/python/bin/gcovr
mkdir -p "$build"

measure() {
  [ -x "$gcovr" ] || { python3 -m venv "$build/python" && "$build/python/bin/pip" install -q gcovr==8.8; }
  ! command -v ninja >/dev/null || export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}
  cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DDESCENT_CUDA=OFF -DDESCENT_TEST_PYTHON="$PWD/build/python/bin/python" \
    -DCMAKE_C_FLAGS="--coverage -fprofile-update=atomic -include $PWD/tests/coverage/exit.h" \
    -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O0 -g -DNDEBUG" -DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 \
    -DCMAKE_EXE_LINKER_FLAGS=--coverage -DCMAKE_SHARED_LINKER_FLAGS=--coverage \
    -DCMAKE_MODULE_LINKER_FLAGS=--coverage "$@" >"$build/configure.log"
  cmake --build "$build" --parallel "$(nproc)" >"$build/build.log" || { tail -n 50 "$build/build.log"; return 1; }
  find "$build" -name '*.gcda' -delete
  DESCENT_FULL=1 ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" --timeout 1800 \
    -E '^(package|gpu_check)\.|^reliability\.(crash|kill|power|write|soak|load)' >"$build/test.log" || true
  grep 'tests passed' "$build/test.log"
  find "$build" -path '*/CompilerId*' -name '*.gcno' -delete # CMake's own
  # A process that ends between two counters leaves some that do not add up, which gcov may turn into negative ones: none.
  "$gcovr" --root . --object-directory "$build" --filter 'host/' -j "$(nproc)" --gcov-ignore-parse-errors negative_hits.warn \
    --exclude-unreachable-branches --exclude-throw-branches --merge-mode-functions separate --json "$report" \
    >"$build/gcovr.log" 2>&1 || { tail -n 20 "$build/gcovr.log"; return 1; }
}
[ "${1:-}" = --report ] && shift || { measure "${@}"; set --; }
python3 tests/coverage/table.py "$report" "$@"
