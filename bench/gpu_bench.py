#!/usr/bin/env python3
"""Time whole training steps on one GPU beside PyTorch's, in alternating rounds, and hold them to their aims.

  bench/gpu_bench.py --descent build/bin/descent --json out.json [--seconds-in-all 300]

Each round times Descent (`descent bench`: the step, its operations, the matrix products alone with the same algorithms,
and the device's ceilings) and then every peer in a process of its own, so that a drift of the GPU's clock touches all of
them; the figures are medians over the rounds, the ratios are taken round by round. All draw a shuffled batch from data on
the device, standard-normal features, Adam, the same shapes; what each peer does is said in bench/peers/torch_step.py. A
peer that is missing or not ready in time is named and left out; an aim that needs it is then not measured. Workloads
without an aim on a peer are timed without peers.

Needs nothing but Python's standard library; PyTorch with CUDA for the peers. Exit code 1 when a workload was not timed.
"""
import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time

# name: inputs, hidden, outputs, activation, batch, precision, aims. products: least share of the step that its matrix
# products alone take. floor: least share that the derived floor takes, with that floor's seconds: every layer's
# operands and results in bf16, read and written once, on an H200. The rest: least ratio of a peer's step to ours.
WORKLOADS = {
    "4096x5": (4096, [4096] * 4, 4096, "relu", 16384, "bf16", {"products": 0.88, "best": 1.1}),
    "1024x5": (1024, [1024] * 4, 1024, "relu", 65536, "bf16", {"products": 0.75, "best": 1.2}),
    "higgs": (28, [300] * 5, 1, "tanh", 65536, "bf16", {"floor": (0.6, 0.27e-3), "best": 2.0}),
    "256x5": (256, [256] * 4, 256, "relu", 65536, "bf16", {"floor": (0.6, 0.22e-3), "best": 1.5}),
    "64x5": (64, [64] * 4, 64, "relu", 1048576, "bf16", {"floor": (0.6, 0.87e-3), "best": 1.5}),
    "mnist": (784, [128], 10, "relu", 256, "bf16", {"graph": 2.0, "eager": 10.0}),
    "4096x5-tf32": (4096, [4096] * 4, 4096, "relu", 16384, "tf32", {"products": 0.9}),
    "4096x5-fp32": (4096, [4096] * 4, 4096, "relu", 16384, "fp32", {"products": 0.9}),
}
PEERS = ("eager", "graph", "compile")  # the slowest to be ready last: it gets the time that the others leave
LEARNING_RATE = 1e-3
LEAST_PEER_SECONDS = 10  # below which starting another peer is not tried


def as_fields(workload, factor):
    """The workload by name, its widths and batch divided by `factor` to try this script where there is no GPU."""
    inputs, hidden, outputs, activation, batch, precision, aims = workload
    less = lambda n: max(2, n // factor) if n > 1 else n
    if factor > 1:
        inputs, hidden, outputs, batch = less(inputs), [less(n) for n in hidden], less(outputs), max(8, batch // factor**2)
    # As many rows to draw from as `descent bench` has: batches that are not in the cache from the last time.
    batches = min(16, max(2, (256 << 20) // (4 * inputs * batch)))
    return {"inputs": inputs, "hidden": hidden, "outputs": outputs, "activation": activation, "batch": batch,
            "precision": precision, "source_batches": batches, "aims": aims}


def title(workload):
    hidden = workload["hidden"]
    middle = f"{hidden[0]}x{len(hidden)}" if len(hidden) > 1 else str(hidden[0])
    return (f"{workload['inputs']}-{middle}-{workload['outputs']} {workload['activation']} {workload['precision']}, "
            f"batch {workload['batch']}")


# ---- Descent ---------------------------------------------------------------------------------------------------------


def time_descent(workload, options, seconds, limit):
    command = [options.descent, "bench", "--json", "--device", options.device, "--precision", workload["precision"],
               "--inputs", str(workload["inputs"]), "--hidden", ",".join(map(str, workload["hidden"])),
               "--outputs", str(workload["outputs"]), "--activation", workload["activation"],
               "--batch-size", str(workload["batch"]), "--optimizer", "adam", "--lr", str(LEARNING_RATE),
               "--seconds", str(seconds)]
    environment = dict(os.environ)
    if options.search_path:
        environment["LD_LIBRARY_PATH"] = options.search_path
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"descent bench: not done within {limit:.0f} s")
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else
                           f"descent bench: exit code {done.returncode}")
    return json.loads(done.stdout)


def layer_floor(result):
    """Each operation at the larger of its arithmetic and its least traffic by the ceilings measured in the same run, one
    after another."""
    return sum(op["floor_seconds"] for op in result["operations"][:-1])


# ---- peers -----------------------------------------------------------------------------------------------------------


class Peer:
    def __init__(self, kind, workload, options, patience):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "torch_step.py")
        shape = {key: value for key, value in workload.items() if key != "aims"}
        self.process = subprocess.Popen([options.python, script, kind, json.dumps(shape), options.peer_device],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=None if options.verbose else subprocess.DEVNULL, text=True)
        self.hello = self.reply(patience)

    def reply(self, patience):
        if not select.select([self.process.stdout], [], [], patience)[0]:
            self.process.kill()
            return {"missing": f"no answer within {patience:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": f"stopped with exit code {self.process.wait()}"}

    def measure(self, seconds):
        try:
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        except OSError:  # it was killed or has died
            return {"missing": "stopped"}
        return self.reply(30 + 3 * seconds)

    def close(self):
        self.process.kill()
        self.process.wait()


def start_peers(workload, options, deadline):
    """The peers that are ready, and for every one its version or why it is missing."""
    peers, said = {}, {}
    if not set(workload["aims"]) & {"best", *PEERS}:
        return peers, said
    for kind in options.peers:
        # The rounds of those that are there, and one more, come out of the same time.
        left = deadline - time.monotonic() - options.rounds * options.seconds * (len(peers) + 3)
        if left < LEAST_PEER_SECONDS:
            said[kind] = {"missing": "no time left"}
            continue
        peer = Peer(kind, workload, options, left)
        if "ready" in peer.hello:
            peers[kind] = peer
            said[kind] = {"version": peer.hello["ready"]}
        else:
            said[kind] = peer.hello
            peer.close()
    return peers, said


# ---- one workload ----------------------------------------------------------------------------------------------------


def judge(ours, peers, aims):
    """Each aim with what was measured, None where nothing was."""
    ratios = {kind: row["times_descent"] for kind, row in peers.items() if "times_descent" in row}
    judged = []
    for aim, least in aims.items():
        row = {"aim": aim}
        if aim == "products":
            measured = ours["products_share"]
        elif aim == "floor":
            least, row["floor_seconds"] = least
            measured = row["floor_seconds"] / ours["step_seconds"]
        elif aim == "best":
            # A peer that is missing might have been the best: what the others give is told, but does not count.
            measured = min(ratios.values()) if len(ratios) == len(PEERS) else None
            row["against_those_there"] = min(ratios.values(), default=None)
        else:
            measured = ratios.get(aim)
        judged.append({**row, "least": least, "measured": measured,
                       "met": None if measured is None else measured >= least})
    return judged


def summarise(rounds, peers):
    """Descent's figures and each peer's, from the rounds that have them."""
    median = lambda values: statistics.median(list(values))
    own = [r["descent"] for r in rounds]
    ours = {
        "step_seconds": median(r["step_seconds"] for r in own),
        "all": [r["step_seconds"] for r in own],
        "products_share": median(r["gemm_seconds"] / r["step_seconds"] for r in own),
        "measured_floor_share": median(layer_floor(r) / r["step_seconds"] for r in own),
        "peak_flops": median(r["peak_flops"] for r in own),
        "peak_bandwidth": median(r["peak_bandwidth"] for r in own),
        "device": own[-1]["device"],
        "memory_bytes": own[-1]["memory_bytes"],
        "operations": own[-1]["operations"],
    }
    rows = {}
    for kind in peers:
        steps = [(r[kind]["step"], r["descent"]["step_seconds"]) for r in rounds if "step" in r.get(kind, {})]
        if not steps:
            rows[kind] = {"missing": "did not finish"}
            continue
        ratios = [theirs / mine for theirs, mine in steps]
        rows[kind] = {"step_seconds": median(theirs for theirs, _ in steps), "all": [theirs for theirs, _ in steps],
                      "times_descent": median(ratios), "times_descent_range": [min(ratios), max(ratios)]}
    return ours, rows


def compare(name, options, deadline, end):
    workload = as_fields(WORKLOADS[name], options.shrink)
    left = lambda: max(end - time.monotonic(), 1)
    time_descent(workload, options, 0.1, left())  # chooses the algorithms, for the rounds to find
    peers, said = start_peers(workload, options, deadline)
    rounds = []
    try:
        while len(rounds) < options.rounds and (not rounds or time.monotonic() < deadline):
            rounds.append({"descent": time_descent(workload, options, options.seconds, left())})
            for kind, peer in peers.items():
                rounds[-1][kind] = peer.measure(options.seconds)
    except RuntimeError:
        if not rounds:
            raise
    finally:
        for peer in peers.values():
            peer.close()
    ours, rows = summarise(rounds, peers)
    for kind, row in rows.items():
        said[kind].update(row)
    return {"workload": name, "title": title(workload), "rounds": len(rounds), "descent": ours, "peers": said,
            "aims": judge(ours, said, workload["aims"])}


# ---- the table -------------------------------------------------------------------------------------------------------


def text_seconds(seconds):
    return f"{seconds * 1e6:8.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:8.3f} ms"


def text_aim(aim):
    if aim["aim"] == "products":
        name = "share of the products"
    elif aim["aim"] == "floor":
        name = f"share of the floor derived for an H200, {aim['floor_seconds'] * 1e3:.2f} ms,"
    else:
        name = f"times {'the best peer' if aim['aim'] == 'best' else aim['aim']}"
    verdict = "NOT MEASURED"
    if aim["measured"] is not None:
        verdict = f"{aim['measured']:.2f}, " + ("met" if aim["met"] else f"MISSED by {1 - aim['measured'] / aim['least']:.0%}")
    elif aim.get("against_those_there"):
        verdict += f" against all; against those there {aim['against_those_there']:.2f}"
    return f"  aim: {name} >= {aim['least']}: {verdict}"


def show(result):
    ours = result["descent"]
    print(result["title"])
    print(f"  descent  {text_seconds(ours['step_seconds'])}  products {ours['products_share']:.2f}  measured floor "
          f"{ours['measured_floor_share']:.2f}  ceilings {ours['peak_flops'] * 1e-12:.1f} TFLOP/s, "
          f"{ours['peak_bandwidth'] * 1e-12:.2f} TB/s")
    for kind, row in result["peers"].items():
        if "times_descent" in row:
            low, high = row["times_descent_range"]
            print(f"  {kind:8s} {text_seconds(row['step_seconds'])}  {row['times_descent']:.2f} x ({low:.2f} .. {high:.2f})")
        else:
            print(f"  {kind:8s} not run: {row['missing']}")
    for aim in result["aims"]:
        print(text_aim(aim))
    sys.stdout.flush()


def write_results(path, results):
    with open(path + ".new", "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--descent", default=os.path.join(root, "build", "bin", "descent"), help="the command")
    parser.add_argument("--search-path", help="LD_LIBRARY_PATH for the command alone: PyTorch brings its own libraries")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--peers", default=",".join(PEERS), type=lambda text: [p for p in text.split(",") if p])
    parser.add_argument("--peer-device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try the script")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per round, for Descent and each peer")
    parser.add_argument("--seconds-in-all", type=float, default=300.0, help="shared out among the workloads")
    parser.add_argument("--shrink", type=int, default=1, help="divide widths and batches, to try the script")
    parser.add_argument("--json", help="write all figures here, after every workload")
    parser.add_argument("--verbose", action="store_true", help="show what the peers print")
    options = parser.parse_args()
    options.workloads = options.workloads or list(WORKLOADS)
    for name, known in [(w, WORKLOADS) for w in options.workloads] + [(p, PEERS) for p in options.peers]:
        if name not in known:
            parser.error(f"unknown name '{name}' (known: {', '.join(known)})")
    results = []
    end = time.monotonic() + options.seconds_in_all
    for i, name in enumerate(options.workloads):
        share = (end - time.monotonic()) / (len(options.workloads) - i)  # what is left, evenly
        try:
            if share < 1:
                raise RuntimeError("no time left")
            results.append(compare(name, options, time.monotonic() + share, end))
            show(results[-1])
        except (RuntimeError, OSError, ValueError) as why:
            results.append({"workload": name, "title": title(as_fields(WORKLOADS[name], options.shrink)),
                            "failed": str(why)[:500]})
            print(f"{results[-1]['title']}\n  NOT RUN: {results[-1]['failed']}", flush=True)
        if options.json:
            write_results(options.json, results)
    verdicts = [aim["met"] for result in results for aim in result.get("aims", [])]
    not_run = sum("failed" in result for result in results)
    print(f"aims: {verdicts.count(True)} met, {verdicts.count(False)} missed, {verdicts.count(None)} not measured; "
          f"{not_run} of {len(results)} workloads not run")
    return 1 if not_run else 0


if __name__ == "__main__":
    sys.exit(main())
