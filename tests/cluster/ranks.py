#!/usr/bin/env python3
"""Trains on 1, 2, 4 and 8 ranks of this machine under mpirun. Every training, however it is disturbed, ends with the
bytes of the one on a single rank: after SIGKILL of a rank at a random moment and a restart on another number of ranks,
and after SIGTERM to one rank or to all. --full: 50 kills."""

import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reliability"))
from job import Failure, Job, arguments, check, main

MICRO_BATCHES = 8
LONGEST = 100  # seconds of a training on a machine under load
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                   OPENBLAS_NUM_THREADS="1")


def children(pid):
    """The processes that a process has started."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def is_rank(pid, descent):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[0] == os.fsencode(descent)
    except OSError:
        return False


def signal_rank(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Ranks:
    """A training on `size` ranks in a folder."""

    def __init__(self, mpirun, job, folder, size):
        self.job, self.folder, self.size = job, folder, size
        # Its files instead of pipes: after a kill some process may hold the pipe a while longer.
        self.said = open(os.path.join(folder, "said"), "w+")
        launch = [mpirun, "-n", str(size)] if size > 1 else []
        self.process = subprocess.Popen(launch + job.command(), cwd=folder, stdout=self.said, stderr=self.said,
                                        env=ENVIRONMENT)

    def pids(self):
        """Of the ranks that run, the lowest first; mpirun has them as children."""
        return [pid for pid in sorted(children(self.process.pid)) if is_rank(pid, self.job.descent)]

    def wait(self):
        """The exit code; negative for a signal. Ranks that outlive mpirun are an error."""
        try:
            code = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"{self.size} ranks have not ended in {LONGEST} s: {self.text()}") from None
        return code

    def text(self):
        self.said.flush()
        with open(self.said.name) as file:
            return file.read().strip()


def finish(mpirun, job, folder, size, context):
    """Continues on so many ranks to the end: the bytes of one rank."""
    ranks = Ranks(mpirun, job, folder, size)
    code = ranks.wait()
    check(code == 0, f"{context}: {size} ranks ended with {code}: {ranks.text()}")
    check(job.hash(folder) == job.expected, f"{context}: {size} ranks have another model")
    check(job.log(folder) == job.expected_log, f"{context}: {size} ranks have another log")


def trains_alike(mpirun, job):
    """The seconds that each number of ranks took."""
    taken = {}
    for size in (2, 4, 8):
        started = time.monotonic()
        finish(mpirun, job, job.folder(f"ranks{size}"), size, "undisturbed")
        taken[size] = time.monotonic() - started
    return taken


def has_started(folder):
    """Whether the first checkpoint is written: rank 0 does so before the first step."""
    kept = os.path.join(folder, "kept")
    return os.path.isdir(kept) and any(name.endswith(".safetensors") for name in os.listdir(kept))


def wait_while(ranks, condition):
    while ranks.process.poll() is None and condition():
        time.sleep(0.002)


def kills(mpirun, job, draw, count, taken):
    """SIGKILL of a random rank at random moments, from the start of mpirun on; how many came in time."""
    hits = 0
    for kill in range(count):
        folder = job.folder(f"kill{kill}")
        size, other = draw.choice((2, 4, 8)), draw.choice((1, 2, 4, 8))
        moment = draw.uniform(0, taken[size])
        until = time.monotonic() + moment
        ranks = Ranks(mpirun, job, folder, size)
        wait_while(ranks, lambda: time.monotonic() < until)
        pids = ranks.pids()
        if pids:
            signal_rank(draw.choice(pids), signal.SIGKILL)
        code = ranks.wait()
        hits += code != 0
        check(code != 0 or os.path.exists(os.path.join(folder, "model.safetensors")),
              f"kill {kill}: exit code 0 without a model: {ranks.text()}")
        finish(mpirun, job, folder, other, f"kill {kill} of {size} ranks after {moment:.2f} s")
    return hits


def terminates(mpirun, job, draw):
    """SIGTERM to a rank other than the first, and to all, ends the training on all ranks with 143."""
    for every in (False, True):
        folder = job.folder(f"term{every}")
        ranks = Ranks(mpirun, job, folder, 4)
        wait_while(ranks, lambda: not has_started(folder))
        pids = ranks.pids()
        check(len(pids) == 4, f"4 ranks have the processes {pids}: {ranks.text()}")
        for pid in pids if every else [draw.choice(pids[1:])]:
            signal_rank(pid, signal.SIGTERM)
        code = ranks.wait()
        check(code == 128 + signal.SIGTERM, f"SIGTERM ended 4 ranks with {code}: {ranks.text()}")
        finish(mpirun, job, folder, 2, "after SIGTERM")


def run(args):
    draw = random.Random(args.seed)
    more = ["--micro-batches", str(MICRO_BATCHES), "--comm-timeout", "20", "--keep-best"]
    job = Job(args.descent, epochs=args.epochs, every="7 steps", rows=200, more=more)
    taken = trains_alike(args.mpirun, job)
    count = 50 if args.full else 6
    hits = kills(args.mpirun, job, draw, count, taken)
    terminates(args.mpirun, job, draw)
    return (f"1, 2, 4 and 8 ranks have the same bytes; so have {count} trainings with a rank killed, {hits} of them in time, "
            f"and those after SIGTERM to one rank and to all")


if __name__ == "__main__":
    options = arguments(__doc__, mpirun={"default": "mpirun", "help": "the launcher"},
                        epochs={"type": int, "default": 40, "help": "of each training"})
    sys.exit(main(lambda: run(options)))
