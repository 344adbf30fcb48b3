#!/usr/bin/env python3
"""Time one training step of named workloads on Descent and on every peer that is installed.

Each peer runs in a separate process and is measured in turn (A B C, A B C, ...), so a drift of the machine's speed
affects all; quote medians over the rounds and the ratios round by round. All peers get the same
shapes, float32, the same optimizer, the same number of threads, standard-normal features, and a step that begins by
picking the batch's rows from a larger matrix through a random permutation.

  bench/compare.py --descent build/bin/descent --json out.json --plot out.png

Peers: torch-eager, torch-compile, sklearn (MLP's partial_fit on one batch), fann (batch gradient descent on squared
error; only networks of its activations, and only for plain gradient descent). A peer that is missing, or cannot express
a workload, is named and left out.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

WORKLOADS = {
    # name: inputs, hidden, outputs, activation, optimizer, batch
    "notes": (30, [16, 8], 1, "sigmoid", "gd", 64),
    "mnist-small": (784, [128, 64], 10, "relu", "adam", 64),
    "mnist-large": (784, [256, 128], 10, "relu", "adam", 1024),
    "higgs": (28, [300, 300, 300, 300], 1, "tanh", "gd", 1024),
    "wide": (1024, [1024, 1024, 1024], 10, "relu", "adam", 4096),
}
LEARNING_RATE = 1e-3
# Rows that batches are drawn from: enough that a batch's rows are not in cache from the last time.
SOURCE_BATCHES = 8


def title(name):
    inputs, hidden, outputs, activation, optimizer, batch = WORKLOADS[name]
    widths = "-".join(str(n) for n in [inputs, *hidden, outputs])
    return f"{widths} {activation}, {'SGD' if optimizer == 'gd' else 'Adam'}, batch {batch}"


def flops(name):
    """m (6 sum n_l n_{l-1} - 2 n_0 n_1): products of forward, weight gradients, input gradients but the first."""
    inputs, hidden, outputs, _, _, batch = WORKLOADS[name]
    n = [inputs, *hidden, outputs]
    return batch * (6 * sum(a * b for a, b in zip(n, n[1:])) - 2 * n[0] * n[1])


def timed(step, seconds):
    """Median seconds per call; short calls are timed in groups so that the clock costs nothing."""
    step()
    start = time.perf_counter()
    step()
    once = max(time.perf_counter() - start, 1e-7)
    group = max(1, int(0.005 / once))
    samples, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < 3:
        start = time.perf_counter()
        for _ in range(group):
            step()
        samples.append((time.perf_counter() - start) / group)
    return statistics.median(samples)


# ---- peers: each maker returns a function seconds -> {"step": s, ...}, or raises Missing -----------------------------


class Missing(Exception):
    pass


def data(name, numpy):
    inputs, _, outputs, _, _, batch = WORKLOADS[name]
    rng = numpy.random.default_rng(0)
    rows = SOURCE_BATCHES * batch
    X = rng.standard_normal((rows, inputs), dtype=numpy.float32)
    y = rng.integers(0, max(outputs, 2), rows)
    return X, y, rng.permutation(rows)


def make_torch(name, threads, compiled):
    try:
        import numpy
        import torch
    except ImportError as error:
        raise Missing(str(error))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    inputs, hidden, outputs, activation, optimizer, batch = WORKLOADS[name]
    modules, n = [], inputs
    for width in hidden:
        modules += [torch.nn.Linear(n, width), {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh,
                                                "sigmoid": torch.nn.Sigmoid}[activation]()]
        n = width
    model = torch.nn.Sequential(*modules, torch.nn.Linear(n, outputs))
    loss_of = torch.nn.BCEWithLogitsLoss() if outputs == 1 else torch.nn.CrossEntropyLoss()
    X, y, order = data(name, numpy)
    X, order = torch.from_numpy(X), torch.from_numpy(order)
    y = torch.from_numpy(y).float()[:, None] if outputs == 1 else torch.from_numpy(y)
    if optimizer == "adam":
        # foreach batches the element-wise work of all parameters: the faster of the two on the CPU is fused.
        update = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    else:
        update = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    forward = torch.compile(model) if compiled else model
    at = 0

    def step():
        nonlocal at
        rows = order[at:at + batch]
        at = (at + batch) % len(order)
        update.zero_grad(set_to_none=True)
        loss_of(forward(X[rows]), y[rows]).backward()
        update.step()

    def products():
        """The step's matrix products alone, on buffers of the right shapes."""
        n = [inputs, *hidden, outputs]
        A = [torch.randn(batch, k) for k in n]
        W = [torch.randn(b, a) for a, b in zip(n, n[1:])]

        def run():
            for l in range(len(W)):
                torch.mm(A[l], W[l].t())
            for l in reversed(range(len(W))):
                torch.mm(A[l + 1].t(), A[l])
                if l:
                    torch.mm(A[l + 1], W[l])
        return run

    def measure(seconds):
        return {"step": timed(step, seconds * 0.8), "gemm": timed(products(), seconds * 0.2)}
    measure.version = f"PyTorch {torch.__version__}"
    return measure


def make_sklearn(name, threads):
    try:
        import numpy
        import sklearn
        from sklearn.neural_network import MLPClassifier
    except ImportError as error:
        raise Missing(str(error))
    _, hidden, outputs, activation, optimizer, batch = WORKLOADS[name]
    X, y, order = data(name, numpy)
    model = MLPClassifier(hidden, activation={"sigmoid": "logistic"}.get(activation, activation),
                          solver="adam" if optimizer == "adam" else "sgd", momentum=0, nesterovs_momentum=False,
                          alpha=0, batch_size=batch, learning_rate_init=LEARNING_RATE, random_state=0)
    classes = numpy.arange(max(outputs, 2))
    at = 0

    def step():
        nonlocal at
        rows = order[at:at + batch]
        at = (at + batch) % len(order)
        model.partial_fit(X[rows], y[rows], classes=classes)

    def measure(seconds):
        return {"step": timed(step, seconds)}
    measure.version = f"scikit-learn {sklearn.__version__}"
    return measure


def make_fann(name, threads):
    inputs, hidden, outputs, activation, optimizer, batch = WORKLOADS[name]
    if activation not in ("sigmoid", "tanh") or optimizer != "gd":
        raise Missing(f"has no {activation}" if activation not in ("sigmoid", "tanh") else f"has no {optimizer}")
    compiler = shutil.which("cc")
    if not compiler:
        raise Missing("needs a C compiler")
    folder = tempfile.mkdtemp()
    program = os.path.join(folder, "fann_step")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "fann_step.c")
    built = subprocess.run([compiler, "-O3", "-march=native", source, "-o", program, "-lfloatfann", "-lm"],
                           capture_output=True, text=True)
    if built.returncode:
        raise Missing("libfann-dev is not installed")

    def measure(seconds):
        n = [str(k) for k in (inputs, *hidden, outputs)]
        done = subprocess.run([program, activation, str(batch), str(seconds), *n], capture_output=True, text=True,
                              check=True)
        return {"step": float(done.stdout)}
    measure.version = "FANN 2 (one thread)"
    return measure


def make_descent(name, threads, command):
    if not command or not os.access(command, os.X_OK):
        raise Missing(f"no command at {command!r}: give --descent")
    inputs, hidden, outputs, activation, optimizer, batch = WORKLOADS[name]
    arguments = [command, "bench", "--json", "--inputs", str(inputs), "--outputs", str(outputs),
                 "--hidden", ",".join(map(str, hidden)), "--activation", activation, "--optimizer", optimizer,
                 "--lr", str(LEARNING_RATE), "--batch-size", str(batch), "--device", "cpu", "--threads", str(threads),
                 "--loss", "binary_cross_entropy" if outputs == 1 else "softmax_cross_entropy"]

    def measure(seconds):
        done = subprocess.run([*arguments, "--seconds", str(seconds)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        result = json.loads(done.stdout)
        return {"step": result["step_seconds"], "gemm": result["gemm_seconds"]}
    measure.version = subprocess.run([command, "--version"], capture_output=True, text=True).stdout.strip()
    return measure


PEERS = {
    "descent": lambda name, o: make_descent(name, o.threads, o.descent),
    "torch-eager": lambda name, o: make_torch(name, o.threads, False),
    "torch-compile": lambda name, o: make_torch(name, o.threads, True),
    "sklearn": lambda name, o: make_sklearn(name, o.threads),
    "fann": lambda name, o: make_fann(name, o.threads),
}

# ---- one process per peer --------------------------------------------------------------------------------------------


def worker(options):
    """Answers each line `<seconds>` on stdin with one JSON line, the first line unasked: ready, or why not."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    try:
        measure = PEERS[options.worker](options.workloads[0], options)
        if options.worker != "descent":
            measure(0.2)  # compile and warm up
        print(json.dumps({"ready": measure.version}), file=reply, flush=True)
    except Missing as why:
        print(json.dumps({"missing": str(why)}), file=reply, flush=True)
        return
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), file=reply, flush=True)


class Peer:
    def __init__(self, peer, workload, options):
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), OPENBLAS_NUM_THREADS=str(options.threads),
                           MKL_NUM_THREADS=str(options.threads))
        log = None if options.verbose else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--worker", peer, "--threads", str(options.threads),
             "--descent", options.descent, workload],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.hello = self.reply()

    def reply(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": f"stopped with exit code {self.process.wait()}"}

    def measure(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.reply()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def compare(name, options):
    peers = {}
    for peer in options.peers:
        candidate = Peer(peer, name, options)
        if "ready" in candidate.hello:
            peers[peer] = candidate
        else:
            print(f"  {peer}: left out: {candidate.hello['missing']}", file=sys.stderr)
    rounds = []
    try:
        for _ in range(options.rounds):
            rounds.append({peer: peers[peer].measure(options.seconds) for peer in peers})
    finally:
        for peer in peers.values():
            peer.close()
    result = {"workload": name, "title": title(name), "flops_per_step": flops(name), "peers": {}}
    for peer in peers:
        steps = [r[peer]["step"] for r in rounds if "step" in r[peer]]
        if not steps:
            continue
        row = {"version": peers[peer].hello["ready"], "step_seconds": statistics.median(steps), "all": steps}
        gemm = [r[peer]["gemm"] / r[peer]["step"] for r in rounds if r[peer].get("gemm")]
        if gemm:
            row["gemm_share"] = statistics.median(gemm)
        if peer != "descent" and "descent" in peers:
            ratios = [r[peer]["step"] / r["descent"]["step"] for r in rounds if "step" in r[peer]]
            row["times_descent"] = statistics.median(ratios)
            row["times_descent_range"] = [min(ratios), max(ratios)]
        result["peers"][peer] = row
    return result


def show(result):
    print(f"{result['title']}")
    for peer, row in result["peers"].items():
        step = row["step_seconds"]
        scale, unit = (1e6, "us") if step < 1e-3 else (1e3, "ms")
        share = f"  gemm {row['gemm_share']:4.2f}" if "gemm_share" in row else " " * 11
        ratio = f"  {row['times_descent']:6.2f} x ({row['times_descent_range'][0]:.2f} .. " \
                f"{row['times_descent_range'][1]:.2f})" if "times_descent" in row else ""
        rate = result["flops_per_step"] / step * 1e-9
        print(f"  {peer:14s} {step * scale:9.2f} {unit}/step {rate:7.1f} GFLOP/s{share}{ratio}", flush=True)


def plot(results, path):
    try:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as pyplot
    except ImportError:
        print("plot: left out: matplotlib is not installed", file=sys.stderr)
        return
    names = [peer for peer in PEERS if peer != "descent" and any(peer in r["peers"] for r in results)]
    figure, axes = pyplot.subplots(figsize=(9, 0.9 * len(results) + 1.6))
    height = 0.8 / max(len(names), 1)
    for i, peer in enumerate(names):
        for j, result in enumerate(results):
            row = result["peers"].get(peer)
            if not row or "times_descent" not in row:
                continue
            ratio = row["times_descent"]
            axes.barh(j + (i - (len(names) - 1) / 2) * height, ratio, height * 0.9, color=f"C{i}",
                      label=peer if peer not in axes.get_legend_handles_labels()[1] else None)
            axes.text(ratio * 1.03, j + (i - (len(names) - 1) / 2) * height, f"{ratio:.1f}", va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(results)), [r["title"] for r in results])
    axes.invert_yaxis()
    axes.set_xlabel("time of one training step, as a multiple of Descent's (1 = equal; right = Descent is faster)")
    axes.legend(fontsize=8)
    axes.set_title(f"{processor()}, {results[0]['threads']} threads")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)} (default: all)")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--descent", default=os.path.join(root, "build", "bin", "descent"), help="the command")
    parser.add_argument("--peers", default=",".join(PEERS), type=lambda text: text.split(","))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per peer and round")
    parser.add_argument("--json", help="write all figures here")
    parser.add_argument("--plot", help="draw the ratios here (matplotlib)")
    parser.add_argument("--verbose", action="store_true", help="show what the peers print")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.workloads = options.workloads or list(WORKLOADS)
    for name, known in [(w, WORKLOADS) for w in options.workloads] + [(p, PEERS) for p in options.peers]:
        if name not in known:
            parser.error(f"unknown name '{name}' (known: {', '.join(known)})")
    if options.worker:
        return worker(options)
    results = []
    for name in options.workloads:
        result = compare(name, options)
        result.update(processor=processor(), threads=options.threads, rounds=options.rounds, seconds=options.seconds,
                      date=time.strftime("%Y-%m-%d"))
        results.append(result)
        show(result)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
