#!/usr/bin/env python3
"""The time of a prediction on the CPU: Descent and ONNX Runtime on the same networks, ONNX Runtime on what Descent exports.

Each runs in a separate process and all are measured in turn (A B C, A B C, ...), so a drift of the machine's speed affects
all; quote medians over the rounds, and the median of the ratios round by round. All get the same rows in memory (float32,
standard normal), normalise them, and give probabilities; all have the same number of threads. Descent is called from C
(predict_time.c), in two ways: by a predictor, and by descent_predict, which sets the network up in each call. ONNX Runtime
is called from Python, as its users do; that costs it a few microseconds a call. A call during which another process
took the processor counts with the CPU time of its thread.

  bench/predict.py --library build/lib/libdescent.so --threads 1 --json out.json
"""
import argparse
import ctypes
import json
import os
import platform
import resource
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
MIXED = 0  # 1 to 64 rows, another number in each call
ROWS = [1, 64, MIXED, 1024, 16384]  # per call
PEERS = ["predictor", "predict", "onnxruntime"]
HERE = os.path.dirname(os.path.abspath(__file__))
# In the order of the public header's tables.
ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu"]
BINARY, SOFTMAX = 0, 1
TASK_BINARY, TASK_CLASSES = 1, 2
STANDARD, IMPUTE_MEAN, INIT_AUTO, ONNX = 1, 0, 0, 0


def row_counts(rows):
    """Of one call after the other, over and over; as in predict_time.c."""
    return [rows] if rows != MIXED else [1 + 37 * i % 64 for i in range(64)]


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
        options = NetworkOptions(size=ctypes.sizeof(NetworkOptions), inputs=inputs, layers=len(widths),
                                 loss=BINARY if classes == 2 else SOFTMAX,
                                 widths=(ctypes.c_int64 * len(widths))(*widths),
                                 activations=(ctypes.c_int * len(widths))(*activations))
        network, X = ctypes.c_void_p(), rows_of(name, 1000)
        y = (np.arange(1000) % classes).astype(np.float32)
        self.call("descent_network_create", ctypes.byref(options), ctypes.byref(network))
        self.call("descent_network_initialise", network, INIT_AUTO, ctypes.c_uint64(1))
        self.call("descent_network_fit_preprocessing", network, self.dataset(X, y, classes), STANDARD, IMPUTE_MEAN, False)
        self.call("descent_network_save", network, model.encode())
        self.call("descent_network_export", network, ONNX, graph.encode())


# ---- the peers: each answers requests "workload rows seconds", one a line, with a JSON line each -----------------------


def preemptions():
    """How often another process has taken the processor from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def time_call(session, feed):
    """In microseconds."""
    before, cpu = preemptions(), time.thread_time()
    start = time.perf_counter()
    session.run(["probabilities"], feed)
    wall = time.perf_counter() - start
    return 1e6 * (wall if preemptions() == before else time.thread_time() - cpu)


def serve_onnxruntime(arguments):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    for line in sys.stdin:
        name, rows, seconds = line.split()
        counts, classes = row_counts(int(rows)), WORKLOADS[name][2]
        session = onnxruntime.InferenceSession(os.path.join(arguments.folder, f"{name}.onnx"), options,
                                               providers=["CPUExecutionProvider"])
        inputs = [{"X": rows_of(name, max(counts))[:count]} for count in counts]
        values = session.run(["probabilities"], {"X": rows_of(name, max(counts))})[0]
        samples = []
        end = time.perf_counter() + float(seconds)
        while len(samples) < 3 or len(samples) % len(counts) or time.perf_counter() < end:  # whole cycles
            samples.append(time_call(session, inputs[len(samples) % len(inputs)]))
        samples.sort()
        some = values[:, 1] if classes == 2 else values
        print(json.dumps({"p50": samples[len(samples) // 2], "p99": samples[len(samples) * 99 // 100],
                          "some": np.ravel(some)[:50].tolist()}), flush=True)


# ---- asking them in turn ----------------------------------------------------------------------------------------------


def build(arguments, folder):
    program, library = os.path.join(folder, "predict_time"), os.path.dirname(arguments.shared)
    subprocess.run(["cc", "-O2", os.path.join(HERE, "predict_time.c"), "-I", os.path.join(HERE, "..", "include"), "-o",
                    program, "-L", library, "-ldescent", f"-Wl,-rpath,{library}"], check=True)
    return program


def start(peer, program, arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    command = [program, folder, str(arguments.threads), peer]
    if peer == "onnxruntime":
        command = [sys.executable, os.path.abspath(__file__), "--serve", "--folder", folder, "--threads",
                   str(arguments.threads)]
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
        for peer in PEERS:
            rounds[peer].append(ask(processes[peer], name, rows, arguments.seconds))
        for peer in PEERS[:2]:
            if not np.allclose(rounds[peer][-1]["some"], rounds["onnxruntime"][-1]["some"], rtol=1e-4, atol=1e-5):
                sys.exit(f"{name}: {peer} and onnxruntime disagree")
    ratios = [theirs["p50"] / ours["p50"] for ours, theirs in zip(rounds["predictor"], rounds["onnxruntime"])]
    median = {kind: {peer: round(statistics.median(answer[kind] for answer in rounds[peer]), 3) for peer in PEERS}
              for kind in ("p50", "p99")}
    inputs, hidden, classes, activation = WORKLOADS[name]
    return {"workload": name, "network": "-".join(map(str, [inputs, *hidden, 1 if classes == 2 else classes])),
            "activation": activation, "rows": rows if rows != MIXED else "1..64", "p50_us": median["p50"],
            "p99_us": median["p99"], "ratio": statistics.median(ratios), "ratio_min": min(ratios),
            "ratio_max": max(ratios)}


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
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="per call; 0: from 1 to 64 in turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.shared = os.path.abspath(arguments.shared)
    if arguments.serve:
        return serve_onnxruntime(arguments)
    results = {"machine": machine(arguments), "rows": []}
    print("| network | rows per call | predictor, us: p50, p99 | descent_predict | ONNX Runtime | ratio of the p50 |\n"
          "| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        library = Library(arguments.shared)
        names = arguments.workloads.split(",")
        for name in names:
            library.make(name, os.path.join(folder, f"{name}.safetensors"), os.path.join(folder, f"{name}.onnx"))
            rows_of(name, max(ROWS)).tofile(os.path.join(folder, f"{name}.f32"))
        program = build(arguments, folder)
        processes = {peer: start(peer, program, arguments, folder) for peer in PEERS}
        for name in names:
            for rows in map(int, arguments.rows.split(",")):
                row = measure(processes, name, rows, arguments)
                results["rows"].append(row)
                times = " | ".join(f"{row['p50_us'][peer]:,.4g}, {row['p99_us'][peer]:,.4g}" for peer in PEERS)
                print(f"| {row['network']} {row['activation']} | {row['rows']} | {times} | {row['ratio']:.2f} |",
                      flush=True)
        for process in processes.values():
            process.stdin.close()
            process.wait()
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
