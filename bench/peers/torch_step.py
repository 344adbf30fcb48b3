#!/usr/bin/env python3
"""The PyTorch peers of the GPU benchmark: times whole training steps of several workloads in one process. What all ways
of writing the step share is what Descent does too: rows drawn through a random permutation from float32 data on the
device, parameters, moments, logits' loss and update in float32, Adam.

  eager     as one would write it; the update fused (fused=True), gradients dropped between steps
  graph     the same step captured once as a CUDA graph, from gather to update (capturable Adam); per step one copy of
            the batch's row numbers and one launch
  compile   gather, forward and loss in one function under torch.compile(mode="max-autotune"), which uses CUDA graphs
            itself; backward by the same compiler, the update fused
  vmap      a step of many networks: torch.func's vmap of grad over the members, each with its rows, the update of all
            fused; captured once as a CUDA graph

bf16 is autocast, PyTorch's own way of mixing: products in bf16, weights cast in every step, the loss in float32. tf32
is set_float32_matmul_precision("high"); in fp32 it is "highest".

Reads one JSON object from stdin: device, seconds (of each measurement) and runs, a list of workload, kind and shape.
Prints one line of JSON when PyTorch is there, then one for each run as it ends: the median seconds of a step, or why it
is missing. With "wait" true it prints "ready" after each run's preparation and measures once a line comes in.
"""
import gc
import json
import os
import statistics
import sys
import time

LEARNING_RATE = 1e-3
LEAST_GROUP_SECONDS = 0.01  # of steps between two readings of the clock


def make_step(torch, kind, workload, device):
    """Returns a function that does the training step on the next batch, without waiting for it."""
    batch, precision, outputs = workload["batch"], workload["precision"], workload["outputs"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    modules, n = [], workload["inputs"]
    for width in workload["hidden"]:
        modules += [torch.nn.Linear(n, width), {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[workload["activation"]]()]
        n = width
    model = torch.nn.Sequential(*modules, torch.nn.Linear(n, outputs)).to(device)
    loss_of = torch.nn.BCEWithLogitsLoss() if outputs == 1 else torch.nn.CrossEntropyLoss()
    rows = workload["source_batches"] * batch
    X = torch.randn(rows, workload["inputs"], device=device)
    y = torch.randint(max(outputs, 2), (rows,), device=device)
    if outputs == 1:
        y = y.float()[:, None]
    order = torch.randperm(rows, device=device)
    graph = kind == "graph"
    update = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=graph and device == "cuda")

    def loss(index):
        # A graph cannot keep the casts that autocast caches; each weight is used once, so nothing is cast twice.
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16", cache_enabled=not graph):
            z = model(X[index])
        return loss_of(z.float(), y[index])

    if kind == "compile":
        loss = torch.compile(loss, mode="max-autotune")

    def step(index):
        loss(index).backward()
        update.step()

    at = 0

    def next_rows():
        nonlocal at
        index = order[at:at + batch]
        at = (at + batch) % rows
        return index

    def plain():
        update.zero_grad(set_to_none=True)
        if kind == "compile":
            torch.compiler.cudagraph_mark_step_begin()
        step(next_rows())

    if not graph or device != "cuda":
        return plain

    index = next_rows().clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            plain()
    torch.cuda.current_stream().wait_stream(stream)
    # Without gradients at the start of the capture, backward stores them in every replay instead of adding to them.
    update.zero_grad(set_to_none=True)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step(index)

    def replay():
        index.copy_(next_rows())
        captured.replay()
    return replay


def make_members_step(torch, workload, device):
    """The same for all members of `workload`, stacked, each with its rows in its order."""
    members, batch, outputs = workload["members"], workload["batch"], workload["outputs"]
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if workload["precision"] == "tf32" else "highest")
    widths = [workload["inputs"], *workload["hidden"], outputs]
    stacked = {}
    for layer, (n_in, n_out) in enumerate(zip(widths, widths[1:])):
        stacked[f"W{layer}"] = torch.randn(members, n_out, n_in, device=device).mul_(n_in ** -0.5).requires_grad_()
        stacked[f"b{layer}"] = torch.zeros(members, n_out, device=device, requires_grad=True)
    rows = workload["source_batches"] * batch
    X = torch.randn(rows, workload["inputs"], device=device)
    y = torch.randint(max(outputs, 2), (rows,), device=device)
    orders = torch.stack([torch.randperm(rows, device=device) for _ in range(members)])
    activation = {"relu": torch.relu, "tanh": torch.tanh}[workload["activation"]]
    functional = torch.nn.functional

    def loss(parameters, index):
        z = X[index]
        with torch.autocast(device, torch.bfloat16, enabled=workload["precision"] == "bf16", cache_enabled=False):
            for layer in range(len(widths) - 1):
                z = functional.linear(z, parameters[f"W{layer}"], parameters[f"b{layer}"])
                z = activation(z) if layer < len(widths) - 2 else z
        if outputs == 1:
            return functional.binary_cross_entropy_with_logits(z.float()[:, 0], y[index].float())
        return functional.cross_entropy(z.float(), y[index])

    gradients = torch.func.vmap(torch.func.grad(loss))
    update = torch.optim.Adam(stacked.values(), lr=LEARNING_RATE, fused=True, capturable=device == "cuda")
    at = 0

    def next_rows():
        nonlocal at
        index = orders[:, at:at + batch]
        at = (at + batch) % rows
        return index

    def step(index):
        for name, gradient in gradients({name: each.detach() for name, each in stacked.items()}, index).items():
            stacked[name].grad = gradient
        update.step()

    if device != "cuda":
        return lambda: step(next_rows())
    index = next_rows().clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(index)
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step(index)

    def replay():
        index.copy_(next_rows())
        captured.replay()
    return replay


def make_clock(torch, device):
    """Returns a function group, step -> seconds of `group` steps, by the device's own clock where it has one."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def seconds(group, step):
            begin.record()
            for _ in range(group):
                step()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) * 1e-3
    else:
        def seconds(group, step):
            start = time.perf_counter()
            for _ in range(group):
                step()
            return time.perf_counter() - start
    return seconds


def measure(step, clock, seconds):
    """Median seconds of a step over groups long enough to time."""
    samples, group, until = [], 1, time.perf_counter() + seconds
    while time.perf_counter() < until or len(samples) < 3:
        elapsed = clock(group, step)
        if elapsed < LEAST_GROUP_SECONDS and group < 4096:
            group *= 2
            samples.clear()
        else:
            samples.append(elapsed / group)
    return statistics.median(samples)


def run_one(torch, run, job, say):
    """Prepares and measures one run; its tensors end with this call."""
    if run["kind"] == "vmap":
        step = make_members_step(torch, run["shape"], job["device"])
    else:
        step = make_step(torch, run["kind"], run["shape"], job["device"])
    clock = make_clock(torch, job["device"])
    measure(step, clock, min(0.2, job["seconds"]))
    if job.get("wait"):
        say({"ready": run["workload"]})
        sys.stdin.readline()
    return measure(step, clock, job["seconds"])


def main():
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to stderr

    def say(answer):
        print(json.dumps(answer), file=reply, flush=True)

    job = json.loads(sys.stdin.readline())
    try:
        import torch
        if job["device"] == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU")
    except Exception as why:  # no package, no GPU
        say({"missing": f"{type(why).__name__}: {why}".splitlines()[0][:300]})
        return 1
    say({"version": f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"})
    for run in job["runs"]:
        answer = {"workload": run["workload"], "kind": run["kind"]}
        try:
            answer["step_seconds"] = run_one(torch, run, job, say)
        except Exception as why:  # out of memory, a compiler that fails: this run alone is missing, and says why
            answer["missing"] = f"{type(why).__name__}: {why}".splitlines()[0][:300]
        say(answer)
        gc.collect()
        if job["device"] == "cuda":
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
