#!/bin/bash
# quickstart.sh SOURCE FOLDER: how `quickstart.sh train` handles GPUs, on machines with and without one, and what it and
# `quickstart.sh test` do where packages, a network or terminals are missing. The script is the real one; compilers,
# cmake, apt-get, Python, NVIDIA's tools and what it builds are stand-ins that record their calls.
set -eu
source=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder/tools" "$folder/nvidia" "$folder/cuda"

tool() { printf '#!/bin/sh\n%s\n' "$2" >"$folder/$1" && chmod +x "$folder/$1"; }
tool cuda/nvcc '[ "$*" != --list-gpu-code ] || printf "sm_%s\\n" 75 80 86 90 100 120'
tool tools/cc 'exit 0'
tool tools/protoc-c 'exit 0'
tool tools/dpkg-query 'echo installed'
tool tools/nvidia-smi 'exit 9'
# A configuration prints CASE_BACKEND; CASE_MODULE is whether the module builds.
# shellcheck disable=SC2016 # the stand-ins expand
tool tools/cmake 'echo "cmake $*" >>calls
case "$*" in
  --version) echo "cmake version 3.25.1" ;;
  -S*) echo "-- CUDA backend: $CASE_BACKEND" && echo "CMAKE_CUDA_ARCHITECTURES:STRING=90a-real" >build/CMakeCache.txt ;;
  *descent_cuda*) $CASE_MODULE && mkdir -p build/lib && touch build/lib/libdescent_cuda.so ;;
  *) mkdir -p build/bin && cp "$CASE_FOLDER/descent" build/bin/descent ;;
esac'
# shellcheck disable=SC2016
tool descent '
case "$*" in
  train*--device\ cpu*) echo cpu >trained ;;
  train*) if [ -n "$CASE_GPU" ] && [ -e build/lib/libdescent_cuda.so ]; then echo cuda:1; else echo cpu; fi >trained ;;
  info*) echo "{\"provenance\":{\"data\":\"x\",\"device\":\"$(cat trained)\",\"options\":{\"device\":\"auto\"}}}" ;;
  devices) echo "cuda:0      no   no CUDA: $CASE_GPU is broken" && echo "cuda:1      yes  cuda:1: $CASE_GPU" ;;
esac'
# shellcheck disable=SC2016
tool nvidia/nvidia-smi '
case "$*" in
  *compute_cap*) echo "$CASE_CAPABILITY" ;;
  -L) echo "GPU 0" ;;
  *) echo "| CUDA Version: 12.8     |" ;;
esac'

failures=0
# expect NAME TEXT...: the output and the calls of cmake contain the texts, in this order.
expect() {
  local name=$1 rest
  rest=$(cat "$folder/said" "$folder/tree/calls")
  shift
  for text; do
    case $rest in
      *"$text"*) rest=${rest#*"$text"} ;;
      *) echo "$name: no '$text' where it belongs in:" && cat "$folder/said" "$folder/tree/calls" && failures=1 && return ;;
    esac
  done
}
# run CODE ASSIGNMENT...: runs the script in a fresh tree and expects the exit code.
run() {
  local code=0 expected=$1
  shift
  rm -rf "$folder/tree"
  mkdir "$folder/tree"
  # Hides this machine's driver and toolkit.
  sed "s,/proc/driver/nvidia/version,$folder/none,; s,/dev/nvidiactl,$folder/none,; s,/usr/local/cuda/bin,$folder/none,
    s,/opt/cuda/bin,$folder/none," "$source/quickstart.sh" >"$folder/tree/quickstart.sh"
  env -u CUDA_PATH -u CUDA_HOME -u DESCENT_CUDA CC=cc CUDACXX=none "CASE_FOLDER=$folder" CASE_GPU= CASE_CAPABILITY= CASE_MODULE=true \
    CASE_BACKEND= "PATH=$folder/tools:$PATH" "$@" sh "$folder/tree/quickstart.sh" train >"$folder/said" 2>&1 || code=$?
  [ $code = "$expected" ] || { echo "$*: exit code $code:" && cat "$folder/said" && failures=1; }
}
with_nvcc=("CUDACXX=$folder/cuda/nvcc" "CASE_BACKEND=built with CUDA 13.0")
with_gpu=("PATH=$folder/nvidia:$folder/tools:$PATH" "CASE_GPU=NVIDIA H200" CASE_CAPABILITY=9.0)

run 0 "CASE_BACKEND=not built: no CUDA compiler (nvcc) was found"
expect "neither GPU nor nvcc" "trained on the CPU: the CUDA backend is not built: no CUDA compiler (nvcc) was found"
! grep -q "descent_cuda\|to train on the GPU" "$folder/said" "$folder/tree/calls" || { echo "time was lost" && failures=1; }

run 0 "${with_nvcc[@]}"
expect "nvcc without a GPU" "trained on the CPU: there is no NVIDIA driver" "the model is" \
  "building the CUDA backend too" "done, " " s" "--target descent_cuda"

run 0 "${with_gpu[@]}" "${with_nvcc[@]}"
expect "a GPU" "building the CUDA backend for 90a-real ... done, " " s" "trained on the GPU: cuda:1: NVIDIA H200" \
  "-DCMAKE_CUDA_ARCHITECTURES=90a-real"

run 0 "${with_gpu[@]}" "CASE_CAPABILITY=8.6
7.5
12.0" "${with_nvcc[@]}"
expect "several GPUs, one too old" "-DCMAKE_CUDA_ARCHITECTURES=120-real;86-real" "--target descent_cuda"

run 0 "${with_gpu[@]}" "CASE_CAPABILITY=9.0
12.1" "${with_nvcc[@]}"
! grep -q CMAKE_CUDA_ARCHITECTURES "$folder/tree/calls" || { echo "a GPU that nvcc does not know was named"; failures=1; }
run 0 "${with_gpu[@]}" "${with_nvcc[@]}" CASE_MODULE=false
expect "a module that does not build" "building the CUDA backend for 90a-real ... failed, left out (why: " \
  "trained on the CPU: the CUDA backend failed to build"
run 1 "${with_gpu[@]}" "${with_nvcc[@]}" CASE_MODULE=false DESCENT_CUDA=ON
expect "the same where it must" "failed" "quickstart: building the CUDA backend for 90a-real failed"

run 0 "${with_gpu[@]}" "CASE_BACKEND=not built: no CUDA compiler (nvcc) was found"
expect "a driver without nvcc" "trained on the CPU" "to train on the GPU: install NVIDIA's CUDA toolkit" "cuda-toolkit-12-8"

run 0 "${with_gpu[@]}" "${with_nvcc[@]}" "CASE_BACKEND=off, as asked" DESCENT_CUDA=OFF
expect "left out" "trained on the CPU: the CUDA backend is off, as asked" "-DDESCENT_CUDA=OFF"
! grep -q "descent_cuda\|to train on the GPU" "$folder/said" "$folder/tree/calls" || { echo "not left out" && failures=1; }
run 2 DESCENT_CUDA=no

# ---- machines that lack something ----

# All programs there are: the system's that the script calls, and stand-ins. $CASE_LACKS names packages that are missing.
bare=$folder/bare
mkdir "$bare"
for name in sh env sed grep awk head tail sort nproc date mkdir rm cat cmp cp dirname touch chmod; do
  ln -s "$(command -v $name)" "$bare/$name"
done
ln -s "$folder/tools/"{cmake,protoc-c} "$folder/cuda/nvcc" "$bare/"
for name in ninja pkg-config strace abidiff git; do tool "bare/$name" 'exit 0'; done
tool bare/nvidia-smi 'exit 9'
tool bare/sudo 'exit 1'
# shellcheck disable=SC2016
{
  tool bare/id 'echo "$CASE_USER"'
  tool bare/dpkg-query 'for name; do :; done; case " $CASE_LACKS " in *" $name "*) ;; *) echo installed ;; esac'
  tool bare/cc 'case "$* $CASE_LACKS" in *c++\ *g++*) echo "cc: cannot execute cc1plus" >&2 && exit 1 ;; esac'
  tool bare/apt-get 'echo "apt-get $*" >>calls
case "$*" in
  *update) echo "E: Failed to fetch http://deb.example/InRelease  Temporary failure resolving deb.example" ;;
  *) echo "Reading..." && echo "E: Unable to locate package g++" && echo "E: Broken packages" ;;
esac >&2
exit 100'
  tool bare/python3 'case "$*" in
  *ensurepip*) case " $CASE_LACKS " in *" python3-venv "*) exit 1 ;; esac ;;
  *venv*) mkdir -p build/python/bin && cp "$CASE_FOLDER/pip" build/python/bin/python ;;
esac'
  tool pip '[ -n "$CASE_PIP" ] || exit 0
echo "WARNING: Retrying (Retry(total=0, status=None)) after connection broken by $CASE_PIP: /simple/numpy/"
echo "ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)"
echo "ERROR: No matching distribution found for numpy"
exit 1'
  tool bare/ctest 'echo "ctest $*" >>calls
case "$*" in *-N*) echo "Total Tests: 12" ;; *) echo "100% tests passed, 0 tests failed out of 9" ;; esac'
  tool command_terminal_test '[ -z "$CASE_NO_TERMINAL" ] ||
printf "%s\n" "x_test.cpp:14: Skipped" "no terminal can be opened: No such file or directory (is /dev/pts mounted?)"'
}

# bare_run GOAL CODE ASSIGNMENT...
bare_run() {
  local goal=$1 code=0 expected=$2
  shift 2
  rm -rf "$folder/tree"
  mkdir -p "$folder/tree/tests" "$folder/tree/build/bin"
  echo numpy >"$folder/tree/tests/requirements.txt"
  cp "$folder/command_terminal_test" "$folder/tree/build/bin/"
  sed "s,/proc/driver/nvidia/version,$folder/none,; s,/dev/nvidiactl,$folder/none,; s,/usr/local/cuda/bin,$folder/none,
    s,/opt/cuda/bin,$folder/none," "$source/quickstart.sh" >"$folder/tree/quickstart.sh"
  env -i "PATH=$bare" CUDACXX=none "CASE_FOLDER=$folder" CASE_GPU= CASE_MODULE=true CASE_LACKS= CASE_USER=1000 CASE_PIP= \
    CASE_NO_TERMINAL= "CASE_BACKEND=not built: no CUDA compiler (nvcc) was found" "$@" \
    "$bare/sh" "$folder/tree/quickstart.sh" "$goal" >"$folder/said" 2>&1 || code=$?
  [ $code = "$expected" ] || { echo "$goal $*: exit code $code:" && cat "$folder/said" && failures=1; }
  touch "$folder/tree/calls"
}
# expect_not NAME TEXT: neither the output nor the calls contain it.
expect_not() {
  ! grep -qF -e "$2" "$folder/said" "$folder/tree/calls" || { echo "$1: '$2' in:" && cat "$folder/said" && failures=1; }
}

bare_run test 0
expect "nothing is missing" "setting up Python for tests ... done" "building everything ... done" "100% tests passed"
expect_not "nothing is missing" "left out"
expect_not "nothing is missing" "label-exclude"

bare_run train 0 "CASE_LACKS=g++ libgtest-dev"
expect "training without g++" "trained on the CPU" "-DDESCENT_BUILD_TESTS=OFF"
expect_not "training without g++" "g++"
bare_run test 1 "CASE_LACKS=g++ libgtest-dev"
expect "tests without g++" "installing them needs root" "apt-get install --no-install-recommends g++ libgtest-dev" \
  "./quickstart.sh train works without"
expect_not "tests without g++" "cmake -S"
bare_run test 1 CASE_LACKS=g++ CASE_USER=0
expect "tests without g++ and a network" "reading the package lists ... not complete: E: Failed to fetch" \
  "installing g++ ... failed: E: Unable to locate package g++" "these could not be installed" ": g++"
bare_run train 0 CASE_LACKS=g++ "CUDACXX=$bare/nvcc" CASE_USER=0 "CASE_BACKEND=not built: nvcc does not work"
expect "nvcc without g++ and a network" "not installed, and what needs it left out: g++ (E: Unable to locate package g++)" \
  "trained on the CPU: the CUDA backend is not built: nvcc does not work"

bare_run test 0 "CASE_PIP='NewConnectionError('<pip._vendor.HTTPSConnection object at 0x7f55>: Failed to establish a new \
connection: [Errno -3] Temporary failure in name resolution')'" \
  "CASE_BACKEND=off, as asked
-- Python test onnx: not registered, python does not import onnx"
expect "tests without a network for pip" "setting up Python for tests ... not possible here: Failed to establish a new \
connection: [Errno -3] Temporary failure in name resolution (all of it: " "left out: Python test onnx: not registered" \
  "100% tests passed"
bare_run test 0 "CASE_PIP=\"ReadTimeoutError(Read timed out. (read timeout=20))\""
expect "pip at a slow network" "not possible here: ReadTimeoutError(Read timed out. (read timeout=20)) (all of it: "
bare_run test 0 "CASE_LACKS=python3-venv"
expect "Python without venv" "not installed, and what needs it left out: python3-venv (installing needs root)" \
  "not possible here: python3 has no ensurepip (Debian's package python3-venv) (all of it: "

rm "$bare/strace"
bare_run test 0 CASE_LACKS=strace CASE_NO_TERMINAL=1 "CASE_BACKEND=off, as asked
-- reliability tests: not registered, they need python3 and strace"
expect "neither strace nor terminals" "left out: strace (installing needs root)" "left out: reliability tests: not registered" \
  "left out: 12 tests on a terminal: no terminal can be opened: No such file or directory" "--label-exclude terminal"
# What ctest says ends the output.
[ "$(tail -n 1 "$folder/said")" = "100% tests passed, 0 tests failed out of 9" ] || { tail -n 3 "$folder/said" && failures=1; }
exit $failures
