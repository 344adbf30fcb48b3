#!/usr/bin/env python3
"""The time of a sweep of 64 trials in single trainings of the same epochs, on this machine's CPU.

  bench/sweep.py BUILD DATA.csv --target -1 --epochs 100 --rounds 5

Each round runs, one after another, one training with the default options, a sweep by successive halving and, with
--random, one in which every trial has all epochs. A ratio is that of one round: of the wall time, and of the CPU time of
the whole process, which depends less on what else runs. Reading the data is part of each.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time

VARIED = ["--learning-rate", "1e-4..1e-2:log", "--weight-decay", "0;1e-4", "--dropout", "0..0.3"]


def run(command):
    """(wall seconds, CPU seconds, standard output)"""
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime
    cpu, start = used(), time.perf_counter()
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return time.perf_counter() - start, used() - cpu, out


def best_of(out):
    return next(line for line in out.splitlines() if line.startswith("validation loss "))


def show(name, times, singles):
    wall = [t[0] / s[0] for t, s in zip(times, singles)]
    cpu = [t[1] / s[1] for t, s in zip(times, singles)]
    seconds = statistics.median(t[0] for t in times)
    print(f"| {name} | {seconds:.2f} s | {statistics.median(wall):.1f} ({min(wall):.1f} to {max(wall):.1f}) "
          f"| {statistics.median(cpu):.1f} ({min(cpu):.1f} to {max(cpu):.1f}) | {best_of(times[0][2])} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("data")
    parser.add_argument("--target", default="-1")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--random", action="store_true")
    arguments = parser.parse_args()
    descent = os.path.join(arguments.build, "bin", "descent")
    searches = ["halving"] + (["random"] if arguments.random else [])
    with tempfile.TemporaryDirectory() as folder:
        common = [arguments.data, f"--target={arguments.target}", "--epochs", str(arguments.epochs), "--device", "cpu",
                  "--quiet", "--out", os.path.join(folder, "m")]
        log = os.path.join(folder, "log")
        singles, sweeps = [], {search: [] for search in searches}
        for _ in range(arguments.rounds):
            with_log = run([descent, "train", *common, "--log", log])
            with open(log) as lines:
                losses = [json.loads(line)["validation_loss"] for line in lines]
            singles.append((*with_log[:2], f"validation loss {min(losses):.4f} at epoch {losses.index(min(losses)) + 1}"))
            for search in searches:
                sweeps[search].append(run([descent, "sweep", *common, *VARIED, "--search", search, "--trials",
                                           str(arguments.trials)]))
    print("| | wall time | in single trainings | CPU time in single trainings | best |")
    print("| --- | --- | --- | --- | --- |")
    show("one training", singles, singles)
    for search in searches:
        show(f"{arguments.trials} trials, {search}", sweeps[search], singles)


if __name__ == "__main__":
    main()
