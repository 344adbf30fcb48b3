"""A machine that loses power: a training's writes are replayed up to some moment, and of the writes not yet synced any
part may have reached the disk, in any order. The same command continues from each such disk to the same model. With the
syncs left out of the replay it must not, or the simulation would show nothing. Needs strace."""

import os
import random
import re
import shutil
import sys

from job import Failure, Job, arguments, check, main

BLOCK = 512  # bytes that reach the disk together


def unescape(text):
    return bytes.fromhex(text.replace("\\x", ""))


class File:
    """Data that is certainly on disk, and the writes since then, as (offset, bytes)."""

    def __init__(self):
        self.synced, self.pending, self.length = b"", [], 0

    def write(self, data, offset=None):
        offset = self.length if offset is None else offset
        self.pending.append((offset, data))
        self.length = max(self.length, offset + len(data))

    def sync(self):
        self.synced, self.pending = self.after(self.pending), []

    def after(self, writes):
        content = bytearray(self.synced)
        for offset, data in writes:
            content.extend(b"\0" * (offset + len(data) - len(content)))
            content[offset : offset + len(data)] = data
        return bytes(content)

    def after_loss(self, draw):
        """What may be on disk: any of the blocks that were not synced, and a length up to the file's."""
        blocks = []
        for offset, data in self.pending:
            for at in range(0, len(data), BLOCK):
                if draw.random() < 0.5:
                    blocks.append((offset + at, data[at : at + BLOCK]))
        return self.after(blocks)


class Disk:
    """A folder's names: those certainly on disk, and the changes since then, as (name, file or None)."""

    def __init__(self):
        self.synced, self.pending = {}, []

    def after_loss(self, draw):
        names = dict(self.synced)
        for name, file in self.pending:
            if draw.random() < 0.5:
                names[name] = file
        return {name: file.after_loss(draw) for name, file in names.items() if file}


def operations(traces):
    """The calls of the threads that write checkpoints and the log beside them, in the order of their starts."""
    text, folder = r'"((?:\\x[0-9a-f]{2})*)"', r"(AT_FDCWD|\d+)"
    patterns = [("open", re.compile(r"openat\(" + folder + ", " + text + r", (\S+?)(?:, \d+)?\) += (\d+)")),
                ("copy", re.compile(r"fcntl\((\d+), F_DUPFD_CLOEXEC, \d+\) += (\d+)")),
                ("write", re.compile(r"write\((\d+), " + text + r", \d+\) += (\d+)")),
                ("write at", re.compile(r"pwrite64\((\d+), " + text + r", \d+, (\d+)\) += (\d+)")),
                ("sync", re.compile(r"fsync\((\d+)\) += 0")),
                ("rename", re.compile(r"renameat2?\(" + folder + ", " + text + ", " + folder + ", " + text + r"(?:, 0)?\) += 0")),
                ("unlink", re.compile(r"unlinkat\(" + folder + ", " + text + r", 0\) += 0"))]
    lines = []
    for trace in traces:
        with open(trace) as file:
            lines += [line.rstrip().split(" ", 1) for line in file]
    for _, line in sorted(lines, key=lambda line: float(line[0])):
        for kind, pattern in patterns:
            match = pattern.match(line)
            if match:
                yield kind, match.groups()


def replay(steps, moment, honour_syncs):
    """The disk after the first `moment` operations."""
    disk, open_files, names = Disk(), {}, {}

    def within(folder, path):
        """The name of a path of the folder "kept", "" for the folder; None elsewhere."""
        path = unescape(path).decode()
        if folder == "AT_FDCWD":
            parts = os.path.normpath(path).split("/")
            return "/".join(parts[1:]) if parts[0] == "kept" else None
        return ("" if path == "." else path) if open_files.get(folder) is disk else None

    for kind, fields in steps[:moment]:
        if kind == "open":
            name, flags, number = within(*fields[:2]), fields[2], fields[3]
            if name and "O_CREAT" in flags and (name not in names or "O_TRUNC" in flags):
                names[name] = File()
                disk.pending.append((name, names[name]))
            open_files[number] = disk if name == "" else names.get(name)
        elif kind == "copy":
            open_files[fields[1]] = open_files.get(fields[0])
        elif kind == "write" and isinstance(open_files.get(fields[0]), File):
            open_files[fields[0]].write(unescape(fields[1])[: int(fields[2])])
        elif kind == "write at" and isinstance(open_files.get(fields[0]), File):
            open_files[fields[0]].write(unescape(fields[1])[: int(fields[3])], int(fields[2]))
        elif kind == "sync" and honour_syncs:
            target = open_files.get(fields[0])
            if isinstance(target, File):
                target.sync()
            elif target is disk:
                for name, file in disk.pending:
                    disk.synced[name] = file
                disk.pending = []
        elif kind == "rename" and within(*fields[:2]):
            old, new = within(*fields[:2]), within(*fields[2:])
            names[new] = names.pop(old)
            disk.pending += [(new, names[new]), (old, None)]
        elif kind == "unlink" and within(*fields):
            name = within(*fields)
            names.pop(name, None)
            disk.pending.append((name, None))
    return disk


def survive(job, steps, draws, draw, honour_syncs):
    """Continues from `draws` disks at each moment and returns their number. Raises Failure at the first that does not
    lead to the same model."""
    tried = 0
    for moment in range(len(steps) + 1):
        disk = replay(steps, moment, honour_syncs)
        for _ in range(draws):
            folder = job.folder(f"loss{honour_syncs}{tried}")
            os.mkdir(os.path.join(folder, "kept"))
            for name, content in disk.after_loss(draw).items():
                with open(os.path.join(folder, "kept", name), "wb") as file:
                    file.write(content)
            job.finish(folder, f"power lost after operation {moment} of {len(steps)}")
            shutil.rmtree(folder)
            tried += 1
    return tried


def run():
    options = arguments(__doc__)
    draw = random.Random(options.seed)
    job = Job(options.descent)
    folder = job.folder("traced")
    traced = job.run(folder, ["strace", "-ff", "-o", os.path.join(folder, "trace"), "-ttt", "-xx", "-s", "10000000", "-e",
                              "trace=openat,fcntl,write,pwrite64,fsync,renameat,renameat2,unlinkat"])
    check(traced.returncode == 0, f"strace: {traced.stderr.strip()}")
    steps = list(operations(os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("trace.")))
    check(sum(kind == "rename" for kind, _ in steps) > 5, "the training makes no checkpoints")
    tried = survive(job, steps, 20 if options.full else 2, draw, True)
    try:
        survive(job, steps, 2, draw, False)
    except Failure as failure:
        return f"{tried} losses of power: every one continued to the same model (without syncs: {str(failure)[:90]})"
    raise Failure("without its syncs the training survives as well: the simulation shows nothing")


sys.exit(main(run))
