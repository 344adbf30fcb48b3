"""The benchmark's workloads on a GPU: shapes, targets, the command that times one, and whether a figure meets a
target."""

LEARNING_RATE = 1e-3

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
# Beside higgs: rows of 300 elements of bf16 are padded to 304; does a layer that wide take another algorithm?
PROBES = {"higgs-304": (28, [304] * 5, 1, "tanh", 65536, "bf16", {})}
# Several layers in one kernel beside one layer after another: the workloads whose layers fit, a published one, and a small
# step in every precision, all of which one kernel may compute.
FUSED = ("64x5", "256x5", "higgs", "64x12", "mnist", "mnist-tf32", "mnist-fp32")
FURTHER = {"64x12": (64, [64] * 11, 64, "relu", 131072, "bf16", {}),
           "mnist-tf32": (784, [128], 10, "relu", 256, "tf32", {}),
           "mnist-fp32": (784, [128], 10, "relu", 256, "fp32", {})}
# Rows per second of tiny-cuda-nn (Müller et al., 2021) on an H100: 1000 forward and backward passes in 0.79 s, without
# loss and optimizer (Yuan et al., 2024, arXiv:2403.17607, table I, "Benchmark"). As published: it is not run here.
PUBLISHED = {"64x12": 131072 * 1000 / 0.79}
PROFILED = ("4096x5", "1024x5", "higgs", "256x5", "64x5", "mnist")
COMPILED = ("higgs", "256x5", "1024x5", "4096x5")
PEERS = ("eager", "graph", "compile")


def workload(name, shrink=1):
    """The workload's shape by field, widths and batch divided by `shrink` to try a script without a GPU."""
    inputs, hidden, outputs, activation, batch, precision, _ = {**WORKLOADS, **PROBES, **FURTHER}[name]
    less = lambda n: max(2, n // shrink) if n > 1 else n
    if shrink > 1:
        inputs, hidden, outputs = less(inputs), [less(n) for n in hidden], less(outputs)
        batch = max(8, batch // shrink**2)
    # As many rows to draw from as `descent bench` has: batches that are not in the cache from the last time.
    batches = min(16, max(2, (256 << 20) // (4 * inputs * batch)))
    return {"inputs": inputs, "hidden": hidden, "outputs": outputs, "activation": activation, "batch": batch,
            "precision": precision, "source_batches": batches}


def bench_arguments(shape, seconds):
    """`descent bench` of this shape, without the command's own name."""
    return ["bench", "--json", "--device", "cuda", "--precision", shape["precision"], "--inputs", str(shape["inputs"]),
            "--hidden", ",".join(map(str, shape["hidden"])), "--outputs", str(shape["outputs"]),
            "--activation", shape["activation"], "--batch-size", str(shape["batch"]), "--optimizer", "adam",
            "--lr", str(LEARNING_RATE), "--seconds", str(seconds)]


def title(name):
    inputs, hidden, outputs, activation, batch, precision, _ = {**WORKLOADS, **FURTHER}[name]
    middle = f"{hidden[0]}x{len(hidden)}" if len(hidden) > 1 else str(hidden[0])
    return f"{inputs}-{middle}-{outputs} {activation} {precision}, batch {batch}"


def shares(ours):
    """What the products alone take of the step, and what its floor by the run's own ceilings takes: every operation at
    the larger of its arithmetic and its least traffic, one after another."""
    step = ours["step_seconds"]
    return ours["gemm_seconds"] / step, sum(row["floor_seconds"] for row in ours["operations"][:-1]) / step


def judge(name, ours, peers):
    """Each target of the workload with the measured value, None if not measured. peers: seconds of a step, by kind."""
    judged = []
    for aim, least in WORKLOADS[name][-1].items():
        row = {"aim": aim}
        ratios = {kind: seconds / ours["step_seconds"] for kind, seconds in peers.items()}
        if aim == "products":
            measured = shares(ours)[0]
        elif aim == "floor":
            least, row["floor_seconds"] = least
            measured = row["floor_seconds"] / ours["step_seconds"]
        elif aim == "best":
            # A missing peer might have been the best: the others' result is shown, but does not count.
            measured = min(ratios.values()) if set(ratios) == set(PEERS) else None
            row["against_those_there"] = min(ratios.values(), default=None)
        else:
            measured = ratios.get(aim)
        judged.append({**row, "least": least, "measured": measured,
                       "met": None if measured is None else measured >= least})
    return judged


def text_seconds(seconds):
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.3f} ms"


def text_aim(aim):
    names = {"products": "products", "floor": "derived floor", "best": "best peer"}
    text = f"{names.get(aim['aim'], aim['aim'])} >= {aim['least']}: "
    if aim["measured"] is not None:
        return text + f"{aim['measured']:.2f}, " + ("met" if aim["met"] else "missed")
    there = aim.get("against_those_there")
    return text + "not measured" + (f" ({there:.2f} of those that ran)" if there else "")
