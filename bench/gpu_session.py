"""The base of bench/gpu_check.py: a folder of results that is complete at every moment, and commands that run in
parallel within their time limits."""
import ctypes
import gzip
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field

MOST_FILES, MOST_BYTES = 8, 16 << 20  # of the folder that comes back; of each file in it
LOG_BYTES = 1_000_000                 # of each command's output: its beginning and its end
PATIENCE = 3.0                        # seconds between asking a command to end and ending it
KILLED = 2.0                          # seconds for a killed process to disappear: one that waits in the driver remains
STUCK = "NOT FINISHED, cannot be killed"


class Stop(Exception):
    """Nothing after this in the stage can work; the text says why."""


class Output:
    """At most eight files that only grow, each write synced to the disk, so they survive any end of this program."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        if os.listdir(folder):
            raise FileExistsError(f"{folder} is not empty: use another folder")
        self.folder, self.sizes = folder, {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def append(self, name, data):
        """False if the file is full: text that does not fit is omitted entirely."""
        size = self.sizes.get(name, 0) + len(data)
        if size > MOST_BYTES or len(self.sizes | {name: 0}) > MOST_FILES:
            return False
        with open(self.path(name), "ab", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        self.sizes[name] = size
        return True

    def append_text(self, name, text):
        """To a .txt.gz, as one more member: those before it stay readable if this one is cut off."""
        return self.append(name, gzip.compress(text.encode("utf-8", "replace"), 6))


def shortened(text, most=LOG_BYTES):
    if len(text) <= most:
        return text
    return f"{text[:most // 4]}\n... {len(text) - most} characters left out ...\n{text[-(most * 3 // 4):]}"


@dataclass
class Job:
    """A command with its limit. `accept` returns (result, facts) of its exit code and output."""
    name: str
    command: list
    seconds: float = 600.0
    environment: dict = field(default_factory=dict)
    accept: object = None
    interrupt: int = signal.SIGTERM  # how it is asked to end


@dataclass
class Done:
    job: Job
    result: str  # "passed", or why it is not
    seconds: float
    output: str = ""
    facts: dict = field(default_factory=dict)


def exit_text(code):
    return f"FAILED by signal {signal.Signals(-code).name}" if code < 0 else f"FAILED with exit code {code}"


def ends_well(code, output):
    return ("passed" if code == 0 else exit_text(code)), {}


def tests_pass(code, output):
    """A GoogleTest program: every test ran and passed, and there was one."""
    passed = re.search(r"^\[  PASSED  \] (\d+) test", output, re.M)
    facts = {"tests": int(passed.group(1)) if passed else len(re.findall(r"^\[       OK \]", output, re.M))}
    if code:
        failed = sorted(set(re.findall(r"^\[  FAILED  \] ([^\s,]+\.[^\s,]+)", output, re.M)))
        return exit_text(code), {**facts, "failed": failed[:50]}
    skipped = len(re.findall(r"^\[  SKIPPED \] \S+\.\S+", output, re.M))
    if skipped:
        return "FAILED: tests were skipped", facts
    return ("passed" if facts["tests"] else "FAILED: the filter fits no test"), facts


def verified(code, output):
    """`descent verify`: it compared something, and nothing failed."""
    if code:
        return exit_text(code), {}
    return ("passed" if re.search(r"[1-9]\d* [^\n]*\b0 failed", output) else "FAILED: nothing was compared"), {}


def benched(code, output):
    """`descent bench --json`: its figures are the fact "bench"."""
    if code:
        return exit_text(code), {}
    found = re.search(r"^\{.*\}$", output, re.M | re.S)
    try:
        return "passed", {"bench": json.loads(found.group(0) if found else output)}
    except ValueError:
        return "FAILED: no figures", {}


def die_with_parent():
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def signal_group(process, number):
    """Sends a signal to a process and its children."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def reap(process):
    """The exit code of a process that was killed; None if it still exists."""
    try:
        return process.wait(timeout=KILLED)
    except subprocess.TimeoutExpired:
        return None


class Running:
    def __init__(self, job, limit, scratch, number):
        self.job, self.started = job, time.monotonic()
        self.end, self.asked = self.started + limit, False
        self.limit = limit
        self.file = open(os.path.join(scratch, f"job-{number}"), "w+b")
        self.process = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=self.file,
                                        stderr=subprocess.STDOUT, env={**os.environ, **job.environment},
                                        preexec_fn=die_with_parent)

    def poll(self):
        """Done once it has ended, None before. Past its time limit it is terminated, then killed."""
        code, now = self.process.poll(), time.monotonic()
        if code is None and now > self.end:
            if not self.asked:
                signal_group(self.process, self.job.interrupt)
                self.asked, self.end = True, now + PATIENCE
            else:
                return self.killed()
        return None if code is None else self.finished(code)

    def killed(self):
        signal_group(self.process, signal.SIGKILL)
        return self.finished(reap(self.process))

    def finished(self, code):
        """code: None if it cannot be killed."""
        signal_group(self.process, signal.SIGKILL)  # what it started
        self.file.seek(0)
        output = self.file.read().decode("utf-8", "replace")
        self.close()
        if code is None:
            return Done(self.job, STUCK, time.monotonic() - self.started, output)
        result, facts = (self.job.accept or ends_well)(code, output)
        if self.asked:
            result = f"NOT FINISHED within {self.limit:.0f} s"
        return Done(self.job, result, time.monotonic() - self.started, output, facts)

    def close(self):
        self.file.close()
        if os.path.exists(self.file.name):
            os.unlink(self.file.name)


class Session:
    """One stage: its folder, its clock, and the record of what was checked."""

    def __init__(self, output, scratch):
        self.output, self.scratch = output, scratch
        self.only = None  # name -> whether that check is run; None: all are
        self.started, self.part, self.number = time.monotonic(), "", 0
        self.passed, self.failed = 0, []
        self.log_is_full = False

    def seconds(self):
        return time.monotonic() - self.started

    def wants(self, name):
        return self.only is None or self.only(name)

    def record(self, kind, **facts):
        self.output.append("results.jsonl", json.dumps({"kind": kind, "part": self.part, "at": round(self.seconds(), 2),
                                                        **facts}).encode() + b"\n")

    def say(self, text):
        print(text, flush=True)
        self.output.append("table.txt", f"{text}\n".encode("utf-8", "replace"))

    def check(self, name, result, seconds=0.0, **facts):
        """One line of the table and one record."""
        self.record("check", name=name, result=result, seconds=round(seconds, 2), **facts)
        tests = f", {facts['tests']} tests" if facts.get("tests") else ""
        self.say(f"  {name:44} {result}{tests}" + (f", {seconds:.1f} s" if seconds else ""))
        if result == "passed":
            self.passed += 1
        else:
            self.failed.append(name)

    def log(self, done):
        text = f"== {self.part}: {done.job.name}: {done.result}, {done.seconds:.1f} s\n$ " \
               f"{' '.join(map(str, done.job.command))}\n{shortened(done.output)}\n"
        self.log_text(done.job.name, text)

    def log_text(self, title, text):
        if not self.output.append_text("log.txt.gz", text) and not self.log_is_full:
            self.log_is_full = True
            self.say(f"      {title}: no room in log.txt.gz for {len(text)} characters; more output may be left out")

    def run(self, jobs, end, workers=1):
        """Yields each job's Done in the order in which they end; jobs without time left yield NOT RUN."""
        waiting, running = [job for job in jobs], []
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    limit = min(job.seconds, end - time.monotonic())
                    if limit < 0.5:
                        yield Done(job, "NOT RUN: no time left", 0.0)
                        continue
                    self.number += 1
                    try:
                        running.append(Running(job, limit, self.scratch, self.number))
                    except OSError as why:
                        yield Done(job, f"NOT RUN: {job.command[0]}: {why.strerror}", 0.0)
                ended = [(process, done) for process in running for done in [process.poll()] if done]
                for process, done in ended:
                    running.remove(process)
                    self.log(done)
                    yield done
                if running and not ended:
                    time.sleep(0.02)
        finally:
            for process in running:
                signal_group(process.process, signal.SIGKILL)
            for process in running:
                self.log(process.killed())

    def check_all(self, jobs, end, workers=1):
        """Runs the requested jobs and records each; returns the names of those that passed."""
        passed = {}
        for done in self.run([job for job in jobs if self.wants(job.name)], end, workers):
            self.check(done.job.name, done.result, done.seconds, **done.facts)
            if done.result == "passed":
                passed[done.job.name] = done
            elif done.output.strip():
                lines = done.output.strip().splitlines()
                telling = [line for line in lines if re.search(r"FAIL|ailure|rror|cannot|not found", line)]
                for line in (telling or lines[-3:])[:5]:
                    self.say(f"      {line.strip()[:150]}")
        return passed

    def keep(self, name, path, title):
        """Appends a file that a command wrote, under a title, to a compressed one that comes back."""
        try:
            with open(path, errors="replace") as file:
                text = file.read()
        except OSError:
            return
        if text and not self.output.append_text(name, f"== {title}\n{text}"):
            self.say(f"      {title}: no room in {name} for {len(text)} characters")
