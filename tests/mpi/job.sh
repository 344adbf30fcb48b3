# shellcheck shell=sh disable=SC2034,SC2154
# Read by the tests of the command on several ranks: runs it in an empty $folder, and checks what it said. $mpirun is given.
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
bad=0

# expect CODE TEXT: of the last command, whose output is in `said`.
expect() {
  [ "$code" = "$1" ] && grep -qE -- "$2" said || {
    echo "$what: exit code $code, expected $1 and '$2' in:"
    cat said
    bad=1
  }
}
# count TEXT N: how many lines hold the text.
count() { [ "$(grep -cE -- "$1" said)" = "$2" ] || { echo "$what: '$1' is not $2 times in:" && cat said && bad=1; }; }
run() {
  what=$*
  code=0
  "$mpirun" "$@" >said 2>&1 || code=$?
}

# Of a job: its ranks, the leaves of its tree of processes, since some launchers have processes between.
leaves() {
  set -- "$1" "$(ps -o pid= --ppid "$1")"
  [ -n "$2" ] || echo "$1"
  for child in $2; do leaves "$child"; done
}
rank_of() { tr '\0' '\n' <"/proc/$1/environ" | sed -nE 's/^(OMPI_COMM_WORLD_RANK|PMI_RANK)=//p'; }
