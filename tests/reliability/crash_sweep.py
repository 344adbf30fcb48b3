"""Every system call that a checkpoint is made of fails in turn, once and from then on, and the process is killed at
each; then no file may grow beyond some size, for every size, so that writes end halfway. A training that diverges and
rolls back, further and further, is killed at each too. After every fault the same command continues to the same model.
Needs strace."""

import os
import re
import resource
import shutil
import sys

from job import Job, arguments, check, main

CALLS = ("openat", "write", "pwrite64", "fsync", "renameat", "unlinkat", "close", "flock", "mkdir")
ERRORS = ("ENOSPC", "EIO", "EINTR")
EXITS = (0, 1, 3, 127)  # done, could not write, could not read; the loader found no library


# Six times, to steps 3, 2, 4, 3, 7 and 6.
DIVERGING = ("--hidden", "6,5", "--activation", "identity", "--optimizer", "gd", "--lr", "1e4", "--warmup", "20",
             "--keep", "9", "--on-divergence", "rollback:50:1000")


def injections(count, errors):
    """(call, fault) for every call that a training makes, as strace counts them: for each thread separately."""
    for call in CALLS:
        for k in range(1, count[call] + 1):
            yield call, f"signal=KILL:when={k}"
            for error in errors:
                yield call, f"error={error}:when={k}"
                yield call, f"error={error}:when={k}+"


def count_calls(job):
    """The most calls of each kind that one of the threads makes."""
    folder = job.folder("count")
    traced = job.run(folder, ["strace", "-ff", "-o", os.path.join(folder, "trace"), "-e", "trace=" + ",".join(CALLS)])
    check(traced.returncode == 0, f"strace: {traced.stderr.strip()}")
    count = dict.fromkeys(CALLS, 0)
    for name in os.listdir(folder):
        if not name.startswith("trace."):
            continue
        with open(os.path.join(folder, name)) as file:
            calls = re.findall(r"^(\w+)\(", file.read(), re.MULTILINE)
        for call in CALLS:
            count[call] = max(count[call], calls.count(call))
    check(count["fsync"] > 10, "the training makes no checkpoints")
    return count


def limit_sizes(job, sizes):
    """Real short writes, up to the limit and then the error; returns how many trainings met it."""
    hit = 0
    for size in sizes:
        folder = job.folder(f"size{size}")
        code = job.run(folder, [], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))).returncode
        check(code in (0, 1), f"files of at most {size} bytes: exit code {code}")
        hit += code
        job.finish(folder, f"files of at most {size} bytes", log=False)
        shutil.rmtree(folder)
    return hit


def inject(job, errors, options):
    """How many faults there are, how many of them were tried, killed the training, and made it exit with an error."""
    faults = list(injections(count_calls(job), errors))
    chosen = faults if options.full else faults[options.seed % 16 :: 16]
    killed = failed = 0
    for number, (call, fault) in enumerate(chosen):
        folder = job.folder(f"fault{number}")
        context = f"{call} {fault}"
        code = job.run(folder, ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                f"inject={call}:{fault}"]).returncode
        if "KILL" in fault:
            check(code in EXITS + (137, -9), f"{context}: exit code {code}")
            killed += code not in EXITS
        else:
            check(code in EXITS, f"{context}: exit code {code}")
            failed += code != 0
            if code == 0:
                check(job.hash(folder) == job.expected, f"{context}: exit code 0 and another model")
        job.finish(folder, context, log="KILL" in fault)  # lines that could not be written are reported, and missing
        shutil.rmtree(folder)
    check(killed > 0 and (failed > 0 or not errors), "no fault had an effect")
    return len(faults), len(chosen), killed, failed


def run():
    options = arguments(__doc__)
    job = Job(options.descent)
    faults, chosen, killed, failed = inject(job, ERRORS, options)
    kills, chosen_kills, killed_back, _ = inject(Job(options.descent, every="1 steps", more=DIVERGING), (), options)
    sizes = range(0, 9000, 50 if options.full else 1000)
    hit = limit_sizes(job, sizes)
    check(0 < hit < len(sizes), f"{hit} of {len(sizes)} limits on the size of a file were met")
    return (f"{chosen} of {faults} faults: {killed} killed the training, {failed} made it exit with an error; "
            f"{hit} of {len(sizes)} limits on the size of files did too; {chosen_kills} of {kills} kills, {killed_back} "
            "of them before its end, of one that rolled back; every one continued to the same model")


sys.exit(main(run))
