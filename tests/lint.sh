#!/usr/bin/env bash
# Static analysis of host/, kernels/ and include/: cppcheck and clang-tidy 14 over the files that BUILD_DIR compiles.
# Fails on any finding. Excluded checks and the reasons: .clang-tidy and tests/lint.cppcheck.
#   tests/lint.sh BUILD_DIR [--deep]
# --deep: clang's analyzer follows as many paths of a function as it does by default, 225,000 nodes instead of 40,000,
# which takes three times as long.
set -euo pipefail
case ${2:-} in
  '') nodes=40000 ;;
  --deep) nodes=225000 ;;
  *) echo "usage: tests/lint.sh BUILD_DIR [--deep]" >&2 && exit 2 ;;
esac
build=$(cd -P "${1:?usage: tests/lint.sh BUILD_DIR [--deep]}" && pwd) # absolute: cppcheck writes the names as the commands do
cd -P "$(dirname "$0")/.."
failed=0

# One command for each file: tests compile some of them again, and the same loops are compiled for several instruction
# sets.
once=$(mktemp -d)
trap 'rm -rf "$once"' EXIT
python3 - "$build" "$PWD" "$once" <<'LIST'
import json, re, sys
build, source, once = sys.argv[1:]
files = {}
for entry in json.load(open(f"{build}/compile_commands.json")):
    if re.match(rf"{re.escape(source)}/(host|kernels)/.*\.c$", entry["file"]) and "/kernels_v" not in entry["file"]:
        files.setdefault(entry["file"], entry)
assert len(files) > 100, f"{build} does not compile host/"
json.dump(list(files.values()), open(f"{once}/compile_commands.json", "w"))
print("\0".join(sorted(files)), end="", file=open(f"{once}/files", "w"))
LIST

cppcheck --project="$once/compile_commands.json" -j "$(nproc)" \
  --enable=warning,style,performance,portability --suppressions-list=tests/lint.cppcheck --quiet \
  --template='{file}:{line}: {severity}: {message} [{id}]' --error-exitcode=1 || failed=1
budget=(--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang "--extra-arg=max-nodes=$nodes")
xargs -0 -n 4 -P "$(nproc)" clang-tidy-14 --quiet "${budget[@]}" -p "$once" <"$once/files" 2>/dev/null || failed=1
[ "$failed" = 0 ] || { echo "lint: fix the findings above, or exclude them with a reason in .clang-tidy or tests/lint.cppcheck" >&2; exit 1; }
echo "lint: nothing found by cppcheck and clang-tidy"
