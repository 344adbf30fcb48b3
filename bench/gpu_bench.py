#!/usr/bin/env python3
"""Time whole training steps on one GPU beside PyTorch's, in alternating rounds, and hold them to their aims.

  bench/gpu_bench.py --descent build/bin/descent --json out.json [--seconds-in-all 300]

Each round times Descent (`descent bench`: the step, its operations, the matrix products alone with the same algorithms,
and the device's ceilings) and then every peer in a process of its own, so that a drift of the GPU's clock touches all of
them; the figures are medians over the rounds, the ratios are taken round by round. All draw a shuffled batch from data on
the device, standard-normal features, Adam, the same shapes. Peers, where PyTorch with CUDA is installed:

  torch-eager     as one would write it: autocast for bf16 (parameters, moments and loss in float32), fused Adam
  torch-compile   the same model under torch.compile(mode="max-autotune"), the update fused as above
  torch-graph     the whole step (gather, forward, backward, fused capturable Adam) captured once as a CUDA graph

Needs nothing but Python's standard library without them.
"""
import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time

# name: inputs, hidden, outputs, activation, batch, precision, aims. gemm: least share of the step that the products
# alone take; floor: least share that the layer-by-layer floor takes; the rest: least ratio of a peer's step to ours.
WORKLOADS = {
    "4096x5": (4096, [4096] * 4, 4096, "relu", 16384, "bf16", {"gemm": 0.88, "best": 1.1}),
    "1024x5": (1024, [1024] * 4, 1024, "relu", 65536, "bf16", {"gemm": 0.75, "best": 1.2}),
    "higgs": (28, [300] * 5, 1, "tanh", 65536, "bf16", {"floor": 0.6, "best": 2.0}),
    "256x5": (256, [256] * 4, 256, "relu", 65536, "bf16", {"floor": 0.6, "best": 1.5}),
    "64x5": (64, [64] * 4, 64, "relu", 1048576, "bf16", {"floor": 0.6, "best": 1.5}),
    "mnist": (784, [128], 10, "relu", 256, "bf16", {"torch-graph": 2.0, "torch-eager": 10.0}),
    "4096x5-tf32": (4096, [4096] * 4, 4096, "relu", 16384, "tf32", {"gemm": 0.9}),
    "4096x5-fp32": (4096, [4096] * 4, 4096, "relu", 16384, "fp32", {"gemm": 0.9}),
}
PEERS = ("torch-eager", "torch-compile", "torch-graph")
LEARNING_RATE = 1e-3
SOURCE_BATCHES = 4


def shrink(workload, factor):
    """The same shape with widths and batch divided, to try this script where there is no GPU."""
    inputs, hidden, outputs, activation, batch, precision, aims = workload
    less = lambda n: max(2, n // factor) if n > 1 else n
    return less(inputs), [less(n) for n in hidden[:2]], less(outputs), activation, max(8, batch // factor ** 2), precision, aims


def title(workload):
    inputs, hidden, outputs, activation, batch, precision, _ = workload
    widths = f"{inputs}-{hidden[0]}x{len(hidden)}-{outputs}" if len(hidden) > 1 else f"{inputs}-{hidden[0]}-{outputs}"
    return f"{widths} {activation} {precision}, batch {batch}"


# ---- Descent ---------------------------------------------------------------------------------------------------------


def time_descent(workload, options, seconds):
    inputs, hidden, outputs, activation, batch, precision, _ = workload
    command = [options.descent, "bench", "--json", "--device", options.device, "--precision", precision,
               "--inputs", str(inputs), "--hidden", ",".join(map(str, hidden)), "--outputs", str(outputs),
               "--activation", activation, "--batch-size", str(batch), "--optimizer", "adam", "--lr", str(LEARNING_RATE),
               "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 20 * seconds)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"descent bench: exit code {done.returncode}")
    return json.loads(done.stdout)


def layer_floor(result):
    """Each operation at the larger of its arithmetic and its least traffic, one after another."""
    return sum(op["floor_seconds"] for op in result["operations"][:-1])


# ---- PyTorch, in a process of its own --------------------------------------------------------------------------------


def make_torch(workload, kind):
    import torch
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    inputs, hidden, outputs, activation, batch, precision, _ = workload
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    modules, n = [], inputs
    for width in hidden:
        modules += [torch.nn.Linear(n, width), torch.nn.ReLU() if activation == "relu" else torch.nn.Tanh()]
        n = width
    model = torch.nn.Sequential(*modules, torch.nn.Linear(n, outputs)).cuda()
    loss_of = torch.nn.BCEWithLogitsLoss() if outputs == 1 else torch.nn.CrossEntropyLoss()
    rows = SOURCE_BATCHES * batch
    X = torch.randn(rows, inputs, device="cuda")
    y = torch.rand(rows, 1, device="cuda").round() if outputs == 1 else torch.randint(outputs, (rows,), device="cuda")
    order = torch.randperm(rows, device="cuda")
    update = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=kind == "torch-graph")
    forward = torch.compile(model, mode="max-autotune") if kind == "torch-compile" else model
    index = order[:batch].clone()

    def step():
        update.zero_grad(set_to_none=kind != "torch-graph")
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16", cache_enabled=kind != "torch-graph"):
            out = forward(X[index])
        loss_of(out.float(), y[index]).backward()
        update.step()

    run = step
    if kind == "torch-graph":
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        run = graph.replay
    at = 0

    def whole():
        nonlocal at
        index.copy_(order[at:at + batch])
        at = (at + batch) % rows
        run()

    def measure(seconds):
        """Median seconds of a step, by events around groups of steps."""
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        samples, group, until = [], 1, time.perf_counter() + seconds
        while time.perf_counter() < until or len(samples) < 3:
            begin.record()
            for _ in range(group):
                whole()
            end.record()
            end.synchronize()
            elapsed = begin.elapsed_time(end) * 1e-3
            if elapsed < 0.01 and group < 4096:
                group *= 2  # too short to time well: not a sample
                continue
            samples.append(elapsed / group)
        return statistics.median(samples)

    measure(0.2)
    measure.version = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
    return measure


def worker(options):
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    try:
        workload = WORKLOADS[options.workloads[0]]
        measure = make_torch(shrink(workload, options.shrink) if options.shrink > 1 else workload, options.worker)
    except Exception as why:  # a missing package, a missing GPU, a compiler that fails: the peer is left out, with why
        print(json.dumps({"missing": f"{type(why).__name__}: {why}".splitlines()[0][:200]}), file=reply, flush=True)
        return
    print(json.dumps({"ready": measure.version}), file=reply, flush=True)
    for line in sys.stdin:
        print(json.dumps({"step": measure(float(line))}), file=reply, flush=True)


class Peer:
    def __init__(self, kind, name, options, patience):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--worker", kind, "--shrink", str(options.shrink), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.hello = self.reply(patience)

    def reply(self, patience):
        if not select.select([self.process.stdout], [], [], patience)[0]:
            self.process.kill()
            return {"missing": f"not ready after {patience:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": f"stopped with exit code {self.process.wait()}"}

    def measure(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.reply(60 + 10 * seconds)

    def close(self):
        self.process.kill()
        self.process.wait()


# ---- one workload ----------------------------------------------------------------------------------------------------


def judge(result, aims):
    """Each aim as (name, aimed at, measured or None)."""
    ours = result["descent"]
    found = {"gemm": ours["gemm_share"], "floor": ours["floor_share"]}
    ratios = {peer: row["times_descent"] for peer, row in result["peers"].items() if "times_descent" in row}
    found.update(ratios)
    if ratios:
        found["best"] = min(ratios.values())
    return [{"aim": aim, "least": least, "measured": found.get(aim)} for aim, least in aims.items()]


def compare(name, options, deadline):
    workload = shrink(WORKLOADS[name], options.shrink) if options.shrink > 1 else WORKLOADS[name]
    result = {"workload": name, "title": title(workload), "peers": {}}
    first = time_descent(workload, options, options.seconds)  # also chooses the algorithms
    peers = {}
    for kind in options.peers:
        left = deadline - time.monotonic()
        if left < 15:
            result["peers"][kind] = {"missing": "no time left"}
            continue
        peer = Peer(kind, name, options, min(left - 10, options.patience))
        if "ready" in peer.hello:
            peers[kind] = peer
            result["peers"][kind] = {"version": peer.hello["ready"]}
        else:
            result["peers"][kind] = peer.hello
            peer.close()
    rounds = []
    try:
        for _ in range(options.rounds):
            if rounds and time.monotonic() > deadline:
                break
            now = {"descent": time_descent(workload, options, options.seconds)}
            for kind, peer in peers.items():
                now[kind] = peer.measure(options.seconds)
            rounds.append(now)
    finally:
        for peer in peers.values():
            peer.close()
    median = lambda values: statistics.median(list(values))
    result["descent"] = {
        "step_seconds": median(r["descent"]["step_seconds"] for r in rounds),
        "all": [r["descent"]["step_seconds"] for r in rounds],
        "gemm_share": median(r["descent"]["gemm_seconds"] / r["descent"]["step_seconds"] for r in rounds),
        "floor_share": median(layer_floor(r["descent"]) / r["descent"]["step_seconds"] for r in rounds),
        "peak_flops": median(r["descent"]["peak_flops"] for r in rounds),
        "peak_bandwidth": median(r["descent"]["peak_bandwidth"] for r in rounds),
        "device": first["device"],
        "memory_bytes": first["memory_bytes"],
        "operations": rounds[-1]["descent"]["operations"],
    }
    for kind in peers:
        steps = [(r[kind]["step"], r["descent"]["step_seconds"]) for r in rounds if "step" in r[kind]]
        if not steps:
            result["peers"][kind]["missing"] = "did not finish"
            continue
        ratios = [theirs / ours for theirs, ours in steps]
        result["peers"][kind].update(step_seconds=median(s for s, _ in steps), all=[s for s, _ in steps],
                                     times_descent=median(ratios), times_descent_range=[min(ratios), max(ratios)])
    result["aims"] = judge(result, workload[-1])
    return result


def text_seconds(seconds):
    return f"{seconds * 1e6:8.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:8.3f} ms"


def show(result, stream):
    ours = result["descent"]
    print(f"{result['title']}", file=stream)
    print(f"  descent        {text_seconds(ours['step_seconds'])}   products {ours['gemm_share']:.2f}   floor "
          f"{ours['floor_share']:.2f}   of {ours['peak_flops'] * 1e-12:.0f} TFLOP/s, "
          f"{ours['peak_bandwidth'] * 1e-12:.2f} TB/s", file=stream)
    for kind, row in result["peers"].items():
        if "times_descent" in row:
            low, high = row["times_descent_range"]
            print(f"  {kind:14s} {text_seconds(row['step_seconds'])}   {row['times_descent']:.2f} x ({low:.2f} .. {high:.2f})",
                  file=stream)
        else:
            print(f"  {kind:14s} not run: {row['missing']}", file=stream)
    for aim in result["aims"]:
        if aim["measured"] is None:
            print(f"  aim {aim['aim']} >= {aim['least']}: not measured", file=stream)
        else:
            verdict = "met" if aim["measured"] >= aim["least"] else f"missed by {1 - aim['measured'] / aim['least']:.0%}"
            print(f"  aim {aim['aim']} >= {aim['least']}: {aim['measured']:.2f}, {verdict}", file=stream)
    stream.flush()


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--descent", default=os.path.join(root, "build", "bin", "descent"), help="the command")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peers", default=",".join(PEERS), type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per round, for Descent and each peer")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds that a peer may take to be ready")
    parser.add_argument("--seconds-in-all", type=float, default=300.0, help="after which only Descent alone is timed")
    parser.add_argument("--shrink", type=int, default=1, help="divide widths and batches, to try the script")
    parser.add_argument("--json", help="write all figures here, after every workload")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.workloads = options.workloads or list(WORKLOADS)
    for name, known in [(w, WORKLOADS) for w in options.workloads] + [(p, PEERS) for p in options.peers]:
        if name not in known:
            parser.error(f"unknown name '{name}' (known: {', '.join(known)})")
    if options.worker:
        return worker(options)
    results, failed = [], False
    end = time.monotonic() + options.seconds_in_all
    for i, name in enumerate(options.workloads):
        share = (end - time.monotonic()) / (len(options.workloads) - i)  # what is left, evenly
        try:
            result = compare(name, options, time.monotonic() + share)
            show(result, sys.stdout)
        except (RuntimeError, subprocess.TimeoutExpired, json.JSONDecodeError) as why:
            result, failed = {"workload": name, "failed": str(why)[:500]}, True
            print(f"{name}\n  failed: {result['failed']}", flush=True)
        results.append(result)
        if options.json:
            with open(options.json + ".new", "w") as file:
                json.dump(results, file, indent=1)
                file.write("\n")
            os.replace(options.json + ".new", options.json)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
