#!/usr/bin/env python3
"""Everything that only a GPU can show, in two stages, each within its own time.

  bench/gpu_check.sh --stage 1 --out FOLDER [--build BUILD]
  bench/gpu_check.sh --stage 2 --out FOLDER [--build BUILD] [--retry results.jsonl]

Stage 1 (445 s): a first training, cuBLASLt's candidates, all tests, micro-batches and ranks, many networks beside each
other, sanitizer tools, the benchmark, several layers in one kernel beside one after another, time and traffic of each
kernel, PyTorch beside it.
Stage 2 (250 s): the checks that stage 1 left open, streaming, an epoch of 11 million rows, resuming, checkpoints,
compiled peers. Each part ends at a time of the stage, and the parts after it get the time it leaves.

BUILD is a build folder, or the file that bench/gpu_pack.sh made of one. FOLDER must be empty; at most 8 files of at
most 16 MiB are written there, each to the disk as it grows, so that the results so far survive a stop at any moment:

  table.txt       a line per check, as printed       log.txt.gz    the commands' output
  results.jsonl   every figure, an object a line     trace.txt.gz  cuBLASLt's candidates
  clocks.csv      clocks, power and throttling       ncu.csv.gz    time and DRAM traffic of each kernel

bench/gpu_report.py makes the committed results from them. The machine needs NVIDIA's driver, libcublasLt (the toolkit's
or PyTorch's) and Python 3.9; anything else that is missing only skips its own checks. No network is used, and no
setting of the GPU is changed. Exit code 0: every check passed, 1: some did not, 2: wrong arguments,
4: no usable GPU.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_machine import Machine
from gpu_parts import STAGES
from gpu_session import Output, Session, Stop


class Stopped(BaseException):
    """A signal asks this program to stop. The parts, which catch every Exception, do not catch this."""


def stop(number, _):
    for other in (signal.SIGTERM, signal.SIGINT):  # the first one counts: a second one must not interrupt recording it
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(f"signal {signal.Signals(number).name}")


def retry_choice(text):
    """name -> whether that check of stage 1 is repeated: its name begins with one of those given with commas between,
    or the results.jsonl given does not show it as passed."""
    if not text or not text.endswith(".jsonl"):
        names = tuple(name for name in (text or "").split(",") if name)
        return lambda name: name.startswith(names)
    with open(text) as file:
        rows = [json.loads(line) for line in file if line.endswith("}\n")]
    passed = {row["name"] for row in rows if row["kind"] == "check" and row["result"] == "passed"}
    return lambda name: name not in passed


def run_parts(session, machine, parts):
    """Runs every part, whatever happened to the one before; Stop ends the stage."""
    for part in parts:
        session.part = part.name
        session.say(f"{part.name}: until {part.end} s")
        started = session.seconds()
        try:
            part.run(session, machine, session.started + part.end)
        except Stop as why:
            session.check(part.name, f"FAILED: {why}")
            session.say(f"STOPPED: {why}; the rest of this stage did not run")
            session.record("stopped", why=str(why))
            return
        except Exception as why:  # a part that fails must not lose the others' results
            session.log_text(part.name, f"== {part.name}\n{traceback.format_exc()}\n")
            session.check(part.name, f"FAILED: {type(why).__name__}: {str(why)[:200]}")
        session.record("part", name=part.name, seconds=round(session.seconds() - started, 2))


def finish(session, finished):
    session.record("end", finished=finished, passed=session.passed, not_passed=session.failed,
                   seconds=round(session.seconds(), 2))
    checks = "check" if session.passed == 1 else "checks"
    session.say(f"{session.passed} {checks} passed, {len(session.failed)} did not, in {session.seconds():.0f} s")


def run_stage(options, scratch):
    output = Output(options.out)
    session = Session(output, scratch)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    code = 1
    try:
        machine = Machine(options, scratch)
        machine.describe(session)
        machine.retries = retry_choice(options.retry)
        parts = STAGES[options.stage]
        if options.only:
            parts = [part for part in parts if part.name in ("first", *options.only)]
        run_parts(session, machine, parts)
        finish(session, True)
        code = 0 if not session.failed else machine.exit_code
    except Stopped as why:
        session.say(f"STOPPED by {why} after {session.seconds():.0f} s: what is not listed above did not run")
        finish(session, False)
    return code


def main():
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=int, choices=(1, 2), required=True)
    parser.add_argument("--out", required=True, help="an empty folder, or none yet")
    parser.add_argument("--build", default="build", help="a build folder or a pack of one (default build)")
    parser.add_argument("--retry", help="stage 2: stage 1's results.jsonl, or beginnings of checks' names")
    parser.add_argument("--only", type=lambda text: text.split(","), help="these parts, after the first: "
                        + "; ".join(f"stage {stage}: {', '.join(part.name for part in parts[1:])}"
                                    for stage, parts in STAGES.items()))
    parser.add_argument("--small", action="store_true", help="tiny shapes and few tests, to try this without a GPU")
    options = parser.parse_args()
    if options.retry and options.stage == 1:
        parser.error("--retry belongs to stage 2")
    for name in options.only or []:
        if name not in [part.name for part in STAGES[options.stage]]:
            parser.error(f"--only '{name}': stage {options.stage} has no such part")
    if not os.path.exists(options.build):
        parser.error(f"--build {options.build}: there is none (./quickstart.sh test makes a build)")
    scratch = tempfile.mkdtemp(prefix="gpu_check.")
    try:
        if not os.path.isdir(options.build):
            with tarfile.open(options.build) as pack:
                trusted = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
                pack.extractall(os.path.join(scratch, "build"), **trusted)
            options.build = os.path.join(scratch, "build")
        if not os.access(os.path.join(options.build, "bin", "descent"), os.X_OK):
            raise ValueError("--build: it has no bin/descent (./quickstart.sh test builds it)")
        return run_stage(options, scratch)
    except tarfile.TarError:
        print(f"gpu_check: --build {options.build}: neither a build folder nor a pack of one (bench/gpu_pack.sh makes it)",
              file=sys.stderr)
        return 2
    except (OSError, ValueError) as why:
        print(f"gpu_check: {why}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
