#!/usr/bin/env python3
"""The time of a training step of many networks on the CPU: Descent in turn, Descent together, and PyTorch's vmap.

Each runs in a separate process and all are measured in turn (A B C, A B C, ...), so a drift of the machine's speed affects
all; quote medians over the rounds, and the median of the ratios round by round, of the time and, where the machine has
other load, of the processors' time. All train the same networks with Adam on the same number of random rows in memory, in
an order that the members share. Descent is called from C (members_time.c): epochs of one network alone, which is what a
step of each costs in turn, and of all together; both must give the same networks. PyTorch computes the
gradients of all members with torch.func.vmap over grad, of stacked parameters, and updates them in one fused Adam, as it
is and compiled by torch.compile. --torch names the Python interpreter that has PyTorch.

  bench/members.py --library build/lib/libdescent.so --torch venv/bin/python --json out.json
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

WORKLOADS = {
    # name: inputs, hidden, classes, members, batch, steps of an epoch
    "notes": (30, "16,8", 2, 64, 64, 100),
    "notes-short": (30, "16,8", 2, 64, 64, 9),  # an epoch's end and its statistics come after every ninth step
    "middle": (64, "200,100", 10, 64, 64, 60),
    "large": (64, "512,256", 10, 64, 64, 60),  # 2.6 MB of parameters, gradients and moments of each
    "mnist": (784, "128,64", 10, 8, 64, 100),
}
HERE = os.path.dirname(os.path.abspath(__file__))


# ---- PyTorch: answers each number of steps with the seconds of training all members -------------------------------------


def serve_torch(arguments):
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    inputs, hidden, classes, members, batch, steps = WORKLOADS[arguments.workload]
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    widths = [inputs, *map(int, hidden.split(",")), 1 if classes == 2 else classes]

    def network():
        layers = []
        for n_in, n_out in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(n_in, n_out), torch.nn.Sigmoid() if classes == 2 else torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    base = network()
    parameters, _ = stack_module_state([network() for _ in range(members)])
    parameters = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-3, fused=True)
    X = torch.rand(steps * batch, inputs) * 2 - 1
    y = torch.arange(steps * batch) % classes
    y = y.float() if classes == 2 else y

    def loss(values, rows, targets):
        logits = functional_call(base, values, (rows,))
        if classes == 2:
            return torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], targets)
        return torch.nn.functional.cross_entropy(logits, targets)

    gradients = vmap(grad(loss), in_dims=(0, None, None))
    if arguments.compiled:
        gradients = torch.compile(gradients)

    def train(count):
        for s in range(count):
            if s % steps == 0:
                order = torch.randperm(steps * batch)
            rows = order[s % steps * batch:(s % steps + 1) * batch]
            found = gradients({name: value.detach() for name, value in parameters.items()}, X[rows], y[rows])
            for name, value in parameters.items():
                value.grad = found[name]
            optimizer.step()

    train(5)
    print("ready", flush=True)
    for line in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        train(int(line))
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}), flush=True)


# ---- asking in turn -----------------------------------------------------------------------------------------------------


def build(arguments, folder):
    program, library = os.path.join(folder, "members_time"), os.path.dirname(arguments.shared)
    subprocess.run(["cc", "-O2", os.path.join(HERE, "members_time.c"), "-I", os.path.join(HERE, "..", "include"), "-o",
                    program, "-L", library, "-ldescent", f"-Wl,-rpath,{library}"], check=True)
    return program


def open_process(command):
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process, request):
    process.stdin.write(f"{request}\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        sys.exit(f"{request}: a peer has ended")
    return json.loads(answer)


def open_torch(name, compiled, arguments):
    process = open_process([arguments.torch, os.path.abspath(__file__), "--serve", name, "--threads",
                            str(arguments.threads)] + ["--compiled"] * compiled)
    return process if process.stdout.readline() == "ready\n" else None


def run_descent(program, name, arguments):
    """Of a step of all members, in turn and together: its seconds and those of the processors."""
    inputs, hidden, classes, members, batch, steps = WORKLOADS[name]
    widths = f"{inputs},{hidden},{1 if classes == 2 else classes}"
    command = [program, "cpu", widths, batch, "fp32", members, steps, arguments.seconds, arguments.threads,
               "sigmoid" if classes == 2 else "relu", "shared"]
    found = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout)
    if not found["same"]:
        sys.exit(f"{name}: members trained together are not those trained alone")
    return {"turn": {"seconds": members * found["alone_seconds"], "cpu": members * found["alone_cpu_seconds"]},
            "together": {"seconds": found["together_seconds"], "cpu": found["together_cpu_seconds"]}}


def measure(name, program, arguments):
    inputs, hidden, classes, members, batch, _ = WORKLOADS[name]
    torch = {"vmap": open_torch(name, False, arguments), "compiled vmap": open_torch(name, True, arguments)} \
        if arguments.torch else {}
    torch = {peer: process for peer, process in torch.items() if process}
    times = {kind: {peer: [] for peer in ["turn", "together", *torch]} for kind in ("seconds", "cpu")}
    for _ in range(arguments.rounds):
        answers = run_descent(program, name, arguments)
        for peer, process in torch.items():
            found = ask(process, arguments.torch_steps)
            answers[peer] = {kind: found[kind] / arguments.torch_steps for kind in times}
        for kind, peers in times.items():
            for peer, values in peers.items():
                values.append(1e6 * answers[peer][kind] / members)
    for process in torch.values():
        process.stdin.close()
        process.wait()
    return {"workload": name, "network": f"{inputs}-{hidden.replace(',', '-')}-{1 if classes == 2 else classes}",
            "members": members, "batch": batch, "peers": {peer: summary(times, peer) for peer in times["seconds"]}}


def summary(times, peer):
    """Microseconds of a step of a member, and how they compare with those of members together, round by round."""
    found = {}
    for kind, peers in times.items():
        ratios = [theirs / ours for theirs, ours in zip(peers[peer], peers["together"])]
        found[kind] = {"us": round(statistics.median(peers[peer]), 3),
                       "ratio": [round(f(ratios), 2) for f in (min, statistics.median, max)]}
    return found


def machine(arguments):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    return {"date": time.strftime("%Y-%m-%d"), "cpu": cpu or platform.machine(), "threads": arguments.threads,
            "load": os.getloadavg()[0]}


def show(row):
    for peer, found in row["peers"].items():
        cells = []
        for kind in ("seconds", "cpu"):
            least, middle, most = found[kind]["ratio"]
            cells += [f"{found[kind]['us']:,.4g}", f"{middle:.2f} ({least:.2f} to {most:.2f})"]
        print(f"| {row['members']} x {row['network']} | {peer} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", dest="shared", default="build/lib/libdescent.so")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="some of them, by name")
    parser.add_argument("--torch", help="a Python interpreter that has PyTorch; without it, Descent only")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each of Descent's two ways in each round")
    parser.add_argument("--torch-steps", type=int, default=40, help="of PyTorch in each round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--serve", dest="workload", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.workload:
        return serve_torch(arguments)
    arguments.shared = os.path.abspath(arguments.shared)
    results = {"machine": machine(arguments), "rows": []}
    print("| networks | trained by | us per step of a member | of together (range) | processor, us | of together (range) |\n"
          "| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        program = build(arguments, folder)
        for name in arguments.workloads.split(","):
            results["rows"].append(measure(name, program, arguments))
            show(results["rows"][-1])
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
