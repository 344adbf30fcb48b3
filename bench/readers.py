#!/usr/bin/env python3
"""Megabytes per second of reading data files: Descent beside pandas, NumPy, scikit-learn, h5py and safetensors.

One table of numbers is written in every format, and read from the page cache. In each round every reader of a
format is measured in turn (A B A B ...), so a drift of the machine's speed affects all; quote medians over the rounds.
Descent's reader gives float32 with every number correctly rounded, and checks each; peers run with their defaults
(pandas' default is not always correctly rounded, so its round_trip is included too). A mapped file counts as read when
all values have been summed.

  bench/readers.py --library build/lib/libdescent.so --json out.json

Needs a C compiler (for read_time.c) and numpy; peers that are not installed are left out.
"""
import argparse
import gzip
import importlib
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def have(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


# ---- the files ------------------------------------------------------------------------------------------------------


def table(arguments):
    generator = np.random.default_rng(1)
    X = generator.standard_normal((arguments.rows, arguments.columns), dtype=np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(np.float32)
    return X, y


def write_csv(path, X, y, form):
    line = ",".join([form] * X.shape[1]) + ",%d\n"
    with open(path, "w", encoding="ascii") as file:
        file.write(",".join([f"x{c}" for c in range(X.shape[1])] + ["y"]) + "\n")
        for row, label in zip(X.tolist(), y.tolist()):
            file.write(line % (*row, label))


def write_files(folder, arguments):
    """name: path, the target option for Descent."""
    X, y = table(arguments)
    paths = {}

    def at(name, file, target=None):
        paths[name] = (os.path.join(folder, file), target)
        return paths[name][0]

    write_csv(at("csv, 6 digits", "six.csv", "y"), X, y, "%.6g")
    write_csv(at("csv, 9 digits", "nine.csv", "y"), X, y, "%.9g")
    write_csv(at("csv, 18 digits", "eighteen.csv", "y"), X, y, "%.18e")
    with open(paths["csv, 9 digits"][0], "rb") as plain, gzip.open(at("csv.gz", "nine.csv.gz", "y"), "wb", 6) as packed:
        shutil.copyfileobj(plain, packed)
    np.save(at("npy, float32", "x.npy", "-1"), np.column_stack([X, y]))
    np.save(at("npy, float64", "wide.npy", "-1"), np.column_stack([X, y]).astype(np.float64))
    np.savez(at("npz", "x.npz"), X=X, y=y.astype(np.int64))
    levels = np.clip(X * 40 + 128, 0, 255).astype(np.uint8)
    with open(at("idx", "x.idx", "-1"), "wb") as file:
        file.write(bytes([0, 0, 8, 2]) + struct.pack(">2I", len(X), X.shape[1] + 1))
        file.write(np.column_stack([levels, y]).astype(np.uint8).tobytes())
    sparse = np.where(X > 1, X, 0)
    with open(at("svmlight", "x.svm"), "w", encoding="ascii") as file:
        for row, label in zip(sparse.tolist(), y.tolist()):
            file.write("%d" % label + "".join(" %d:%.6g" % (c + 1, v) for c, v in enumerate(row) if v) + "\n")
    if have("h5py"):
        with have("h5py").File(at("hdf5", "x.h5"), "w") as file:
            file["X"], file["y"] = X, y
    if have("safetensors.numpy"):
        have("safetensors.numpy").save_file({"X": X, "y": y}, at("safetensors, mapped", "x.safetensors"))
    return paths


# ---- the readers: each gives a function of a path -------------------------------------------------------------------


def peers_of(name):
    pandas, sklearn, h5py = have("pandas"), have("sklearn.datasets"), have("h5py")
    safetensors = have("safetensors.numpy")
    if name.startswith("csv"):
        peers = {"pandas": lambda p: pandas.read_csv(p), "pandas round_trip":
                 lambda p: pandas.read_csv(p, float_precision="round_trip")} if pandas else {}
        if name == "csv, 9 digits":
            peers["NumPy loadtxt"] = lambda p: np.loadtxt(p, delimiter=",", skiprows=1, dtype=np.float32)
        return peers
    if name.startswith("npy"):
        return {"NumPy": np.load}
    if name == "npz":
        def npz(path):
            with np.load(path) as arrays:
                return arrays["X"], arrays["y"]
        return {"NumPy": npz}
    if name == "idx":
        return {"NumPy fromfile": lambda p: np.fromfile(p, np.uint8)[12:].astype(np.float32)}
    if name == "svmlight":
        return {"scikit-learn": sklearn.load_svmlight_file} if sklearn else {}
    if name == "hdf5":
        def hdf5(path):
            with h5py.File(path) as file:
                return file["X"][:], file["y"][:]
        return {"h5py": hdf5}

    def mapped(path):
        return safetensors.load_file(path)["X"].sum(dtype=np.float64)
    return {"safetensors, read and summed": mapped}


def build(arguments, folder):
    program = os.path.join(folder, "read_time")
    library = os.path.dirname(os.path.abspath(arguments.shared))
    subprocess.run(["cc", "-O2", os.path.join(HERE, "read_time.c"), "-I", os.path.join(HERE, "..", "include"),
                    "-o", program, "-L", library, "-ldescent", f"-Wl,-rpath,{library}"], check=True)
    return program


def read_descent(program, path, target, mapped):
    done = subprocess.run([program, path, *([target] if target else [])], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    return answer["summed" if mapped else "seconds"], answer


def measure(name, path, target, program, arguments):
    peers, size, mapped = peers_of(name), os.path.getsize(path) / 1e6, "mapped" in name
    times, opened = {reader: [] for reader in ["Descent", *peers]}, []
    for _ in range(arguments.rounds):
        seconds, answer = read_descent(program, path, target, mapped)
        assert answer["rows"] == arguments.rows and answer["inputs"] == arguments.columns, answer
        times["Descent"].append(seconds)
        opened.append(answer["seconds"])
        for reader, read in peers.items():
            start = time.perf_counter()
            value = read(path)
            times[reader].append(time.perf_counter() - start)
            del value
    row = {"format": name, "megabytes": size,
           "seconds": {reader: statistics.median(values) for reader, values in times.items()},
           "megabytes_per_second": {reader: size / statistics.median(values) for reader, values in times.items()},
           "ratio": {reader: statistics.median(theirs / ours for ours, theirs in zip(times["Descent"], times[reader]))
                     for reader in peers}}
    if mapped:
        row["seconds_to_open"] = statistics.median(opened)
    return row


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    versions = {name: getattr(have(name), "__version__", None)
                for name in ("numpy", "pandas", "sklearn", "h5py", "safetensors") if have(name)}
    return {"date": time.strftime("%Y-%m-%d"), "cpu": cpu or platform.machine(), "load": os.getloadavg()[0], **versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", dest="shared", default="build/lib/libdescent.so")
    parser.add_argument("--rows", type=int, default=200000)
    parser.add_argument("--columns", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", default="", help="those whose name begins so; all without")
    parser.add_argument("--json", help="where the figures go")
    arguments = parser.parse_args()
    results = {"machine": machine(), "rows": arguments.rows, "columns": arguments.columns, "formats": []}
    print("| format | MB | Descent, MB/s | others, MB/s (and how many times Descent's time) |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        program = build(arguments, folder)
        files = write_files(folder, arguments)
        os.sync()  # otherwise the first readers share the machine with the writing
        for name, (path, target) in files.items():
            if not name.startswith(arguments.formats):
                continue
            row = measure(name, path, target, program, arguments)
            results["formats"].append(row)
            speed = row["megabytes_per_second"]
            others = ", ".join(f"{peer} {speed[peer]:,.0f} ({ratio:.2f} x)" for peer, ratio in row["ratio"].items())
            opened = f"; open after {row['seconds_to_open'] * 1000:.1f} ms" if "seconds_to_open" in row else ""
            print(f"| {name} | {row['megabytes']:,.1f} | {speed['Descent']:,.0f}{opened} | {others} |", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
