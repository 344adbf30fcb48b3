#!/bin/sh
# Everything that only a GPU can show, in two stages of a few minutes: bench/gpu_check.py, which --help describes.
command -v python3 >/dev/null || { echo "gpu_check: python3 is not installed" >&2; exit 2; }
exec python3 "$(dirname "$0")/gpu_check.py" "$@"
