#!/usr/bin/env python3
"""Training on several hosts, which are network namespaces of this machine joined by TCP (network.py): the model has the
same bytes on any number of hosts, and a cable that is unplugged ends every rank in time, after which the training
resumes to the same bytes."""

import glob
import json
import os
import re
import subprocess
import sys
import time

from network import KEEPALIVE, Hosts, possible  # and where job.py is
from job import Job, arguments, check, main

MICRO_BATCHES = 4
TIMEOUT = 5   # seconds, --comm-timeout
MARGIN = 20   # seconds: Open MPI waits 10 s for a daemon that cannot be reached before it ends a rank
# Seconds after which what mpirun sends at the start has been acknowledged. Keepalive probes a connection only while
# nothing sent on it waits for an acknowledgement.
QUIET = 2
TRAINING = 5 * QUIET  # seconds of the training that is unplugged twice
ENVIRONMENT = dict(os.environ, OPENBLAS_NUM_THREADS="1")
# Runs a rank and records its exit code. Open MPI ends a rank and this shell by SIGTERM, which it outlives.
RANK = '#!/bin/sh\ntrap : TERM\n"$@"\ncode=$?\necho $code >"code.$OMPI_COMM_WORLD_RANK"\nexit $code\n'


def job(options, timeout=TIMEOUT, **more):
    # 50 of 62 rows train: the last batch has fewer rows than micro-batches.
    return Job(options.descent, rows=62, more=["--micro-batches", str(MICRO_BATCHES), "--comm-timeout", str(timeout)],
               **more)


def same_bytes(options):
    small = job(options, timeout=60)
    seconds = []
    with Hosts(4, small.scratch.name) as hosts:
        for n, ranks_each in ((2, 1), (4, 1), (2, 2)):
            context = f"{n} hosts, {ranks_each} ranks each"
            folder = small.folder(f"{n}x{ranks_each}")
            started = time.monotonic()
            done = small.run(folder, hosts.mpirun(n, ranks_each), env=ENVIRONMENT)
            seconds.append(time.monotonic() - started)
            check(done.returncode == 0, f"{context}: exit code {done.returncode}: {done.stderr.strip()}")
            check(small.hash(folder) == small.expected, f"{context}: the model is another one")
            check(small.log(folder) == small.expected_log, f"{context}: the log is another one")
    return f"the same bytes on 2 and 4 hosts ({', '.join(f'{s:.1f}' for s in seconds)} s)"


class Unplugged:
    """A training on two hosts that loses the cable of the second."""

    def __init__(self, options, hosts, training):
        self.hosts, self.training, self.folder = hosts, training, training.folder("unplugged")
        self.wrapper, self.said = (os.path.join(training.scratch.name, name) for name in ("rank.sh", "said.txt"))
        with open(self.wrapper, "w") as file:
            file.write(RANK)
        os.chmod(self.wrapper, 0o755)

    def checkpoints(self):
        return set(glob.glob(os.path.join(self.folder, "kept", "*.safetensors")))

    def wait_for_checkpoint(self, process):
        before, until = self.checkpoints(), time.monotonic() + 60
        while self.checkpoints() <= before:
            check(process.poll() is None, f"ended before a checkpoint: {process.returncode}")
            check(time.monotonic() < until, "no checkpoint within 60 s")
            time.sleep(0.01)

    def unplug(self, seconds, **more):
        """Ends when no rank runs any more: (seconds since the cable was unplugged, mpirun's exit code, what was said)"""
        for old in self.codes():
            os.unlink(old)
        with open(self.said, "w") as file:  # a pipe would be held by what remains on the other host
            process = subprocess.Popen(self.hosts.mpirun(2, 1, **more) + [self.wrapper, *self.training.command()],
                                       cwd=self.folder, env=ENVIRONMENT, stdout=file, stderr=file)
        try:
            self.wait_for_checkpoint(process)
            time.sleep(QUIET)
            check(all(self.hosts.running(self.training.descent).values()), "no rank on one of the hosts")
            self.hosts.cable("node2", "down")
            took = self.hosts.wait_until_none_runs(self.training.descent, seconds)
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass  # it waits for the host that it cannot reach
        finally:
            for node in self.hosts.nodes:  # the host's daemon waits likewise
                self.hosts.end_processes(node)
            code = process.wait(timeout=10)
        self.hosts.cable("node2", "up")
        with open(self.said) as file:
            return took, code, file.read()

    def codes(self):
        return glob.glob(os.path.join(self.folder, "code.*"))

    def exit_codes(self):
        """{rank: code} of those that were not killed."""
        codes = {}
        for path in self.codes():
            with open(path) as file:
                codes[int(path.rsplit(".", 1)[1])] = int(file.read())
        return codes


def the_launcher_notices(case):
    """Open MPI probes its connections often: it ends the ranks before they would."""
    seconds, code, said = case.unplug(TIMEOUT + MARGIN, **KEEPALIVE)
    check(code > 0, f"mpirun's exit code is {code}: {said}")
    check("lost communication" in said and "node2" in said, f"mpirun does not name the host: {said}")
    check(0 not in case.exit_codes().values(), f"exit codes {case.exit_codes()}")
    return f"mpirun notices after {seconds:.1f} s"


def the_ranks_notice(case):
    """Nothing but the ranks' time limit ends them. The one that can be heard says why."""
    seconds, _, said = case.unplug(TIMEOUT + MARGIN)
    check(seconds > 0.8 * TIMEOUT, f"ended {seconds:.1f} s after the cable was unplugged: for another reason")
    lines = re.findall(rf"^descent train: .*rank 1 \(node2\) has not answered for {TIMEOUT} s", said, re.M)
    check(len(lines) == 1, f"{len(lines)} lines name the rank and its host: {said}")
    check(case.exit_codes() == {0: 4, 1: 4}, f"exit codes {case.exit_codes()}, not 4: {said}")
    return f"the ranks notice, and ended after {seconds:.1f} s with exit code 4"


def epochs_for(options, seconds):
    """How many epochs two hosts train in so many seconds, in whole hundreds."""
    probe = job(options, epochs=400, every="100 epochs", undisturbed=False)
    with Hosts(2, probe.scratch.name) as hosts:
        folder = probe.folder("probe")
        done = probe.run(folder, hosts.mpirun(2, 1), env=ENVIRONMENT)
    check(done.returncode == 0, f"two hosts: exit code {done.returncode}: {done.stderr.strip()}")
    with open(os.path.join(folder, "kept", "log.jsonl")) as file:
        took = json.loads(file.readlines()[-1])["seconds"]
    return max(1, round(seconds * probe.epochs / took / 100)) * 100


def unplugged(options):
    epochs = epochs_for(options, TRAINING)
    training = job(options, epochs=epochs, every=f"{epochs // 50} epochs")
    with Hosts(2, training.scratch.name) as hosts:
        case = Unplugged(options, hosts, training)
        results = [the_launcher_notices(case), the_ranks_notice(case)]
        end = training.run(case.folder, hosts.mpirun(2, 1), env=ENVIRONMENT)
        check(end.returncode == 0, f"resuming ended with {end.returncode}: {end.stderr.strip()}")
        check(training.hash(case.folder) == training.expected, "resumed: the model is another one")
        check(training.log(case.folder) == training.expected_log, "resumed: the log is another one")
    return f"unplugged: {'; '.join(results)}; resumed to the same bytes"


def run():
    options = arguments(__doc__)
    possible()
    return f"{same_bytes(options)}; {unplugged(options)}"


sys.exit(main(run))
