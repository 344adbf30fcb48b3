"""The parts of bench/gpu_check.py in their order: what each runs, and when it must end."""
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import namedtuple
from signal import SIGINT

from gpu_fusion import fused_jobs, run_fusion
from gpu_machine import ROOT
from gpu_members import run_members
from gpu_peers import run_peers, run_compiled_peers
from gpu_ranks import run_ranks
from gpu_session import STUCK, Job, Stop, benched, die_with_parent, reap, shortened, tests_pass, verified
from gpu_workloads import PROBES, PROFILED, WORKLOADS, bench_arguments, shares, text_seconds, workload

Part = namedtuple("Part", "name end run")  # end: seconds from the start of the stage
PRECISIONS = ("fp32", "tf32", "bf16")
WORKERS = 14  # tests at a time
DIGITS = os.path.join(ROOT, "examples", "optdigits_train.csv")


def share(end, left):
    """Seconds of an even share of the time until `end` among the remaining jobs."""
    return max((end - time.monotonic()) / max(left, 1), 0.0)


# ---- the environment and the first training --------------------------------------------------------------------------


def describe(session, machine):
    """The version of each tool, queried in parallel."""
    commands = {"driver": [machine.smi or "nvidia-smi", "-q"], "C library": ["ldd", "--version"],
                "compiler": [machine.nvcc or "nvcc", "--version"], "profiler": [machine.ncu or "ncu", "--version"],
                "sanitizer": [machine.sanitizer or "compute-sanitizer", "--version"],
                "PyTorch": [sys.executable, "-c", "import importlib.metadata as m; print(m.version('torch'))"],
                "module": ["ldd", machine.module]}
    jobs = [Job(name, command, seconds=8) for name, command in commands.items()]
    said = {}
    for done in session.run(jobs, time.monotonic() + 10, len(jobs)):
        said[done.job.name] = " | ".join(done.output.split("\n"))[:600] or done.result
        found = re.search(r"Driver Version\s*: (\S+)", done.output)
        if done.job.name == "driver":
            said["driver"] = found.group(1) if found else f"not known ({said['driver'][:80]})"
    session.record("tools", **said)
    session.say(f"driver  {said['driver']}")


def first_jobs(machine):
    jobs = [machine.ours("verify, the default network", "descent", ["verify", "--device", "cuda"], seconds=30,
                         accept=verified)]
    for precision in PRECISIONS:  # 20 steps: 3823 rows
        out = os.path.join(machine.scratch, f"first-{precision}")
        jobs.append(machine.ours(f"20 steps of training, {precision}", "descent", [
            "train", DIGITS, "--target", "digit", "--epochs", "1", "--batch-size", "192", "--validation", "0",
            "--device", "cuda", "--precision", precision, "--quiet", "--out", out], seconds=30,
                                 environment={"XDG_CACHE_HOME": out + ".cache"}))
    return jobs


def trace_failures(session, machine, jobs, end):
    """Runs the failed commands again: candidates traced and launches one by one, then under memcheck."""
    again = []
    for i, job in enumerate(jobs):
        trace = os.path.join(machine.scratch, f"failed-{i}")
        more = {"DESCENT_CUDA_TRACE": trace, "CUDA_LAUNCH_BLOCKING": "1", "CUBLASLT_LOG_LEVEL": "2",
                "XDG_CACHE_HOME": trace + ".cache"}
        again.append(Job(f"trace of {job.name}", job.command, 30, {**job.environment, **more}))
        if machine.sanitizer:
            again.append(Job(f"memcheck of {job.name}", [machine.sanitizer, *job.command], 40, job.environment))
    for done in session.run(again, end, 8):
        session.say(f"  {done.job.name}: {done.result} (log.txt.gz)")
    for i, job in enumerate(jobs):
        session.keep("trace.txt.gz", os.path.join(machine.scratch, f"failed-{i}"), job.name)


def run_first(session, machine, end):
    describe(session, machine)
    # Stop if the module does not load or is not built from these sources: nothing after this is useful without it.
    late = end + 90
    changed = machine.has_changed_kernels()
    found = machine.find_device(session, end + 30)
    absent = not found and re.search("no NVIDIA driver is installed|driver finds no NVIDIA GPU", machine.said)
    if changed:
        session.say("  kernels/ differs from the build's: the module is built anew")
    rebuilt = (changed or not found) and not absent and machine.rebuild(session, late)
    ready = max(end, time.monotonic())  # the parts after a rebuild have their full time, however long it took
    if rebuilt:
        machine.find_device(session, ready + 30)
    if not machine.device:
        machine.exit_code = 4
        raise Stop("no GPU can be used")
    session.record("device", text=machine.device)
    session.say(f"device  {machine.device}")
    jobs = first_jobs(machine)
    passed = session.check_all(jobs, ready + 30, len(jobs))
    failed = [job for job in jobs if session.wants(job.name) and job.name not in passed]
    if failed:
        trace_failures(session, machine, failed, ready + 60)
        raise Stop("the first training or verification failed")


# ---- cuBLASLt's candidates -------------------------------------------------------------------------------------------


def traced(machine, name):
    return os.path.join(machine.scratch, f"trace-{name}")


def run_probe(session, machine, end):
    """Each workload compiled once, every candidate of its products traced; the choices are remembered for the rest."""
    for name in ("higgs", *PROBES, "mnist", "256x5", "64x5", "1024x5", "4096x5", "4096x5-tf32", "4096x5-fp32"):
        arguments = bench_arguments(workload(name, machine.shrink), 1e-3)
        job = machine.ours(f"candidates of {name}", "descent", arguments,
                           environment={"DESCENT_CUDA_TRACE": traced(machine, name)})
        passed = session.check_all([job], end)
        session.keep("trace.txt.gz", traced(machine, name), name)
        if os.path.exists(traced(machine, name)):
            os.unlink(traced(machine, name))  # the benchmark's is another
        elif passed:
            session.check(f"trace of {name}", "FAILED: the module wrote none")


# ---- tests -----------------------------------------------------------------------------------------------------------

# name, program, filter, and the filter where all should be quick
TESTS = (
    ("trajectories of 100 steps", "trajectory_test", "*", "*gd_sigmoid_binary_fp32"),
    ("resumed from every step: the same bits", "resume_test", "*gpu*", "*gpu_fp32*"),
    ("graphs, streaming, fusion: the same bytes", "cuda_module_test", "*CudaModule*-*AConnection*",
     "*fp32_tanh_binary:*WholeSteps"),
    ("train tests, every device", "train_test", "*", "*MaskedTail*"),
    ("notes tests, every device", "notes_test", "*", "Losses.*"),
    ("PyTorch's recorded trainings", "pytorch_test", "*", "*StepByStep/gd"),
    ("divergence tests, every device", "divergence_test", "*", "*NamesTheRowOfTheData"),
    ("evaluate tests, every device", "evaluate_test", "*", "*TakesOverTheNames"),
    ("verify tests, every device", "verify_test", "*", "*WhatCannotBeVerifiedIsRefused"),
    ("gradients and losses of a program's", "differentiate_test", "*", "*MasksFollowTheNumberOfSteps"),
    ("own losses in whole trainings", "own_loss_test", "*", "*DecidesWhenATrainingStops"),
    ("predictors, every device", "predictor_test", "*-*AllocatesNothing*", "*RefusesNumbersOfRows*"),  # drivers allocate
    ("trainers saved and restored", "trainer_state_test", "*", "*RestoreRefuses*"),
    ("a device that threads share", "shared_device_test", "*/cuda_1", "*Lives*/cuda_1"),
    ("trainings on sources", "fit_source_test", "*", "*RefusesToResumeWithAnotherShape"),
)

DRAWN = ("3", "11")  # seeds that take custom kernels for about half of the dense operations, of each kind and element


def test_jobs(machine):
    shards = 2 if machine.small else 10
    which = "*cuda*gather_plain_*:*cuda*dense_forward_relu_3of8*" if machine.small else "*cuda*"
    jobs = [machine.ours(f"conformance, shard {i + 1} of {shards}", "conformance_test",
                         [f"--gtest_filter={which}"], accept=tests_pass,
                         environment={"GTEST_TOTAL_SHARDS": str(shards), "GTEST_SHARD_INDEX": str(i)})
            for i in range(shards)]
    # Dense operations in ways that are drawn: also those that this GPU would not choose by time.
    dense = "*cuda*dense_*_17of32*" if machine.small else "*cuda*dense_*"
    jobs += [machine.ours(f"conformance, drawn by seed {seed}", "conformance_test", [f"--gtest_filter={dense}"],
                          accept=tests_pass, environment={"DESCENT_CUDA_CHOOSE": seed}) for seed in DRAWN]
    jobs += [machine.ours(name, program, [f"--gtest_filter={quick if machine.small else usual}"], accept=tests_pass)
             for name, program, usual, quick in TESTS]
    for precision in PRECISIONS:
        shape = ["--hidden", "9,5", "--rows", "40"] if machine.small else ["--all"]
        jobs.append(machine.ours(f"verify --all, {precision}", "descent",
                                 ["verify", *shape, "--device", "cuda", "--precision", precision], accept=verified))
    size = ["--hidden", "8", "--epochs", "1"] if machine.small else ["--hidden", "96,64", "--epochs", "3"]
    narrow = size if machine.small else ["--hidden", "48,32", "--epochs", "3"]
    for name, more in (("fp32", ["--precision", "fp32", *size]), ("bf16", ["--precision", "bf16", *size]),
                       ("bf16, fused", ["--precision", "bf16", *narrow, "--fusion", "on"])):
        jobs.append(script(machine, f"the same bytes: twice, and streamed, {name}", SAME_BYTES,
                           ["train", DIGITS, "--target", "digit", *more, "--dropout", "0.2", "--device", "cuda",
                            "--batch-size", "100", "--quiet"]))
    return jobs


# "$@" is the training; $D is a folder that only this check uses.
SAME_BYTES = """"$@" --out $D/a; "$@" --out $D/b; DESCENT_GPU_DATA_MB=0 "$@" --out $D/c; cmp $D/a $D/b; cmp $D/a $D/c"""


def script(machine, name, text, arguments, **options):
    """A job of several commands, each of which must succeed."""
    folder = os.path.join(machine.scratch, re.sub(r"\W+", "-", name))
    os.makedirs(folder, exist_ok=True)
    job = machine.ours(name, "descent", arguments, **options)
    job.command = ["sh", "-ec", f"D={shlex.quote(folder)}; {text}", "sh", *job.command]
    job.environment["XDG_CACHE_HOME"] = folder
    return job


def run_tests(session, machine, end):
    session.check_all(test_jobs(machine), end, WORKERS)


# ---- sanitizer tools -------------------------------------------------------------------------------------------------

# A few shapes of every kernel: the tools are a hundred times slower than the kernels.
SANITIZED = ("*cuda_bf16__gather_shuffled_padding0:*cuda_bf16__gather_of_a_view_padding3:"
             "*cuda_fp32__gather_missing_of_fours_padding0:*cuda_fp32__gather_wide_padding3:"
             "*cuda_bf16__dense_forward_*_17of32*dropout0_3_uniform_padding0:"
             "*cuda_fp32__dense_backward_input_*_17of32*dropout0_3_uniform_padding0:"
             "*cuda_bf16__dense_backward_input_relu_17of32*:*cuda_*dense_backward_weights_17of32*uniform_padding0:"
             "*cuda_tf32__dense_*_17of32*dropout0_3_uniform_padding0:*cuda_*__dense_*_63of64x65x127*_uniform_padding0:"
             "*cuda_bf16__loss_*_37of40x65_smoothing0_1_range1_0_padding*:"
             "*cuda_fp32__loss_*_61of64x7_*_range1_0_padding0:"
             "*cuda_bf16__update_adam_first_step*:*cuda_fp32__update_sgd_momentum_clipped*:"
             "*cuda_fp32__gradient_norm_tiny*:*cuda_bf16__statistics_relu_5of8*_padding0:"
             "*cuda_fp32__output_softmax_301_range4_0_padding3:*cuda_fp32__metrics*")
# cuBLAS's custom kernels are not ours to check, and take most of the time.
NOT_OURS = "regex=cublas|cutlass|xmma|nvjet|gemm|gemv|splitK|ampere|hopper|sm80|sm90"


def sanitized(accept):
    """What `accept` says of the program, and the tool's summary."""
    def accepted(code, output):
        if re.search("device not supported", output, re.I):
            return "NOT RUN: the tool does not support this machine", {}
        result, facts = accept(code, output)
        if result == "passed" and not re.search(r"ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards", output):
            return "FAILED: no clean summary", facts
        return result, facts
    return accepted


def check_with(session, machine, end, tools):
    which = SANITIZED if not machine.small else "*cuda_fp32__gather_plain_padding0"
    jobs = []
    for tool in tools:
        each = [machine.ours(tool, "conformance_test", [f"--gtest_filter={which}"], accept=sanitized(tests_pass),
                             environment={"DESCENT_CUDA_CHOOSE": DRAWN[0]})]  # so that custom kernels run
        each += [machine.ours(f"{tool}, {job.name}", "descent", job.command[1:], accept=sanitized(job.accept))
                 for job in fused_jobs(machine, "bf16")]
        for job in each:
            job.command = [machine.sanitizer, "--tool", tool, "--error-exitcode", "9", "--kernel-name-exclude", NOT_OURS,
                           *job.command]
        jobs += each
    if machine.sanitizer:
        session.check_all(jobs, end, len(jobs))
    else:
        for job in jobs:
            if session.wants(job.name):
                session.check(job.name, "NOT RUN: compute-sanitizer is not installed")


def run_sanitizers(session, machine, end):
    check_with(session, machine, end, ("memcheck", "racecheck"))


def run_other_sanitizers(session, machine, end):
    check_with(session, machine, end, ("initcheck", "synccheck"))


# ---- the benchmark ---------------------------------------------------------------------------------------------------


def sample_clocks(session, machine):
    """Records clocks, power and the reasons for throttling five times a second, during the benchmark."""
    if not machine.smi:
        return None
    query = "timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu,clocks_event_reasons.active"
    session.output.append("clocks.csv", b"")
    with open(session.output.path("clocks.csv"), "ab") as file:
        return subprocess.Popen([machine.smi, f"--query-gpu={query}", "--format=csv", "-lms", "200"], stdout=file,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)


def run_bench(session, machine, end):
    names = [name for name in WORKLOADS if session.wants(f"bench {name}")]
    clocks = sample_clocks(session, machine)
    try:
        for i, name in enumerate(names):
            each = share(end, len(names) - i)
            seconds = 0.01 if machine.small else max(0.5, each - 4)
            job = machine.ours(f"bench {name}", "descent", bench_arguments(workload(name, machine.shrink), seconds),
                               seconds=1.7 * each, accept=benched,
                               environment={"DESCENT_CUDA_TRACE": traced(machine, name)})
            for done in session.run([job], end):
                figures = done.facts.pop("bench", None)
                session.check(done.job.name, done.result, done.seconds)
                if figures:
                    session.record("bench", workload=name, figures=figures,
                                   began=time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(time.time() - done.seconds)))
                    products, floor = shares(figures)
                    session.say(f"      {text_seconds(figures['step_seconds'])}, products {products:.2f}, floor "
                                f"{floor:.2f}, {figures['peak_flops'] * 1e-12:.1f} TFLOP/s, "
                                f"{figures['peak_bandwidth'] * 1e-12:.2f} TB/s")
                else:
                    session.say(f"      {shortened(done.output.strip(), 300)}")
            session.keep("trace.txt.gz", traced(machine, name), f"{name}, while it was timed")
    finally:
        if clocks:
            clocks.terminate()
            if reap(clocks) is None:
                clocks.kill()


# ---- time and traffic of each kernel ---------------------------------------------------------------------------------

METRICS = ("gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum")
PROFILED_LAUNCHES = 1500  # the job's seconds end it earlier where the counters are slow
WHOLE_STEP = "cluster_step_kernel"  # does all of a training step
NO_PROFILER = r"LibraryNotLoaded|ERR_NVGPUCTRPERM|is not supported on (the )?device|No supported GPU"


def kernels_of_last_step(text):
    """[name, seconds, bytes read, bytes written] of each kernel of the last complete training step in ncu's raw CSV,
    and why there is none. A step begins with its gather and has an update, or is one kernel. The first one does not
    count: the module runs it on no rows before it captures its graphs. Nor does a step in one kernel before the first
    gather: until then the module tries variants."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    rows = [row for row in csv.DictReader(io.StringIO("\n".join(lines))) if row.get("ID")]  # not the row of units
    number = lambda row, metric: float((row.get(metric) or "0").replace(",", "") or 0)
    name = lambda row: row.get("Kernel Name", "?").replace("(anonymous namespace)::", "").split("(")[0][:120]
    kernels = [[name(row), number(row, METRICS[0]) * 1e-9, number(row, METRICS[1]), number(row, METRICS[2])]
               for row in rows]
    has = lambda step, *names: any(name in kernel[0] for kernel in step for name in names)
    first = next((i for i, kernel in enumerate(kernels) if has([kernel], "gather_kernel")), len(kernels))
    begins = [i for i, kernel in enumerate(kernels) if i >= first and has([kernel], "gather_kernel", WHOLE_STEP)]
    steps = [kernels[a:b] for a, b in zip(begins, begins[1:] + [len(kernels)])]
    complete = [step for step in steps if has(step, "update_kernel", WHOLE_STEP)]
    plain = [step for step in complete if not has(step, "deviation_kernel")]
    if len(plain) < 2:
        return [], "FAILED: no whole step but the first, which has no rows" if plain else "FAILED: no whole step"
    return plain[-1], ""


def run_kernels(session, machine, end):
    names = [name for name in PROFILED if session.wants(f"kernels of {name}")]
    why = None if machine.ncu else "NOT RUN: ncu is not installed"
    for name in names:
        if why:
            session.check(f"kernels of {name}", why)
            continue
        path = os.path.join(machine.scratch, f"ncu-{name}")
        job = machine.ours(f"kernels of {name}", "descent", bench_arguments(workload(name, machine.shrink), 1e-3),
                           seconds=20, interrupt=SIGINT)
        job.command = [machine.ncu, "--clock-control", "none", "--cache-control", "none", "--graph-profiling", "node",
                       "--target-processes", "all", "--metrics", ",".join(METRICS), "--csv", "--page", "raw",
                       "--print-units", "base", "--launch-count", str(PROFILED_LAUNCHES), "--kill", "yes", "--log-file",
                       path, *job.command]
        for done in session.run([job], end):
            session.keep("ncu.csv.gz", path, name)
            text = open(path, errors="replace").read() if os.path.exists(path) else ""
            kernels, none = kernels_of_last_step(text)
            if kernels:  # ncu ends the program itself, so its exit code says nothing
                session.record("kernels", workload=name, kernels=kernels)
            found = re.search(NO_PROFILER, text + done.output)
            if found and not kernels:
                why = f"NOT RUN: ncu cannot read the counters here ({found.group(0)})"
            ended = done.result if done.result.startswith(("NOT RUN", STUCK)) else none
            session.check(done.job.name, "passed" if kernels else why or ended, done.seconds)


# ---- stage 2 ---------------------------------------------------------------------------------------------------------


def run_retry(session, machine, end):
    """Every check of stage 1 that did not pass, in its part; where kernels changed, conformance and benchmark too."""
    anew = ("conformance", "bench") if machine.is_rebuilt else ()
    session.only = lambda name: machine.retries(name) or name.startswith(anew)
    try:
        for part in STAGES[1][1:]:
            part.run(session, machine, end)
    finally:
        session.only = None


def write_rows(session, machine, end, name, rows):
    path = os.path.join(machine.scratch, name)
    writer = os.path.join(ROOT, "bench", "large_rows.py")
    job = Job(f"write {rows} rows", [sys.executable, writer, path, str(rows), "28"], 60)
    for done in session.run([job], end):
        if done.result != "passed":
            raise OSError(f"the rows were not written: {done.result}: {shortened(done.output, 200)}")
    return path


def epoch_seconds(path):
    """Of the last epoch in a training's log, and of all."""
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    seconds = [row["seconds"] for row in rows]
    return seconds[-1] - (seconds[-2] if len(seconds) > 1 else 0.0), seconds[-1]


def train_command(machine, data, epochs, *more):
    hidden = "30,30" if machine.small else "300,300,300,300"
    batch = "64" if machine.small else "65536"
    return ["train", data, "--hidden", hidden, "--activation", "tanh", "--batch-size", batch, "--precision", "bf16",
            "--validation", "0", "--device", "cuda", "--epochs", str(epochs), "--quiet", *more]


def run_large(session, machine, end):
    """An epoch over a mapped file, from the start of the command to its end; then streamed compared with resident."""
    rows = 1000 if machine.small else 11_000_000
    data = write_rows(session, machine, end, "large.safetensors", rows)
    out = lambda name: os.path.join(machine.scratch, name)
    job = machine.ours(f"an epoch of {rows} x 28 rows", "descent",
                       train_command(machine, data, 1, "--out", out("epoch")))
    for name, done in session.check_all([job], end).items():
        session.record("epoch", rows=rows, seconds=done.seconds)
    command = lambda name: train_command(machine, data, 3, "--out", out(name), "--log", out(f"{name}.log"))
    jobs = [machine.ours(f"{name}, 3 epochs", "descent", command(name), environment=more)
            for name, more in (("resident", {}), ("streamed", {"DESCENT_GPU_DATA_MB": "0"}))]
    if len(session.check_all(jobs, end)) == 2:
        resident, streamed = (epoch_seconds(out(f"{name}.log"))[0] for name in ("resident", "streamed"))
        session.record("streamed", rows=rows, resident_seconds=resident, streamed_seconds=streamed)
        session.say(f"      last epoch: resident {text_seconds(resident)}, streamed {text_seconds(streamed)}, "
                    f"{streamed / resident:.2f} x")
        same = subprocess.run(["cmp", out("resident"), out("streamed")], check=False).returncode == 0
        session.check("resident and streamed: the same bytes", "passed" if same else "FAILED: the models differ")
    os.unlink(data)


RESUMED = """"$@" --epochs 4 --out $D/whole; "$@" --epochs 2 --checkpoint $D/kept --out $D/half
"$@" --epochs 4 --resume $D/kept --resume-with epochs --out $D/resumed; cmp $D/whole $D/resumed"""


def run_resumed(session, machine, end):
    """A training that stops halfway and is resumed, compared with one that never stops; the cost of checkpoints."""
    data = write_rows(session, machine, end, "rows.safetensors", 1000 if machine.small else 1_000_000)
    batch = "100" if machine.small else "8192"
    jobs = [script(machine, f"resumed: the same bits, {precision}", RESUMED,
                   ["train", data, "--hidden", "40,30", "--dropout", "0.1", "--batch-size", batch, "--validation", "0",
                    "--device", "cuda", "--precision", precision, "--quiet"]) for precision in PRECISIONS]
    session.check_all(jobs, end, 3)
    for hidden in ("8,8",) if machine.small else ("1024,1024", "4096,4096"):
        measure_checkpoints(session, machine, end, data, hidden, batch)
    os.unlink(data)


def measure_checkpoints(session, machine, end, data, hidden, batch):
    """Trainings with and without a checkpoint after each epoch, in turn."""
    seconds, size = {"none": [], "each": []}, 0
    folder = os.path.join(machine.scratch, "kept")
    for turn in range(1 if machine.small else 3):
        for side in ("none", "each") if turn % 2 == 0 else ("each", "none"):
            subprocess.run(["rm", "-rf", folder], check=True)
            log = os.path.join(machine.scratch, "checkpoint.log")
            more = ["--checkpoint", folder, "--checkpoint-every", "1 epochs"] if side == "each" else []
            job = machine.ours(f"training, checkpoints {side}, {hidden}", "descent", [
                "train", data, "--hidden", hidden, "--batch-size", batch, "--precision", "bf16", "--validation", "0",
                "--device", "cuda", "--epochs", "4", "--quiet", "--log", log, "--out",
                os.path.join(machine.scratch, "model"), *more])
            for done in session.run([job], end):
                if done.result != "passed":
                    session.check(f"checkpoints of {hidden}", done.result, done.seconds)
                    return
                seconds[side].append(epoch_seconds(log)[1] / 4)
            if side == "each":
                size = max(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    none, each = (min(seconds[side]) for side in ("none", "each"))
    session.check(f"checkpoints of {hidden}", "passed")
    session.record("checkpoints", hidden=hidden, bytes=size, epoch_seconds=none, epoch_seconds_with=each, all=seconds)
    session.say(f"      {size * 1e-6:.0f} MB after each epoch of {text_seconds(none)}: {each / none:.3f} x")


STAGES = {
    1: (Part("first", 10, run_first), Part("candidates", 25, run_probe), Part("tests", 80, run_tests),
        Part("ranks", 115, run_ranks), Part("members", 150, run_members), Part("sanitizers", 170, run_sanitizers),
        Part("bench", 250, run_bench), Part("fusion", 290, run_fusion), Part("kernels", 380, run_kernels),
        Part("peers", 435, run_peers)),
    2: (Part("first", 15, run_first), Part("retry", 75, run_retry), Part("large", 115, run_large),
        Part("resumed", 150, run_resumed), Part("other sanitizers", 165, run_other_sanitizers),
        Part("compiled peers", 245, run_compiled_peers)),
}
