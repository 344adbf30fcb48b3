#!/usr/bin/env python3
"""bench/gpu_check.py on programs and tools that are scripts: every part of both stages fails, hangs and is stopped in
turn, and the others' results come back.

  gpu_check_test.py BENCH-FOLDER                            the table of cases below
  gpu_check_test.py BENCH-FOLDER BUILD-FOLDER MODULE        both stages on real programs and the emulated module
"""
import concurrent.futures
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BENCH = os.path.abspath(sys.argv[1])

# One script under every program's name. $FAKE lists what is broken: what=fail, what=hang, what=empty, what=skipped.
PROGRAM = r"""#!/bin/sh
name=${0##*/} what=${0##*/} out= log= kept= layers=
if [ "$name" = descent ]; then
  what=$1
  case " $* " in
    *" --seconds 0.001 "*) what=candidates ;;
    *" --hidden 30,30 "*) what=large ;;
    *" --hidden 40,30 "*) what=resumed ;;
    *" --hidden 8,8 "*) what=checkpoints ;;
    *" --comm-timeout 1e-9 "*) what=late ;;
    *" --ranks self "*) what=self ;;
    *" --micro-batches "*) what=ranks ;;
    *" --hidden 8 "*) what=same ;;
    *" --fusion "*) what=fused-$1 ;;
  esac
fi
case " $FAKE " in
  *" $what=fail "*) echo "error: $what is broken"; exit 3 ;;
  *" $what=hang "*) exec sleep 60 ;;
  *" $what=empty "*) echo "[==========] 0 tests from 0 test suites ran."; echo "[  PASSED  ] 0 tests."; exit 0 ;;
  *" $what=skipped "*) echo "[  SKIPPED ] Some.Test"; echo "[  PASSED  ] 2 tests."; exit 0 ;;
  *" $what=layers "*) layers=1 ;;
esac
case $name in
  members_time)
    same=true placement="data in GPU memory: 1 MB; members: side by side"
    case " $FAKE " in *" members=differ "*) same=false ;; esac
    case " $FAKE " in *" members=in_turn "*) placement="members: in turn: the driver refuses a joint graph" ;; esac
    echo '{"members": '$5', "same": '$same', "placement": "'$placement'", "together_seconds": 2e-4,
    "alone_seconds": 1e-4}'; exit 0 ;;
  *_test) echo "[  PASSED  ] 3 tests."; exit 0 ;;
esac
[ -z "$DESCENT_CUDA_TRACE" ] || echo "candidate of $what" >>"$DESCENT_CUDA_TRACE"
case $1 in
  devices) echo "cuda:0      yes  cuda:0: fake GPU, sm_90" ;;
  verify)
    case " $* " in *" --fusion on "*) [ -n "$layers" ] || echo "fused: loss  0.5 of its bound" ;; esac
    echo "3 operations on cuda:0 against reference: 0 failed" ;;
  bench)
    path=cublaslt step=1e-3 sum= through=nccl
    case " $FAKE " in *" nccl=host "*) through="host memory" ;; esac
    case " $what  $FAKE " in
      *" allreduce=missing "*) ;;
      " self "*) sum='{"operation": "allreduce", "path": "'$through'", "seconds": 1e-5, "floor_seconds": 1e-5},' ;;
    esac
    case " $* " in *" --fusion on "*) [ -n "$layers" ] || path="fused step 1" step=5e-4 ;; esac
    echo '{"device": "fake", "step_seconds": '$step', "gemm_seconds": 5e-4, "peak_flops": 1e12, "batch_size": 1000,
    "peak_bandwidth": 1e12, "link_bandwidth": 1e11, "operations": ['$sum'
    {"operation": "gather", "path": "", "seconds": 1e-4, "floor_seconds": 1e-4},
    {"operation": "dense_forward layer 1", "path": "'$path'", "seconds": 2e-4, "floor_seconds": 0},
    {"operation": "step", "path": "", "seconds": '$step', "floor_seconds": 1}]}' ;;
  train)
    while [ $# -gt 0 ]; do
      case $1 in --out) out=$2 ;; --log) log=$2 ;; --checkpoint) kept=$2 ;; esac
      shift
    done
    case " $FAKE " in *" $what=differs "*) date +%N >"$out" ;; *) echo model >"$out" ;; esac
    case " $FAKE " in *" ranks=apart "*) ;; *) echo "ranks       2 on 1 host" ;; esac
    case " $what  $FAKE " in
      " late "*" late=ignored "*) ;;
      " late "*" late=crashed "*) echo "NCCL has not connected them within 1e-09 s"; exit 139 ;;
      " late "*) echo "NCCL has not connected them within 1e-09 s"; exit 4 ;;
      " self "*" nccl=missing "*) echo "gradients of 1 rank, to itself, through host memory: NCCL cannot be loaded" ;;
      " self "*" nccl=damaged "*)
        echo "gradients of 1 rank, to itself, through host memory: NCCL cannot be loaded: invalid ELF header" ;;
      " self "*" nccl=unused "*) echo "gradients of 1 rank, to itself, through host memory: another reason" ;;
      " self "*" nccl=old "*) echo "gradients of 1 rank, to itself, through NCCL 2.8.4, launched by the host" ;;
      " self "*" nccl=uncaptured "*) echo "gradients of 1 rank, to itself, through NCCL 2.9.6, launched by the host" ;;
      " self "*) echo "gradients of 1 rank, to itself, through NCCL 2.27.3, in the step's graph" ;;
    esac
    [ -z "$log" ] || printf '{"seconds": 1}\n{"seconds": 2}\n' >"$log"
    [ -z "$kept" ] || { mkdir -p "$kept"; echo 12345 >"$kept/step"; } ;;
esac
"""
# The tools' options that their manuals have, without a value and with one; a tool ends with code 2 at any other.
OPTIONS = {
    "nvidia-smi": ("-q -L --query-gpu=* --format=* --loop-ms=*", "-i -lms"),
    "compute-sanitizer": ("--version --require-cuda-init=* --racecheck-detect-level=*",
                          "--tool --error-exitcode --kernel-name --kernel-name-exclude --launch-timeout --launch-skip "
                          "--launch-count --log-file --target-processes --print-limit --leak-check"),
    "mpirun": ("--allow-run-as-root --oversubscribe", "--bind-to -n"),
    "ncu": ("--version --csv", "--clock-control --cache-control --graph-profiling --target-processes --metrics "
            "--section --page --print-units --kernel-name --launch-skip --launch-count --profile-from-start --kill "
            "--log-file --replay-mode"),
}
# Before each of them: the options are taken off, and $tool, $log and $asked kept of them.
TAKE_OPTIONS = r"""name={name} tool=memcheck log= asked=
while [ $# -gt 0 ]; do
  case $1 in
    {without}) asked="$asked $1"; shift ;;
    {with_value})
      case $1 in --tool) tool=$2 ;; --log-file) log=$2 ;; esac
      asked="$asked $1"
      shift 2 || exit 2 ;;
    -*) echo "$name: unknown option $1"; exit 2 ;;
    *) break ;;
  esac
done
case $asked in *--version*) echo "$name of none"; exit 0 ;; esac
"""
TOOLS = {
    "nvidia-smi": r"""case "$asked" in
  " -q") echo "Driver Version : 580.1" ;;
  *-lms*) echo "timestamp, clocks"; while sleep 0.05; do echo "now, 1980 MHz"; done ;;
  *) echo 7.5 ;;
esac""",
    "compute-sanitizer": r"""case " $FAKE " in
  *" $tool=fail "*) exit 9 ;; *" $tool=hang "*) exec sleep 60 ;; *" $tool=silent "*) quiet=1 ;;
esac
"$@" || exit 9
[ -n "$quiet" ] || echo "========= ERROR SUMMARY: 0 errors" """,
    "ncu": r"""case " $FAKE " in
  *" ncu=fail "*) exit 1 ;;
  *" ncu=hang "*) exec sleep 60 ;;
  *" ncu=refused "*) echo "==ERROR== LibraryNotLoaded" >"$log"; exit 1 ;;
esac
cat >"$log" <<'END'
==PROF== Connected
"ID","Kernel Name","dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum"
"","","byte","byte","ns"
END
# A step in one kernel: its trials, on no rows, one with statistics, an evaluation.
whole='cluster_step_kernel<(arithmetic)2, tile<2, 4>, 512>(cluster_launch, whole_step)'
case " $FAKE " in *" ncu=whole "*)
  for id in 0 1 2; do echo "\"$id\",\"$whole\",\"1\",\"1\",\"1000\""; done >>"$log"
  cat >>"$log" <<'END'
"3","gather_kernel(gather_launch)","0","1","1000"
"4","cluster_kernel<(arithmetic)2, tile<2, 4>, 512>(cluster_launch)","1","2","3"
"5","deviation_kernel(statistics_launch, tiling)","0","1","1000"
"6","update_kernel(update_launch)","1","1","1000"
"7","gather_kernel(gather_launch)","0","1","1000"
END
  case " $FAKE " in *" ncu=early "*) exit 0 ;; esac
  for id in 8 9; do echo "\"$id\",\"(anonymous namespace)::$whole\",\"1,000\",\"20\",\"3000\""; done >>"$log"
  exit 0 ;;
esac
# What the module runs before it captures: a step on no rows, one with statistics, an evaluation.
cat >>"$log" <<'END'
"0","gather_kernel(gather_launch)","0","1","1000"
"1","gemm","1","2","3"
"2","update_kernel(update_launch)","1","1","1000"
"3","gather_kernel(gather_launch)","0","1","1000"
"4","deviation_kernel(statistics_launch, tiling)","0","1","1000"
"5","update_kernel(update_launch)","1","1","1000"
"6","gather_kernel(gather_launch)","0","1","1000"
END
case " $FAKE " in *" ncu=early "*) exit 0 ;; esac
cat >>"$log" <<'END'
"7","(anonymous namespace)::gather_kernel(gather_launch)","1,000","20","3000"
"8","update_kernel(update_launch)","7","8","9000"
"9","gather_kernel(gather_launch)","1,000","20","3000"
END""",
    "mpirun": r"""case " $FAKE " in *" mpirun=fail "*) exit 7 ;; esac
"$@" && "$@" """,
    "nvcc": r"""case " $FAKE " in *" nvcc=fail "*) exit 1 ;; esac
case "$*" in
  *-shared*) case " $FAKE " in *" nvcc=slow "*) sleep 3 ;; esac ;;
  *.cu\ -o*) case "$*" in *-arch=sm_75\ *) ;; *) echo "nvcc: not this GPU's architecture"; exit 2 ;; esac ;;
esac
while [ $# -gt 0 ]; do case $1 in -o) echo built >"$2" ;; esac; shift; done""",
}
PEER = r"""
import json, os, sys, time
job = json.loads(sys.stdin.readline())
fake = os.environ.get("FAKE", "").split()
if "peer=missing" in fake:
    print(json.dumps({"missing": "no such package"}), flush=True); sys.exit(1)
if "peer=dead" in fake: sys.exit(1)
print(json.dumps({"version": "PyTorch of none"}), flush=True)
for run in job["runs"]:
    if "peer=dies" in fake and run["workload"] == "higgs": os._exit(1)
    if "peer=hang" in fake and run["workload"] == "higgs": time.sleep(60)
    if job["wait"]:
        print(json.dumps({"ready": run["workload"]}), flush=True)
        sys.stdin.readline()
    print(json.dumps({"workload": run["workload"], "kind": run["kind"], "step_seconds": 2e-3}), flush=True)
"""
# gpu_check.py with the peers' script replaced; with $FAKE set so, a part fails, has 10 s, or starts
# 28 s after its end, and a tool or the module of MPI is missing.
CHILD = """
import os, sys, time
sys.path.insert(0, sys.argv.pop(1))
import gpu_check, gpu_machine, gpu_parts, gpu_peers
gpu_peers.SCRIPT = sys.argv.pop(1) or gpu_peers.SCRIPT
def fail(*_): raise KeyError("a mistake")
fake = os.environ.get("FAKE", "").split()
find_tool, init = gpu_machine.find_tool, gpu_machine.Machine.__init__
gpu_machine.find_tool = lambda name: None if f"{name}=missing" in fake else find_tool(name)
def init_without_mpi(machine, *arguments):
    init(machine, *arguments)
    machine.mpi_module += ".missing"
if "mpi=missing" in fake: gpu_machine.Machine.__init__ = init_without_mpi
for stage, parts in gpu_parts.STAGES.items():
    for i, part in enumerate(parts):
        name, run = part.name.replace(" ", "-"), part.run
        if f"{name}=raises" in fake: parts = (*parts[:i], part._replace(run=fail), *parts[i + 1:])
        if f"{name}=short" in fake:
            short = lambda session, machine, end, run=run: run(session, machine, min(end, time.monotonic() + 10))
            parts = (*parts[:i], part._replace(run=short), *parts[i + 1:])
        if f"{name}=late" in fake:
            late = lambda session, machine, end, run=run: run(session, machine, time.monotonic() - 28)
            parts = (*parts[:i], part._replace(run=late), *parts[i + 1:])
    gpu_check.STAGES[stage] = parts
sys.exit(gpu_check.main())
"""
PARTS = {1: ["first", "candidates", "tests", "ranks", "members", "sanitizers", "bench", "fusion", "kernels", "peers"],
         2: ["first", "retry", "large", "resumed", "other sanitizers", "compiled peers"]}

# name, stage, what is broken, the checks that must not pass (by their beginning), what their results hold.
CASES = [
    ("all is well", 1, "", [], ""),
    ("all is well", 2, "", [], ""),
    ("candidates fail", 1, "candidates=fail", ["candidates of"], "exit code 3"),
    ("candidates hang", 1, "candidates=hang candidates=short", ["candidates of"], "NOT "),
    ("a test fails", 1, "conformance_test=fail", ["conformance", "memcheck", "racecheck"], "exit code"),
    ("a test hangs", 1, "resume_test=hang tests=short", ["resumed from"], "NOT FINISHED"),
    ("no test is run", 1, "notes_test=empty", ["notes"], "fits no test"),
    ("a test is skipped", 1, "notes_test=skipped", ["notes"], "skipped"),
    ("models differ", 1, "same=differs", ["the same bytes"], "exit code"),
    ("training in micro-batches fails", 1, "ranks=fail",
     ["micro-batches, twice", "two ranks", "one rank to itself: the bytes"], "exit code 3"),
    ("training in micro-batches hangs", 1, "ranks=hang ranks=short",
     ["micro-batches, twice", "two ranks", "one rank to itself"], "NOT "),
    ("models of ranks differ", 1, "ranks=differs",
     ["micro-batches, twice", "two ranks", "one rank to itself: the bytes"], "exit code 1"),
    ("one rank to itself fails", 1, "self=fail", ["one rank to itself"], "exit code 3"),
    ("one rank to itself gives another model", 1, "self=differs", ["one rank to itself: the bytes"], "exit code 1"),
    ("gradients do not pass through NCCL", 1, "nccl=unused", ["one rank to itself: the bytes"], "did not pass"),
    ("an exchange is not in the graph", 1, "nccl=uncaptured", ["one rank to itself: the bytes"],
     "not in the step's graph"),
    ("NCCL is too old for graphs", 1, "nccl=old", [], ""),
    ("NCCL cannot be loaded", 1, "nccl=damaged", ["one rank to itself: the bytes"],
     "FAILED: NCCL cannot be loaded: invalid"),
    ("gradients are timed through host memory", 1, "nccl=host", ["one rank to itself: bench"], "not nccl"),
    ("no NCCL", 1, "nccl=missing",
     [f"one rank to itself: {what}" for what in ("the bytes", "ended", "aborted", "verify", "bench")],
     "NOT RUN: no libnccl"),
    ("a time limit is ignored", 1, "late=ignored", ["one rank to itself: ended in time"], "did not end it"),
    ("a time limit ends in a crash", 1, "late=crashed", ["one rank to itself: ended in time"], "exit code 139"),
    ("a time limit ends in another way", 1, "late=fail", ["one rank to itself: ended in time"], "exit code 3"),
    ("the sum over ranks is not timed", 1, "allreduce=missing", ["one rank to itself: bench"], "no allreduce"),
    ("ranks train apart", 1, "ranks=apart", ["two ranks"], "exit code 1"),
    ("ranks cannot be started", 1, "mpirun=fail", ["two ranks"], "exit code 7"),
    ("no mpirun", 1, "mpirun=missing", ["two ranks"], "NOT RUN: mpirun is not installed"),
    ("no module of MPI", 1, "mpi=missing", ["two ranks"], "NOT RUN: the build has no"),
    ("members fail", 1, "members_time=fail", ["members "], "exit code 3"),
    ("members hang", 1, "members_time=hang members=short", ["members ", "PyTorch 3 of"], "NOT "),
    ("members have other bytes together", 1, "members=differ", ["members "], "not those of one alone"),
    ("members run in turn", 1, "members=in_turn", ["members "], "not side by side, but 'members: in turn"),
    ("a sanitizer fails", 1, "memcheck=fail", ["memcheck"], "exit code 9"),
    ("a sanitizer hangs", 1, "racecheck=hang sanitizers=short", ["racecheck"], "NOT FINISHED"),
    ("a sanitizer says nothing", 1, "memcheck=silent", ["memcheck"], "no clean summary"),
    ("the benchmark fails", 1, "bench=fail", ["bench ", "predictions "], "exit code 3"),
    ("the benchmark hangs", 1, "bench=hang bench=short", ["bench ", "predictions "], "NOT "),
    ("the fused benchmark fails", 1, "fused-bench=fail", ["fused bench"], "on: FAILED with exit code 3"),
    ("the fused benchmark hangs", 1, "fused-bench=hang fusion=short", ["fused bench"], "NOT "),
    ("no layers are timed together", 1, "fused-bench=layers", ["fused bench"], "on: FAILED: no layers"),
    ("a fused verification fails", 1, "fused-verify=fail",
     ["fused verify", "memcheck, fused", "racecheck, fused"], "exit code"),
    ("no layers are verified together", 1, "fused-verify=layers",
     ["fused verify", "memcheck, fused", "racecheck, fused"], "FAILED: no layers"),
    ("the profiler fails", 1, "ncu=fail", ["kernels of"], "no whole step"),
    ("the profiler hangs", 1, "ncu=hang kernels=short", ["kernels of"], ""),
    ("the profiler ends before a step with rows", 1, "ncu=early", ["kernels of"], "but the first"),
    ("a step is one kernel", 1, "ncu=whole", [], ""),
    ("the profiler ends before it", 1, "ncu=whole ncu=early", ["kernels of"], "no whole step"),
    ("the profiler is refused", 1, "ncu=refused", ["kernels of"], "NOT RUN: ncu cannot read"),
    ("no PyTorch", 1, "peer=missing", ["PyTorch "], "NOT RUN: no such package"),
    ("a peer does not start", 1, "peer=dead", ["PyTorch "], "NOT RUN"),
    ("a peer dies", 1, "peer=dies", ["PyTorch higgs"], "the process ended"),
    ("a peer hangs", 1, "peer=hang peers=short", ["PyTorch "], "NOT RUN: no time left"),
    *((f"the part '{part}' raises", 1, f"{part}=raises", [part], "KeyError") for part in ("tests", "kernels")),
    ("streaming fails", 2, "large=fail", ["an epoch", "resident", "streamed"], "exit code 3"),
    ("streaming hangs", 2, "large=hang large=short", ["an epoch", "resident", "streamed"], "NOT "),
    ("streaming gives another model", 2, "large=differs", ["resident and streamed"], "the models differ"),
    ("resuming gives another model", 2, "resumed=differs", ["resumed: "], "exit code"),
    ("checkpoints fail", 2, "checkpoints=fail", ["checkpoints of"], "exit code 3"),
    ("another sanitizer fails", 2, "synccheck=fail", ["synccheck"], "exit code 9"),
    ("a compiled peer dies", 2, "peer=dies", ["PyTorch higgs"], "the process ended"),
    ("a compiled peer hangs", 2, "peer=hang compiled-peers=short", ["PyTorch higgs"], "NOT FINISHED"),
    *((f"the part '{part}' raises", 2, f"{part}=raises", [part], "KeyError") for part in ("retry", "large")),
]


def write(path, text, mode=0o755):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def make_world(folder):
    """A build of scripts and a folder of tools."""
    for name in ("bin", "lib", "tools"):
        os.makedirs(os.path.join(folder, name))
    for name in ("descent", "members_time"):
        write(os.path.join(folder, "bin", name), PROGRAM)
    for name in ("conformance", "trajectory", "cuda_module", "resume", "notes", "pytorch", "divergence", "evaluate",
                 "verify", "train", "differentiate", "own_loss", "predictor", "trainer_state", "shared_device",
                 "fit_source"):
        write(os.path.join(folder, "bin", f"{name}_test"), PROGRAM)
    for name in ("cuda", "mpi"):
        write(os.path.join(folder, "lib", f"libdescent_{name}.so"), "")
    for name, text in TOOLS.items():
        without, with_value = (options.replace(" ", "|") for options in OPTIONS.get(name, ("", "")))
        begin = TAKE_OPTIONS.format(name=name, without=without, with_value=with_value) if without else ""
        write(os.path.join(folder, "tools", name), f"#!/bin/sh\n{begin}{text}\n")
    write(os.path.join(folder, "peer.py"), PEER)


def start(world, out, stage, fake, *more, build=None, module=None):
    environment = {**os.environ, "FAKE": fake, "PATH": f"{world}/tools:{os.environ['PATH']}"}
    environment.pop("DESCENT_TEST_MODULE", None)
    environment["DESCENT_NCCL"] = "off" if "nccl=missing" in fake.split() else "libnccl.so.2"
    if module:
        environment["DESCENT_TEST_MODULE"] = module
        environment["DESCENT_NCCL"] = os.path.join(build, "modules", "nccl", "libnccl_emulated.so.2")
    return subprocess.Popen([sys.executable, "-c", CHILD, BENCH, f"{world}/peer.py", "--small", "--build",
                             build or world, "--out", out, "--stage", str(stage), *more], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def results(out):
    with open(os.path.join(out, "results.jsonl")) as file:
        return [json.loads(line) for line in file]


def problems_of(out, stage, fake, broken, holds):
    """What is not as it should be in a folder of results."""
    rows = results(out)
    checks = [row for row in rows if row["kind"] == "check"]
    problems = []
    for row in checks:
        if row["result"] != "passed" and not row["name"].startswith(tuple(broken)):
            problems.append(f"{row['name']}: {row['result']}: must pass")
    for begin in broken:
        results_of = [row["result"] for row in checks if row["name"].startswith(begin) and row["result"] != "passed"]
        if not any(holds in result for result in results_of):
            problems.append(f"no result of '{begin}' holds '{holds}'")
    step = [["gather_kernel", 3e-6, 1000, 20], ["update_kernel", 9e-6, 7, 8]]
    if "ncu=whole" in fake.split():
        step = [["cluster_step_kernel<", 3e-6, 1000, 20]]
    for row in rows:
        if row["kind"] != "kernels":
            continue
        if [[kernel[0], round(kernel[1], 9), *kernel[2:]] for kernel in row["kernels"]] != step:
            problems.append(f"kernels of {row['workload']}: {row['kernels']}")
    parts = [row["name"] for row in rows if row["kind"] == "part"]
    if parts != PARTS[stage]:
        problems.append(f"parts: {parts}")
    sizes = [os.path.getsize(os.path.join(out, name)) for name in os.listdir(out)]
    if len(sizes) > 8 or max(sizes) > 16 << 20:
        problems.append(f"files: {os.listdir(out)}, sizes {sizes}")
    for name in os.listdir(out):
        with (gzip.open if name.endswith(".gz") else open)(os.path.join(out, name), "rt") as file:
            if "unknown option" in file.read():
                problems.append(f"{name}: an option that a tool does not have")
    return problems


class Failures:
    def __init__(self):
        self.count = 0

    def show(self, name, problems, output):
        print(f"{'FAILED' if problems else 'passed'}  {name}", flush=True)
        if problems:
            self.count += 1
            print("\n".join(f"  {problem}" for problem in problems), output[-3000:], sep="\n", flush=True)


def run_case(world, case):
    name, stage, fake, broken, holds = case
    out = os.path.join(tempfile.mkdtemp(dir=world), "out")
    retry = ["--retry", "notes tests, every device,bench higgs"] if stage == 2 else []
    process = start(world, out, stage, fake, *retry)
    output, _ = process.communicate(timeout=120)
    problems = problems_of(out, stage, fake, broken, holds)
    if process.returncode != (1 if broken else 0):
        problems.append(f"exit code {process.returncode}")
    return f"stage {stage}: {name}", problems, output


def first_fails(world):
    """What fails at first is traced, and ends the stage: the time is for the repair."""
    out = os.path.join(world, "first")
    output, _ = start(world, out, 1, "verify=fail").communicate(timeout=60)
    rows, log = results(out), gzip.open(os.path.join(out, "log.txt.gz"), "rt").read()
    problems = [f"'{text}' is not in the log" for text in ("trace of verify", "memcheck of verify") if text not in log]
    if "candidate of" in log or [row["name"] for row in rows if row["kind"] == "part"]:
        problems.append("the stage continued")
    return "stage 1: the first verification fails", problems, output


def no_gpu(world):
    """Without a device the module is built anew, once, and the stage ends with code 4."""
    out = os.path.join(world, "no-gpu")
    process = start(world, out, 1, "devices=fail")
    output, _ = process.communicate(timeout=60)
    problems = [] if process.returncode == 4 else [f"exit code {process.returncode}"]
    if not any(row["kind"] == "check" and row["name"] == "the module rebuilt" and row["result"] == "passed"
               for row in results(out)):
        problems.append("the module was not rebuilt")
    return "stage 1: no GPU", problems, output


def slow_rebuild(world):
    """A rebuild that ends long after the part's time does not take the time of what follows it."""
    world = os.path.join(world, "slow")
    make_world(world)
    os.makedirs(os.path.join(world, "source", "kernels"))
    write(os.path.join(world, "source", "kernels", "a.cu"), "other sources")
    out = os.path.join(world, "out")
    process = start(world, out, 1, "nvcc=slow first=late", "--only", "first")
    output, _ = process.communicate(timeout=60)
    checks = {row["name"]: row["result"] for row in results(out) if row["kind"] == "check"}
    problems = [] if process.returncode == 0 and len(checks) == 5 else [f"exit code {process.returncode}: {checks}"]
    if checks.get("the module rebuilt") != "passed":
        problems.append("the module was not rebuilt")
    return "stage 1: the rebuild takes long", problems, output


def tools_refuse(world):
    """The stand-ins know what the tools do not have."""
    problems = []
    for name in OPTIONS:
        done = subprocess.run([os.path.join(world, "tools", name), "--no-such-option", "true"], check=False,
                              stdout=subprocess.DEVNULL)
        if done.returncode != 2:
            problems.append(f"{name}: exit code {done.returncode}")
    return "tools refuse unknown options", problems, ""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def stopped(world, number):
    """Stopped in the middle of the benchmark, the folder has all that came before, and no program is left running. A
    signal that can be caught leaves the record of it, though others follow."""
    out = os.path.join(world, f"stopped-{number}")
    process = start(world, out, 1, "bench=hang bench=short")
    table, until = os.path.join(out, "table.txt"), time.monotonic() + 60
    while time.monotonic() < until and not (os.path.exists(table) and "\nbench: until" in open(table).read()):
        time.sleep(0.05)
    time.sleep(0.3)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = file.read().split()
    os.kill(process.pid, number)
    while number != signal.SIGKILL and process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.0002)
    output, _ = process.communicate(timeout=60)
    passed = {row["name"] for row in results(out) if row["kind"] == "check" and row["result"] == "passed"}
    problems = [f"'{name}' is not there" for name in ("notes tests, every device", "racecheck") if name not in passed]
    for name in ("log.txt.gz", "trace.txt.gz"):
        gzip.open(os.path.join(out, name)).read()
    if number != signal.SIGKILL:
        parts, end = [row["name"] for row in results(out) if row["kind"] == "part"], results(out)[-1]
        if parts != PARTS[1][:PARTS[1].index("bench")]:
            problems.append(f"parts: {parts}")
        if "STOPPED by" not in open(table).read() or end["kind"] != "end" or end["finished"]:
            problems.append(f"not recorded as stopped; the last row: {end}")
    until = time.monotonic() + 5
    while any(map(is_running, children)) and time.monotonic() < until:
        time.sleep(0.05)
    if len(children) < 2 or any(map(is_running, children)):
        problems.append(f"still running: {children}")
    return f"stage 1: stopped by {signal.Signals(number).name}", problems, output


def only_failed_are_repeated(world):
    """Stage 2 repeats what stage 1's file does not show as passed, and nothing else."""
    first, second = os.path.join(world, "one"), os.path.join(world, "two")
    start(world, first, 1, "memcheck=fail").communicate(timeout=60)
    output, _ = start(world, second, 2, "", "--retry", os.path.join(first, "results.jsonl")).communicate(timeout=60)
    repeated = [row["name"] for row in results(second) if row["kind"] == "check" and row["part"] == "retry"]
    expected = ["memcheck", *(f"memcheck, fused verify, {network}, bf16" for network in ("narrow", "medium", "small"))]
    return "stage 2: what failed is repeated", [] if repeated == expected else [f"repeated: {repeated}"], output


def folder_has_limits(world):
    """At most eight files of 16 MiB, and none in a folder that has others."""
    sys.path.insert(0, BENCH)
    from gpu_session import MOST_BYTES, Output
    folder, problems = os.path.join(world, "limits"), []
    output = Output(folder)
    for data, fits in ((b"x" * (MOST_BYTES - 1), True), (b"xx", False), (b"x", True), (b"x", False)):
        if output.append("0", data) != fits:
            problems.append(f"{len(data)} bytes: {'refused' if fits else 'taken'}")
    if [output.append(str(i), b"x") for i in range(1, 9)] != [True] * 7 + [False] or len(os.listdir(folder)) != 8:
        problems.append(f"files: {os.listdir(folder)}")
    process = start(world, folder, 1, "")
    text, _ = process.communicate(timeout=60)
    if process.returncode != 2 or "is not empty" not in text:
        problems.append(f"exit code {process.returncode}")
    return "the folder's limits", problems, text


def what_cannot_be_killed(world):
    """A process that stays after SIGKILL costs its own check alone: a job at its end, a job when the others are given
    up, a peer. Signals are not sent here, so that a sleep stays."""
    sys.path.insert(0, BENCH)
    import gpu_peers
    import gpu_session
    gpu_session.KILLED = gpu_session.PATIENCE = 0.2
    gpu_session.signal_group = gpu_peers.signal_group = lambda process, number: None
    folder = os.path.join(world, "stuck")
    write(os.path.join(world, "stuck.py"), "import os, time\nprint(os.getpid())\ntime.sleep(15)\n")
    session, said, processes, started = gpu_session.Session(gpu_session.Output(folder), world), [], [], time.monotonic()
    session.say, make = said.append, subprocess.Popen
    gpu_session.subprocess.Popen = lambda *a, **options: processes.append(make(*a, **options)) or processes[-1]
    try:
        stuck = lambda name, seconds: gpu_session.Job(name, ["sleep", "15"], seconds, accept=gpu_session.tests_pass)
        session.check_all([stuck("at its end", 0.5)], started + 30)
        jobs = session.run([gpu_session.Job("short", ["true"]), stuck("given up", 15)], started + 30, 2)
        next(jobs)
        jobs.close()
        gpu_peers.SCRIPT = os.path.join(world, "stuck.py")
        session.log_text("peer", gpu_peers.Peer(Small(world), [], 1).close())
    finally:
        gpu_session.subprocess.Popen = make
    seconds = time.monotonic() - started
    for process in processes:
        process.kill()
        process.wait()
    log = gzip.open(os.path.join(folder, "log.txt.gz"), "rt").read()
    problems = [] if seconds < 10 else [f"waited {seconds:.0f} s"]
    if log.count(gpu_session.STUCK) != 3 or session.failed != ["at its end"]:
        problems.append(f"not recorded: {session.failed}, {log}")
    return "what cannot be killed", problems, "\n".join(said)


class Small:
    small = True

    def __init__(self, scratch):
        self.scratch = scratch


def log_is_full(world):
    """Said once; and what a stage says at its end of one check."""
    sys.path.insert(0, BENCH)
    import gpu_check
    import gpu_session
    output, said = gpu_session.Output(os.path.join(world, "full")), []
    session = gpu_session.Session(output, world)
    session.say = said.append
    output.sizes["log.txt.gz"] = gpu_session.MOST_BYTES
    for name in ("one", "two"):
        session.log(gpu_session.Done(gpu_session.Job(name, ["true"]), "passed", 0.0))
    session.passed = 1
    gpu_check.finish(session, True)
    expected = ["one: no room in log.txt.gz", "1 check passed, 0 did not"]
    fits = len(said) == 2 and all(text.strip().startswith(begin) for text, begin in zip(said, expected))
    return "the log is full", [] if fits else [f"said {said}"], ""


def nccl_is_found(world):
    """In the folders of the loader, in their order; the environment's own name for it comes first."""
    sys.path.insert(0, BENCH)
    import gpu_machine
    folders = [os.path.join(world, name) for name in ("empty", "[nccl]", "later")]
    for folder in folders:
        os.makedirs(folder)
    for folder in folders[1:]:
        write(os.path.join(folder, "libnccl.so.2"), "")
    kept, problems = dict(os.environ), []
    try:
        os.environ["LD_LIBRARY_PATH"] = ":".join(folders)
        for given, wanted in (("", os.path.join(folders[1], "libnccl.so.2")), ("off", None), ("/a/b.so", "/a/b.so")):
            os.environ["DESCENT_NCCL"] = given
            if gpu_machine.find_nccl() != wanted:
                problems.append(f"DESCENT_NCCL={given}: found {gpu_machine.find_nccl()}")
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return "NCCL is found", problems, ""


def report(folder, *arguments):
    done = subprocess.run([sys.executable, os.path.join(folder, "bench", "gpu_report.py"), *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def results_are_committed(world):
    """gpu_report.py makes results and tables of two stages' folders; --check sees a table that was altered, a result of
    kernels that are in no history, and one of these kernels."""
    folder, problems = os.path.join(world, "house"), []
    for name in ("bench/results", "kernels"):
        os.makedirs(os.path.join(folder, name))
    for name in os.listdir(BENCH):
        if name.endswith(".py"):
            shutil.copy(os.path.join(BENCH, name), os.path.join(folder, "bench"))
    markers = "<!-- GPU {0} -->\n<!-- end of GPU {0} -->\n"
    page = os.path.join(folder, "bench", "results", "README.md")
    write(page, "before\n" + markers.format("questions") + markers.format("figures") + "after\n")
    write(os.path.join(folder, "README.md"), markers.format("figures"))
    outs = [os.path.join(world, "committed1"), os.path.join(world, "committed2")]
    start(world, outs[0], 1, "memcheck=fail").communicate(timeout=60)
    start(world, outs[1], 2, "").communicate(timeout=60)
    code, output = report(folder, *outs)
    if code:
        return "gpu_report.py", [f"exit code {code}"], output
    text = open(page).read()
    for wanted in ("| 1.000 ms | 0.50 | 0.10 | 2.00 x | 2.00 x | 2.00 x | derived floor >= 0.6: 0.27, missed; best",
                   "graph >= 2.0: 2.00, met", "| 3 of mnist | 100.0 us | 200.0 us | 1.5 x, aim 32 x: missed | 10.00 x |",
                   "fake-gpu: passed (16)", "4 of 8 passed; memcheck: FAILED",
                   "relu bf16, batch 131072 | 2.0 | 1.0 | 2.00 | 5.0 | 166 |"):
        if wanted not in text:
            problems.append(f"the page has no '{wanted}'")
    if "| open |" in text or not text.startswith("before\n") or not text.endswith("after\n"):
        problems.append(f"page: {text}")
    path = os.path.join(folder, "bench", "results", "fake-gpu", "results.json")
    with open(path) as file:
        made = json.load(file)
    git = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@x"]
    write(os.path.join(folder, "kernels", "a.cu"), "one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()
    sys.path.insert(0, BENCH)
    from gpu_machine import hash_of_kernels
    one = hash_of_kernels(folder)
    for kernels, kernels_commit, alter, code, says in (
            (one, commit, "", 0, "of these kernels"), ("other", commit, "", 0, "kernels/ has 0 commits since"),
            (one, commit, "two", 0, "kernels/ has 1 commits since"), ("other", "f" * 40, "", 1, "is not a commit"),
            (one, commit, "page", 1, "'GPU questions' is not what the results give")):
        write(path, json.dumps({**made, "kernels": kernels, "kernels_commit": kernels_commit}))
        report(folder)
        if alter == "two":
            write(os.path.join(folder, "kernels", "a.cu"), "two")
            subprocess.run([*git, "commit", "-qam", "two"], check=True)
        elif alter == "page":
            write(page, open(page).read().replace("fake-gpu: passed (16)", "fake-gpu: passed (17)"))
        got, output = report(folder, "--check")
        if got != code or says not in output:
            problems.append(f"--check: exit code {got}, not {code}, or no '{says}': {output}")
    return "gpu_report.py", problems, output


def with_scripts():
    failures = Failures()
    with tempfile.TemporaryDirectory() as world:
        make_world(world)
        for run in (tools_refuse, log_is_full, nccl_is_found):
            failures.show(*run(world))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            runs = [pool.submit(run_case, world, case) for case in CASES]
            runs += [pool.submit(run, world)
                     for run in (first_fails, no_gpu, only_failed_are_repeated, results_are_committed,
                                 folder_has_limits, slow_rebuild)]
            runs += [pool.submit(stopped, world, number) for number in (signal.SIGKILL, signal.SIGTERM)]
            for run in runs:
                failures.show(*run.result())
        failures.show(*what_cannot_be_killed(world))  # alone: it takes signals and processes away from the others
    return failures.count


def can_start_ranks(build):
    return shutil.which("mpirun") and os.path.exists(os.path.join(build, "lib", "libdescent_mpi.so"))


def with_the_emulated_module(build, module):
    """Every program is the real one; the tools of NVIDIA and PyTorch are scripts."""
    failures = Failures()
    with tempfile.TemporaryDirectory() as world:
        make_world(world)
        os.remove(os.path.join(world, "tools", "mpirun"))  # the real one
        for stage in (1, 2):
            out = os.path.join(world, f"out{stage}")
            more = ["--retry", "notes tests, every device"] if stage == 2 else []
            process = start(world, out, stage, "", *more, build=build, module=module)
            output, _ = process.communicate()
            alone = stage == 1 and not can_start_ranks(build)
            problems = problems_of(out, stage, "", ["two ranks"] if alone else [], "NOT RUN")
            if process.returncode != (1 if alone else 0):
                problems.append(f"exit code {process.returncode}")
            if stage == 1 and {row["workload"] for row in results(out) if row["kind"] == "bench"} != {
                    "4096x5", "1024x5", "higgs", "256x5", "64x5", "mnist", "4096x5-tf32", "4096x5-fp32"}:
                problems.append("a workload has no figures")
            failures.show(f"stage {stage} on the emulated module", problems, output)
    return failures.count



sys.exit(1 if (with_scripts() if len(sys.argv) == 2 else with_the_emulated_module(*sys.argv[2:])) else 0)
