"""PyTorch beside the benchmark: bench/peers/torch_step.py as a process that reads workloads and answers in lines."""
import json
import os
import select
import signal
import subprocess
import sys
import time

from gpu_session import STUCK, die_with_parent, reap, shortened, signal_group
from gpu_workloads import COMPILED, WORKLOADS, text_seconds, workload

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers", "torch_step.py")
LEAST_SECONDS = 8.0  # with less time left no process is started: importing PyTorch takes most of it


class Peer:
    def __init__(self, machine, runs, seconds, wait=False):
        self.log = open(os.path.join(machine.scratch, f"peer-{id(self)}.log"), "w+b")
        self.process = subprocess.Popen([sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, preexec_fn=die_with_parent)
        self.pending = b""
        device = "cpu" if machine.small else "cuda"
        self.send(json.dumps({"device": device, "seconds": seconds, "runs": runs, "wait": wait}))

    def send(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # it has ended: reading shows that
            pass

    def answer(self, end):
        """The next line's object; None if none comes by `end` or the process has ended."""
        while b"\n" not in self.pending:
            if not select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))[0]:
                return None
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def close(self):
        """The process's output."""
        signal_group(self.process, signal.SIGKILL)
        code = reap(self.process)
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.seek(0)
        text = self.log.read().decode("utf-8", "replace")
        self.log.close()
        return text if code is not None else f"{text}{STUCK}\n"


def check_name(run):
    return f"PyTorch {run['workload']}, {run['kind']}"


def take(session, run, answer, seconds, version):
    """One run's answer into the record."""
    if "step_seconds" in answer:
        session.check(check_name(run), "passed", seconds)
        session.record("peer", workload=run["workload"], peer=run["kind"], step_seconds=answer["step_seconds"],
                       version=version)
        session.say(f"      {text_seconds(answer['step_seconds'])}")
    else:
        session.check(check_name(run), f"FAILED: {answer['missing']}", seconds)


def run_peers(session, machine, end):
    """Eager and captured, one process for all workloads; if it dies, another one continues with the next."""
    aimed = sorted(WORKLOADS, key=lambda name: not set(WORKLOADS[name][-1]) & {"best", "graph", "eager"})
    runs = [{"workload": name, "kind": kind, "shape": workload(name, machine.shrink)}
            for name in aimed for kind in ("graph", "eager")]
    runs = [run for run in runs if session.wants(check_name(run))]
    seconds = 0.01 if machine.small else 0.8
    while runs and end - time.monotonic() > (0 if machine.small else LEAST_SECONDS):
        peer, started, version, none = Peer(machine, runs, seconds), time.monotonic(), "", None
        answer = peer.answer(end)
        while answer and runs:
            if "version" in answer:
                version = answer["version"]
            elif "workload" not in answer:
                none = answer["missing"]
                break
            else:
                take(session, runs.pop(0), answer, time.monotonic() - started, version)
            started = time.monotonic()
            answer = peer.answer(end) if runs else None
        text = peer.close()
        session.log_text("peers", f"== peers\n{shortened(text)}\n")
        if none or not version:
            for run in runs:
                session.check(check_name(run), f"NOT RUN: {none or 'PyTorch did not start'}")
            return
        if runs and time.monotonic() < end:
            session.check(check_name(runs.pop(0)), "FAILED: the process ended")
    for run in runs:
        session.check(check_name(run), "NOT RUN: no time left")


def run_compiled_peers(session, machine, end):
    """Compiled side by side, a process each, then measured one after the other with the GPU to itself."""
    seconds = 0.01 if machine.small else 1.0
    runs = [{"workload": name, "kind": "compile", "shape": workload(name, machine.shrink)} for name in COMPILED]
    peers = [(run, Peer(machine, [run], seconds, wait=True)) for run in runs]
    started, ready = time.monotonic(), []
    last = end - len(peers) * max(3 * seconds, 0.5)
    try:
        for run, peer in peers:
            answer, version = peer.answer(last), ""
            if answer and "version" in answer:
                version, answer = answer["version"], peer.answer(last)
            if answer and "ready" in answer:
                ready.append((run, peer, version))
            else:
                why = f"FAILED: {answer['missing']}" if answer and "missing" in answer else \
                    "NOT FINISHED in time" if time.monotonic() >= last else "FAILED: the process ended"
                session.check(check_name(run), why, time.monotonic() - started)
                peer.process.kill()
        for run, peer, version in ready:
            peer.send("")
            answer = peer.answer(end)
            take(session, run, answer or {"missing": "no answer"}, time.monotonic() - started, version)
    finally:
        for run, peer in peers:
            session.log_text(check_name(run), f"== {check_name(run)}\n{shortened(peer.close())}\n")
