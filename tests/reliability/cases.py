"""Every command that writes something, small enough to run a thousand times, and the checks of a run that met a fault:
a documented exit code, one line that says why, and files that are entirely the old ones or the new ones."""

import glob
import os
import re
import subprocess
import tempfile

from job import Failure, check

OLD = b"what was there before\n"
TIMES = re.compile(
    rb'"(seconds|rows_per_second)":[0-9.e+-]+'       # of the log
    rb"|in [0-9.]+ ?m?s\b"                           # train's last lines
    rb'|<b>[0-9.]+ ?m?s</b>|<tr><th>(training speed|arithmetic|training time)</th>.*'
    rb'|<div><svg class="chart" role="img" [^>]*aria-label="Speed">.*'
    rb"|20[0-9][0-9]-[0-9][0-9]-[0-9][0-9] [0-9][0-9]:[0-9][0-9]"
)
# Written as they grow: after a fault the beginning is there. This includes the log beside the checkpoints.
STREAMS = ("run.jsonl", "board/events")
OUTSIDE = ("kept/",)  # crash_sweep.py checks the checkpoints


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


class Case:
    """`outputs` exist beforehand, with other contents."""

    def __init__(self, name, arguments, outputs=()):
        self.name, self.arguments, self.outputs = name, arguments, outputs


class Cases:
    """The inputs, in a folder that is removed with the object, and the table of cases."""

    def __init__(self, descent):
        self.descent = descent
        self.scratch = tempfile.TemporaryDirectory(prefix="descent_faults_")
        self.runs = 0
        self.inputs = self.folder()
        # The BLAS's own threads start before main and would continue after it.
        self.environment = dict(os.environ, LC_ALL="C", COLUMNS="80", OPENBLAS_NUM_THREADS="1")
        self.make_inputs()
        self.table = self.make_table()

    def folder(self):
        self.runs += 1
        path = os.path.join(self.scratch.name, str(self.runs))
        os.makedirs(path)
        return path

    def input(self, name):
        return os.path.join(self.inputs, name)

    def make(self, *arguments):
        made = subprocess.run([self.descent, *arguments], cwd=self.inputs, capture_output=True, text=True,
                              env=self.environment, timeout=60)
        check(made.returncode == 0, f"{' '.join(arguments)}: {made.stderr}")

    def make_inputs(self):
        rows = [f"{i % 7},{'' if i % 5 == 3 else i * 0.5},{['red', 'green', 'blue'][i % 3]},{'yes' if i % 7 > 3 else 'no'}"
                for i in range(21)]
        write(self.input("data.csv"), "\n".join(["a,b,colour,answer"] + rows) + "\n")
        write(self.input("numbers.csv"), "u,v,y\n" + "".join(f"{i},{i * i % 5},{i * 20}\n" for i in range(12)))
        self.make("train", "data.csv", "--target", "answer", "--epochs", "2", "--hidden", "3", "--threads", "1",
                  "--log", "log.jsonl", "--quiet")
        for ending in ("safetensors", "npy", "npz", "idx", "svm", "csv"):
            self.make("convert", "numbers.csv", "numbers." + ending.replace("csv", "tsv"), "--target", "y")
        self.make("convert", "data.csv", "data.safetensors", "--target", "answer")

    def make_table(self):
        train = ["train", "@data.csv", "--target", "answer", "--epochs", "2", "--batch-size", "8", "--hidden", "3",
                 "--threads", "2", "--device", "cpu", "--out", "model"]
        table = [
            Case("train", train + ["--validation", "0.25", "--quiet", "--log", "run.jsonl", "--report", "page.html",
                                   "--tensorboard", "board"], ["model", "page.html"]),
            Case("train checkpoints", train + ["--validation", "@data.csv", "--resume", "kept", "--checkpoint-every",
                                               "2 steps", "--dropout", "0.1", "--patience", "3", "--report",
                                               "page.html"], ["model"]),
            Case("train regression", ["train", "@numbers.csv", "--target", "y", "--epochs", "1", "--hidden", "2",
                                      "--threads", "1", "--device", "reference", "--out", "model", "--test",
                                      "@numbers.csv"]),
            Case("train mapped", ["train", "@data.safetensors", "--target", "answer", "--epochs", "1", "--hidden",
                                  "none", "--threads", "1", "--device", "cpu", "--out", "model"], ["model"]),
            Case("evaluate", ["evaluate", "@model.safetensors", "@data.csv", "--plot", "confusion.svg,roc.svg"],
                 ["confusion.svg", "roc.svg"]),
            Case("evaluate json", ["evaluate", "@model.safetensors", "@data.csv", "--json"]),
            Case("predict", ["predict", "@model.safetensors", "@data.csv", "--out", "out.csv"], ["out.csv"]),
            Case("predict stdout", ["predict", "@model.safetensors", "@data.csv", "--output", "classes"]),
            Case("export onnx", ["export", "@model.safetensors", "--out", "net.onnx"], ["net.onnx"]),
            Case("export c", ["export", "@model.safetensors", "--out", "net.c"], ["net.c"]),
            Case("export npz", ["export", "@model.safetensors", "--out", "net.npz"], ["net.npz"]),
            Case("plot", ["plot", "@log.jsonl", "--out", "curves.svg"], ["curves.svg"]),
            Case("plot terminal", ["plot", "@log.jsonl"]),
            Case("info", ["info", "@model.safetensors"]),
            Case("info json", ["info", "@model.safetensors", "--json"]),
            Case("info data", ["info", "@data.safetensors"]),
            Case("info data json", ["info", "@data.safetensors", "--json"]),
            Case("devices", ["devices", "--json"]),
            Case("help", ["predict", "--help"]),
            Case("verify", ["verify", "--inputs", "3", "--outputs", "2", "--hidden", "2", "--device", "cpu",
                            "--threads", "1"]),
            Case("convert two passes", ["convert", "@data.csv", "out.safetensors", "--target", "answer",
                                        "--two-passes"], ["out.safetensors"]),
        ]
        for to in ("csv", "safetensors", "npy", "npz", "idx", "svm"):
            table.append(Case(f"convert to {to}", ["convert", "@data.csv" if to != "idx" else "@numbers.csv", f"out.{to}", "--target", "-1"],
                              [f"out.{to}"]))
        for source in ("safetensors", "npy", "npz", "idx", "svm"):
            table.append(Case(f"convert from {source}", ["convert", f"@numbers.{source}", "out.csv"], ["out.csv"]))
        for case in table:
            case.arguments = [self.input(a[1:]) if a.startswith("@") else a for a in case.arguments]
        return table

    def run(self, case, prefix=(), stdout=subprocess.PIPE, **options):
        """Runs it in a new folder, with the old outputs there; (the finished process, the folder)."""
        folder = self.folder()
        for name in case.outputs:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(OLD)
        try:
            done = subprocess.run([*prefix, self.descent, *case.arguments], cwd=folder, stdout=stdout,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, env=self.environment,
                                  **options)
        except subprocess.TimeoutExpired:
            raise Failure(f"{case.name}: hangs") from None
        return done, folder

    def learn(self, case):
        """The result of an undisturbed run."""
        done, folder = self.run(case)
        check(done.returncode == 0, f"{case.name}: exit code {done.returncode}: {done.stderr.decode()}")
        case.stdout = TIMES.sub(b"", done.stdout)
        case.files = contents(folder)

    def judge(self, case, done, folder, reason, context, codes=(0, 1)):
        """Checks a disturbed run against what is documented and returns whether it failed. `reason`: the text that a
        line must contain; None: no text is required."""
        said = done.stderr.decode(errors="replace")
        context = f"{case.name}: {context}"
        check("Sanitizer" not in said and "runtime error" not in said, f"{context}: {said}")
        check(done.returncode in codes, f"{context}: exit code {done.returncode}: {said}")
        files = contents(folder)
        strange = [name for name in files if name not in case.files and not name.startswith(OUTSIDE)]
        check(not strange, f"{context}: left behind {strange}")
        if done.returncode == 0:
            words = TIMES.sub(b"", done.stdout)
            check(words == case.stdout, f"{context}: done, with other words: {difference(case.stdout, words)}")
            for name in case.files:
                check(name.startswith(OUTSIDE) or files.get(name) == case.files[name],
                      f"{context}: done, with another {name}: {difference(case.files[name], files.get(name, b''))}")
            return False
        check(reason is None or re.search(f"^descent.*{reason}", said, re.MULTILINE),
              f"{context}: exit code {done.returncode} and: {said}")
        for name in files:
            if name.startswith(STREAMS):
                check(case.files[name].startswith(files[name]), f"{context}: {name} is not a prefix")
            elif not name.startswith(OUTSIDE) and files[name] not in (OLD, case.files[name]):
                # A training that was stopped has saved what it had learned, and reported it.
                check((name == "model" and self.loads(folder)) or
                      (name == "page.html" and files[name].endswith(b"</html>\n")), f"{context}: {name} is neither old nor new:\n"
                      f"{difference(case.files[name], files[name])}")
        for name in case.outputs:
            check(name in files, f"{context}: the old {name} is gone")
        return True

    def loads(self, folder):
        return subprocess.run([self.descent, "info", os.path.join(folder, "model")], capture_output=True,
                              env=self.environment, timeout=60).returncode == 0


def difference(a, b):
    """The first line that differs."""
    for x, y in zip(a.split(b"\n"), b.split(b"\n")):
        if x != y:
            return f"{x} -> {y}"
    return f"{len(a)} -> {len(b)} bytes"


def contents(folder):
    """Name and contents of every file below, without what differs from run to run."""
    found = {}
    for path in glob.glob(os.path.join(folder, "**"), recursive=True, include_hidden=True):
        if not os.path.isfile(path):
            continue
        name = os.path.relpath(path, folder)
        with open(path, "rb") as file:
            text = TIMES.sub(b"", file.read())
        if "/events.out.tfevents." in name:  # of a time and a process, with times and their checksums in it
            name, text = name.split("/events.")[0] + "/events", b"." * len(text)
        found[name] = text
    return found
