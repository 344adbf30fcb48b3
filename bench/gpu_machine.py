"""The machine on which bench/gpu_check.py runs: the build, the tools, and the module, rebuilt from its sources where
that is needed."""
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

from gpu_session import Job, shortened

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CUBLAS = ("libcublasLt.so.13", "libcublasLt.so.12")


def find(pattern_list):
    for pattern in pattern_list:
        found = sorted(glob.glob(pattern))
        if found:
            return found[-1]
    return None


def find_tool(name):
    return shutil.which(name) or find([f"/usr/local/cuda*/bin/{name}", f"/usr/local/cuda*/*/{name}",
                                       f"/opt/nvidia/nsight-compute/*/{name}"])


def find_cublas():
    """The folder of the library of matrix products: the toolkit's, or the one that comes with PyTorch."""
    for name in CUBLAS:
        file = find([f"/usr/local/cuda*/lib64/{name}", f"/usr/local/cuda*/targets/*/lib/{name}"] +
                    [f"{folder}/nvidia/*/lib/{name}" for folder in sys.path if folder])
        if file:
            return os.path.dirname(file)
    return None


def find_nccl():
    """NVIDIA's library of exchanges: the one named in the environment, the loader's, the system's, the toolkit's, or
    PyTorch's."""
    given = os.environ.get("DESCENT_NCCL")
    searched = [glob.escape(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    return (given if given != "off" else None) if given else find(
        [f"{folder}/libnccl.so.2" for folder in searched] +
        ["/usr/lib/*-linux-gnu/libnccl.so.2", "/usr/lib64/libnccl.so.2", "/usr/local/cuda*/lib64/libnccl.so.2"] +
        [f"{folder}/nvidia/nccl/lib/libnccl.so.2" for folder in sys.path if folder])


def hash_of_kernels(folder):
    """A checksum of the module's sources: a build whose checksum differs from the tree's is rebuilt."""
    sums = hashlib.sha256()
    for path in sorted(glob.glob(os.path.join(folder, "kernels", "*"))):
        with open(path, "rb") as file:
            sums.update(os.path.basename(path).encode() + b"\0" + file.read() + b"\0")
    return sums.hexdigest()[:16]


def read_line(path):
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


class Machine:
    def __init__(self, options, scratch):
        self.small, self.scratch = options.small, scratch
        self.build = os.path.abspath(options.build)
        self.module = os.environ.get("DESCENT_TEST_MODULE") or os.path.join(self.build, "lib", "libdescent_cuda.so")
        self.descent = os.path.join(self.build, "bin", "descent")
        self.sources = ROOT if os.path.isdir(os.path.join(ROOT, "kernels")) else os.path.join(self.build, "source")
        self.retries, self.is_rebuilt, self.exit_code, self.device, self.said = None, False, 1, "", ""
        self.shrink = 64 if self.small else 1
        self.sanitizer, self.ncu = find_tool("compute-sanitizer"), find_tool("ncu")
        self.smi, self.nvcc = find_tool("nvidia-smi"), find_tool("nvcc")
        self.mpirun, self.mpi_module = find_tool("mpirun"), os.path.join(self.build, "lib", "libdescent_mpi.so")
        self.cache, self.nccl = os.path.join(scratch, "cache"), find_nccl()
        self.commit = read_line(os.path.join(self.build, "commit")) or self.git("describe", "--always", "--dirty")
        self.kernels_commit = (read_line(os.path.join(self.build, "kernels_commit")) or
                               self.git("log", "-1", "--format=%H", "--", "kernels"))

    @staticmethod
    def git(*arguments):
        """The tree's state according to git; empty without git or history."""
        try:
            done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    def environment(self, cache=None):
        """For the build's programs only: PyTorch needs its own libraries."""
        folders = [os.path.join(self.build, "lib"), find_cublas(), os.environ.get("LD_LIBRARY_PATH")]
        nccl = {"DESCENT_NCCL": self.nccl} if self.nccl else {}
        return {**nccl, "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder),
                "DESCENT_TEST_MODULE": self.module,
                "DESCENT_BACKEND_PATH": os.path.dirname(self.module), "DESCENT_TEST_SOURCE": ROOT,
                "XDG_CACHE_HOME": cache or self.cache}

    def ours(self, name, program, arguments, **options):
        """A job of one of our programs."""
        environment = {**self.environment(), **options.pop("environment", {})}
        return Job(name, [os.path.join(self.build, "bin", program), *arguments], environment=environment, **options)

    def describe(self, session):
        packed = os.path.join(self.build, "source")
        session.record("environment", commit=self.commit, kernels_commit=self.kernels_commit,
                       kernels=hash_of_kernels(packed if os.path.isdir(packed) else self.sources),
                       date=time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), cores=os.cpu_count(),
                       tools={"compute-sanitizer": self.sanitizer, "ncu": self.ncu, "nvidia-smi": self.smi,
                              "nvcc": self.nvcc})
        session.say(f"commit  {self.commit or 'not known'}, kernels {self.kernels_commit[:12] or 'not known'}")

    def has_changed_kernels(self):
        packed = os.path.join(self.build, "source")
        return os.path.isdir(packed) and hash_of_kernels(packed) != hash_of_kernels(self.sources)

    # ---- the module from its sources ----

    def architecture(self, session, end):
        """nvcc's name of this GPU's architecture."""
        job = Job("compute capability", [self.smi or "nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
                  seconds=10)
        text = "".join(done.output for done in session.run([job], end) if done.result == "passed")
        major, _, minor = (text.split() or ["9.0"])[0].partition(".")
        return f"sm_{major}{minor}" + ("a" if major in ("9", "10") else "")

    def rebuild(self, session, end):
        """Builds the module alone, with nvcc and the host's compiler; True if it replaced the old one."""
        if not self.nvcc:
            session.check("the module rebuilt", "NOT RUN: nvcc is not installed")
            return False
        folder = os.path.join(self.scratch, "module")
        os.makedirs(folder, exist_ok=True)
        third = os.path.join(self.build, "source", "third")
        includes = [f"-I{self.sources}/{name}" for name in ("include", "host", "kernels")] + [f"-I{third}"]
        files = sorted(glob.glob(os.path.join(self.sources, "kernels", "*.c*")))
        files = [file for file in files if file.endswith((".c", ".cu"))]
        objects = [os.path.join(folder, os.path.basename(file) + ".o") for file in files]
        flags = {".c": ["-Xcompiler", "-fPIC,-fvisibility=hidden,-std=gnu17", "-D_GNU_SOURCE"],
                 ".cu": ["-std=c++17", f"-arch={self.architecture(session, end)}", "-Xcompiler",
                         "-fPIC,-fvisibility=hidden"]}
        jobs = [Job(f"compile {os.path.basename(file)}", [self.nvcc, "-c", file, "-o", target, "-O3", "-DNDEBUG",
                                                          *flags[os.path.splitext(file)[1]], *includes])
                for file, target in zip(files, objects)]
        start = time.monotonic()
        failed = [done for done in session.run(jobs, end, os.cpu_count()) if done.result != "passed"]
        module = os.path.join(folder, "libdescent_cuda.so")
        if not failed:
            link = Job("link", [self.nvcc, "-shared", "-cudart", "static", "-o", module, *objects, "-lpthread", "-ldl"])
            failed = [done for done in session.run([link], end) if done.result != "passed"]
        for done in failed[:3]:
            session.say(f"      {done.job.name}: {done.result}: {shortened(done.output, 600)}")
        session.check("the module rebuilt", "passed" if not failed else failed[0].result, time.monotonic() - start)
        if not failed:
            self.module, self.is_rebuilt = module, True
            self.kernels_commit = self.git("log", "-1", "--format=%H", "--", "kernels") or f"{self.kernels_commit}+"
            session.record("rebuilt", kernels_commit=self.kernels_commit, kernels=hash_of_kernels(self.sources))
        return not failed

    def find_device(self, session, end):
        """The line of `descent devices` on the first GPU; empty if none is usable."""
        job = self.ours("descent devices", "descent", ["devices"], seconds=30)
        for done in session.run([job], end):
            session.record("devices", text=done.output[:4000])
            self.said = done.output
            found = re.search(r"^cuda:0\s+yes\s+(.*)$", done.output, re.M)
            self.device = found.group(1).strip() if found else ""
            if not self.device:
                session.say(f"      {shortened(done.output.strip() or done.result, 1500)}")
        return self.device
