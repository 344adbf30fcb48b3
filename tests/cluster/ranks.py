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


def disturb(mpirun, job, folder, size, moment, number, draw, every=False):
    """Sends a signal to a random rank, or to every one, after `moment` seconds; mpirun's exit code."""
    ranks = Ranks(mpirun, job, folder, size)
    until = time.monotonic() + moment
    while time.monotonic() < until and ranks.process.poll() is None:
        time.sleep(0.005)
    pids = ranks.pids()
    for pid in pids if every or not pids else [draw.choice(pids)]:
        signal_rank(pid, number)
    return ranks.wait(), ranks.text()


def kills(mpirun, job, draw, count, taken):
    hits = 0
    for kill in range(count):
        folder = job.folder(f"kill{kill}")
        size, other = draw.sample((2, 4, 8), 1)[0], draw.sample((1, 2, 4, 8), 1)[0]
        moment = draw.uniform(0, taken[size])
        code, said = disturb(mpirun, job, folder, size, moment, signal.SIGKILL, draw)
        hits += code != 0
        check(code != 0 or "model.safetensors" in os.listdir(folder), f"kill {kill}: no model, and exit code 0: {said}")
        finish(mpirun, job, folder, other, f"kill {kill} of {size} ranks after {moment:.2f} s")
    return hits


def terminates(mpirun, job, draw, taken):
    """SIGTERM ends the training on all ranks with 143, after a checkpoint. Before the training starts it ends the
    process in the default way, of which mpirun makes a code above 128."""
    ended = 0
    for every in (False, True):
        for attempt in range(3):
            folder = job.folder(f"term{every}{attempt}")
            code, said = disturb(mpirun, job, folder, 4, taken[4] * (0.5 + 0.1 * attempt), signal.SIGTERM, draw, every)
            check(code == 0 or code >= 128, f"SIGTERM ended 4 ranks with {code}: {said}")
            finish(mpirun, job, folder, 2, "after SIGTERM")
            if code == 128 + signal.SIGTERM:
                ended += 1
                break
    check(ended == 2, "no SIGTERM arrived during the training")


def run(args):
    draw = random.Random(args.seed)
    # --deterministic resuming needs the same number of micro-batches, not of ranks.
    more = ["--micro-batches", str(MICRO_BATCHES), "--comm-timeout", "20", "--keep-best"]
    job = Job(args.descent, epochs=args.epochs, every="7 steps", rows=200, more=more)
    taken = trains_alike(args.mpirun, job)
    count = 50 if args.full else 6
    hits = kills(args.mpirun, job, draw, count, taken)
    terminates(args.mpirun, job, draw, taken)
    return (f"1, 2, 4 and 8 ranks have the same bytes; so have {count} trainings with a rank killed, {hits} of them in time, "
            f"and those after SIGTERM to one rank and to all")


if __name__ == "__main__":
    options = arguments(__doc__, mpirun={"default": "mpirun", "help": "the launcher"},
                        epochs={"type": int, "default": 60, "help": "of each training"})
    sys.exit(main(lambda: run(options)))
