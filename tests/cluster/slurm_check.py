#!/usr/bin/env python3
"""Training under Slurm, with examples/slurm.sbatch: four tasks give the bytes of one process; a job that gets
SIGTERM, or is requeued, resumes to the same bytes.

It starts Slurm's daemons itself (slurm.py), so it needs root, Debian's slurmctld, slurmd, slurm-client and munge, and
descent with its MPI module. Debian's Open MPI starts under `srun --mpi=pmix`, not under pmi2. Run it by hand:
it takes a minute."""

import glob
import os
import shlex
import subprocess
import sys
import time

from slurm import Slurm, possible  # and where job.py is
from job import Job, arguments, check, main

TASKS = 4
EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "slurm.sbatch")


class Batch:
    """A training that jobs of the example compute, each in its folder."""

    def __init__(self, options, slurm, epochs):
        more = ["--micro-batches", str(TASKS), "--comm-timeout", "20"]
        self.slurm, self.training = slurm, Job(options.descent, epochs=epochs, every="20 epochs", rows=62, more=more)
        slurm.environment["PATH"] = os.path.dirname(options.descent) + ":" + slurm.environment["PATH"]
        slurm.environment["OPENBLAS_NUM_THREADS"] = "1"

    def submit(self, name):
        """(job, folder)"""
        folder = self.training.folder(name)
        words = self.training.command()[2:]
        at = words.index("--resume")  # the example's
        job = self.slurm.call("sbatch", "--parsable", "--nodes=1", f"--ntasks-per-node={TASKS}", "--cpus-per-task=1",
                              "--output=said.txt", EXAMPLE, *words[:at], *words[at + 2:], cwd=folder).strip()
        os.symlink("checkpoints", os.path.join(folder, "kept"))
        return job, folder

    def wait_for_checkpoint(self, job, folder):
        kept = os.path.join(folder, "checkpoints", "*.safetensors")
        self.slurm.wait(f"checkpoint of {said(folder)}", 60, lambda: glob.glob(kept))
        check(self.slurm.facts(job)["JobState"] == "RUNNING", f"ended before it was disturbed: {said(folder)}")

    def finish(self, name, job, folder, restarts):
        """Until the job has completed, with the bytes of the undisturbed training."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.slurm.wait(f"end of job {job}", 120, lambda: self.slurm.facts(job)["JobState"] in ended)
        facts = self.slurm.facts(job)
        check(facts["JobState"] == "COMPLETED", f"{name}: {facts['JobState']}, {facts['ExitCode']}: {said(folder)}")
        check(facts["Restarts"] == str(restarts), f"{name}: {facts['Restarts']} restarts, not {restarts}")
        check(self.training.hash(folder) == self.training.expected, f"{name}: the model is another one")
        check(self.training.log(folder) == self.training.expected_log, f"{name}: the log is another one")


def said(folder):
    try:
        with open(os.path.join(folder, "said.txt")) as file:
            return file.read()[-1500:]
    except OSError:
        return ""


def whole(batch):
    job, folder = batch.submit("four_tasks")
    batch.finish("undisturbed", job, folder, 0)
    return f"{TASKS} tasks: the bytes of one process"


def without_pmix(batch):
    """Tasks that do not find each other are no trainings: none of them writes anything."""
    folder = batch.training.folder("without_pmix")
    done = subprocess.run(["srun", f"--ntasks={TASKS}", "--mpi=none", *batch.training.command()], cwd=folder, text=True,
                          env=batch.slurm.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False)
    check(done.returncode != 0, f"--mpi=none: {done.stdout}")
    check(not os.listdir(folder), f"--mpi=none: wrote {os.listdir(folder)}")
    return "refused without PMIx"


def one_process(batch):
    """A batch script is no rank, although it has the variables of its job's tasks."""
    folder = batch.training.folder("one_process")
    script = os.path.join(folder, "script.sh")
    with open(script, "w") as file:
        file.write(f"#!/bin/sh\n{shlex.join(batch.training.command())}\n")
    job = batch.slurm.call("sbatch", "--parsable", f"--ntasks={TASKS}", "--output=said.txt", script,
                           cwd=folder).strip()
    batch.finish("without srun", job, folder, 0)
    return "one process without srun"


def disturbed(batch, name, *command):
    """`command` and the job's number disturb it after its first checkpoint."""
    job, folder = batch.submit(name)
    batch.wait_for_checkpoint(job, folder)
    batch.slurm.call(*command, job)
    started = time.monotonic()
    batch.finish(name, job, folder, 1)
    return f"{name}: started again and finished after {time.monotonic() - started:.0f} s, the same bytes"


def run():
    options = arguments(__doc__, epochs={"type": int, "default": 1000, "help": "of the trainings that are disturbed"})
    possible()
    short = Job(options.descent, undisturbed=False)  # its folder is Slurm's
    with Slurm(short.folder("slurm")) as slurm:
        batch = Batch(options, slurm, 4)
        results = [whole(batch), one_process(batch), without_pmix(batch)]
        batch = Batch(options, slurm, options.epochs)
        results.append(disturbed(batch, "SIGTERM", "scancel", "--signal=TERM"))
        results.append(disturbed(batch, "requeued", "scontrol", "requeue"))
    return "; ".join(results)


sys.exit(main(run))
