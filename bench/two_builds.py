#!/usr/bin/env python3
"""The time of a training step of two builds, in turns A B B A, on this machine's CPU.

  bench/two_builds.py BUILD_A BUILD_B --rounds 20

Each round trains the same steps with both builds. A ratio is B / A of one round: of the wall time of a step, without the
first epoch, and of the user's CPU time of the whole process, which depends less on what else runs. The parameters
must have the same bytes.
"""
import argparse
import array
import hashlib
import json
import os
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_workloads import text_seconds

# name: inputs, hidden layers, classes (2: one output), rows of a step, steps of an epoch, epochs
CASES = {
    "784-128-10, batch 4096": (784, "128", 10, 4096, 4, 8),
    "64-64x4-64, batch 4096": (64, "64,64,64,64", 64, 4096, 8, 8),
    "30-16-1, batch 32": (30, "16", 2, 32, 4096, 24),
}


def write(path, rows, inputs, classes):
    """Random rows in the binary form; y is a class."""
    random.seed(1)
    X = array.array("f", (random.random() for _ in range(rows * inputs)))
    y = array.array("f", (row % classes for row in range(rows)))
    end = 4 * rows * inputs
    header = json.dumps({"X": {"dtype": "F32", "shape": [rows, inputs], "data_offsets": [0, end]},
                         "y": {"dtype": "F32", "shape": [rows], "data_offsets": [end, end + 4 * rows]}}).encode()
    header += b" " * (-(8 + len(header)) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + X.tobytes() + y.tobytes())


def train(build, data, case, threads, folder):
    """(wall seconds of a step, user's seconds of the process, sum of the parameters' bytes)"""
    _, hidden, _, batch, steps, epochs = case
    log, out = os.path.join(folder, "log"), os.path.join(folder, "model")
    if os.path.exists(log):
        os.unlink(log)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([os.path.join(build, "bin", "descent"), "train", data, "--hidden", hidden, "--batch-size", str(batch),
                    "--threads", str(threads), "--epochs", str(epochs), "--validation", "0", "--task", "classes" if case[2] > 2 else "binary", "--device", "cpu", "--quiet",
                    "--log", log, "--out", out], check=True, stdout=subprocess.DEVNULL)
    user = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    with open(log) as file:
        seconds = [json.loads(line)["seconds"] for line in file]
    with open(out, "rb") as file:
        file.seek(struct.unpack("<Q", file.read(8))[0], os.SEEK_CUR)  # the header has the names of the options
        digest = hashlib.sha256(file.read()).hexdigest()
    return (seconds[-1] - seconds[0]) / (epochs - 1) / steps, user, digest


def quartiles(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 4], statistics.median(ordered), ordered[-1 - len(ordered) // 4]


def text_ratio(pairs):
    low, middle, high = quartiles([b / a for a, b in pairs])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def measure(builds, name, threads, rounds, folder):
    """A row of the table."""
    case, data = CASES[name], os.path.join(folder, "rows.safetensors")
    write(data, case[3] * case[4], case[0], case[2])
    wall, user, digests = [], [], set()
    for turn in range(rounds):
        found = {side: train(builds[side], data, case, threads, folder) for side in ((0, 1) if turn % 2 == 0 else (1, 0))}
        wall.append((found[0][0], found[1][0]))
        user.append((found[0][1], found[1][1]))
        digests |= {found[0][2], found[1][2]}
    if len(digests) > 1:
        raise ValueError(f"{name}: the builds give other parameters")
    before, after = (text_seconds(statistics.median(pair[side] for pair in wall)) for side in (0, 1))
    return f"| {name} | {threads} | {before} | {after} | {text_ratio(wall)} | {text_ratio(user)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, metavar="BUILD")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    builds = [os.path.abspath(build) for build in options.builds]
    print("| network | threads | A | B | B / A, wall time (quartiles) | B / A, user's CPU time (quartiles) |")
    print("| --- | --- | --- | --- | --- | --- |")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in CASES:
                for threads in (1, 2):
                    print(measure(builds, name, threads, options.rounds, folder), flush=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as why:
        print(f"two_builds: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
