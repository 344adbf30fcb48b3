#!/usr/bin/env python3
"""A training at full speed for some seconds, with short epochs, or for as many as are given, that writes everything it can
while it runs: its memory must stay within 1 % of its size once warm (in less than a minute: or grow by less than the
smallest leak would let it), and its number of open files stay constant."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time

from job import Job, arguments, check, main

SAMPLES = 60
WARM = 2100  # epochs, of which a report draws 2,048 at most: until then its memory grows
LEAK = 32  # bytes: the smallest piece that malloc gives. Some pages of the heap are first used after 30,000 epochs.


def resident(process):
    """Bytes of the process's private memory, without pages of files."""
    with open(f"/proc/{process}/status") as status:
        return 1024 * sum(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def epochs_in(log):
    if not os.path.exists(log):
        return 0
    with open(log, "rb") as file:
        return sum(1 for _ in file)


def run():
    options = arguments(__doc__, seconds={"type": int, "default": 6, "help": "how long it is watched"})
    seconds = options.seconds
    # Wide layers in the short form, for a memory of which 1 % is some pages.
    rows, hidden = (20000, "64,64") if seconds >= 60 else (60, "160,160")
    job = Job(options.descent, epochs=1000000000, every="0.5s", hidden=hidden, rows=rows, undisturbed=False)
    folder = job.folder("soak")
    command = job.command() + ["--log", "log", "--tensorboard", "runs", "--report", "page.html", "--keep", "3"]
    with open(os.path.join(folder, "errors"), "w") as errors:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    memory, files = [], []
    try:
        deadline = time.monotonic() + (1200 if seconds >= 60 else 60)
        while (warm := epochs_in(os.path.join(folder, "log"))) < WARM:
            check(time.monotonic() < deadline, f"fewer than {WARM} epochs while it warms up")
            time.sleep(0.2)
        for _ in range(SAMPLES):
            time.sleep(seconds / SAMPLES)
            check(process.poll() is None, f"ended with {process.returncode}")
            memory.append(resident(process.pid))
            files.append(len(os.listdir(f"/proc/{process.pid}/fd")))
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    check(code == 128 + signal.SIGTERM, f"exit code {code}")
    with open(os.path.join(folder, "log")) as log:
        last = json.loads(log.readlines()[-1])
    third = SAMPLES // 3
    before, after = statistics.median(memory[:third]), statistics.median(memory[-third:])
    growth = after / before - 1
    between = (last["epoch"] - warm) * 2 / 3  # epochs between the medians
    check(abs(growth) <= 0.01 or (seconds < 60 and 0 < after - before < LEAK / 2 * between),
          f"memory went from {before} to {after} bytes in {between:.0f} epochs")
    # A checkpoint that is being written has a file open, and the folder that it is in.
    check(max(files) - min(files) <= 2 and min(files[:third]) == min(files[-third:]), f"open files: {sorted(set(files))}")
    return (f"{last['step']:,} steps in {seconds:,} s: {before / 1e6:.2f} MB of memory, {100 * growth:+.2f} % from the "
            f"first third to the last; {min(files)} files open throughout")


sys.exit(main(run))
