#!/usr/bin/env python3
"""The cost of checkpoints: a training with a checkpoint after every epoch compared with the same training without.

The two take turns (A B, B A, ...), so a drift of the machine's speed affects both; the result is the
median of the ratios of their times, pair by pair. A third run, again without, shows the noise of the same command. Times
are those in the training's log, without start-up and reading of the data. The last checkpoint, which a training waits
for, is written after the log's last line; the time of the whole process shows it separately.

  bench/checkpoints.py build/bin/descent --json out.json
"""
import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time

WORKLOADS = {
    # name: rows, inputs, hidden layers, rows of a step, epochs
    "short steps": (20000, 32, "64,32", 64, 12),
    "512 wide": (40000, 64, "512,512", 512, 6),
    "512 wide, more rows": (200000, 64, "512,512", 512, 4),
    "1024 wide": (16384, 64, "1024,1024", 1024, 5),
    "1024 wide, more rows": (81920, 64, "1024,1024", 1024, 4),
}


def write_data(path, rows, inputs):
    draw = random.Random(1)
    with open(path, "w") as file:
        file.write(",".join(f"x{j}" for j in range(inputs)) + ",answer\n")
        for _ in range(rows):
            row = [draw.gauss(0, 1) for _ in range(inputs)]
            file.write(",".join(f"{x:.4f}" for x in row) + (",yes\n" if row[0] > row[1] else ",no\n"))


def train(command, data, workload, folder, every):
    """(seconds of training, seconds of the process, steps, bytes of a checkpoint)"""
    _, _, hidden, batch, epochs = workload
    arguments = [command, "train", data, "--target", "answer", "--hidden", hidden, "--batch-size", str(batch), "--epochs",
                 str(epochs), "--quiet", "--log", os.path.join(folder, "log"), "--out", os.path.join(folder, "model")]
    kept = os.path.join(folder, "kept")
    if every:
        arguments += ["--checkpoint", kept, "--checkpoint-every", every]
    started = time.monotonic()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - started
    with open(os.path.join(folder, "log")) as log:
        last = json.loads(log.readlines()[-1])
    size = max(os.path.getsize(os.path.join(kept, name)) for name in os.listdir(kept)) if every else 0
    return last["seconds"], whole, last["step"], size


def measure(command, name, rounds):
    workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as scratch:
        data = os.path.join(scratch, "data.csv")
        write_data(data, workload[0], workload[1])
        binary = os.path.join(scratch, "data.safetensors")
        subprocess.run([command, "convert", data, binary, "--target", "answer"], check=True, stdout=subprocess.DEVNULL)
        pairs, same, step, size = [], [], 0, 0
        for r in range(rounds):
            times = {}
            for side in ("none", "each", "again") if r % 2 == 0 else ("again", "each", "none"):
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    times[side] = train(command, binary, workload, folder, "1 epochs" if side == "each" else None)
            step = times["none"][0] / times["none"][2]
            size = times["each"][3]
            pairs.append(times["each"][0] / statistics.mean((times["none"][0], times["again"][0])))
            same.append(times["again"][0] / times["none"][0])
        return {"step_ms": 1000 * step, "checkpoint_bytes": size, "epoch_ms": 1000 * times["none"][0] / workload[4],
                "ratio": statistics.median(pairs), "ratios": pairs, "noise": statistics.median(same), "noises": same}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("descent", help="the command")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    results = {}
    for name in WORKLOADS:
        results[name] = found = measure(os.path.abspath(arguments.descent), name, arguments.rounds)
        spread = sorted(found["ratios"])
        print(f"{name:20} step {found['step_ms']:6.2f} ms  epoch {found['epoch_ms']:7.1f} ms  checkpoint "
              f"{found['checkpoint_bytes'] / 1e6:6.2f} MB, {(found['ratio'] - 1) * found['epoch_ms']:5.1f} ms each  "
              f"with / without {found['ratio']:.3f} "
              f"({spread[len(spread) // 4]:.3f} .. {spread[-1 - len(spread) // 4]:.3f})  without / without "
              f"{found['noise']:.3f}", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                       "rounds": arguments.rounds, "workloads": results}, file, indent=1)


if __name__ == "__main__":
    main()
