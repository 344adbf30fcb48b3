#!/bin/bash
# quickstart.sh SOURCE FOLDER: how `quickstart.sh train` handles GPUs, on machines with and without one. The script is
# the real one; compilers, cmake, NVIDIA's tools and the command that it builds are stand-ins that record their calls.
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
exit $failures
