#!/bin/sh
# run.sh MPIRUN RANKS PROGRAM...: the program on so many ranks of this machine, whatever its cores and its user.
mpirun=$1 ranks=$2
shift 2
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
exec "$mpirun" -n "$ranks" "$@"
