#!/bin/bash
# arrows.sh SOURCE: every #include in host/ points the way the architecture allows, and none to CUDA.
set -eu
cd "$1/host"

# allowed MODULE: what its files may include, as patterns; "public" is include/descent/.
allowed() {
  case $1 in
    core) echo "public core/*" ;;
    model) echo "public model/* core/*" ;;
    data) echo "public data/* model/schema.h core/*" ;;
    plan) echo "public plan/* model/* core/*" ;;
    backend) echo "public backend/* plan/* model/* data/dataset.h core/*" ;;
    checkpoint) echo "public checkpoint/* backend/* plan/* data/* model/* core/*" ;;
    train) echo "public train/* checkpoint/* backend/* plan/* data/* model/* core/*" ;;
    verify) echo "public verify/* train/* backend/* plan/* data/* model/* core/*" ;;
    report) echo "public report/* core/clock.h" ;;
    cli) echo "public cli/* report/*" ;;
    *) echo "" ;;
  esac
}

# may MODULE HEADER
may() {
  local pattern
  set -f
  for pattern in $(allowed "$1"); do
    # shellcheck disable=SC2053
    if [[ $2 == $pattern ]]; then return 0; fi
  done
  return 1
}

named='[<"]([^>"]+)[>"]'
bad=0 seen=0
while IFS=: read -r file line text; do
  [[ $text =~ $named ]] || continue
  header=${BASH_REMATCH[1]}
  seen=$((seen + 1))
  if [[ $header =~ ^(cuda|cublas|nccl|cudnn|curand|cusparse|nvrtc|nvtx|nvml) ]]; then
    echo "host/$file:$line: includes $header: host/ knows no CUDA" && bad=1
    continue
  fi
  if [[ $header == descent/* ]]; then
    header=public
  elif [[ $text != *\"* ]]; then
    continue # a library's or the system's
  elif [[ -e $(dirname "$file")/$header ]]; then
    header=$(realpath --relative-to=. "$(dirname "$file")/$header")
  fi
  if ! may "${file%%/*}" "$header"; then
    echo "host/$file:$line: ${file%%/*}/ may not include $header (allowed: $(set -f && allowed "${file%%/*}"))" && bad=1
  fi
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include' --include='*.[ch]' . | sed 's,^\./,,')
[ "$seen" -gt 0 ] || { echo "no #include found under $PWD" && exit 1; }
exit $bad
