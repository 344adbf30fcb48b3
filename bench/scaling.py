#!/usr/bin/env python3
"""Several ranks beside several threads, measured on this machine's CPU, and a model of many GPUs.

  bench/scaling.py BUILD                 both; the measurement needs mpirun and mpicc
  bench/scaling.py --model               the model alone
  bench/scaling.py --check               whether bench/results/scaling.md has the model's figures
  bench/scaling.py BUILD --markdown FILE the tables as a page: bench/results/scaling.md

The measurement trains the same steps with 1 rank of 2 threads and with 2 ranks of 1 thread, in turns, and compares the
bytes of their models. Beside it stands what the model says of the second: the step of half the batch on one thread, and
the ordered sum over a link whose latency and bandwidth bench/ping_pong.c measures. The model of GPUs is
bench/scaling_model.py; nothing of it is measured.
"""
import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import large_rows
from gpu_workloads import WORKLOADS, text_seconds, title
from scaling_model import PATHS, PREDICTED, batch_of, half, overlapped, parameters, strong, sum_seconds, weak

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "results", "scaling.md")
# name: rows, inputs, hidden layers, rows of a step
MEASURED = {
    "28-300-300-1, batch 8192": (32768, 28, "300,300", 8192),
    "256-1024-1024-1, batch 1024": (4096, 256, "1024,1024", 1024),
    "64-256-256-1, batch 256": (16384, 64, "256,256", 256),
}
EPOCHS = 3  # of which the first is not counted
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
SIDES = {  # ranks, threads of each, micro-batches, share of the batch
    "1 rank, 2 threads": (1, 2, 1, 1),
    "1 rank, 2 threads, 2 micro-batches": (1, 2, 2, 1),
    "2 ranks, 1 thread each": (2, 1, 2, 1),
    "half the batch, 1 thread": (1, 1, 1, 2),
}
WEAK_RANKS, STRONG_RANKS, OVERLAP_RANKS = (2, 4, 8, 64, 1024), (2, 4, 8, 64), (8, 64)


# ---- measured --------------------------------------------------------------------------------------------------------


def ping_pong(folder):
    """(seconds of a small message, bytes per second)"""
    program = os.path.join(folder, "ping_pong")
    subprocess.run(["mpicc", "-O2", "-o", program, os.path.join(HERE, "ping_pong.c")], check=True)
    said = subprocess.run([*MPIRUN, "-n", "2", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(map(float, said.split()))


def train(descent, data, workload, side, folder):
    """(seconds of a step, sum of the model's bytes)"""
    rows, _, hidden, batch = workload
    ranks, threads, micro_batches, share = SIDES[side]
    log, out = os.path.join(folder, "log"), os.path.join(folder, "model")
    command = [descent, "train", data, "--hidden", hidden, "--batch-size", str(batch // share), "--micro-batches",
               str(micro_batches), "--threads", str(threads), "--epochs", str(EPOCHS), "--validation", "0", "--device",
               "cpu", "--quiet", "--log", log, "--out", out]
    if os.path.exists(log):
        os.unlink(log)
    subprocess.run([*MPIRUN, "-n", str(ranks), *command] if ranks > 1 else command, check=True,
                   stdout=subprocess.DEVNULL)
    with open(log) as file:
        seconds = [json.loads(line)["seconds"] for line in file]
    with open(out, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return (seconds[-1] - seconds[0]) / (EPOCHS - 1) / (rows * share // batch), digest


def measure(descent, rounds):
    """name -> {side: seconds of a step, medians}, and the link."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        latency, bandwidth = ping_pong(folder)
        for name, workload in MEASURED.items():
            data = os.path.join(folder, "rows.safetensors")
            large_rows.main(data, workload[0], workload[1])
            seconds, models = {side: [] for side in SIDES}, {}
            for turn in range(rounds):
                for side in list(SIDES)[::1 if turn % 2 == 0 else -1]:
                    step, models[side] = train(descent, data, workload, side, folder)
                    seconds[side].append(step)
            same = models["1 rank, 2 threads, 2 micro-batches"] == models["2 ranks, 1 thread each"]
            if not same:
                raise ValueError(f"{name}: two ranks give other bytes than one")
            figures[name] = {side: statistics.median(each) for side, each in seconds.items()}
            figures[name]["ratios"] = quartiles(seconds)
    return figures, latency, bandwidth


def quartiles(seconds):
    """Of the ratio of two ranks to two threads, round by round, with the median in the middle."""
    ratios = sorted(b / a for a, b in zip(seconds["1 rank, 2 threads"], seconds["2 ranks, 1 thread each"]))
    return ratios[len(ratios) // 4], statistics.median(ratios), ratios[-1 - len(ratios) // 4]


def modelled(name, figures, latency, bandwidth):
    _, inputs, hidden, _ = MEASURED[name]
    widths = [inputs, *map(int, hidden.split(",")), 1]
    n = sum((a + 1) * b for a, b in zip(widths, widths[1:]))
    return figures["half the batch, 1 thread"] + sum_seconds(n, 2, latency, bandwidth)


def measured_lines(figures, latency, bandwidth):
    lines = [f"Between two processes of this machine a message takes {text_seconds(latency)}, and a large one "
             f"{bandwidth * 1e-9:.1f} GB/s (`bench/ping_pong.c`).", "",
             "| network | 1 rank x 2 threads | the same, 2 micro-batches | 2 ranks x 1 thread | ratio (quartiles) | "
             "2 ranks by the model |", "| --- | --- | --- | --- | --- | --- |"]
    for name, found in figures.items():
        one, parts, two = (found[side] for side in list(SIDES)[:3])
        low, ratio, high = found["ratios"]
        lines.append(f"| {name} | {text_seconds(one)} | {text_seconds(parts)} | {text_seconds(two)} | {ratio:.2f} "
                     f"({low:.2f} to {high:.2f}) | {text_seconds(modelled(name, found, latency, bandwidth))} |")
    return lines


# ---- the model -------------------------------------------------------------------------------------------------------


def text_half(ranks):
    return str(ranks) if ranks else "-"


def model_lines():
    lines = []
    for label, path in PATHS.items():
        lines += ["", f"### Gradients {label}", "",
                  "| workload | parameters | step | " +
                  " | ".join(f"weak, {ranks}" for ranks in WEAK_RANKS) + " | half | " +
                  " | ".join(f"strong, {ranks}" for ranks in STRONG_RANKS) + " | half |",
                  "| --- " * (5 + len(WEAK_RANKS) + len(STRONG_RANKS)) + "|"]
        for name in WORKLOADS:
            cells = [title(name), f"{parameters(name) * 1e-6:.2f} M", text_seconds(PREDICTED[name][0])]
            cells += [f"{weak(name, ranks, path):.2f}" for ranks in WEAK_RANKS]
            cells += [text_half(half(name, path, True))]
            cells += [f"{strong(name, ranks, path):.2f} x" for ranks in STRONG_RANKS]
            cells += [text_half(half(name, path, False))]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def overlap_lines():
    columns = [(label, path, kind, ranks) for label, path in zip(("hosts", "GPUs"), PATHS.values())
               for ranks in OVERLAP_RANKS for kind in ("weak", "strong")]
    lines = ["| workload | " + " | ".join(f"{label}: {kind}, {ranks}" for label, _, kind, ranks in columns) + " |",
             "| --- " * (1 + len(columns)) + "|"]
    for name in WORKLOADS:
        gains = [overlapped(name, batch_of(name) / (ranks if kind == "strong" else 1), ranks, path)
                 for _, path, kind, ranks in columns]
        lines.append(f"| {title(name)} | {' | '.join(f'{gain:.2f} x' for gain in gains)} |")
    return lines


MODEL = """Every figure below is a prediction: no GPU has run any of it. It follows from `bench/scaling_model.py`: the step of one
GPU as predicted in [README.md](README.md), the links' stated bandwidths, and an assumed latency of 5 us a message. Eight
GPUs are a node. Weak: each GPU has the whole batch of the workload; the figure is the efficiency, 1 at best. Strong: the
GPUs share that batch; the figure is the speed-up. Half: the smallest number of GPUs, of powers of two up to 1024 in 128
nodes, at which the sum of the gradients takes more than half of the step; -: none."""


OVERLAP = """### At most gained by overlap

A step could send the gradient of each layer while the gradients of the layers below are computed. The figures are the
speed-up of a step at most, by the same model: the exchange would take no time from the computation, and pieces would cost
no more than the whole. With several micro-batches on a rank only the last could overlap, so that less would be gained.
Hosts: through the hosts' memory; GPUs: between GPUs."""

DECISION = """Overlap is not built. On CPUs it gains nothing ([micro-batches.md](micro-batches.md)). On the 8 GPUs of a node it would gain
1 to 19 % with the whole batch on each, and less than that in truth: NCCL's kernels take multiprocessors and memory
bandwidth from the products, and an exchange for each layer pays the latency again, which is most of the exchange of the
three networks with the largest figures. Up to 41 % is to be gained only where the exchange takes as long as the products,
and a larger batch on each GPU gains more there. Build it if a step that is measured on several GPUs spends more than a
tenth of its time in allreduce at the largest batch that trains well. The bits would not change, since each value is added
in the same order."""


def predicted():
    return ["", "## Predicted", "", MODEL, *model_lines(), "", OVERLAP, "", *overlap_lines(), "", DECISION]


def check():
    with open(PAGE) as file:
        if file.read().endswith("\n".join(predicted()) + "\n"):
            return 0
    print("scaling: bench/results/scaling.md has other predictions than the model: run bench/scaling.py BUILD --markdown "
          "bench/results/scaling.md", file=sys.stderr)
    return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", help="a build folder with the MPI module")
    parser.add_argument("--model", action="store_true", help="without measuring")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--markdown", help="write the page to this file")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        return check()
    if not options.model and not options.build:
        parser.error("name a build folder, or --model")
    lines = ["# Several ranks"]
    if not options.model:
        load, cores = os.getloadavg()[0], os.cpu_count()
        try:
            measured = measure(os.path.abspath(os.path.join(options.build, "bin", "descent")), options.rounds)
        except (OSError, subprocess.CalledProcessError, ValueError) as why:
            print(f"scaling: {why}", file=sys.stderr)
            return 1
        lines += ["", "## Measured", "",
                  f"{time.strftime('%Y-%m-%d')}, {processor()}, {cores} cores, a load of {load:.1f} when it began,",
                  f"{options.rounds} rounds in turns: `bench/scaling.py build --rounds {options.rounds}`. Medians of a step "
                  "and of the ratio of a round,",
                  "with its quartiles. The models of the third and fourth column have the same bytes."]
        if load > 1:
            lines += ["Other programs ran on these cores. A training of one thread loses less to them than one of two, so that",
                      "the model's figures are too low here: they are for an idle machine."]
        lines += ["", *measured_lines(*measured)]
    text = "\n".join(lines + predicted()) + "\n"
    print(text, end="")
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(text)
    return 0


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(": ")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
