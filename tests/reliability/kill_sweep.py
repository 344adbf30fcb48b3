#!/usr/bin/env python3
"""Kills a training repeatedly and lets the same command continue: with SIGKILL, at random moments or as soon as a file
is being written, then with SIGTERM, which must end it with 143 within a stated time. With --pid-1 the training
is the first process of a PID namespace, as in a container, so that every restart has the same process id."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from job import Job, Skip, arguments, check, log_lines, main

GRACE = 1.0  # seconds from SIGTERM to the end of a training with short steps
OUTPUTS = ["--out", "model.safetensors", "--log", "run.jsonl", "--report", "page.html"]


def listing(folder):
    """Every file below; checkpoints without their steps, since SIGTERM saves one of any step."""
    return sorted(re.sub(r"step-\d+\.", "step-N.", os.path.relpath(os.path.join(place, name), folder))
                  for place, _, names in os.walk(folder) for name in names)


def being_written(folder):
    """Is a temporary file in the folder?"""
    try:
        return any(name.endswith(".tmp") for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def wait(process, folder, draw, seconds):
    """Until a random moment, a temporary file beside the outputs, or one beside the checkpoints, which kills that came
    before may have left; at most until the process ends."""
    watched = draw.choice((None, None, folder, os.path.join(folder, "kept")))
    if not watched or being_written(watched):
        time.sleep(draw.uniform(0, 0.5 * seconds))
    else:
        while process.poll() is None and not being_written(watched):
            time.sleep(0.0002)


def check_end(job, folder, number):
    check(job.hash(folder) == job.expected, f"training {number} ended with another model")
    check(job.log(folder) == job.expected_log, f"training {number} ended with another log of its checkpoints")
    check(log_lines(os.path.join(folder, "run.jsonl")) == job.expected_log, f"training {number} ended with another --log")
    files = listing(folder)
    check(files == job.expected_files, f"training {number} ended with the files {files}, not {job.expected_files}")


def sweep(job, number, kills, draw, prefix=()):
    """Kills with signal `number` until `kills` have hit; (hits, whole trainings, the longest time to die)."""
    hits = trainings = 0
    longest = 0.0
    folder = None
    while hits < kills or folder:
        if not folder:
            folder = job.folder(f"kill{number}_{trainings}")
        process = subprocess.Popen([*prefix, *job.command()], cwd=folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        if hits < kills:
            if number == signal.SIGKILL:
                wait(process, folder, draw, job.seconds)
            else:
                time.sleep(draw.uniform(0, 0.5 * job.seconds))
            process.send_signal(number)
        sent = time.monotonic()
        errors = process.communicate()[1]  # ends with the last process that has the pipe
        taken = time.monotonic() - sent
        check("skipped" not in errors, errors.strip())
        if process.returncode == 0:
            trainings += 1
            check_end(job, folder, trainings)
            shutil.rmtree(folder)
            folder = None
            continue
        # Before the training starts SIGTERM ends the process in the default way.
        allowed = (-number,) if number == signal.SIGKILL else (-number, 128 + number)
        check(process.returncode in allowed, f"exit code {process.returncode} after {hits} kills: {errors.strip()}")
        hits += 1
        if process.returncode == 128 + number:
            longest = max(longest, taken)
    return hits, trainings, longest


def namespace():
    """The command that makes its argument the first process of a PID namespace, and dies with it."""
    for more in ([], ["--user", "--map-root-user"]):
        prefix = ["unshare", *more, "--pid", "--fork", "--kill-child"]
        try:
            if subprocess.run([*prefix, "true"], capture_output=True, timeout=60).returncode == 0:
                return prefix
        except FileNotFoundError:
            raise Skip("there is no unshare") from None
    raise Skip("no PID namespace can be made here: it needs root, or user namespaces")


def run():
    options = arguments(__doc__, pid_1={"action": "store_true", "help": "in a PID namespace, with SIGKILL only"})
    draw = random.Random(options.seed)
    prefix = namespace() if options.pid_1 else ()
    job = Job(options.descent, epochs=300, every="10 steps", hidden="64,64", more=OUTPUTS)
    job.expected_files = listing(job.whole)
    if options.pid_1:
        kills = sweep(job, signal.SIGKILL, 300 if options.full else 30, draw, prefix)
        return (f"{kills[0]:,} SIGKILLs of process 1 over {kills[1]} trainings: each ended with the same model, logs and "
                "files")
    kills = sweep(job, signal.SIGKILL, 1000 if options.full else 60, draw)
    terms = sweep(job, signal.SIGTERM, 200 if options.full else 30, draw)
    check(terms[2] <= GRACE, f"a training took {terms[2]:.2f} s to end after SIGTERM")
    return (f"{kills[0]:,} SIGKILLs over {kills[1]} trainings, {terms[0]} SIGTERMs over {terms[1]}: each ended with the "
            f"same model, logs and files; at most {1000 * terms[2]:.0f} ms from SIGTERM to the exit")


sys.exit(main(run))
