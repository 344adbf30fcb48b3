#!/usr/bin/env python3
"""Ensembles of 8 networks beside their members: log-loss, or RMSE, of rows that no training has seen.

Trains on the shipped data and on Friedman's first function (1991, Annals of Statistics 19, page 37), with
--ensemble-shuffle own and shared and the same seeds. Of the breast cancer data each seed has another split.

  bench/ensembles.py build/bin/descent [--seeds 20] [--json out.json] [--markdown out.md]
"""
import argparse
import csv
import json
import math
import os
import random
import statistics
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXAMPLES = os.path.join(ROOT, "examples")
MEMBERS = 8


def split_cancer(folder, seed):
    """A third of each class to test on."""
    with open(os.path.join(EXAMPLES, "breast_cancer.csv")) as file:
        header, *rows = list(csv.reader(file))
    shuffled = random.Random(seed)
    train, test = [], []
    for label in sorted({row[-1] for row in rows}):
        of_class = [row for row in rows if row[-1] == label]
        shuffled.shuffle(of_class)
        cut = len(of_class) // 3
        test += of_class[:cut]
        train += of_class[cut:]
    return write(folder, "train.csv", header, train), write(folder, "test.csv", header, test)


def friedman(folder, seed):
    """y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5 + N(0, 1), and five inputs without effect."""
    drawn = random.Random(1000 + seed)

    def row():
        x = [drawn.random() for _ in range(10)]
        y = 10 * math.sin(math.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4] + drawn.gauss(0, 1)
        return [repr(v) for v in x] + [repr(y)]

    header = [f"x{i}" for i in range(1, 11)] + ["y"]
    return (write(folder, "train.csv", header, [row() for _ in range(600)]),
            write(folder, "test.csv", header, [row() for _ in range(3000)]))


def digits(_folder, _seed):
    return os.path.join(EXAMPLES, "optdigits_train.csv"), os.path.join(EXAMPLES, "optdigits_test.csv")


def write(folder, name, header, rows):
    path = os.path.join(folder, name)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


# name, its files, target, the measure and its column in the table of train
SETS = [
    ("breast cancer", split_cancer, "diagnosis", "log-loss"),
    ("digits", digits, "digit", "log-loss"),
    ("Friedman 1", friedman, "y", "RMSE"),
]


def measure(command, files, target, seed, shuffle, rmse):
    """The ensemble's measure on the test rows, and those of its members."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run([command, "train", files[0], "--target", target, "--test", files[1], "--quiet",
                               "--ensemble", str(MEMBERS), "--ensemble-shuffle", shuffle, "--seed", str(seed),
                               "--device", "cpu", "--out", os.path.join(scratch, "model")],
                              check=True, capture_output=True, text=True)
    column = 2 if rmse else 1  # rows, loss, rmse
    rows = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if words and words[0] == "member":
            rows[words[1]] = float(words[1 + column + 1])
        elif words and words[0] == "ensemble" and len(words) > 2 and words[1] != "of":
            rows["ensemble"] = float(words[1 + column])
    ensemble = rows.pop("ensemble")
    assert len(rows) == MEMBERS, done.stdout
    return ensemble, list(rows.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", help="the descent command")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", help="write every measure to this file")
    parser.add_argument("--markdown", help="write the tables to this file")
    arguments = parser.parse_args()
    results, lines = [], []
    for name, make, target, what in SETS:
        for shuffle in ("own", "shared"):
            found = []
            for seed in range(1, arguments.seeds + 1):  # 0 cannot be shared as it is
                with tempfile.TemporaryDirectory() as folder:
                    files = make(folder, seed)
                    ensemble, members = measure(arguments.command, files, target, seed, shuffle, what == "RMSE")
                found.append({"seed": seed, "ensemble": ensemble, "members": members})
            results.append({"data": name, "shuffle": shuffle, "measure": what, "runs": found})
            mean_member = statistics.mean(statistics.mean(run["members"]) for run in found)
            best_member = statistics.mean(min(run["members"]) for run in found)
            ensembles = statistics.mean(run["ensemble"] for run in found)
            better = sum(run["ensemble"] < statistics.mean(run["members"]) for run in found)
            lines.append(f"| {name} | {what} | {shuffle} | {mean_member:.4f} | {best_member:.4f} | {ensembles:.4f} | "
                         f"{100 * (ensembles / mean_member - 1):+.1f} % | {better} of {len(found)} |")
            print(lines[-1], flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
    if arguments.markdown:
        with open(arguments.markdown, "w") as file:
            file.write("| data | measure | shuffle | mean member | best member | ensemble | change | better than the mean "
                       "member |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n\n")
            file.write("| seed | " + " | ".join(f"{r['data']}, {r['shuffle']}" for r in results) + " |\n")
            file.write("| --- |" + " --- |" * len(results) + "\n")
            for i, seed in enumerate(run["seed"] for run in results[0]["runs"]):
                cells = (f"{statistics.mean(r['runs'][i]['members']):.4f} -> {r['runs'][i]['ensemble']:.4f}"
                         for r in results)
                file.write(f"| {seed} | " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
