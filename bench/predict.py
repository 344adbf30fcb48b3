#!/usr/bin/env python3
"""Predictions per second on the CPU: Descent and ONNX Runtime on the same networks, ONNX Runtime on what Descent exports.

Each runs in a separate process and both are measured in turn (A B, A B, ...), so a drift of the machine's speed affects
both; quote medians over the rounds, and the median of the ratios round by round. Both get the same rows in
memory (float32, standard normal), normalise them, and give probabilities; both have the same number of threads. One call
predicts all of its rows: the cost of a call shows with few rows.

  bench/predict.py --library build/lib/libdescent.so --json out.json
"""
import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

WORKLOADS = {
    # name: inputs, hidden, classes, activation
    "notes": (30, [16, 8], 2, "sigmoid"),
    "mnist-small": (784, [128, 64], 10, "relu"),
    "mnist-large": (784, [256, 128], 10, "relu"),
    "higgs": (28, [300, 300, 300, 300], 2, "tanh"),
    "gelu": (256, [512, 512], 10, "gelu"),
    "wide": (1024, [1024, 1024, 1024], 10, "relu"),
}
ROWS = [64, 1024, 16384]  # per call
PEERS = ["descent", "onnxruntime"]
# In the order of the public header's tables.
ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu"]
BINARY, SOFTMAX = 0, 1
TASK_BINARY, TASK_CLASSES = 1, 2
STANDARD, IMPUTE_MEAN, INIT_AUTO, ONNX = 1, 0, 0, 0


def rows_of(name, rows):
    return np.random.default_rng(1).standard_normal((rows, WORKLOADS[name][0]), dtype=np.float32)


# ---- the library ----------------------------------------------------------------------------------------------------


class NetworkOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("inputs", ctypes.c_int64), ("layers", ctypes.c_int32), ("loss", ctypes.c_int),
                ("widths", ctypes.POINTER(ctypes.c_int64)), ("activations", ctypes.POINTER(ctypes.c_int))]


class Library:
    """The few functions of libdescent that this needs."""

    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        self.c.descent_last_error.restype = ctypes.c_char_p
        self.c.descent_version.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        if getattr(self.c, name)(*arguments):
            sys.exit(f"{name}: {self.c.descent_last_error().decode()}")

    def dataset(self, X, y=None, classes=0):
        made, floats = ctypes.c_void_p(), ctypes.POINTER(ctypes.c_float)
        targets = None if y is None else y.ctypes.data_as(floats)
        self.call("descent_dataset_create", X.ctypes.data_as(floats), targets, None, ctypes.c_int64(len(X)),
                  ctypes.c_int64(X.shape[1]), ctypes.c_int64(1), TASK_BINARY if classes == 2 else TASK_CLASSES,
                  ctypes.c_int64(classes), ctypes.byref(made))
        return made

    def make(self, name, model, graph):
        """Drawn weights, a fitted normalisation; saved, and exported."""
        inputs, hidden, classes, activation = WORKLOADS[name]
        widths = [*hidden, 1 if classes == 2 else classes]
        activations = [ACTIVATIONS.index(activation)] * len(hidden) + [0]
        options = NetworkOptions(ctypes.sizeof(NetworkOptions), inputs, len(widths),
                                 (ctypes.c_int64 * len(widths))(*widths), (ctypes.c_int * len(widths))(*activations),
                                 BINARY if classes == 2 else SOFTMAX)
        network, X = ctypes.c_void_p(), rows_of(name, 1000)
        y = (np.arange(1000) % classes).astype(np.float32)
        self.call("descent_network_create", ctypes.byref(options), ctypes.byref(network))
        self.call("descent_network_initialise", network, INIT_AUTO, ctypes.c_uint64(1))
        self.call("descent_network_fit_preprocessing", network, self.dataset(X, y, classes), STANDARD, IMPUTE_MEAN, False)
        self.call("descent_network_save", network, model.encode())
        self.call("descent_network_export", network, ONNX, graph.encode())


# ---- the peers: each gives a function that predicts all rows ----------------------------------------------------------


def predict_descent(name, rows, arguments, folder):
    library = Library(arguments.shared)
    network, device, X = ctypes.c_void_p(), ctypes.c_void_p(), rows_of(name, rows)
    classes = WORKLOADS[name][2]
    library.call("descent_network_load", os.path.join(folder, f"{name}.safetensors").encode(), ctypes.byref(network))
    library.call("descent_device_open", b"cpu", arguments.threads, ctypes.byref(device))
    dataset = library.dataset(X)
    outputs = np.empty((rows, 1 if classes == 2 else classes), dtype=np.float32)
    pointer = outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def predict():
        library.call("descent_predict", network, device, dataset, pointer)
        return outputs[:, 0] if classes == 2 else outputs

    predict.keep = X
    return predict


def predict_onnxruntime(name, rows, arguments, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(os.path.join(folder, f"{name}.onnx"), options,
                                           providers=["CPUExecutionProvider"])
    X, classes = rows_of(name, rows), WORKLOADS[name][2]

    def predict():
        probabilities = session.run(["probabilities"], {"X": X})[0]
        return probabilities[:, 1] if classes == 2 else probabilities

    return predict


def serve(arguments):
    """Answers requests "workload rows seconds", one a line, with a JSON line each."""
    make = {"descent": predict_descent, "onnxruntime": predict_onnxruntime}[arguments.serve]
    ready = {}
    for line in sys.stdin:
        name, rows, seconds = line.split()
        key, rows = (name, rows), int(rows)
        if key not in ready:
            ready = {key: make(name, rows, arguments, arguments.folder)}
        predict, samples, end = ready[key], [], time.perf_counter() + float(seconds)
        values = predict()
        while len(samples) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            predict()
            samples.append(time.perf_counter() - start)
        print(json.dumps({"seconds": statistics.median(samples), "some": np.ravel(values)[:50].tolist()}), flush=True)


# ---- asking them in turn ----------------------------------------------------------------------------------------------


def start(peer, arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    command = [sys.executable, os.path.abspath(__file__), "--serve", peer, "--folder", folder, "--threads",
               str(arguments.threads), "--library", arguments.shared]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(process, name, rows, seconds):
    process.stdin.write(f"{name} {rows} {seconds}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"{name}, {rows} rows: a peer has ended")
    return json.loads(answer)


def measure(processes, name, rows, arguments):
    rounds = {peer: [] for peer in PEERS}
    for _ in range(arguments.rounds):
        some = {}
        for peer in PEERS:
            answer = ask(processes[peer], name, rows, arguments.seconds)
            rounds[peer].append(rows / answer["seconds"])
            some[peer] = np.array(answer["some"])
        if not np.allclose(some["descent"], some["onnxruntime"], rtol=1e-4, atol=1e-5):
            sys.exit(f"{name}: the peers disagree")
    ratios = [ours / theirs for ours, theirs in zip(rounds["descent"], rounds["onnxruntime"])]
    return {"workload": name, "network": "-".join(map(str, [WORKLOADS[name][0], *WORKLOADS[name][1],
                                                            WORKLOADS[name][2]])),
            "activation": WORKLOADS[name][3], "rows": rows,
            "rows_per_second": {peer: statistics.median(rounds[peer]) for peer in PEERS},
            "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def machine(arguments):
    import onnxruntime

    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"date": time.strftime("%Y-%m-%d"), "cpu": cpu or platform.machine(), "threads": arguments.threads,
            "descent": Library(arguments.shared).c.descent_version().decode(),
            "onnxruntime": onnxruntime.__version__, "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", dest="shared", default="build/lib/libdescent.so")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="some of them, by name")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.shared = os.path.abspath(arguments.shared)
    if arguments.serve:
        return serve(arguments)
    results = {"machine": machine(arguments), "rows": []}
    print("| network | rows per call | Descent, rows/s | ONNX Runtime, rows/s | ratio |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        library = Library(arguments.shared)
        names = arguments.workloads.split(",")
        for name in names:
            library.make(name, os.path.join(folder, f"{name}.safetensors"), os.path.join(folder, f"{name}.onnx"))
        processes = {peer: start(peer, arguments, folder) for peer in PEERS}
        for name in names:
            for rows in ROWS:
                row = measure(processes, name, rows, arguments)
                results["rows"].append(row)
                speed = row["rows_per_second"]
                print(f"| {row['network']} {row['activation']} | {rows:,} | {speed['descent']:,.0f} | "
                      f"{speed['onnxruntime']:,.0f} | {row['ratio']:.2f} |", flush=True)
        for process in processes.values():
            process.stdin.close()
            process.wait()
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
