#!/usr/bin/env python3
"""Every system call that a command's outputs are made of fails in turn, once and from then on: a full disk, a broken
one, an interruption, a file that cannot be closed; then no file may grow beyond some size, for every size, so that
writes end halfway; then outputs in impossible places. After each: exit code 1 and one line that names file and reason,
the old file untouched or the new one whole, nothing left behind; or exit code 0 and the same output. Needs strace."""

import concurrent.futures
import os
import re
import resource
import shutil
import sys

from cases import Case, Cases, contents
from job import Failure, arguments, check, main

ERRORS = {"openat": ("ENOSPC", "EACCES", "EROFS"), "write": ("ENOSPC", "EIO", "EDQUOT", "EINTR"),
          "fsync": ("EIO", "ENOSPC"), "close": ("EIO", "EDQUOT"), "renameat": ("EACCES", "EIO"), "fchmod": ("EPERM",),
          "pwrite64": ("ENOSPC", "EIO", "EDQUOT", "EINTR")}
REASONS = (r"No space left|Permission denied|Read-only file|Input/output error|Disk quota|Interrupted|"
           r"not permitted|File too large")
# Standard output has no file name; the log beside the checkpoints is named with its folder.
NAMED = r"standard output|board|run\.jsonl|kept|page\.html|model|\.csv|\.svg|\.npz|\.npy|\.idx|\.svm|\.onnx|\.c:|\.safetensors"


def calls_of(cases, case):
    """(call, number) of each that concerns an output, as strace counts them for the thread that main runs in."""
    trace = os.path.join(cases.scratch.name, "trace")
    done, folder = cases.run(case, ["strace", "-f", "-y", "-o", trace, "-e", "trace=" + ",".join(ERRORS)])
    check(done.returncode == 0, f"{case.name}: strace: {done.stderr.decode()}")
    found, numbers, thread = [], dict.fromkeys(ERRORS, 0), None
    with open(trace, errors="replace") as file:
        for line in file:
            parts = re.match(r"(\d+) +(\w+)\(", line)
            if not parts or parts[2] not in ERRORS or (thread or parts[1]) != parts[1]:
                continue
            thread, call = parts[1], parts[2]
            numbers[call] += 1
            # A folder opened to be synced counts as an output; one opened with O_NONBLOCK, to be listed, does not.
            writes = call != "openat" or re.search(r"O_WRONLY|O_RDWR|O_RDONLY\|O_CLOEXEC\|O_DIRECTORY|O_PATH", line)
            if writes and (folder in line or re.match(r"\d+ +(write|close)\(1<", line) or call == "renameat"
                           or (call == "openat" and "AT_FDCWD" in line and not re.search(r'"/(dev|proc|sys|etc)/|\.gcda"', line))):
                found.append((call, numbers[call]))
    shutil.rmtree(folder)
    return found


def inject(cases, case, call, number, error, further):
    done, folder = cases.run(case, ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                    f"inject={call}:error={error}:when={number}{further}"])
    silent = further and call == "write"  # then the line that says so cannot be written either
    failed = cases.judge(case, done, folder, None if silent else f"({NAMED}).*({REASONS})",
                         f"{call} {number}{further}: {error}",
                         (0, 1, 3) if further and call == "openat" else (0, 1))  # then inputs cannot be opened either
    shutil.rmtree(folder)
    return failed


def limit(cases, case, size):
    done, folder = cases.run(case, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    failed = cases.judge(case, done, folder, "File too large", f"files of at most {size} bytes")
    shutil.rmtree(folder)
    return failed


def places(cases):
    """Outputs where nothing can be written, and standard output on a full device or without a reader."""
    table = []
    for case in cases.table:
        for output in list(case.outputs) + [o for o in ("run.jsonl", "board") if o in case.arguments]:
            for place, reason in (("missing/x", "No such file"),
                                  (".", "Is a directory|File exists|must end|ends in|unknown extension"),
                                  ("/proc/self/x", "No such file|Permission denied"), ("/dev/full", "")):
                if output == "board" and not place.startswith("/"):
                    continue  # a folder, which may be there or is made
                ending = os.path.splitext(output)[1] if place.endswith("x") else ""
                changed = [a.replace(output, place + ending) if a == output else a for a in case.arguments]
                if changed != case.arguments:
                    table.append((Case(f"{case.name} to {place}", changed), reason))
    return table


def misplace(cases, case, reason):
    done, folder = cases.run(case)
    said = done.stderr.decode(errors="replace")
    check(done.returncode in (1, 2), f"{case.name}: exit code {done.returncode}: {said}")
    last = said.rstrip("\n").split("\n")[-1]
    check(last.startswith("descent") and re.search(reason, last), f"{case.name}: {said}")
    strange = [name for name in contents(folder) if name not in ("run.jsonl", "page.html", "model", "board/events")
               and not name.startswith("kept/") and not name.endswith(".svg")]
    check(not strange, f"{case.name}: left behind {strange}")
    shutil.rmtree(folder)
    return True


def standard_output(cases, case, full):
    """On a full device the reason is reported; if the reader has exited, as with `| head`, only the exit code shows
    it."""
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as device:
        done, folder = cases.run(case, stdout=device if full else writing)
    os.close(writing)
    said = done.stderr.decode(errors="replace")
    check(done.returncode == 1, f"{case.name}: standard output fails: exit code {done.returncode}: {said}")
    check(not full or "standard output: cannot write: No space left" in said, f"{case.name}: {said}")
    shutil.rmtree(folder)
    return True


def run():
    options = arguments(__doc__)
    cases = Cases(options.descent)
    jobs = []
    for case in cases.table:
        cases.learn(case)
        for call, number in calls_of(cases, case):
            jobs += [(inject, case, call, number, error, further) for error in ERRORS[call] for further in ("", "+")]
        largest = max(map(len, case.files.values()), default=0)
        jobs += [(limit, case, size) for size in range(0, largest, 1 + largest // 40) if largest]
        if case.stdout:
            jobs += [(standard_output, case, full) for full in (False, True)]
    jobs += [(misplace, case, reason) for case, reason in places(cases)]
    chosen = jobs if options.full else jobs[options.seed % 8 :: 8]
    failed, wrong = 0, []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for future in [pool.submit(job[0], cases, *job[1:]) for job in chosen]:
            try:
                failed += future.result()
            except Failure as failure:
                wrong.append(str(failure))
    check(not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong))
    check(failed > len(chosen) // 2, f"only {failed} of {len(chosen)} faults had an effect")
    return (f"{len(chosen)} of {len(jobs)} failing writes in {len(cases.table)} commands: {failed} reported with exit code 1, "
            f"{len(chosen) - failed} without effect on the output")


sys.exit(main(run))
