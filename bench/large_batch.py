#!/usr/bin/env python3
"""Test accuracy after the same number of epochs: batches of 16 rows, and batches 64 times as large.

Trains on examples/optdigits_train.csv and measures the weights of the last epoch on examples/optdigits_test.csv, on
which nothing else depends. Every recipe is trained with the same seeds: of the initial weights and the order of rows.

  bench/large_batch.py build/bin/descent [--seeds 20] [--json out.json]

With --choose it measures a fifth of the training file, held out at random, in place of the test file, for several
learning rates of each recipe. The learning rates below were chosen in this way, with other seeds.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAIN = os.path.join(ROOT, "examples", "optdigits_train.csv")
TEST = os.path.join(ROOT, "examples", "optdigits_test.csv")
EPOCHS, SMALL, LARGE = 60, 16, 1024
DECAY = ["--schedule", "polynomial", "--warmup-epochs", "5"]

# name, rows of a step, learning rate, other options; the first is the one to reach
RECIPES = [
    ("adam", SMALL, 0.001, ["--optimizer", "adam"]),
    ("adam", LARGE, 0.001, ["--optimizer", "adam"]),
    ("adam", LARGE, 0.004, ["--optimizer", "adam"]),
    ("adam, warm-up, polynomial", LARGE, 0.008, ["--optimizer", "adam", *DECAY]),
    ("lamb, warm-up, polynomial", LARGE, 0.01, ["--optimizer", "lamb", "--weight-decay", "0.01", *DECAY]),
]


def accuracy(command, batch, learning_rate, options, seed, held_out):
    data = ["--validation", "0.2"] if held_out else ["--validation", TEST]
    with tempfile.TemporaryDirectory() as scratch:
        log = os.path.join(scratch, "log")
        subprocess.run([command, "train", TRAIN, "--target", "digit", "--hidden", "64,32", "--epochs", str(EPOCHS),
                        "--batch-size", str(batch), "--learning-rate", repr(learning_rate), "--seed", str(seed),
                        "--device", "cpu", "--quiet", "--log", log, "--out", os.path.join(scratch, "model"), *data,
                        *options], check=True, stdout=subprocess.DEVNULL)
        with open(log) as file:
            last = [json.loads(line) for line in file][-1]
    assert last["epoch"] == EPOCHS
    return last["validation_accuracy"]


def row(name, batch, learning_rate, found):
    print(f"{name:27}{batch:6}{learning_rate:10g}{statistics.mean(found):10.4f}{statistics.stdev(found):9.4f}"
          f"{max(found):9.4f}{min(found):9.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", help="the descent command")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--choose", action="store_true", help="compare learning rates on held-out training rows")
    parser.add_argument("--json", help="write the accuracies to this file")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds: must be at least 2, since the table shows a spread")
    results = []
    print(f"{'recipe':27}{'batch':>6}{'rate':>10}{'mean':>10}{'std':>9}{'best':>9}{'worst':>9}")
    for name, batch, learning_rate, options in RECIPES:
        for factor in (0.25, 0.5, 1, 2, 4) if arguments.choose else (1,):
            seeds = range(100, 100 + arguments.seeds) if arguments.choose else range(arguments.seeds)
            found = [accuracy(arguments.command, batch, learning_rate * factor, options, seed, arguments.choose)
                     for seed in seeds]
            row(name, batch, learning_rate * factor, found)
            results.append({"recipe": name, "batch": batch, "learning_rate": learning_rate * factor,
                            "options": options, "epochs": EPOCHS, "accuracy": found})
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
