#!/usr/bin/env python3
"""Registers, shared memory and occupancy of every kernel of kernels/, as a table in Markdown.

    bench/kernel_table.py BUILD >bench/results/kernels.md

Needs nvcc and a build of the tests in BUILD. Registers and static shared memory are the assembler's
(bench/check_kernels.sh). Threads of a block and dynamic shared memory are those of launches: the tests of the kernels
run on the emulation and list them. No GPU is needed.
"""

import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ["passes_test", "dense_passes_test", "loss_passes_test", "gather_test", "fused_test", "weight_gradients_test",
         "network_step_test", "network_cluster_test", "network_chain_test", "device_arrays_test", "combine_pass_test",
         "rank_sum_test", "trust_test"]
ARITHMETICS = ["fp32", "tf32", "bf16"]  # enum arithmetic of kernels/fused.cuh

COMMON_THREADS = 256  # BLOCK of kernels/common.cuh: of kernels that these tests do not launch

# Of a multiprocessor: threads, blocks, bytes of shared memory of which each block takes 1,024 more than it asks for;
# 65,536 registers, given to warps in units of 256 (CUDA C++ Programming Guide, "Compute Capabilities").
ARCHITECTURES = {"sm_80": (2048, 32, 164 << 10), "sm_90a": (2048, 32, 228 << 10), "sm_100": (2048, 32, 228 << 10)}


def assembled(folder):
    """{kernel: {architecture: (registers, static shared memory)}}, by bench/check_kernels.sh."""
    table = folder / "table"
    subprocess.run([ROOT / "bench/check_kernels.sh"], env={**os.environ, "TABLE": str(table)}, check=True,
                   stdout=subprocess.DEVNULL)
    kernels = collections.defaultdict(dict)
    for line in table.read_text().splitlines():
        name, architecture, registers, shared = line.rsplit(maxsplit=6)[:4]
        kernels[plain(name)][architecture] = (int(registers), int(shared))
    return kernels


def plain(name):
    """A kernel's name without its parameters, written alike by both compilers."""
    name = re.sub(r"\(anonymous namespace\)::|^void ", "", name)
    depth, end = 0, len(name)
    for i in reversed(range(len(name))):  # the parameters are the last parenthesis
        depth += (name[i] == ")") - (name[i] == "(")
        if depth == 0:
            end = i if name[i] == "(" else len(name)
            break
    return name[:end].strip()


def launched(build, folder):
    """{kernel: Counter of (threads, dynamic shared memory)}, by the tests."""
    kernels = collections.defaultdict(collections.Counter)
    for test in TESTS:
        program, log = build / "bin" / test, folder / test
        subprocess.run([program], env={**os.environ, "DESCENT_EMULATE_LAUNCHES": str(log)}, check=True,
                       stdout=subprocess.DEVNULL)
        symbols = subprocess.run(["nm", "-C", "--defined-only", program], check=True, capture_output=True, text=True).stdout
        names = {int(line.split()[0], 16): line.split(maxsplit=2)[2] for line in symbols.splitlines()
                 if len(line.split(maxsplit=2)) == 3}
        for line in log.read_text().splitlines():
            address, threads, shared = line.split()
            if int(address, 16) in names:  # else in a shared object
                kernels[plain(names[int(address, 16)])][int(threads), int(shared)] += 1
    return kernels


def blocks_of(architecture, threads, registers, shared):
    """Blocks of a kernel that a multiprocessor holds."""
    most_threads, most_blocks, memory = ARCHITECTURES[architecture]
    warps = -(-threads // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // warps
    return min(most_blocks, most_threads // (32 * warps), by_registers, memory // (-(-shared // 128) * 128 + 1024))


def label(kernel):
    """The name that a row shows: of a kernel with tiles also their size."""
    fused = re.fullmatch(r"(fused|chain)_kernel<\(arithmetic\)(\d), tile<([\d, ]+)>(?:, (forward|backward)_launch)? ?>", kernel)
    if fused:
        down, across, tall, wide = map(int, fused[3].split(", ")[:4])
        name = f"fused {fused[4]}" if fused[4] else "network_chain"
        return f"{name}, {ARITHMETICS[int(fused[2])]}, {16 * tall * down} x {8 * wide * across}"
    step = re.fullmatch(r"network_step_kernel<step_tile<\(arithmetic\)(\d), ([\d, ]+), .*>, (true|false)>", kernel)
    if step:
        width, layers, warps, tall = map(int, step[2].split(", ")[:4])
        name = "network_step" if step[3] == "true" else "network_step, forward"
        return f"{name}, {ARITHMETICS[int(step[1])]}, {16 * tall * warps} x {width}, {layers} layers"
    cluster = re.fullmatch(r"cluster_(step_)?kernel<\(arithmetic\)(\d), tile<([\d, ]+)>, .*>", kernel)
    if cluster:
        down, across, tall, wide = map(int, cluster[3].split(", ")[:4])
        name = "network_cluster, whole step" if cluster[1] else "network_cluster"
        return f"{name}, {ARITHMETICS[int(cluster[2])]}, {16 * tall * down} x {8 * wide * across}"
    slices = re.fullmatch(r"weights_of_slice<Tile<(Fp32|Tf32|Bf16)Warp<(.*)>, (.*)> >", kernel)
    if slices:
        tall, wide = map(int, slices[2].split(", "))
        down, across = map(int, slices[3].split(", ")[:2])
        columns = (32 if slices[1] == "Fp32" else 8) * wide * across
        return f"weights_of_slice, {slices[1].lower()}, {16 * tall * down} x {columns}"
    return kernel.split("<")[0]


def compiler_version():
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    return re.search(r"release ([0-9.]+)", text)[1]


def fingerprint():
    """What the assembler's figures depend on: .ci/run asks whether they are of its sources and its compiler."""
    return subprocess.run([ROOT / "bench/check_kernels.sh", "--fingerprint"], check=True, capture_output=True,
                          text=True).stdout.strip()


def span(values):
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least}-{most}"


def main(build):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        resources, launches = assembled(folder), launched(build, folder)
    rows = collections.defaultdict(list)  # of all instances of a label
    for kernel, of in resources.items():
        threads, dynamic = launches[kernel].most_common(1)[0][0] if kernel in launches else (COMMON_THREADS, 0)
        rows[label(kernel)].append((threads, dynamic, of))
    print("# Kernels: registers, shared memory, occupancy\n")
    print(f"Written by `bench/kernel_table.py`, with CUDA {compiler_version()}. For each architecture: registers of a")
    print("thread, and blocks that a multiprocessor holds, with the share of its threads that they are. A range is over the")
    print("instances of a kernel. Dynamic shared memory, in bytes, is what most launches of the tests ask for; a fused kernel")
    print("that keeps W asks for more or less, with K, and one of several layers with their number. Tiles of fused and")
    print("network kernels are rows x columns of a result, those of weights_of_slice n_out x n_in. Kernels that these tests")
    print(f"do not launch are taken to have {COMMON_THREADS} threads.")
    print("No kernel spills registers or has a stack frame. No block: the kernel is not used there.\n")
    print(f"Compiled from `{fingerprint()}`, see `bench/check_kernels.sh --fingerprint`.\n")
    print("| kernel | instances | threads | static | dynamic | " + " | ".join(ARCHITECTURES) + " |")
    print("| --- " * (5 + len(ARCHITECTURES)) + "|")
    for name, instances in sorted(rows.items()):
        cells = [str(len(instances)), span([threads for threads, _, _ in instances]),
                 span([max(shared for _, shared in of.values()) for _, _, of in instances]),
                 span([dynamic for _, dynamic, _ in instances])]
        for architecture, (most_threads, _, _) in ARCHITECTURES.items():
            blocks = [blocks_of(architecture, threads, of[architecture][0], of[architecture][1] + dynamic)
                      for threads, dynamic, of in instances]
            shares = [100 * n * threads // most_threads for n, (threads, _, _) in zip(blocks, instances)]
            registers = span([of[architecture][0] for _, _, of in instances])
            cells.append(f"{registers}, {span(blocks)} ({span(shares)} %)")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    main(pathlib.Path(sys.argv[1]))
