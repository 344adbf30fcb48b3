"""Kills a training repeatedly at random moments and lets the same command continue: with SIGKILL, then with SIGTERM,
which must end it with 143 within a stated time."""

import random
import shutil
import signal
import subprocess
import sys
import time

from job import Job, arguments, check, main

GRACE = 1.0  # seconds from SIGTERM to the end of a training with short steps


def sweep(job, number, kills, draw):
    """Kills with signal `number` until `kills` have hit; (hits, whole trainings, the longest time to die)."""
    hits = trainings = 0
    longest = 0.0
    folder = None
    while hits < kills or folder:
        if not folder:
            folder = job.folder(f"kill{number}_{trainings}")
        process = subprocess.Popen(job.command(), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if hits < kills:
            time.sleep(draw.uniform(0, 0.5 * job.seconds))
        else:
            process.wait()
        process.send_signal(number)
        sent = time.monotonic()
        errors = process.communicate()[1]
        taken = time.monotonic() - sent
        check("skipped" not in errors, errors.strip())
        if process.returncode == 0:
            trainings += 1
            check(job.hash(folder) == job.expected, f"training {trainings} ended with another model")
            shutil.rmtree(folder)
            folder = None
            continue
        # Before the training starts SIGTERM ends the process in the default way.
        allowed = (-number,) if number == signal.SIGKILL else (-number, 128 + number)
        check(process.returncode in allowed, f"exit code {process.returncode}: {errors.strip()}")
        hits += 1
        if process.returncode == 128 + number:
            longest = max(longest, taken)
    return hits, trainings, longest


def run():
    options = arguments(__doc__)
    draw = random.Random(options.seed)
    job = Job(options.descent, epochs=300, every="10 steps", hidden="64,64")
    kills = sweep(job, signal.SIGKILL, 1000 if options.full else 60, draw)
    terms = sweep(job, signal.SIGTERM, 200 if options.full else 30, draw)
    check(terms[2] <= GRACE, f"a training took {terms[2]:.2f} s to end after SIGTERM")
    return (f"{kills[0]} SIGKILLs over {kills[1]} trainings, {terms[0]} SIGTERMs over {terms[1]}: every one ended with the "
            f"same model; at most {1000 * terms[2]:.0f} ms from SIGTERM to the end")


sys.exit(main(run))
