#!/usr/bin/env python3
"""Predicts on files larger than the blocks that are read at a time, and measures the memory: a file five times as large
must not take more. With --full a file of 2 GB."""

import os
import subprocess
import sys

from job import Job, arguments, check, main

PART = 20_000_000  # bytes


def write_rows(path, size):
    """The columns of the job's data, in `size` bytes or a little more."""
    rows = "".join(f"{i % 97 / 7:.6f},{i % 89 / 5:.6f},{-i % 83 / 3:.6f},yes\n" for i in range(20_000))
    with open(path, "w") as file:
        file.write("a,b,c,answer\n")
        while file.tell() < size:
            file.write(rows)
    return os.path.getsize(path)


def predict(job, data):
    """The most memory that was resident, in bytes."""
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen([job.descent, "predict", os.path.join(job.scratch.name, "whole", "model.safetensors"),
                                    data, "--device", "cpu", "--threads", "2"], stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    check(status == 0, f"predict: status {status}")
    return usage.ru_maxrss * 1024


def run():
    options = arguments(__doc__)
    job = Job(options.descent)
    data = os.path.join(job.scratch.name, "large.csv")
    write_rows(data, PART)
    few = predict(job, data)
    size = write_rows(data, 2_000_000_000 if options.full else 5 * PART)
    many = predict(job, data)
    check(many < 1.05 * few + 1e6, f"{few / 1e6:.1f} MB for {PART / 1e6:.0f} MB, {many / 1e6:.1f} MB for {size / 1e6:.0f} MB")
    return f"at most {many / 1e6:.1f} MB resident for a file of {size / 1e6:,.0f} MB, {few / 1e6:.1f} MB for {PART / 1e6:.0f} MB"


sys.exit(main(run))
