#!/usr/bin/env python3
"""Runs the commands of the table in tests/RELIABILITY.md, each in full, and writes what it says into the column "last
result", with the time it took and the date. Stops at the first command that fails; its row is unchanged then, and rows
renewed before it stay renewed."""

import argparse
import datetime
import fcntl
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "tests", "RELIABILITY.md")
COMMAND, RESULT = 3, 4  # columns of a row "| promise | test | command | last result |"; column 0 is before the first bar


def cells_of(line):
    """None for a line that is no row of results."""
    cells = re.split(r"(?<!\\)\|", line)
    return cells if len(cells) == 6 and not cells[1].startswith((" ---", " promise ")) else None


def duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def result_of(output):
    """What a command says it found: its last line that begins with "result: ", how many tests passed, or its last line,
    which is the only one of a script here. None: it tested nothing."""
    stated = re.findall(r"^result: (.*)$", output, re.MULTILINE)
    passed = re.findall(r"0 tests failed out of (\d+)|\[  PASSED  \] (\d+) tests?\.", output)
    lines = output.split("\n")
    if re.search(r"No tests were found|Skipped\)$", output, re.MULTILINE) or (passed and passed[-1] in (("0", ""), ("", "0"))):
        return None
    if stated:
        return stated[-1]
    if passed:
        count = "".join(passed[-1])
        return f"{count} test{'' if count == '1' else 's'} passed"
    return next((line for line in reversed(lines) if line.strip()), None)


def run(command, descent):
    """The command of a cell with its real paths; its result, with its time."""
    build = os.path.dirname(os.path.dirname(descent))
    real = command.replace("\\|", "|").replace("--test-dir build ", f"--test-dir '{build}' ")
    real = re.sub(r"\.py D\b", f".py '{descent}'", re.sub(r"\bbuild/bin/", f"'{build}'/bin/", real))
    print(f"{command} ...", flush=True)
    started = time.monotonic()
    done = subprocess.run(["bash", "-c", real], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    result = result_of(done.stdout)
    if done.returncode != 0 or result is None:
        sys.exit(f"{done.stdout[-4000:]}\nrenew: {command}: exit code {done.returncode}"
                 f"{'' if result else ', nothing was tested'}; its row is unchanged")
    print(f"  {result}", flush=True)
    return f"{result} ({duration(time.monotonic() - started)}, {datetime.date.today()})"


def replace_row(row):
    """Writes one row into the page, in the place of that with the same promise: other runs may write others meanwhile."""
    with open(PAGE, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().split("\n")
        number, = (i for i, line in enumerate(lines) if (cells_of(line) or [""] * 2)[1] == row[1])
        lines[number] = "|".join(row)
        file.seek(0)
        file.write("\n".join(lines))
        file.truncate()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("descent", type=os.path.abspath, help="the command, in the folder bin of a build with the tests")
    parser.add_argument("--soak", type=int, default=600, metavar="SECONDS", help="of soak.py (default 600)")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose command matches (default: all)")
    options = parser.parse_args()
    with open(PAGE) as file:
        lines = file.read().split("\n")
    for line in lines:
        cells = cells_of(line)
        if not cells or not re.search(options.only, cells[COMMAND]):
            continue
        cells[COMMAND] = re.sub(r"--seconds \d+", f"--seconds {options.soak}", cells[COMMAND])
        commands = re.findall(r"`([^`]+)`", cells[COMMAND])  # none: those of a row above
        if commands:
            results = "; ".join(run(command, options.descent) for command in commands)
            cells[RESULT] = " " + results.replace("|", "\\|") + " "
            replace_row(cells)


main()
