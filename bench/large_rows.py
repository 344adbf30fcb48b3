#!/usr/bin/env python3
"""Writes a large dataset in binary form, as `descent convert` makes it from a file: large_rows.py FILE ROWS INPUTS.

X is standard normal and y says whether its first two columns sum up to more than 0. A block of 100,000 rows is repeated,
since drawing takes longer than writing; needs nothing but Python.
"""
import array
import json
import random
import struct
import sys

BLOCK, ALIGNMENT = 100_000, 64


def main(path, rows, inputs):
    random.seed(1)
    X = array.array("f", (random.gauss(0, 1) for _ in range(min(rows, BLOCK) * inputs)))
    y = array.array("f", (X[at] + X[at + 1] > 0 for at in range(0, len(X), inputs)))
    end = 4 * rows * inputs
    header = json.dumps({"X": {"dtype": "F32", "shape": [rows, inputs], "data_offsets": [0, end]},
                         "y": {"dtype": "F32", "shape": [rows], "data_offsets": [end, end + 4 * rows]}}).encode()
    header += b" " * (-(8 + len(header)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for block, width in ((X.tobytes(), 4 * inputs), (y.tobytes(), 4)):
            for first in range(0, rows, BLOCK):
                file.write(block[:min(BLOCK, rows - first) * width])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
