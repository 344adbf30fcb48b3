#!/usr/bin/env python3
"""dependencies.py SOURCE OBJECT...: what the files of host/ and kernels/ depend on, by #include and by symbol.

Every include and every symbol that an object needs must come from a folder that RULES allows, and no file may depend on
itself through others: objects form layers. The compiled objects are looked at with nm, so that a function declared in one
folder and defined in another is seen where it is defined.
"""
import collections
import re
import subprocess
import sys
from pathlib import Path

# folder: what it may include, as prefixes of paths below host/. "public" is include/descent/. The symbols that a folder
# may need are those defined in the same places.
LIBRARY = ["core", "model", "data", "plan", "backend", "checkpoint", "train", "verify"]
RULES = {
    "core": ["public", "core/"],
    "model": ["public", "model/", "core/"],
    "data": ["public", "data/", "model/schema.h", "core/"],
    "plan": ["public", "plan/", "model/", "core/"],
    "backend/reference": ["public", "backend/", "plan/", "core/"],
    "backend/cpu": ["public", "backend/", "plan/", "core/"],
    "backend": ["public", "backend/", "plan/", "model/", "data/dataset.h", "core/"],
    "checkpoint": ["public", "checkpoint/", "backend/", "plan/", "data/", "model/", "core/"],
    "train": ["public", "train/", "checkpoint/", "backend/", "plan/", "data/", "model/", "core/"],
    "verify": ["public", "verify/", "train/", "backend/", "plan/", "data/", "model/", "core/"],
    "mpi": ["core/transport.h", "core/clock.h"],
    "versions": ["public"],
    "report": ["public", "report/", "core/clock.h", "core/printable.h"],
    "cli": ["public", "cli/", "report/", "core/clock.h", "core/replace.h", "core/system.h", "core/terms.h"],
    "kernels": ["public", "kernels/", "backend/backend.h", "backend/device_array.h", "backend/formulas.h",
                "backend/formulas_real.h", "plan/", "core/half.h", "core/rng.h", "core/parameters.h", "core/status.h",
                "core/clock.h", "core/communicator.h"],
}
# Readers ask a network for its schema and shape, through functions only.
NEEDS = {"data": RULES["data"] + ["model/"]}
CUDA = re.compile(r"^(cuda|cublas|nccl|cudnn|curand|cusparse|nvrtc|nvtx|nvml)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)

failures = []


def fail(text):
    failures.append(text)
    print(text)


def rule_of(path):
    """The folder of RULES that a path below host/ or kernels/ is in: the longest that fits."""
    return max((folder for folder in RULES if path.startswith(folder + "/")), key=len, default=None)


def allowed(folder, path):
    return any(path == place or path.startswith(place) for place in RULES[folder])


def check_includes(source):
    seen = 0
    for top in ("host", "kernels"):
        base = source / top
        for file in sorted(p for p in base.rglob("*") if p.suffix in (".c", ".h", ".cu", ".cuh")):
            path = str(file.relative_to(source if top == "kernels" else base))
            folder = rule_of(path)
            if folder is None:
                fail(f"{file}: in a folder that no rule knows")
                continue
            for bracket, header in INCLUDE.findall(file.read_text()):
                seen += 1
                if CUDA.match(header) and top == "host":
                    fail(f"{path}: includes {header}: host/ knows no CUDA")
                if header.startswith("descent/"):
                    header = "public"
                elif (base / header).exists() and top == "kernels":
                    header = "kernels/" + header
                elif (source / "host" / header).exists():
                    pass
                elif bracket == '"' and (file.parent / header).exists():
                    header = str((file.parent / header).resolve().relative_to(base))
                else:
                    continue  # a library's or the system's
                if not allowed(folder, header):
                    fail(f"{path}: {folder}/ may not include {header}")
    if not seen:
        fail("no #include was found")


def symbols(objects):
    """Of each object: the strong symbols that it defines and those that it needs."""
    for obj in objects:
        defined, needed = set(), set()
        for line in subprocess.run(["nm", obj], check=True, capture_output=True, text=True).stdout.splitlines():
            fields = line.split()
            kind, name = fields[-2], fields[-1]
            if kind in "TDBRC":
                defined.add(name)
            elif kind == "U":
                needed.add(name)
        yield obj, defined, needed


def path_of(obj):
    """The path below host/, or from kernels/ on, of an object's source: by the last such folder in its name."""
    found = re.search(r".*(?:^|/)(?:host/|(?=kernels/))((?:kernels/)?[^:]*\.(?:c|cu))\.o$", obj)
    return found.group(1) if found and rule_of(found.group(1)) else None


def components(graph):
    """Strongly connected components of more than one node (Tarjan 1972)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        on_stack.add(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in on_stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            component = []
            while not component or component[-1] != v:
                component.append(stack.pop())
                on_stack.discard(component[-1])
            if len(component) > 1:
                found.append(sorted(component))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


def check_symbols(objects):
    table = [(path_of(obj), defined, needed) for obj, defined, needed in symbols(objects)]
    table = [row for row in table if row[0]]
    if len(table) < 50:
        fail(f"only {len(table)} objects of host/ and kernels/ were given")
    home = {name: path for path, defined, _ in table for name in defined}
    graph, why = collections.defaultdict(set), collections.defaultdict(set)
    for path, _, needed in table:
        folder = rule_of(path)
        graph[path]
        for name in needed:
            target = home.get(name)
            if not target or target == path:
                continue
            graph[path].add(target)
            why[path, target].add(name)
            public = name.startswith("descent_") and rule_of(target).split("/")[0] in LIBRARY
            header = re.sub(r"\.cu?$", ".h", target)
            outside = folder in ("report", "cli")
            if public and outside:
                continue  # through the public header
            if not any(header.startswith(place.split(".")[0] if place.endswith(".h") else place)
                       for place in NEEDS.get(folder, RULES[folder])):
                fail(f"{path}: {folder}/ may not need {name} of {target}")
    for component in components(graph):
        fail("a circle of dependencies:")
        for a in component:
            for b in component:
                if why.get((a, b)):
                    fail(f"  {a} needs {', '.join(sorted(why[a, b]))} of {b}")


def main():
    sys.setrecursionlimit(10000)
    check_includes(Path(sys.argv[1]))
    check_symbols(sys.argv[2:])
    return 1 if failures else 0


sys.exit(main())
