#!/usr/bin/env python3
"""The address space is limited (ulimit -v), from what a command needs to start to what it needs to finish: whether the
command or a library runs out of it, the command ends with exit code 1 and one line that says so."""

import resource
import shutil
import subprocess
import sys

from cases import Cases
from job import arguments, check, main

REASON = "memory|allocate|cannot start thread"
MEGABYTE = 1 << 20


def limit(size):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))


def starts(cases, size):
    """With less, the loader or OpenBLAS ends the program before main, or OpenBLAS (0.3.29) never ends its start."""
    try:
        done = subprocess.run([cases.descent, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=5,
                              env=cases.environment, preexec_fn=limit(size))
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def run():
    options = arguments(__doc__)
    cases = Cases(options.descent)
    cases.environment.pop("OPENBLAS_NUM_THREADS")  # otherwise OpenBLAS would start no threads
    chosen = [case for case in cases.table if case.name in ("train", "evaluate", "predict", "export onnx", "train mapped")]
    ended, refused = 0, 0
    sizes = range(40 * MEGABYTE, 700 * MEGABYTE, (4 if options.full else 40) * MEGABYTE)
    fewest = next((size for size in sizes if starts(cases, size)), None)
    check(fewest, "descent --version does not start in 700 MB of addresses")
    for case in chosen:
        cases.learn(case)
        for size in range(fewest, sizes.stop, sizes.step):
            done, folder = cases.run(case, preexec_fn=limit(size))
            # Still too small for the loader, or for the threads that OpenBLAS starts while it is loaded.
            if done.returncode != 127 and b"blas_thread_init" not in done.stderr:
                codes = (0, 1, 4) if b"cannot start thread" in done.stderr else (0, 1)
                failed = cases.judge(case, done, folder, REASON, f"{size // MEGABYTE} MB of addresses", codes)
                refused += failed
                ended += not failed
            shutil.rmtree(folder)
    check(ended > 0 and refused > 0, f"{ended} ended, {refused} did not")
    return (f"{ended + refused} runs of {len(chosen)} commands in {fewest // MEGABYTE} to 700 MB of addresses: {refused} "
            "reported a lack of memory")


sys.exit(main(run))
