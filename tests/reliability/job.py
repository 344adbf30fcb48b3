"""A short training that the scripts here disturb: its data, its command line, and its undisturbed result."""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time


SKIPPED = 77  # the exit code that ctest shows as skipped


class Failure(Exception):
    pass


class Skip(Exception):
    """What is tested is not possible on this machine."""


def check(holds, what):
    if not holds:
        raise Failure(what)


def arguments(about, **more):
    """`more`: options name_with_underscores={what add_argument takes}."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("descent", type=os.path.abspath, help="the command")
    parser.add_argument("--full", action="store_true", help="everything, not the part that a test run takes")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn at random")
    for name, how in more.items():
        parser.add_argument("--" + name.replace("_", "-"), **how)
    return parser.parse_args()


def log_lines(path):
    """A run log without times."""
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    return [{name: line[name] for name in line if name not in ("seconds", "rows_per_second")} for line in lines]


class Job:
    """Runs in a temporary folder, removed with the object: `epochs` of 6 steps each, more with more rows. `more` is
    added to its command line. Without `undisturbed` its result is not known."""

    def __init__(self, descent, epochs=4, every="4 steps", hidden="6", rows=60, more=(), undisturbed=True):
        self.descent, self.epochs, self.every, self.hidden, self.more = descent, epochs, every, hidden, list(more)
        self.scratch = tempfile.TemporaryDirectory(prefix="descent_reliability_")
        self.data = os.path.join(self.scratch.name, "data.csv")
        draw = random.Random(7)
        with open(self.data, "w") as file:
            file.write("a,b,c,answer\n")
            for _ in range(rows):
                row = [draw.gauss(0, 1) for _ in range(3)]
                answer = "yes" if row[0] - row[1] + 0.3 * draw.gauss(0, 1) > 0 else "no"
                file.write(",".join(f"{x:.6f}" for x in row) + f",{answer}\n")
        if undisturbed:
            self.run_undisturbed()

    def run_undisturbed(self):
        self.whole = self.folder("whole")
        started = time.monotonic()
        undisturbed = self.run(self.whole, [])
        self.seconds = time.monotonic() - started
        check(undisturbed.returncode == 0, f"undisturbed: exit code {undisturbed.returncode}: {undisturbed.stderr}")
        self.expected, self.expected_log = self.hash(self.whole), self.log(self.whole)

    def folder(self, name):
        path = os.path.join(self.scratch.name, name)
        os.makedirs(path)
        return path

    def command(self):
        """The restartable command line."""
        return [self.descent, "train", self.data, "--target", "answer", "--epochs", str(self.epochs), "--batch-size",
                "8", "--hidden", self.hidden, "--dropout", "0.2", "--threads", "1", "--checkpoint-every", self.every,
                "--resume", "kept", "--quiet", "--device", "cpu"] + self.more

    def run(self, folder, prefix, **options):
        """Runs it, through `prefix`; the finished process."""
        try:
            return subprocess.run(prefix + self.command(), cwd=folder, capture_output=True, text=True, timeout=120,
                                  **options)
        except subprocess.TimeoutExpired:
            raise Failure(f"hangs: {' '.join(prefix)}") from None

    def hash(self, folder):
        with open(os.path.join(folder, "model.safetensors"), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    def log(self, folder):
        """The log beside the checkpoints, without times."""
        return log_lines(os.path.join(folder, "kept", "log.jsonl"))

    def finish(self, folder, context, log=True):
        """Continues from what is in the folder: to the end, with the same bytes, without finding damage, and if `log`
        is true with a complete log."""
        end = self.run(folder, [])
        check(end.returncode == 0, f"{context}: resuming ended with {end.returncode}: {end.stderr.strip()}")
        check("skipped" not in end.stderr, f"{context}: {end.stderr.strip()}")
        check(self.hash(folder) == self.expected, f"{context}: the model is another one")
        check(not log or self.log(folder) == self.expected_log, f"{context}: the log is another one")


def main(run):
    """Runs it and says in one line how it went; the exit code."""
    try:
        print(run())
        return 0
    except Skip as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    except Failure as failure:
        print(f"failed: {failure}", file=sys.stderr)
        return 1
