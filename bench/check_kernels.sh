#!/bin/sh
# Compiles every kernel for each GPU architecture with warnings as errors, prints the registers of each, and fails if a
# kernel spills registers or keeps a stack frame: both are in the GPU's slow memory. With the toolkit's disassembler it
# also fails if a kernel of matrix products lacks the instructions that it is written for.
#   bench/check_kernels.sh [file.cu ...]     default: all of kernels/
#   bench/check_kernels.sh --fingerprint     only a hash of what the result depends on: sources, compiler, this script
# Environment: NVCC is the compiler (default: nvcc in PATH or /usr/local/cuda), CUOBJDUMP the disassembler (default:
# cuobjdump beside the compiler or in PATH), NVCC_FLAGS adds arguments, JOBS is the number of parallel compilations
# (default: one per core), TABLE is a file for what is known of each kernel. Without a compiler it prints "not checked"
# and exits with 0.
set -eu

root=$(cd -P "$(dirname "$0")/.." && pwd)
architectures="sm_80 sm_90a sm_100"

nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if ! command -v "$nvcc" >/dev/null; then
  echo "not checked: no nvcc"
  exit 0
fi

# with_includes FILE...: the files, and those of this repository that they include.
with_includes() {
  known=
  while [ $# -gt 0 ]; do
    file=$1
    shift
    case "$known " in *" $file "*) continue ;; esac
    known="$known $file"
    for name in $(sed -n 's/^ *#include ["<]\([^">]*\)[">].*/\1/p' "$file"); do
      for folder in kernels host include; do
        [ ! -f "$folder/$name" ] || set -- "$@" "$folder/$name"
      done
    done
  done
  echo "$known"
}

# Without comments, so that rewording one keeps the result.
if [ "${1:-}" = --fingerprint ]; then
  cd "$root"
  # shellcheck disable=SC2046 # a list of names without spaces
  { "$nvcc" --version && cat bench/check_kernels.sh kernels/CMakeLists.txt cmake/DescentCuda.cmake &&
    cat $(with_includes kernels/*.cu) | "${CC:-cc}" -fpreprocessed -dD -E -P -w -x c++ -; } | sha256sum | cut -d ' ' -f 1
  exit 0
fi

disassembler=${CUOBJDUMP:-$(dirname "$(command -v "$nvcc")")/cuobjdump}
[ -x "$disassembler" ] || disassembler=$(command -v cuobjdump || true)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

# compile WORK ROOT ARCHITECTURE FILE: what the assembler says goes to a log in WORK; the code, to FILE.ARCHITECTURE.code,
# as lines of kernel, architecture, and how often HMMA, LDSM, LDGSTS and FFMA occur.
cat >"$work/compile" <<'END'
#!/bin/sh
log=$1/$(basename "$4" .cu).$3.log
# shellcheck disable=SC2086 # NVCC_FLAGS is a list
if ! "$NVCC" -c "$4" -o "$log.o" -std=c++17 -O3 -arch="$3" -Werror all-warnings -Xcompiler -Wall,-Wextra -Xptxas -v \
  -I"$2/kernels" -I"$2/host" -I"$2/include" $NVCC_FLAGS >"$log" 2>&1; then
  echo "$4 does not compile for $3:"
  cat "$log"
  exit 1
fi
[ -z "$CUOBJDUMP" ] || "$CUOBJDUMP" -sass "$log.o" | awk -v architecture="$3" '
  function show() { if (kernel) print kernel, architecture, n["HMMA"] + 0, n["LDSM"] + 0, n["LDGSTS"] + 0, n["FFMA"] + 0 }
  $1 == "Function" { show(); kernel = $3; delete n }
  { for (i = 2; i <= NF && i <= 3; i++) { split($i, part, "."); n[part[1]]++ } } # after the address, or its predicate
  END { show() }' >"${log%.log}.code"
rm -f "$log.o"
END
chmod +x "$work/compile"

[ $# -gt 0 ] || set -- "$root"/kernels/*.cu
for file; do
  if [ ! -f "$file" ]; then
    echo "check_kernels: no file $file" >&2
    exit 2
  fi
done
for file; do
  for architecture in $architectures; do printf '%s\n%s\n' "$architecture" "$file"; done
done | tr '\n' '\0' |
  NVCC=$nvcc NVCC_FLAGS=${NVCC_FLAGS:-} CUOBJDUMP=$disassembler xargs -0 -n 2 -P "${JOBS:-$(nproc)}" "$work/compile" "$work" "$root" || exit 1

# Names as in the source.
names() { c++filt | sed -E 's/\(anonymous namespace\):://g; s/^(void )?//'; }

# kernel; architecture, registers, bytes of static shared memory, of stack frame, of spill stores, of spill loads
awk '
  FNR == 1 { split(FILENAME, part, "."); architecture = part[length(part) - 1]; kernel = "" }
  /Compiling entry function/ { split($0, part, "\047"); kernel = part[2]; frame = stores = loads = 0 }
  /bytes stack frame/ { frame += $1; stores += $5; loads += $9 }
  /Used [0-9]+ registers/ && kernel != "" {
    shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
    sub(/.*Used /, ""); print kernel, architecture, $1, shared, frame, stores, loads; kernel = ""
  }' "$work"/*.log | names >"$work/table"
[ -z "${TABLE:-}" ] || cp "$work/table" "$TABLE"

awk -v architectures="$architectures" '
  BEGIN { n = split(architectures, each) }
  { # names have spaces: the numbers are the last six fields
    kernel = $1; for (i = 2; i <= NF - 6; i++) kernel = kernel " " $i
    sub(/\(([^()]|\([^()]*\))*\)$/, "", kernel) # its parameters
    if (!(kernel in seen)) names[++kernels] = kernel
    seen[kernel] = 1
    wrong = $(NF - 2) > 0 || $(NF - 1) > 0 || $NF > 0
    registers[kernel, $(NF - 5)] = $(NF - 4) (wrong ? "!" : "")
    if (wrong)
      failures[++failed] = sprintf("%s on %s: stack frame %d, spilled %d and reloaded %d bytes", kernel, $(NF - 5),
                                   $(NF - 2), $(NF - 1), $NF)
  }
  END {
    if (kernels == 0) { print "no kernels were found in the output of the compiler"; exit 1 }
    printf "registers per thread:"; for (i = 1; i <= n; i++) printf " %s", each[i]; print ""
    for (k = 1; k <= kernels; k++) {
      for (i = 1; i <= n; i++) printf "%6s ", registers[names[k], each[i]]
      print " " names[k]
    }
    for (i = 1; i <= failed; i++) print "FAILED " failures[i]
    printf "%d kernels, %d with a stack frame or spills\n", kernels, failed
    exit failed > 0
  }' "$work/table"

if [ -z "$disassembler" ]; then
  echo "instructions: not checked, no cuobjdump"
  exit 0
fi
# By the arithmetic in a kernel's name: products on tensor cores (HMMA) with operands from ldmatrix (LDSM), or by
# multiply-adds; either way operands are copied to shared memory asynchronously (LDGSTS). Kernels of clusters have no
# code for sm_80.
cat "$work"/*.code | names | awk '
  { hmma = $(NF - 3); ldsm = $(NF - 2); ldgsts = $(NF - 1); ffma = $NF; tensor = multiply = matrix = 0 }
  /\(arithmetic\)[12]|Bf16Warp|Tf32Warp/ { tensor = 1; matrix = !/Tf32Warp/ } # which reads single elements of tf32
  /\(arithmetic\)0|Fp32Warp/ { multiply = 1 }
  tensor || multiply {
    if (/^cluster_/ && $(NF - 4) == "sm_80") next
    kernel = $1; for (i = 2; i <= NF - 5; i++) kernel = kernel " " $i
    if (!(kernel in seen)) checked++
    seen[kernel] = 1
    lacks = ""
    if (tensor && !hmma) lacks = lacks " HMMA"
    if (matrix && !ldsm) lacks = lacks " LDSM"
    if (multiply && !ffma) lacks = lacks " FFMA"
    if (!ldgsts) lacks = lacks " LDGSTS"
    if (multiply && hmma) lacks = lacks " fp32 (it has HMMA)"
    if (lacks) { failed++; print "FAILED " $0 ": lacks" lacks }
  }
  END { printf "instructions: %d kernels of matrix products, %d lack some\n", checked, failed; exit failed > 0 }'
