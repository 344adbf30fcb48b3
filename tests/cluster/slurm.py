"""Slurm for tests: its daemons on this machine alone, in a temporary folder, without systemd. It is a cluster of one
node, which claims to have four processors."""

import os
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reliability"))
from job import Failure, Skip, check

NEEDED = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "squeue", "mpirun")
# A job that is requeued waits until the credential of its last start has expired: cred_expire seconds.
CONFIGURATION = """ClusterName=descent
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=pmix
JobRequeue=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def possible():
    missing = [tool for tool in NEEDED if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        raise Skip(f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge openmpi-bin")
    if os.geteuid() != 0:
        raise Skip("slurmd needs root")


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Slurm:
    """`with Slurm(folder)`: `call` runs the clients of the cluster."""

    def __init__(self, folder):
        self.folder, self.daemons = folder, []
        for name in ("state", "spool"):
            os.makedirs(os.path.join(folder, name))
        os.chmod(folder, 0o755)
        configuration = os.path.join(folder, "slurm.conf")
        with open(configuration, "w") as file:
            file.write(CONFIGURATION.format(folder=folder, host=socket.gethostname().split(".")[0],
                                            ports=free_ports(2)))
        self.environment = {**os.environ, "SLURM_CONF": configuration, "PATH": os.environ["PATH"] + ":/usr/sbin"}

    def __enter__(self):
        try:
            self.start_munge()
            self.start("slurmctld", "-D", "-i")
            self.start("slurmd", "-D")
            self.wait("an idle node", 30, lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T").split())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.cancel_all()
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def cancel_all(self):
        """Before slurmd ends: it would leave the processes of its jobs."""
        quiet = {"env": self.environment, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "check": False}
        until = time.monotonic() + 10
        subprocess.run(["scancel", "--signal=KILL", "--full", "--user=root"], **quiet)
        subprocess.run(["scancel", "--user=root"], **quiet)
        while subprocess.run(["squeue", "--noheader"], **quiet).stdout.strip() and time.monotonic() < until:
            time.sleep(0.2)

    def start(self, *command):
        with open(os.path.join(self.folder, command[0] + ".log"), "w") as log:
            self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log,
                                                 stdin=subprocess.DEVNULL))

    def start_munge(self):
        path = lambda name: os.path.join(self.folder, name)
        with open(path("munge.key"), "wb") as file:
            file.write(os.urandom(128))
        os.chmod(path("munge.key"), 0o600)
        # --force: the temporary folder may be one in which everyone can write.
        self.start("munged", "--foreground", "--force", f"--socket={path('munge.socket')}",
                   f"--key-file={path('munge.key')}", f"--pid-file={path('munge.pid')}",
                   f"--seed-file={path('munge.seed')}", f"--log-file={path('munge.log')}")
        self.wait("munge's socket", 10, lambda: os.path.exists(path("munge.socket")))

    def wait(self, what, seconds, holds):
        until = time.monotonic() + seconds
        while not holds():
            dead = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
            check(not dead, f"{dead} ended: {self.logs()}")
            check(time.monotonic() < until, f"no {what} within {seconds} s: {self.logs()}")
            time.sleep(0.1)

    def logs(self):
        text = ""
        for daemon in self.daemons:
            with open(os.path.join(self.folder, daemon.args[0] + ".log")) as file:
                text += f"\n{daemon.args[0]}: {file.read()[-1500:]}"
        return text

    def call(self, *command, cwd=None):
        done = subprocess.run(command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=120,
                              check=False)
        if done.returncode:
            raise Failure(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def facts(self, job):
        """{name: text} of a job, as scontrol shows it."""
        words = self.call("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)
