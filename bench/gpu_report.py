#!/usr/bin/env python3
"""Makes the committed results from the folders of bench/gpu_check.sh, and reports how far they lag behind.

  bench/gpu_report.py FOLDER...   bench/results/<gpu>/ from the folders of one GPU's stages, where a later check
                                  replaces an earlier one of its name; then the tables in README.md and
                                  bench/results/README.md
  bench/gpu_report.py --check     how many commits of kernels/ each result lacks; exit code 1 where a table is not what
                                  the results give, or a result names no commit of this repository

<gpu>/results.json holds every check and figure, the commit of the sources and that of kernels/; beside it are
cuBLASLt's candidates, the kernels' times and the clocks as recorded.
"""
import argparse
import glob
import json
import os
import re
import subprocess
import sys

from gpu_machine import hash_of_kernels
from gpu_workloads import FUSED, PEERS, PUBLISHED, WORKLOADS, judge, shares, text_aim, text_seconds, title

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = os.path.join(ROOT, "bench", "results")
RAW = ("trace.txt.gz", "ncu.csv.gz", "clocks.csv")  # kept beside results.json
RAW_BYTES = 1 << 20                                  # of each: more does not belong in a repository

# What only a GPU can answer: the question, the prefixes of the names of its checks, the command that runs only them.
QUESTIONS = (
    ("Does it start, verify the default network and train in three precisions?", ("verify, the default", "20 steps"),
     "--stage 1 --only first"),
    ("Which algorithms does cuBLASLt offer each product, and does a width of 304 get others than 300?",
     ("candidates of",), "--stage 1 --only candidates"),
    ("Conformance in fp32, tf32, bf16: every value within its bound, also in ways drawn by a seed", ("conformance", "verify --all"),
     "--stage 1 --only tests"),
    ("Trajectories of 100 steps, PyTorch's recorded trainings, divergence, evaluation",
     ("trajectories", "PyTorch's recorded", "divergence", "evaluate", "notes", "train tests", "verify tests"),
     "--stage 1 --only tests"),
    ("Gradients, own losses, predictors, saved trainers, sources, one device for several threads",
     ("gradients and losses", "own losses", "predictors", "trainers saved", "a device that", "trainings on"),
     "--stage 1 --only tests"),
    ("The same bytes: twice, one step at a time, streamed, resumed from every step",
     ("the same bytes", "graphs, streaming", "resumed from"), "--stage 1 --only tests"),
    ("Micro-batches: the same bytes twice, and by two ranks that share the GPU", ("micro-batches, twice", "two ranks"),
     "--stage 1 --only ranks"),
    ("NCCL, one rank to itself: the bytes of one alone, verified, timed with its link, ended by the time limit, aborted",
     ("one rank to itself",), "--stage 1 --only ranks"),
    ("Many networks side by side: the bytes of one alone", ("members alone",), "--stage 1 --only members"),
    ("64 networks together beside one alone, and beside PyTorch's vmap?", ("members bench", "PyTorch 64 of"),
     "--stage 1 --only members"),
    ("memcheck and racecheck find nothing in the module's own kernels", ("memcheck", "racecheck"),
     "--stage 1 --only sanitizers"),
    ("initcheck and synccheck find nothing", ("initcheck", "synccheck"), '--stage 2 --only "other sanitizers"'),
    ("The step of eight workloads beside its floors", ("bench ",), "--stage 1 --only bench"),
    ("Is the fused step the same training within its bounds?", ("fused verify",), "--stage 1 --only fusion"),
    ("Fused against layer by layer, in rows per second?", ("fused bench",), "--stage 1 --only fusion"),
    ("A small step in one kernel against its captured layers?", ("fused bench mnist",), "--stage 1 --only fusion"),
    ("Time and DRAM traffic of each kernel in a step", ("kernels of",), "--stage 1 --only kernels"),
    ("PyTorch, eager and captured",
     tuple(f"PyTorch {name}, {kind}" for name in WORKLOADS for kind in ("eager", "graph")), "--stage 1 --only peers"),
    ("PyTorch, compiled", tuple(f"PyTorch {name}, compile" for name in WORKLOADS), '--stage 2 --only "compiled peers"'),
    ("An epoch of 11 million x 28 rows; streamed within 10 % of resident", ("an epoch", "resident", "streamed"),
     "--stage 2 --only large"),
    ("Resumed after half: the same bits; a checkpoint for each epoch of a second costs < 2 %",
     ("resumed: ", "checkpoints of"), "--stage 2 --only resumed"),
)


# ---- from what came back ---------------------------------------------------------------------------------------------


def read_rows(folder):
    """The complete lines of results.jsonl: a stop may have truncated the last one."""
    with open(os.path.join(folder, "results.jsonl")) as file:
        return [json.loads(line) for line in file if line.endswith("}\n")]


def gpu_name(device):
    """A folder's name of `cuda:0: NVIDIA H200, sm_90, ...`."""
    return re.sub(r"[^a-z0-9]+", "-", device.split(": ")[-1].split(",")[0].lower()).strip("-")


def merge(folders):
    """One object of all stages; a check or figure that comes again replaces the first."""
    merged = {"stages": [], "checks": {}, "bench": {}, "fusion": {}, "predictions": {}, "peers": {}, "profiles": {},
              "checkpoints": {}, "members": {}}
    for folder in folders:
        for row in read_rows(folder):
            kind = row.pop("kind")
            part = row.pop("part", "")
            if kind == "environment":
                merged["stages"].append({key: row.get(key) for key in ("commit", "kernels_commit", "kernels", "date")})
                merged.update(merged["stages"][-1])
            elif kind == "rebuilt":
                merged["stages"][-1].update(kernels_commit=row["kernels_commit"], kernels=row["kernels"])
                merged.update(merged["stages"][-1])
            elif kind == "device":
                if gpu_name(merged.get("device", row["text"])) != gpu_name(row["text"]):
                    raise ValueError(f"{folder} is of another GPU: {row['text']}")
                merged["device"] = row["text"]
            elif kind == "tools":
                merged["driver"] = row.get("driver")
            elif kind == "check":
                merged["checks"][row.pop("name")] = {**row, "part": part}
            elif kind == "bench":
                merged["bench"][row["workload"]] = row["figures"]
            elif kind == "fusion":
                merged["fusion"].setdefault(row.pop("workload"), {})[row.pop("fusion")] = row
            elif kind == "prediction":
                merged["predictions"].setdefault(row.pop("workload"), {})[row.pop("precision")] = row
            elif kind == "members":
                merged["members"][row["workload"]] = row
            elif kind == "peer":
                merged["peers"].setdefault(row["workload"], {})[row["peer"]] = {
                    "step_seconds": row["step_seconds"], "version": row["version"]}
            elif kind == "kernels":
                merged["profiles"][row["workload"]] = row["kernels"]
            elif kind == "checkpoints":
                merged["checkpoints"][row["hidden"]] = row
            elif kind in ("epoch", "streamed"):
                merged[kind] = row
    if "device" not in merged:
        raise ValueError("no stage found a GPU: there is nothing to commit")
    return merged


def write_results(folders):
    merged = merge(folders)
    target = os.path.join(RESULTS, gpu_name(merged["device"]))
    os.makedirs(target, exist_ok=True)
    with open(os.path.join(target, "results.json"), "w") as file:
        json.dump(merged, file, indent=1)
        file.write("\n")
    for name in RAW:
        parts = []
        for folder in folders:
            if os.path.exists(os.path.join(folder, name)):
                with open(os.path.join(folder, name), "rb") as file:
                    parts.append(file.read())
        data = b"".join(parts)
        if len(data) > RAW_BYTES:
            print(f"{name}: {len(data)} bytes are too many to commit; it is left out")
        elif data:
            with open(os.path.join(target, name), "wb") as file:
                file.write(data)
    return target


# ---- tables ----------------------------------------------------------------------------------------------------------


def committed():
    """folder name -> results, of every GPU."""
    found = {}
    for path in sorted(glob.glob(os.path.join(RESULTS, "*", "results.json"))):
        with open(path) as file:
            found[os.path.basename(os.path.dirname(path))] = json.load(file)
    return found


def speed_table(results):
    """The benchmark's figures of one GPU."""
    gpu = results["device"].split(": ")[-1].split(",")[0]
    lines = [f"{gpu}, driver {results.get('driver')}, {results['date'][:10]}, kernels/ at "
             f"{results['kernels_commit'][:10]}:", "",
             "| workload | step | products | floor by its own ceilings | eager | captured | compiled | aims |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name in WORKLOADS:
        ours = results["bench"].get(name)
        if not ours:
            lines.append(f"| {title(name)} | not measured | | | | | | |")
            continue
        peers = {kind: row["step_seconds"] for kind, row in results["peers"].get(name, {}).items()}
        ratios = [f"{peers[kind] / ours['step_seconds']:.2f} x" if kind in peers else "-" for kind in PEERS]
        products, floor = shares(ours)
        aims = "; ".join(text_aim(aim) for aim in judge(name, ours, peers))
        lines.append(f"| {title(name)} | {text_seconds(ours['step_seconds'])} | {products:.2f} | {floor:.2f} | "
                     f"{' | '.join(ratios)} | {aims} |")
    return lines


def fusion_table(results):
    """Million rows per second of one GPU, with several layers in one kernel and one layer after another."""
    measured = [name for name in FUSED if set(results.get("fusion", {}).get(name, {})) == {"on", "off"}]
    if not measured:
        return []
    lines = ["", "Million rows per second, with several layers in one kernel (fused) and layer by layer; inside: forward, "
             "loss and backward alone. Published: tiny-cuda-nn (Müller et al., 2021) on an H100, forward and backward "
             "(Yuan et al., 2024, arXiv:2403.17607, table I).", "",
             "| workload | fused | layer by layer | ratio | inside, fused | published |", "| --- | --- | --- | --- | --- | --- |"]
    for name in measured:
        on, off = (results["fusion"][name][side] for side in ("on", "off"))
        inside = f"{on['rows_per_second_inside'] * 1e-6:.1f}" if on["rows_per_second_inside"] else "-"
        published = f"{PUBLISHED[name] * 1e-6:.0f}" if name in PUBLISHED else ""
        lines.append(f"| {title(name)} | {on['rows_per_second'] * 1e-6:.1f} | {off['rows_per_second'] * 1e-6:.1f} | "
                     f"{on['rows_per_second'] / off['rows_per_second']:.2f} | "
                     f"{inside} | {published} |")
    return lines


def members_table(results):
    """Networks that train side by side on one GPU: throughput beside one alone, step time beside PyTorch's vmap."""
    measured = results.get("members", {})
    if not measured:
        return []
    lines = ["", "Networks side by side: a step of one alone and of all together, the throughput beside one alone, and "
             "the step of PyTorch's vmap in a CUDA graph beside ours.", "",
             "| networks | one alone | together | throughput | vmap |", "| --- | --- | --- | --- | --- |"]
    for name, row in measured.items():
        peer = results["peers"].get(name, {}).get("vmap")
        ratio = f"{peer['step_seconds'] / row['together_seconds']:.2f} x" if peer else "-"
        lines.append(f"| {name} | {text_seconds(row['alone_seconds'])} | {text_seconds(row['together_seconds'])} | "
                     f"{row['ratio']:.1f} x, aim {row['least']} x: {'met' if row['ratio'] >= row['least'] else 'missed'} | "
                     f"{ratio} |")
    return lines


def answer(begins, everything):
    """The committed results' answer to a question."""
    answers = []
    for gpu, results in everything.items():
        checks = {name: check["result"] for name, check in results["checks"].items() if name.startswith(begins)}
        failed = [f"{name}: {result}" for name, result in checks.items() if result != "passed"]
        if checks and not failed:
            answers.append(f"{gpu}: passed ({len(checks)})")
        elif checks:
            first = failed[0].replace("|", "/")[:100]
            answers.append(f"{gpu}: {len(checks) - len(failed)} of {len(checks)} passed; {first}")
    return "<br>".join(answers) or "open"


def question_table(everything):
    return ["| question | `bench/gpu_check.sh --build gpu.tar.xz --out FOLDER` with | answer |", "| --- | --- | --- |",
            *(f"| {question} | `{command}` | {answer(begins, everything)} |"
              for question, begins, command in QUESTIONS)]


def tables():
    """(file, marker) -> the lines between `<!-- marker -->` and `<!-- end of marker -->`."""
    everything = committed()
    speed = [line for results in everything.values()
             for line in (*speed_table(results), *fusion_table(results), *members_table(results), "")][:-1]
    none = ["No GPU's figures are committed yet."]
    return {(os.path.join(RESULTS, "README.md"), "GPU questions"): question_table(everything),
            (os.path.join(RESULTS, "README.md"), "GPU figures"): speed or none,
            (os.path.join(ROOT, "README.md"), "GPU figures"): speed or none}


def place(path, marker, lines):
    """(the file's text, the same with these lines at the marker)"""
    with open(path) as file:
        text = file.read()
    begin, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{os.path.relpath(path, ROOT)}: needs one '{begin.strip()}' and one '{end}'")
    before, rest = text.split(begin)
    return text, before + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.split(end)[1]


# ---- how far behind --------------------------------------------------------------------------------------------------


def git(*arguments):
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def lag(gpu, results):
    """(what to print, whether it is wrong)"""
    commit = results["kernels_commit"]
    if results["kernels"] == hash_of_kernels(ROOT):
        return f"{gpu}: of these kernels ({commit[:10]})", False
    if git("rev-parse", "--is-shallow-repository") != "false":
        return f"{gpu}: of other kernels, at {commit[:10]}; without the whole history the commits between cannot be counted", False
    newer = git("rev-list", "--count", f"{commit[:40]}..HEAD", "--", "kernels") if len(commit) >= 40 else None
    if newer is None:
        return f"{gpu}: '{commit}' is not a commit of this repository", True
    return f"{gpu}: kernels/ has {newer} commits since {commit[:10]}: measure again", False


def check():
    wrong = 0
    for gpu, results in committed().items():
        text, is_wrong = lag(gpu, results)
        print(text)
        wrong += is_wrong
    if not committed():
        print("no GPU's results are committed")
    for (path, marker), lines in tables().items():
        there, made = place(path, marker, lines)
        if there != made:
            print(f"{os.path.relpath(path, ROOT)}: '{marker}' is not what the results give: run bench/gpu_report.py")
            wrong += 1
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="what the stages of one GPU wrote, in their order")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    try:
        if options.check:
            return check()
        if options.folders:
            print(os.path.relpath(write_results(options.folders), ROOT))
        for (path, marker), lines in tables().items():
            _, made = place(path, marker, lines)
            with open(path, "w") as file:
                file.write(made)
        return 0
    except (OSError, ValueError) as why:
        print(f"gpu_report: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
