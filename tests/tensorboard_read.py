"""Reads back what `descent train --tensorboard` wrote, with TensorBoard's own reader, and compares it with the run log
and the model of the same training.

    tensorboard_read.py DESCENT FOLDER    DESCENT: the command; FOLDER: an empty folder to work in
"""
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCHS = 4
descent, folder = sys.argv[1], Path(sys.argv[2])
rng = np.random.default_rng(1)


def write_data(path, classes):
    X = rng.normal(size=(120, 3))
    y = X.sum(axis=1) if not classes else np.digitize(X[:, 0], [-0.4, 0.4][: classes - 1])
    rows = [",".join(f"{v:.6g}" for v in x) + f",{'xyz'[t] if classes else f'{t:.6g}'}" for x, t in zip(X, y)]
    path.write_text("a,b,c,answer\n" + "\n".join(rows) + "\n")


def tag_of(key):
    for side in ("train", "validation"):
        if key.startswith(side + "_"):
            return key[len(side) + 1 :] + "/" + side
    return key


def expected_scalars(log):
    """{tag: [(step, value)]} of a run log."""
    expected = {}
    for line in map(json.loads, log.read_text().splitlines()):
        step = line.pop("step")
        for layer, health in enumerate(line.pop("layers"), 1):
            line.update({f"{key}/layer_{layer}": value for key, value in health.items()})
        for key, value in line.items():
            tag = tag_of(key)
            for k, v in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(v, str):
                    continue  # a warning
                name = tag if k is None else f"{tag}/class_{k}"
                expected.setdefault(name, []).append((step, math.nan if v is None else v))
    return expected


def same(a, b):
    return math.isnan(a) and math.isnan(b) or a == b


def check(kind, classes):
    here = folder / kind
    here.mkdir()
    write_data(here / "data.csv", classes)
    # Without held-out rows the model is that of the last epoch, whose histograms are then known.
    more = ["--validation", "0"] if kind == "last" else []
    subprocess.run([descent, "train", "data.csv", "--target", "answer", "--epochs", str(EPOCHS), "--log", "log",
                    "--tensorboard", "runs/one", "--hidden", "5,4", "--quiet", *more], cwd=here, check=True,
                   stdout=subprocess.DEVNULL)
    events = EventAccumulator(str(here / "runs" / "one"), size_guidance={"scalars": 0, "histograms": 0}).Reload()
    expected = expected_scalars(here / "log")
    assert sorted(events.Tags()["scalars"]) == sorted(expected), (events.Tags()["scalars"], sorted(expected))
    for tag, values in expected.items():
        read = [(e.step, e.value) for e in events.Scalars(tag)]
        assert [s for s, _ in read] == [s for s, _ in values], tag
        for (_, got), (_, want) in zip(read, values):
            assert same(got, float(np.float32(want))), (tag, got, want)
    assert "loss/train" in expected and ("loss/validation" in expected) == (kind != "last")

    model = load_file(here / "model.safetensors")
    names = {f"{what}/layer_{layer + 1}": model[f"layers.{layer}.{key}"]
             for layer in range(3) for what, key in (("weights", "weight"), ("biases", "bias"))}
    assert sorted(events.Tags()["histograms"]) == sorted(names), events.Tags()["histograms"]
    for tag, parameters in names.items():
        histograms = [e.histogram_value for e in events.Histograms(tag)]
        assert len(histograms) == EPOCHS, tag
        for h in histograms:
            assert h.num == parameters.size == sum(h.bucket), tag
            assert len(h.bucket) == len(h.bucket_limit) and sorted(h.bucket_limit) == list(h.bucket_limit), tag
            assert h.bucket_limit[-1] == h.max, tag
        if kind == "last":
            h, x = histograms[-1], parameters.astype(np.float64).ravel()
            assert (h.min, h.max) == (x.min(), x.max()), tag
            np.testing.assert_allclose([h.sum, h.sum_squares], [x.sum(), (x * x).sum()], rtol=1e-12)
            if h.max > h.min:
                counts, _ = np.histogram(x, bins=[h.min, *h.bucket_limit])
                assert np.abs(counts - h.bucket).sum() <= 2, tag  # a value on an edge may fall to either side


for kind, classes in (("binary", 2), ("classes", 3), ("regression", 0), ("last", 2)):
    check(kind, classes)
print("tensorboard reads what was logged")
