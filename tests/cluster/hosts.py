#!/usr/bin/env python3
"""Training on several hosts, which are network namespaces of this machine joined by TCP (network.py): the model has the
same bytes on any number of hosts, and a cable that is unplugged ends every rank in time, after which the training
resumes to the same bytes."""

import glob
import os
import re
import subprocess
import sys
import time

from network import Hosts, possible  # and where job.py is
from job import Job, arguments, check, main

MICRO_BATCHES = 4
TIMEOUT = 3   # seconds, --comm-timeout
MARGIN = 12   # seconds: Open MPI's daemons find the broken connection later than the ranks do
ENVIRONMENT = dict(os.environ, OPENBLAS_NUM_THREADS="1")


def job(options, **more):
    # 58 rows: the last batch has fewer rows than micro-batches.
    return Job(options.descent, rows=58, more=["--micro-batches", str(MICRO_BATCHES), "--comm-timeout", str(TIMEOUT)],
               **more)


def same_bytes(options):
    small = job(options)
    seconds = []
    with Hosts(4, small.scratch.name) as hosts:
        for n, ranks_each in ((2, 1), (4, 1), (2, 2)):
            context = f"{n} hosts, {ranks_each} ranks each"
            folder = small.folder(context.replace(", ", "_").replace(" ", "_"))
            started = time.monotonic()
            done = small.run(folder, hosts.mpirun(n, ranks_each), env=ENVIRONMENT)
            seconds.append(time.monotonic() - started)
            check(done.returncode == 0, f"{context}: exit code {done.returncode}: {done.stderr.strip()}")
            check(small.hash(folder) == small.expected, f"{context}: the model is another one")
            check(small.log(folder) == small.expected_log, f"{context}: the log is another one")
    return f"the same bytes on 2 and 4 hosts ({', '.join(f'{s:.1f}' for s in seconds)} s)"


def wait_for_checkpoint(process, folder):
    until = time.monotonic() + 30
    while not glob.glob(os.path.join(folder, "kept", "*.safetensors")):
        check(process.poll() is None, f"ended before its first checkpoint: {process.returncode}")
        check(time.monotonic() < until, "no checkpoint within 30 s")
        time.sleep(0.01)


def unplugged(options):
    """A cable is unplugged after the first checkpoint. Both ranks end; the one that can be heard says why."""
    long = job(options, epochs=options.epochs, every="20 epochs")
    with Hosts(2, long.scratch.name) as hosts:
        folder = long.folder("unplugged")
        process = subprocess.Popen(hosts.mpirun(2, 1) + long.command(), cwd=folder, env=ENVIRONMENT, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for_checkpoint(process, folder)
        check(all(hosts.running(options.descent).values()), "no rank on one of the hosts")
        hosts.cable("node2", "down")
        seconds = hosts.wait_until_none_runs(options.descent, TIMEOUT + MARGIN)
        said = process.communicate(timeout=MARGIN)[1]
        check(seconds > 0.5 * TIMEOUT, f"ended {seconds:.1f} s after the cable was unplugged: finished before?")
        check(process.returncode > 0, f"exit code {process.returncode}: {said}")
        lines = re.findall(rf"^descent.*rank 1 \(node2\) has not answered for {TIMEOUT} s.*$", said, re.M)
        check(len(lines) == 1, f"{len(lines)} lines name the rank and the host: {said}")
        check(not os.path.exists(os.path.join(folder, "model.safetensors")), "a model was written")
        hosts.cable("node2", "up")
        end = long.run(folder, hosts.mpirun(2, 1), env=ENVIRONMENT)
        check(end.returncode == 0, f"resuming ended with {end.returncode}: {end.stderr.strip()}")
        check(long.hash(folder) == long.expected, "resumed: the model is another one")
        check(long.log(folder) == long.expected_log, "resumed: the log is another one")
    return f"unplugged: all ranks ended after {seconds:.1f} s, code {process.returncode}, and resumed to the same bytes"


def run():
    options = arguments(__doc__, epochs={"type": int, "default": 1000, "help": "of the training that is unplugged"})
    possible()
    return f"{same_bytes(options)}; {unplugged(options)}"


sys.exit(main(run))
