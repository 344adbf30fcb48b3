"""Prints gcovr's JSON report as a table: lines and branches of each folder of host/, and of all of it. With a part of a
path, the lines of those sources with branches that were never taken."""
import collections
import json
import os
import sys


def percent(taken, count):
    return f"{taken:6} of {count:6}  {100 * taken / max(count, 1):5.1f} %"


def branches_of(line):
    return [b["count"] > 0 for b in line.get("branches", []) if not b.get("excluded")]


def counts(lines):
    """(lines run, lines, branches taken, branches) of a file."""
    taken = [b for line in lines for b in branches_of(line)]
    return [sum(line["count"] > 0 for line in lines), len(lines), sum(taken), len(taken)]


def main(report, part=None):
    files = json.load(open(report))["files"]
    groups = collections.defaultdict(lambda: [0, 0, 0, 0])
    for file in files:
        path = file["file"]
        lines = [line for line in file["lines"] if not line.get("gcovr/excluded")]
        if part and part in path:
            source = open(path).read().split("\n")
            for line in lines:
                taken = branches_of(line)
                if line["count"] == 0 or not all(taken):
                    n = line["line_number"]
                    marks = "".join("+" if b else "-" for b in taken)
                    print(f"{path}:{n}: {'never' if line['count'] == 0 else marks}: {source[n - 1].strip()}")
        for group in [os.path.dirname(path) if not part else path, "all"]:
            groups[group] = [a + b for a, b in zip(groups[group], counts(lines))]
    for name, (lines, of_lines, branches, of_branches) in sorted(groups.items()):
        if not part or part in name:
            print(f"{name:28} lines {percent(lines, of_lines)}   branches {percent(branches, of_branches)}")


main(*sys.argv[1:])
