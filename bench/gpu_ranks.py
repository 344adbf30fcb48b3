"""The part `ranks` of bench/gpu_check.py: a training in micro-batches by one rank, and by two that share the GPU and
exchange gradients through the host's memory."""
import os

from gpu_machine import ROOT
from gpu_session import Job

MICRO_BATCHES = 8
PRECISIONS = ("fp32", "bf16")
MPIRUN = "mpirun --allow-run-as-root --oversubscribe --bind-to none -n 2"
# "$@" is the training, $D a folder that only this check uses. One rank goes first: its choices are remembered for two,
# which say that they are two.
TWICE = '"$@" --out $D/a; "$@" --out $D/b; cmp $D/a $D/b'
TWO_RANKS = (f'"$@" --out $D/one; {MPIRUN} "$@" --comm-timeout 15 --out $D/two >$D/said 2>&1 || '
             '{ code=$?; cat $D/said; exit $code; }; grep "^ranks  *2 " $D/said; cmp $D/one $D/two')


def modules(machine):
    """A folder with both modules, CUDA's and MPI's; the build's may lie apart."""
    folder = os.path.join(machine.scratch, "modules")
    os.makedirs(folder, exist_ok=True)
    for path in (machine.module, machine.mpi_module):
        link = os.path.join(folder, os.path.basename(path))
        if not os.path.lexists(link):
            os.symlink(path, link)
    return folder


def ranks_job(machine, name, text, precision):
    size = ["--hidden", "8", "--epochs", "1"] if machine.small else ["--hidden", "96,64", "--epochs", "3"]
    job = machine.ours(f"{name}, {precision}", "descent", [
        "train", os.path.join(ROOT, "examples", "optdigits_train.csv"), "--target", "digit", *size, "--dropout", "0.2",
        "--precision", precision, "--device", "cuda:0", "--batch-size", "100", "--micro-batches", str(MICRO_BATCHES),
        "--validation", "0"])
    folder = os.path.join(machine.scratch, f"ranks-{precision}-{'two' if text == TWO_RANKS else 'twice'}")
    os.makedirs(folder)
    environment = {**job.environment, "D": folder, "XDG_CACHE_HOME": folder, "DESCENT_BACKEND_PATH": modules(machine)}
    return Job(job.name, ["sh", "-ec", text, "sh", *job.command], environment=environment)


def run_ranks(session, machine, end):
    jobs = [ranks_job(machine, "micro-batches, twice: the same bytes", TWICE, precision) for precision in PRECISIONS]
    two = [ranks_job(machine, "two ranks on one GPU: the bytes of one rank", TWO_RANKS, precision)
           for precision in PRECISIONS]
    missing = None if machine.mpirun else "mpirun is not installed"
    if not os.path.exists(machine.mpi_module):
        missing = "the build has no libdescent_mpi.so"
    session.check_all(jobs if missing else jobs + two, end, len(jobs + two))
    for job in two if missing else []:
        if session.wants(job.name):
            session.check(job.name, f"NOT RUN: {missing}")
