"""Several layers in one kernel: the values beside their bounds, and the speed beside one layer after another."""
import re
import time

from gpu_session import benched, verified
from gpu_workloads import FUSED, PUBLISHED, bench_arguments, workload

PRECISIONS = ("fp32", "tf32", "bf16")
# Inputs, hidden, outputs, batch: a network whose layers stay in one multiprocessor, one whose dW other kernels compute,
# both of more rows than one cluster of blocks takes; and a step of few rows, which a cluster computes.
NETWORKS = {"narrow": ("28", "64,33,64", "10", 1300), "medium": ("28", "300,128,300", "10", 1100),
            "small": ("784", "128", "10", 256)}
TURNS = ("on", "off", "off", "on")  # the second half as far as the time suffices
SECONDS = 0.5                       # of each measurement
# Predictions alone: precisions, and rows at a time, of which the device takes 43,690 of this width at most.
PREDICTED, PREDICTED_IN, PREDICTED_ROWS = "64x5", ("bf16", "fp32"), 32768
# Operations of a step that are in no kernel of several layers. The published figure is without them too, but also
# without the loss.
OUTSIDE = ("gather", "gradient_norm", "update", "metrics", "step")


def verified_fused(code, output):
    """`descent verify --fusion on`: also results of several layers together were compared."""
    result, facts = verified(code, output)
    if result == "passed" and not re.search(r"^\s*fused\b", output, re.M):
        result = "FAILED: no layers were computed together"
    return result, facts


def fused_jobs(machine, precision):
    """Each network in a few batches, the last of them with fewer rows."""
    return [machine.ours(f"fused verify, {name}, {precision}", "descent", [
        "verify", "--device", "cuda", "--fusion", "on", "--precision", precision, "--inputs", inputs, "--hidden",
        "9,5" if machine.small else hidden, "--outputs", outputs, "--batch-size", str(16 if machine.small else batch),
        "--rows", str(40 if machine.small else 2 * batch + batch // 3)], seconds=15, accept=verified_fused)
            for name, (inputs, hidden, outputs, batch) in NETWORKS.items()]


def is_fused(figures):
    return any(row["path"].startswith(("fused", "whole")) for row in figures["operations"])


def rows_per_second(figures):
    """Of the whole step; and of forward, loss and backward alone, unless one kernel computes all of the step."""
    if any(row["path"].startswith("whole") for row in figures["operations"]):
        return figures["batch_size"] / figures["step_seconds"], None
    inside = sum(row["seconds"] for row in figures["operations"] if row["operation"].split(" layer ")[0] not in OUTSIDE)
    return figures["batch_size"] / figures["step_seconds"], figures["batch_size"] / inside if inside else None


def accept(side):
    """`descent bench --fusion SIDE`: figures, of layers that were computed in that way."""
    def accepted(code, output):
        result, facts = benched(code, output)
        if result == "passed" and is_fused(facts["bench"]) != (side == "on"):
            result = f"FAILED: {'no' if side == 'on' else 'some'} layers were computed together"
        return result, facts
    return accepted


def measure(session, machine, end, name, until):
    """{side: its fastest figures, since a disturbance only slows down}, and the last result."""
    best, longest = {}, 0.0
    for side in TURNS:
        began = time.monotonic()
        if len(best) == 2 and began + longest > until:
            break
        arguments = bench_arguments(workload(name, machine.shrink), 0.01 if machine.small else SECONDS)
        job = machine.ours(f"{name}, fusion {side}", "descent", [*arguments, "--fusion", side], seconds=12,
                           accept=accept(side))
        done = next(session.run([job], end))
        if done.result != "passed":
            return best, f"{side}: {done.result}"
        figures = done.facts["bench"]
        if side not in best or figures["step_seconds"] < best[side]["step_seconds"]:
            best[side] = figures
        longest = max(longest, time.monotonic() - began)
    return best, "passed"


def prediction_job(machine, precision):
    shape = workload(PREDICTED, machine.shrink)
    return machine.ours(f"predictions {PREDICTED}, {precision}", "descent", [
        "bench", "--predict", "--json", "--device", "cuda", "--precision", precision, "--inputs", str(shape["inputs"]),
        "--hidden", ",".join(map(str, shape["hidden"])), "--outputs", str(shape["outputs"]), "--activation",
        shape["activation"], "--batch-size", str(max(8, PREDICTED_ROWS // machine.shrink**2)), "--seconds",
        str(0.01 if machine.small else SECONDS)], seconds=8, accept=benched)


def predict(session, machine, end):
    """Rows per second of predictions, whose inputs are on the device and whose results stay there."""
    for precision in PREDICTED_IN:
        passed = session.check_all([prediction_job(machine, precision)], end)
        for done in passed.values():
            figures = done.facts["bench"]
            rows = figures["batch_size"] / figures["step_seconds"]
            session.record("prediction", workload=PREDICTED, precision=precision, step_seconds=figures["step_seconds"],
                           rows_per_second=rows, floor_seconds=figures["operations"][-1]["floor_seconds"],
                           paths=sorted({row["path"] for row in figures["operations"] if row["path"]}))
            session.say(f"      {rows * 1e-6:.0f} million rows/s")


def run_fusion(session, machine, end):
    jobs = [job for precision in PRECISIONS for job in fused_jobs(machine, precision)]
    session.check_all(jobs, end, len(jobs))
    predict(session, machine, end)
    names = [name for name in FUSED if session.wants(f"fused bench {name}")]
    for i, name in enumerate(names):
        began = time.monotonic()
        best, result = measure(session, machine, end, name, began + (end - began) / (len(names) - i))
        session.check(f"fused bench {name}", result, time.monotonic() - began)
        for side, figures in best.items():
            step, inside = rows_per_second(figures)
            session.record("fusion", workload=name, fusion=side, step_seconds=figures["step_seconds"],
                           rows_per_second=step, rows_per_second_inside=inside,
                           paths=sorted({row["path"] for row in figures["operations"] if row["path"]}))
        if len(best) == 2:
            session.say(f"      {text_sides(name, *(rows_per_second(best[side]) for side in ('on', 'off')))}")


def text_sides(name, on, off):
    text = f"{on[0] * 1e-6:.1f} million rows/s, {off[0] * 1e-6:.1f} layer by layer, {on[0] / off[0]:.2f} x"
    if name in PUBLISHED and on[1]:
        text += (f"; {on[1] * 1e-6:.1f} in forward, loss and backward, published for tiny-cuda-nn "
                 f"{PUBLISHED[name] * 1e-6:.0f}")
    return text
