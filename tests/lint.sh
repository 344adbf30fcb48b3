#!/usr/bin/env bash
# Static analysis of host/, kernels/ and include/: cppcheck and clang-tidy 14 over the files that BUILD_DIR compiles.
# Fails on any finding. Excluded checks and the reasons: .clang-tidy and tests/lint.cppcheck.
#   tests/lint.sh BUILD_DIR
set -euo pipefail
build=$(cd -P "${1:?usage: tests/lint.sh BUILD_DIR}" && pwd) # absolute: given a relative one, cppcheck filters relative names
cd -P "$(dirname "$0")/.."
failed=0

cppcheck --project="$build/compile_commands.json" --file-filter="$PWD/host/*.c" --file-filter="$PWD/kernels/*.c" \
  -j "$(nproc)" --enable=warning,style,performance,portability --suppressions-list=tests/lint.cppcheck --quiet \
  --template='{file}:{line}: {severity}: {message} [{id}]' --error-exitcode=1 || failed=1

# The same loops are compiled for several instruction sets: one is enough.
python3 - "$build" "$PWD" <<'LIST' | xargs -0 -n 4 -P "$(nproc)" clang-tidy-14 --quiet -p "$build" 2>/dev/null || failed=1
import json, re, sys
files = {entry["file"] for entry in json.load(open(f"{sys.argv[1]}/compile_commands.json"))}
ours = [f for f in files if re.match(rf"{re.escape(sys.argv[2])}/(host|kernels)/.*\.c$", f) and "/kernels_v" not in f]
assert len(ours) > 100, f"{sys.argv[1]} does not compile host/"
print("\0".join(sorted(ours)), end="")
LIST
[ "$failed" = 0 ] || { echo "lint: fix the findings above, or exclude them with a reason in .clang-tidy or tests/lint.cppcheck" >&2; exit 1; }
echo "lint: nothing found by cppcheck and clang-tidy"
