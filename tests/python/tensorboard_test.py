"""The event files of `descent train --tensorboard`, read back by TensorBoard and compared with the run log and the
model of the same training."""

import json
import math
import os
import shutil

import numpy as np
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from command import Folder, main

EPOCHS = 4


def tag_of(key):
    for side in ("train", "validation"):
        if key.startswith(side + "_"):
            return key[len(side) + 1:] + "/" + side
    return key


def expected_scalars(lines):
    """{tag: [(step, value)]} of a run log."""
    expected = {}
    for line in map(json.loads, lines):
        step = line.pop("step")
        for layer, health in enumerate(line.pop("layers"), 1):
            line.update({f"{key}/layer_{layer}": value for key, value in health.items()})
        for key, value in line.items():
            parts = enumerate(value) if isinstance(value, list) else [(None, value)]
            for part, number in parts:
                if isinstance(number, str):
                    continue  # a warning
                tag = tag_of(key) if part is None else f"{tag_of(key)}/class_{part}"
                expected.setdefault(tag, []).append((step, math.nan if number is None else number))
    return expected


class TensorBoard(Folder):
    def train(self, classes, runs, *more):
        rng = np.random.default_rng(1)
        X = rng.normal(size=(120, 3))
        y = ["xyz"[k] for k in np.digitize(X[:, 0], [-0.4, 0.4][:classes - 1])] if classes else X.sum(axis=1)
        self.write_csv("data.csv", ["a", "b", "c", "answer"], [[*x, t] for x, t in zip(X, y)])
        self.descent("train", "data.csv", "--target", "answer", "--epochs", EPOCHS, "--hidden", "5,4", "--quiet",
                     "--log", "log", "--tensorboard", runs, *more)
        guidance = {"scalars": 0, "histograms": 0}  # all of them
        events = EventAccumulator(self.path(runs), size_guidance=guidance).Reload()
        with open(self.path("log"), encoding="utf-8") as log:
            return events, expected_scalars(log)

    def test_scalars_are_the_run_logs(self):
        for classes in (2, 3, 0):
            with self.subTest(classes=classes):
                events, expected = self.train(classes, f"runs/{classes}")
                self.assertEqual(sorted(events.Tags()["scalars"]), sorted(expected))
                for tag in ("loss/train", "loss/validation", "learning_rate", "gradient_norm/layer_3",
                            "dead_fraction/layer_1", "accuracy/validation" if classes else "rmse/validation"):
                    self.assertEqual(len(expected[tag]), EPOCHS)
                for tag, values in expected.items():
                    read = events.Scalars(tag)
                    self.assertEqual([e.step for e in read], [step for step, _ in values])
                    # A float64 midway between two float32 may be to one side of it in the log's 15 digits.
                    np.testing.assert_allclose([e.value for e in read], np.float32([value for _, value in values]),
                                               rtol=2**-23, atol=0, err_msg=tag)

    def test_a_resumed_training_shows_each_epoch_once(self):
        # As if it had died in the third epoch and had then been resumed to the end.
        keeping = ("--checkpoint-every", "5 steps", "--batch-size", 16)
        whole, _ = self.train(2, "whole", "--checkpoint", "kept", "--keep", 99, *keeping)
        steps = sorted(os.listdir(self.path("kept")))
        steps = [name for name in steps if name.startswith("step-")]
        self.assertEqual(len(steps), 6)
        for name in steps[4:]:
            os.remove(self.path(f"kept/{name}"))
        shutil.copytree(self.path("whole"), self.path("runs"))
        events, expected = self.train(2, "runs", "--resume", "kept", *keeping)
        self.assertEqual([line[1] for line in expected["epoch"]], [1, 2, 3, 4])
        for tag, values in expected.items():
            read = [(e.step, e.value) for e in events.Scalars(tag)]
            if tag not in ("seconds", "rows_per_second"):
                np.testing.assert_array_equal(read, [(e.step, e.value) for e in whole.Scalars(tag)], tag)
            self.assertEqual(len(read), len(values))
        for tag in whole.Tags()["histograms"]:
            self.assertEqual([e.step for e in events.Histograms(tag)], [e.step for e in whole.Histograms(tag)])

    def test_histograms_are_those_of_the_weights(self):
        # Without held-out rows the model is that of the last epoch, whose histograms it then explains.
        events, _ = self.train(2, "runs", "--validation", "0")
        model = load_file(self.path("model.safetensors"))
        parameters = {f"{what}/layer_{layer + 1}": model[f"layers.{layer}.{key}"].astype(np.float64).ravel()
                      for layer in range(3) for what, key in (("weights", "weight"), ("biases", "bias"))}
        self.assertEqual(sorted(events.Tags()["histograms"]), sorted(parameters))
        for tag, x in parameters.items():
            histograms = [e.histogram_value for e in events.Histograms(tag)]
            self.assertEqual(len(histograms), EPOCHS)
            for h in histograms:
                self.assertEqual(h.num, x.size)
                self.assertEqual(sum(h.bucket), x.size)
                self.assertEqual(len(h.bucket), len(h.bucket_limit))
                self.assertEqual(sorted(h.bucket_limit), list(h.bucket_limit))
                self.assertEqual(h.bucket_limit[-1], h.max)
            last = histograms[-1]
            self.assertEqual((last.min, last.max), (x.min(), x.max()))
            np.testing.assert_allclose([last.sum, last.sum_squares], [x.sum(), (x * x).sum()], rtol=1e-12)
            if last.max > last.min:
                counts, _ = np.histogram(x, bins=[last.min, *last.bucket_limit])
                # A value on an edge belongs to either side.
                self.assertLessEqual(np.abs(counts - last.bucket).sum(), 2)


if __name__ == "__main__":
    main()
