#!/bin/sh
# command.sh MPIRUN DESCENT DATA EMULATED FOLDER: `descent train` on several ranks: who prints and writes, and what it says
# where the ranks differ or one of them fails. EMULATED is the module of the emulated GPU.
set -eu
mpirun=$1 descent=$2 data=$3 emulated=$4 folder=$5
here=$(cd "$(dirname "$0")" && pwd)
. "$here/job.sh"

train="train $data --target diagnosis --device cpu --epochs 3"
# shellcheck disable=SC2086
{
  run -n 4 "$descent" $train --log log.jsonl --report report.html --checkpoint kept
  expect 0 "ranks +4 on 1 host \([^:]+: 4\), 4 micro-batches"
  count "each rank reads all of [^ ]+; of a .safetensors file, its rows" 1
  count "^data  " 1
  count "^model saved to model.safetensors" 1
  count "^epoch 3/3" 1
  [ "$(wc -l <log.jsonl)" = 3 ] && [ -s report.html ] && [ -s kept/log.jsonl ] || { echo "records are missing" && bad=1; }

  run -n 2 "$descent" $train --epochz 3
  expect 2 "^descent train: unknown option '--epochz'"
  count "^descent" 1

  run -n 2 "$descent" train missing.csv --target diagnosis
  expect 3 "^descent train: missing.csv: cannot read: No such file"
  count "^descent" 1

  run -n 1 "$descent" $train : -n 1 "$descent" train missing.csv --target diagnosis --epochs 3 --device cpu
  expect 3 "^descent train: rank 1 \([^)]+\): missing.csv: cannot read"
  count "^descent" 1

  run -n 1 "$descent" $train : -n 1 "$descent" $train --lr 0.5
  expect 2 "^descent train: rank 1 \([^)]+\): lr is 0.5, but 0.001 on rank 0 \([^)]+\): all ranks need the same"
  count "^descent" 1

  head -n 300 "$data" >short.csv
  run -n 1 "$descent" $train : -n 1 "$descent" train short.csv --target diagnosis --device cpu --epochs 3
  expect 2 "rank 1 \([^)]+\): the number of rows is 299, but 569 on rank 0"

  run -n 2 "$descent" $train --out missing/model.safetensors
  expect 1 "missing/model.safetensors: cannot write"
  count "^descent" 1

  run -n 3 "$descent" $train --device cuda:0-1
  expect 2 "^descent train: --device cuda:0-1: [^ ]+ has 3 ranks, which is more than these GPUs"

  # GPUs by the place among the ranks of the host: of two emulated ones the third does not exist.
  mkdir modules
  ln -s "$emulated" "$(dirname "$descent")/../lib/libdescent_mpi.so" modules/
  export DESCENT_BACKEND_PATH="$PWD/modules" DESCENT_EMULATE=devices=2
  run -n 2 "$descent" train "$data" --target diagnosis --device cuda:1-2
  expect 4 "^descent train: rank 1 \([^)]+\): --device 'cuda:2': "
  unset DESCENT_BACKEND_PATH DESCENT_EMULATE

  run -n 2 "$descent" evaluate model.safetensors "$data"
  expect 2 "^descent evaluate: runs as one process: start it without mpirun"
  count "^descent" 1

  # As of a launcher of another MPI.
  what="not connected" code=0
  OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_RANK=0 "$descent" $train >said 2>&1 || code=$?
  expect 4 "^descent train: mpirun started 3 processes, but MPI connects 1"

  # A rank that stops answering ends the training on all. The others wait for one another too, but name that one, and the
  # weights that it has learned are kept.
  endless="train $data --target diagnosis --device cpu --epochs 100000000 --patience 0 --quiet --comm-timeout 3"
  rm -f model.safetensors
  "$mpirun" -n 4 "$descent" $endless >said 2>&1 &
  job=$!
  sleep 5
  for process in $(leaves "$job"); do [ "$(rank_of "$process")" != 3 ] || last=$process; done
  kill -STOP "$last"
  what="a rank that is stopped" code=0
  wait "$job" || code=$?
  kill -KILL "$last" 2>/dev/null || true
  expect 4 "^descent train: rank 3 \([^)]+\) has not answered for 3 s"
  count "has not answered" 1
  [ -s model.safetensors ] || { echo "no weights were kept" && bad=1; }

  # A job that is suspended for longer continues.
  "$mpirun" -n 3 "$descent" $endless >said 2>&1 &
  job=$!
  sleep 5
  processes=$(leaves "$job")
  kill -STOP $processes
  sleep 5
  kill -CONT $processes
  sleep 3
  kill -TERM $processes
  what="a job that was suspended" code=0
  wait "$job" || code=$?
  expect 143 "stopped on request"
}
exit $bad
