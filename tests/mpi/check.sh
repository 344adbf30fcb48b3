#!/bin/sh
# check.sh MPIRUN DESCENT DATA EMULATED FOLDER: `descent verify` and `descent bench` on several ranks: one output, one exit
# code, and one line where the ranks differ or one of them fails. EMULATED is the module of the emulated GPU.
set -eu
mpirun=$1 descent=$2 data=$3 emulated=$4 folder=$5
here=$(cd "$(dirname "$0")" && pwd)
. "$here/job.sh"

small="--inputs 5 --hidden 8 --outputs 2 --device cpu"
verify="verify $small --rows 40"
bench="bench $small --seconds 0.1"
# shellcheck disable=SC2086
{
  # One output, and a row for the sums of gradients; without --micro-batches a part for each rank.
  run -n 2 "$descent" $verify --micro-batches 4
  expect 0 "^ranks: 2 on 1 host \([^:]+: 2\), 4 micro-batches$"
  expect 0 "^allreduce .* pass$"
  count "^combine .* pass$" 1
  count "^candidate: " 1
  count "^operation " 1
  count "operations on cpu against reference: 0 failed$" 1
  count "FAIL" 0

  run -n 3 "$descent" $verify
  expect 0 "^ranks: 3 on 1 host \([^:]+: 3\), 3 micro-batches$"
  count "^allreduce .* pass$" 1
  count "^combine " 0

  run -n 2 "$descent" verify --all --rows 6 --steps 1 --inputs 2 --hidden 2 --device cpu --batch-size 4
  expect 0 "^147 combinations on cpu against reference: 0 failed$"
  count " pass$" 147

  run -n 2 "$descent" $bench --micro-batches 4
  expect 0 "^allreduce "
  expect 0 "^measured peaks: .* GB/s copied, .* GB/s to other ranks$"
  count "^ranks: 2 on 1 host \([^:]+: 2\), 4 micro-batches$" 1
  count "^device: " 1
  count "^step " 1

  # Only the object is on standard output.
  what="bench --json" code=0
  "$mpirun" -n 2 "$descent" $bench --json >said 2>/dev/null || code=$?
  expect 0 '"ranks":	2,$'
  count '"operation":	"allreduce"' 1
  [ "$(head -c 1 said)" = "{" ] || { echo "$what: something before the object" && bad=1; }

  # A model's network.
  what="train" code=0
  "$descent" train "$data" --target diagnosis --device cpu --epochs 1 --quiet >said 2>&1 || code=$?
  expect 0 "model saved"
  run -n 2 "$descent" verify model.safetensors --rows 40 --device cpu
  expect 0 "^allreduce .* pass$"

  # Wrong usage of all, and of one.
  run -n 2 "$descent" verify --epochs 3
  expect 2 "^descent verify: unknown option '--epochs'"
  count "^descent" 1
  run -n 2 "$descent" verify missing.safetensors
  expect 3 "^descent verify: missing.safetensors: cannot read: No such file"
  count "^descent" 1
  run -n 2 "$descent" bench $small --micro-batches 3
  expect 2 "^descent bench: micro_batches 3: must be a power of two for each of the 2 ranks"
  count "^descent" 1
  run -n 1 "$descent" verify $small : -n 1 "$descent" verify $small --micro-batches 4
  expect 2 "rank 1 \([^)]+\): micro-batches is 4, but 0 on rank 0"
  run -n 1 "$descent" bench $small : -n 1 "$descent" bench --micro-batches x
  expect 2 "^descent bench: rank 1 \([^)]+\): --micro-batches 'x': must be a whole number"
  count "^descent" 1
  run -n 1 "$descent" verify $small : -n 1 "$descent" verify $small --device reference
  expect 2 "rank 1 \([^)]+\): the device is \"reference\", but \"cpu\" on rank 0"
  run -n 1 "$descent" bench model.safetensors --device cpu : -n 1 "$descent" bench --device cpu
  expect 2 "rank 1 \([^)]+\): the network is "
  run -n 1 "$descent" $verify : -n 1 "$descent" $bench
  expect 2 "rank 1 \([^)]+\): the command is \"descent bench\", but \"descent verify\" on rank 0"
  run -n 2 "$descent" $verify --batch-size 1
  expect 2 "^descent verify: ranks 2: must be at most batch_size 1"
  for command in verify bench; do
    run -n 2 "$descent" $command $small --micro-batches 64
    expect 2 "^descent $command: micro_batches 64: must be at most batch_size 32"
    count "^(device|candidate|ranks): " 0
    run -n 1 "$descent" $command $small : -n 1 "$descent" $command $small --lr 0.5
    expect 2 "^descent $command: rank 1 \([^)]+\): lr is 0.5, but 0.001 on rank 0 \([^)]+\): all ranks need the same"
    count "^descent" 1
    run -n 2 "$descent" $command $small --ranks self
    expect 2 "^descent $command: --ranks self: runs as one process: start it without mpirun"
    count "^descent" 1
    # Each process alone.
    run -n 2 "$descent" $command $small --ranks off
    expect 0 "^update "
    count "^update " 2
    count "^ranks: " 0
  done
  run -n 2 "$descent" $bench --predict
  expect 2 "^descent bench: --predict: runs as one process: start it without mpirun"
  count "^descent" 1
  run -n 2 "$descent" verify --all model.safetensors
  expect 2 "^descent verify: --all creates its own networks: omit model.safetensors"
  run -n 1 "$descent" verify $small --reference cpu : -n 1 "$descent" verify $small
  expect 2 "rank 1 \([^)]+\): reference is \"reference\", but \"cpu\" on rank 0"

  # GPUs by the place among the ranks of the host: of two emulated ones the third does not exist.
  mkdir modules
  ln -s "$emulated" "$(dirname "$descent")/../lib/libdescent_mpi.so" modules/
  export DESCENT_BACKEND_PATH="$PWD/modules" DESCENT_EMULATE=devices=2
  run -n 2 "$descent" verify --device cuda:1-2
  expect 4 "^descent verify: rank 1 \([^)]+\): --device 'cuda:2': "
  run -n 2 "$descent" verify $small --device cuda:0-1 --rows 40
  expect 0 "^allreduce .* pass$"
  unset DESCENT_BACKEND_PATH DESCENT_EMULATE

  # A rank that stops answering ends all.
  for command in "verify $small --steps 1000000" "bench $small --seconds 3600"; do
    "$mpirun" -n 3 "$descent" $command --comm-timeout 3 >said 2>&1 &
    job=$!
    sleep 5
    for process in $(leaves "$job"); do [ "$(rank_of "$process")" != 2 ] || last=$process; done
    kill -STOP "$last"
    what="$command, a rank that is stopped" code=0
    wait "$job" || code=$?
    kill -KILL "$last" 2>/dev/null || true
    expect 4 "^descent ${command%% *}: rank 2 \([^)]+\) has not answered for 3 s"
    count "has not answered" 1
  done
}
exit $bad
