"""The part `ranks` of bench/gpu_check.py: a training in micro-batches by one rank; by two that share the GPU and
exchange gradients through the host's memory; and by one that exchanges them with itself through NCCL."""
import os
import re

from gpu_machine import ROOT
from gpu_session import Job, benched, ends_well, exit_text, tests_pass, verified

MICRO_BATCHES = 8
PRECISIONS = ("fp32", "bf16")
MPIRUN = "mpirun --allow-run-as-root --oversubscribe --bind-to none -n 2"
# "$@" is the training, $D a folder that only this check uses. One rank goes first: its choices are remembered for two,
# which say that they are two.
TWICE = '"$@" --out $D/a; "$@" --out $D/b; cmp $D/a $D/b'
TWO_RANKS = (f'"$@" --out $D/one; {MPIRUN} "$@" --comm-timeout 15 --out $D/two >$D/said 2>&1 || '
             '{ code=$?; cat $D/said; exit $code; }; grep "^ranks  *2 " $D/said; cmp $D/one $D/two')


# One rank that exchanges with itself: the same bytes. The second ends by its time limit while NCCL is being set up.
SELF = '"$@" --out $D/alone; "$@" --ranks self --comm-timeout 15 --out $D/self; cmp $D/alone $D/self'
LATE = '"$@" --ranks self --comm-timeout 1e-9 --out $D/late'
NO_NCCL = "no libnccl.so.2 is found"


def nccl_was_used(is_found):
    """Accepts a training whose gradients passed through NCCL, in the step's graph where its version can. is_found: a
    library is there, so that the host's memory instead is a failure."""
    def accept(code, output):
        if code:
            return exit_text(code), {}
        found = re.search(r"to itself, through NCCL (\d+)\.(\d+)([\d.]*)(, in the step's graph)?", output)
        if found:
            version, in_graph = (int(found.group(1)), int(found.group(2))), found.group(4) is not None
            result = "passed" if in_graph or version < (2, 9) else "FAILED: the exchange is not in the step's graph"
            return result, {"nccl": f"{version[0]}.{version[1]}{found.group(3)}", "in_graph": in_graph}
        why = re.search("(?:NCCL cannot be loaded|DESCENT_NCCL is off).*", output)
        if why and not is_found:
            return f"NOT RUN: {NO_NCCL}", {}
        return f"FAILED: {why.group(0) if why else 'gradients did not pass through NCCL'}", {}
    return accept


def ended_in_time(code, output):
    """The limit ends a training with its message and the exit code of a device, though a thread is inside NCCL."""
    if code == 0:
        return "FAILED: the limit did not end it", {}
    return ("passed" if code == 4 and "NCCL has not connected them within" in output else exit_text(code)), {}


def benched_with_link(code, output):
    result, facts = benched(code, output)
    figures = facts.pop("bench", {})
    rows = [row for row in figures.get("operations", []) if row["operation"] == "allreduce"]
    if result != "passed" or not rows:
        return (result if result != "passed" else "FAILED: no allreduce was timed"), {}
    if rows[0]["path"] != "nccl":
        return f"FAILED: the gradients' path is '{rows[0]['path']}', not nccl", {}
    facts = {"allreduce_seconds": rows[0]["seconds"], "allreduce_floor_seconds": rows[0]["floor_seconds"],
             "link_bandwidth": figures.get("link_bandwidth", 0), "step_seconds": figures["step_seconds"]}
    return ("passed" if facts["link_bandwidth"] > 0 else "FAILED: the link was not measured"), facts


def modules(machine):
    """A folder with both modules, CUDA's and MPI's; the build's may lie apart."""
    folder = os.path.join(machine.scratch, "modules")
    os.makedirs(folder, exist_ok=True)
    for path in (machine.module, machine.mpi_module):
        link = os.path.join(folder, os.path.basename(path))
        if not os.path.lexists(link):
            os.symlink(path, link)
    return folder


def ranks_job(machine, name, text, precision, accept=ends_well):
    size = ["--hidden", "8", "--epochs", "1"] if machine.small else ["--hidden", "96,64", "--epochs", "3"]
    job = machine.ours(f"{name}, {precision}", "descent", [
        "train", os.path.join(ROOT, "examples", "optdigits_train.csv"), "--target", "digit", *size, "--dropout", "0.2",
        "--precision", precision, "--device", "cuda:0", "--batch-size", "100", "--micro-batches", str(MICRO_BATCHES),
        "--validation", "0"])
    folder = os.path.join(machine.scratch, f"ranks-{name.replace(' ', '-')}-{precision}")
    os.makedirs(folder)
    environment = {**job.environment, "D": folder, "XDG_CACHE_HOME": folder, "DESCENT_BACKEND_PATH": modules(machine)}
    return Job(job.name, ["sh", "-ec", text, "sh", *job.command], environment=environment, accept=accept)


def alone_jobs(machine):
    """One rank that exchanges gradients with itself: jobs that tell whether these pass through NCCL, and jobs that
    prove nothing without it."""
    size = ["--hidden", "8"] if machine.small else ["--hidden", "96,64"]
    told = [ranks_job(machine, "one rank to itself: the bytes of one alone", SELF, precision,
                      nccl_was_used(machine.nccl is not None)) for precision in PRECISIONS]
    return told, [
        ranks_job(machine, "one rank to itself: ended in time", LATE, PRECISIONS[0], ended_in_time),
        machine.ours("one rank to itself: aborted", "cuda_module_test", ["--gtest_filter=*AConnection*"],
                     accept=tests_pass),
        machine.ours("one rank to itself: verify", "descent", [
            "verify", "--ranks", "self", "--micro-batches", "2", "--device", "cuda:0", *size], accept=verified)]


def bench_job(machine):
    shape = (["--hidden", "8", "--batch-size", "64", "--seconds", "0.01"] if machine.small else
             ["--hidden", "1024,1024", "--batch-size", "4096", "--seconds", "1"])
    return machine.ours("one rank to itself: bench", "descent", [
        "bench", "--json", "--ranks", "self", "--micro-batches", "2", "--device", "cuda:0", "--precision", "bf16",
        *shape], accept=benched_with_link)


def leave_out(session, jobs, why):
    for job in jobs:
        if session.wants(job.name):
            session.check(job.name, f"NOT RUN: {why}")


def run_ranks(session, machine, end):
    """Two ranks come last: they take turns on the GPU, which is slow."""
    twice = [ranks_job(machine, "micro-batches, twice: the same bytes", TWICE, precision) for precision in PRECISIONS]
    two = [ranks_job(machine, "two ranks on one GPU: the bytes of one rank", TWO_RANKS, precision)
           for precision in PRECISIONS]
    told, others = alone_jobs(machine)
    session.check_all(twice + told + (others if machine.nccl else []), end, 4)
    if machine.nccl:
        session.check_all([bench_job(machine)], end)  # alone: it measures
    else:
        leave_out(session, [*others, bench_job(machine)], NO_NCCL)
    missing = None if machine.mpirun else "mpirun is not installed"
    if not os.path.exists(machine.mpi_module):
        missing = "the build has no libdescent_mpi.so"
    if missing:
        leave_out(session, two, missing)
    else:
        session.check_all(two, end, len(two))
