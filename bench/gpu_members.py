"""The part `members` of bench/gpu_check.py: small networks that train beside each other on one GPU: the bytes of one
alone, and the throughput beside one alone and beside PyTorch's vmap."""
import os
import time

from gpu_peers import LEAST_SECONDS, Peer, check_name, take
from gpu_session import benched, shortened
from gpu_workloads import text_seconds

COMPARED = 8  # members whose bytes are compared with those of a training alone: the first, the middle and the last one
SIDE_BY_SIDE = "members: side by side"
# name: inputs, hidden, outputs, activation, batch, precision, members, least ratio to the throughput of one alone.
NETWORKS = {"mnist": (784, [128], 10, "relu", 256, "bf16", 64, 32),
            "28-300x4-1": (28, [300] * 4, 1, "relu", 1024, "bf16", 64, 8)}
PRECISIONS = ("fp32", "bf16")
STEPS, SECONDS = 64, 1.0  # of an epoch; of each of two measurements


def shape_of(name, machine):
    """As workload() of gpu_workloads gives it, with members."""
    inputs, hidden, outputs, activation, batch, precision, members, _ = NETWORKS[name]
    if machine.small:
        inputs, hidden, batch, members = 9, [8] * len(hidden), 16, 3
    return {"inputs": inputs, "hidden": hidden, "outputs": outputs, "activation": activation, "batch": batch,
            "precision": precision, "members": members, "source_batches": 4 if machine.small else STEPS}


def many_of(name, members):
    return f"{members} of {name}"


def accept(code, output):
    """The bytes of one alone, of members that ran side by side."""
    result, facts = benched(code, output)
    figures = facts.get("bench", {})
    if result == "passed" and not figures.get("same"):
        result = "FAILED: together the bytes are not those of one alone"
    if result == "passed" and SIDE_BY_SIDE not in figures.get("placement", ""):
        result = f"FAILED: not side by side, but '{figures.get('placement', '')[:200]}'"
    return result, facts


def job_of(machine, name, what, precision, seconds, most=None, environment=None):
    """`most` members, if there are more."""
    shape = shape_of(name, machine)
    members = min(most or shape["members"], shape["members"])
    widths = ",".join(map(str, (shape["inputs"], *shape["hidden"], shape["outputs"])))
    return machine.ours(f"members {what}, {many_of(name, members)}, {precision}", "members_time", [
        "cuda", widths, str(shape["batch"]), precision, str(members), str(shape["source_batches"]), str(seconds)],
                        seconds=30, accept=accept, environment=environment or {})


def check_bytes(session, machine, end):
    """At the same time: what they choose by time then is not remembered for the measurements."""
    jobs = []
    for name in NETWORKS:
        for precision in PRECISIONS:
            cache = os.path.join(machine.scratch, f"members-{name}-{precision}")
            os.makedirs(cache)
            jobs.append(job_of(machine, name, "alone and together", precision, 0, COMPARED, {"XDG_CACHE_HOME": cache}))
    session.check_all(jobs, end, len(jobs))


def measure(session, machine, end):
    for name, (*_, least) in NETWORKS.items():
        shape = shape_of(name, machine)
        job = job_of(machine, name, "bench", shape["precision"], 0.02 if machine.small else SECONDS)
        for done in session.check_all([job], end).values():
            figures = done.facts["bench"]
            ratio = figures["members"] * figures["alone_seconds"] / figures["together_seconds"]
            session.record("members", workload=many_of(name, figures["members"]), ratio=ratio, least=least,
                           **{key: figures[key] for key in ("members", "alone_seconds", "together_seconds")})
            session.say(f"      one alone {text_seconds(figures['alone_seconds'])}, {figures['members']} together "
                        f"{text_seconds(figures['together_seconds'])}: {ratio:.1f} x, aim {least} x")


def run_peer(session, machine, end):
    """PyTorch's vmap over the members, captured in a CUDA graph."""
    shapes = {name: shape_of(name, machine) for name in NETWORKS}
    runs = [{"workload": many_of(name, shape["members"]), "kind": "vmap", "shape": shape}
            for name, shape in shapes.items()]
    runs = [run for run in runs if session.wants(check_name(run))]
    why, version = "no time left", ""
    if runs and end - time.monotonic() > (0 if machine.small else LEAST_SECONDS):
        peer, started, why = Peer(machine, runs, 0.01 if machine.small else 0.8), time.monotonic(), "the process ended"
        answer = peer.answer(end)
        while answer and runs:
            if "version" in answer:
                version = answer["version"]
            elif "workload" not in answer:
                why = answer["missing"]
                break
            else:
                take(session, runs.pop(0), answer, time.monotonic() - started, version)
            answer = peer.answer(end) if runs else None
        session.log_text("members' peer", f"== members' peer\n{shortened(peer.close())}\n")
    for run in runs:
        session.check(check_name(run), f"NOT RUN: {why}")


def run_members(session, machine, end):
    check_bytes(session, machine, end)
    measure(session, machine, end)
    run_peer(session, machine, end)
