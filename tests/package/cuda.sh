#!/bin/sh
# cuda.sh CMAKE SOURCE FOLDER C-COMPILER RANDOM123: with DESCENT_CUDA=AUTO no fault of CUDA stops a configuration, and
# with ON it stops with the reason. The compilers that fail are scripts; the one that works is this machine's nvcc, if
# it has one.
set -eu
cmake=$1 source=$2 folder=$3 compiler=$4 random123=$5
rm -rf "$folder"
mkdir -p "$folder/modules"
unset CUDACXX CUDA_PATH CUDA_HOME || true

# As the one in CMake 3.25.1 does for an unknown toolkit.
echo 'message(FATAL_ERROR "FindCUDAToolkit was asked")' >"$folder/modules/FindCUDAToolkit.cmake"
cat >"$folder/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(probe C)
include($source/cmake/DescentCuda.cmake)
if(DESCENT_CUDA_BUILT)
  find_package(Threads REQUIRED)
  set(RANDOM123_INCLUDE_DIR $random123)
  add_subdirectory($source/kernels kernels)
endif()
message(STATUS "CUDA backend: \${DESCENT_CUDA_TEXT}")
END

# fake NAME VERSION SCRIPT: an nvcc that reports that version and then runs the script.
fake() {
  mkdir -p "$folder/$1"
  mkdir -p "$folder/$1/nvvm/libdevice"
  { echo '#!/bin/sh'
    echo 'case "$*" in'
    echo "*--version*) echo 'nvcc: NVIDIA (R) Cuda compiler driver'; echo 'Cuda compilation tools, release $2, V$2.1'; exit ;;"
    echo "*__cmake_determine_cuda*) echo '#\$ TOP=$folder/$1'; exit ;;"
    echo esac
    echo "$3"; } >"$folder/$1/nvcc"
  chmod +x "$folder/$1/nvcc"
}
fake old 12.3 'exit 0'
fake no_gpp 13.0 'echo "gcc: fatal error: cannot execute '\''cc1plus'\'': execvp: No such file or directory" >&2; exit 1'
fake failing 13.0 'echo "nvcc fatal   : Unsupported gpu architecture" >&2; exit 1'
fake empty 13.0 'exit 0'
fake silent '' 'exit 1'

failures=0
# expect MODE NVCC CODE TEXT
expect() {
  code=0
  rm -rf "$folder/build"
  "$cmake" -S "$folder" -B "$folder/build" "-DCMAKE_C_COMPILER=$compiler" "-DCMAKE_MODULE_PATH=$folder/modules" \
    "-DDESCENT_CUDA=$1" ${2:+"-DCMAKE_CUDA_COMPILER=$2"} >"$folder/said" 2>&1 || code=$?
  if [ $code != "$3" ] || ! tr -s ' \n' ' ' <"$folder/said" | grep -qF "CUDA backend$4"; then
    echo "DESCENT_CUDA=$1 nvcc=$2: exit code $code, expected $3 and 'CUDA backend$4' in:"
    cat "$folder/said"
    failures=$((failures + 1))
  fi
}
for case in \
  "old|not built: $folder/old/nvcc is of CUDA 12.3.1, the toolkit must be 12.4 or later" \
  "no_gpp|not built: $folder/no_gpp/nvcc does not work here: it needs the C++ compiler g++" \
  "failing|not built: $folder/failing/nvcc does not work here: nvcc fatal : Unsupported gpu architecture" \
  "empty|not built: $folder/empty/nvcc does not work here: " \
  "silent|not built: $folder/silent/nvcc --version does not say which CUDA it compiles" \
  "nowhere|not built: $folder/nowhere/nvcc --version does not say"; do
  expect AUTO "$folder/${case%%|*}/nvcc" 0 ": ${case#*|}"
done
expect ON "$folder/no_gpp/nvcc" 1 " not built: $folder/no_gpp/nvcc does not work here: it needs the C++ compiler g++"
expect OFF "" 0 ": off, as asked"
nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc || command -v /opt/cuda/bin/nvcc || true)
if [ -n "$nvcc" ]; then expect AUTO "" 0 ": built with CUDA"; else expect AUTO "" 0 ": not built: no CUDA compiler"; fi
exit $failures
