"""Hosts for tests: network namespaces on this machine, each with its name and address, joined by cables to a bridge. Ranks
on different hosts share no memory, since Open MPI tells hosts apart by their names; they speak TCP."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reliability"))
from job import Failure, Skip

NETWORK = "10.77.0"  # of /24; seen only inside the namespaces
NEEDED = ("ip", "unshare", "hostname", "mpirun")
# mpirun then notices after two seconds that it cannot reach a host; without it, after minutes.
KEEPALIVE = {"oob_tcp_keepalive_time": 1, "oob_tcp_keepalive_intvl": 1, "oob_tcp_keepalive_probes": 1}


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def possible():
    """Raises Skip where the machine cannot have such hosts."""
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        raise Skip(f"{', '.join(missing)} not installed")
    if os.geteuid() != 0:
        raise Skip("network namespaces need root")
    name = f"descent{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        raise Skip(f"this machine may not create network namespaces: {made.stderr.strip()}")
    cable = subprocess.run(["ip", "-n", name, "link", "add", "cable0", "type", "veth", "peer", "name", "cable1"],
                           capture_output=True, text=True, check=False)
    ip("netns", "delete", name)
    if cable.returncode:
        raise Skip(f"this machine may not create virtual cables: {cable.stderr.strip()}")
    uts = subprocess.run(["unshare", "--uts", "hostname", "node1"], capture_output=True, text=True, check=False)
    if uts.returncode:
        raise Skip(f"this machine may not name its hosts: {uts.stderr.strip()}")


def remove_left_over():
    """What a test left that was killed: its process no longer exists."""
    for name in re.findall(r"^descent\d+-\w+", ip("netns", "list"), re.M):
        if not os.path.exists(f"/proc/{re.match(r'descent([0-9]+)', name).group(1)}"):
            remove(name)


def end_processes(namespace):
    for pid in ip("netns", "pids", namespace).split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


def remove(namespace):
    end_processes(namespace)
    ip("netns", "delete", namespace)


def main_ends_with_the_signal(number, _):
    sys.exit(128 + number)  # through `with`, which removes the hosts


class Hosts:
    """`with Hosts(n, folder)`: node1 to node<n>. Scripts go to the folder."""

    def __init__(self, n, folder):
        self.prefix = f"descent{os.getpid()}-"
        self.nodes = [f"node{i + 1}" for i in range(n)]
        self.agent = os.path.join(folder, "enter.sh")
        # It is called as ssh is: the host, then words that a shell there joins. As ssh does, it learns how the command
        # ended only while the cable is plugged in.
        with open(self.agent, "w") as file:
            file.write("#!/bin/sh\nnode=$1; shift\n"
                       f"ip netns exec {self.prefix}$node unshare --uts "
                       "sh -c 'hostname \"$0\" && eval \"exec $1\"' \"$node\" \"$*\"\n"
                       "code=$?\n"
                       f"while ! ip -n {self.prefix}switch link show port-$node up | grep -q .; do sleep 0.1; done\n"
                       "exit $code\n")
        os.chmod(self.agent, 0o755)

    def __enter__(self):
        signal.signal(signal.SIGTERM, main_ends_with_the_signal)
        remove_left_over()
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        switch = self.prefix + "switch"
        ip("netns", "add", switch)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for i, node in enumerate(self.nodes):
            ip("netns", "add", self.prefix + node)
            ip("-n", switch, "link", "add", f"port-{node}", "type", "veth", "peer", "name", "eth0", "netns",
               self.prefix + node)
            ip("-n", switch, "link", "set", f"port-{node}", "master", "bridge", "up")
            ip("-n", self.prefix + node, "address", "add", f"{NETWORK}.{i + 1}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", self.prefix + node, "link", "set", device, "up")

    def __exit__(self, *_):
        for name in re.findall(rf"^{self.prefix}\w+", ip("netns", "list"), re.M):
            remove(name)

    def cable(self, node, state):
        """`state`: up or down. Nothing tells the other hosts."""
        ip("-n", self.prefix + "switch", "link", "set", f"port-{node}", state)

    def mpirun(self, hosts, ranks_each, **more):
        """The command line up to the program, to be run here. `more`: settings of Open MPI."""
        settings = {"plm_rsh_agent": self.agent, "pml": "ob1", "btl": "tcp,self", "btl_tcp_if_include": "eth0",
                    "oob_tcp_if_include": "eth0", **more}
        words = [word for name, value in settings.items() for word in ("--mca", name, str(value))]
        where = ",".join(f"{node}:{ranks_each}" for node in self.nodes[:hosts])
        return ["ip", "netns", "exec", self.prefix + self.nodes[0], "unshare", "--uts", "sh", "-c",
                'hostname "$0" && exec "$@"', self.nodes[0], "mpirun", "--allow-run-as-root", "--oversubscribe",
                "--bind-to", "none", *words, "-H", where, "-n", str(hosts * ranks_each)]

    def end_processes(self, node):
        end_processes(self.prefix + node)

    def running(self, program):
        """{node: the ids of its processes that run this program}."""
        found = {}
        for node in self.nodes:
            pids = ip("netns", "pids", self.prefix + node).split()
            found[node] = [int(pid) for pid in pids if runs(pid, program)]
        return found

    def wait_until_none_runs(self, program, seconds):
        """The seconds it took; a Failure after so many."""
        started = time.monotonic()
        while any(self.running(program).values()):
            if time.monotonic() - started > seconds:
                raise Failure(f"after {seconds:g} s ranks still run: {self.running(program)}")
            time.sleep(0.05)
        return time.monotonic() - started


def runs(pid, program):
    try:
        return os.readlink(f"/proc/{pid}/exe") == program
    except OSError:
        return False
