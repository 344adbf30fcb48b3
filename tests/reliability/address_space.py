"""The address space is limited (ulimit -v), from what a command needs to start to what it needs to finish: whether the
command or a library runs out of it, the command ends with exit code 1 and one line that says so."""

import resource
import shutil
import sys

from cases import Cases
from job import arguments, check, main

REASON = "memory|allocate|cannot start thread"
MEGABYTE = 1 << 20


def limited(cases, case, size):
    return cases.run(case, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))


def run():
    options = arguments(__doc__)
    cases = Cases(options.descent)
    cases.environment.pop("OPENBLAS_NUM_THREADS")  # otherwise OpenBLAS would start no threads
    chosen = [case for case in cases.table if case.name in ("train", "evaluate", "predict", "export onnx", "train mapped")]
    ended, refused = 0, 0
    for case in chosen:
        cases.learn(case)
        for size in range(40 * MEGABYTE, 700 * MEGABYTE, (4 if options.full else 40) * MEGABYTE):
            done, folder = limited(cases, case, size)
            # Too small for the loader, or for OpenBLAS, which ends the program while it is loaded.
            if done.returncode != 127 and b"blas_thread_init" not in done.stderr:
                codes = (0, 1, 4) if b"cannot start thread" in done.stderr else (0, 1)
                failed = cases.judge(case, done, folder, REASON, f"{size // MEGABYTE} MB of addresses", codes)
                refused += failed
                ended += not failed
            shutil.rmtree(folder)
    check(ended > 0 and refused > 0, f"{ended} ended, {refused} did not")
    return f"{ended + refused} runs of {len(chosen)} commands in 40 to 700 MB of addresses: {refused} reported a lack of memory"


sys.exit(main(run))
