#!/bin/sh
# The checks that need a GPU, in two stages of a few minutes: runs bench/gpu_check.py; see --help.
command -v python3 >/dev/null || { echo "gpu_check: python3 is not installed" >&2; exit 2; }
exec python3 "$(dirname "$0")/gpu_check.py" "$@"
