"""The example of docs/models.md as it is written: an ensemble's tensors in networks of PyTorch predict what
`descent predict` predicts."""

import os
import textwrap

import numpy as np
import torch

from command import Folder, main
from ensemble_test import Ensemble, join
from onnx_test import ACTIVATIONS, ERRORS, TASKS, Table

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/models.md")


def example():
    """The block of code after the heading "Ensembles"."""
    with open(DOCS, encoding="utf-8") as file:
        section = file.read().split("### Ensembles")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    ") or not line]
    return textwrap.dedent("\n".join(lines))


class PytorchTest(Folder):
    def test_the_example_predicts_what_descent_predicts(self):
        worst = 0
        for task in TASKS:
            for activation in ACTIVATIONS:
                with self.subTest(task=task, activation=activation):
                    table, paths = Table("indicators", task), []
                    self.write_csv("data.csv", table.header + ["answer"], table.rows())
                    for seed in range(3):
                        self.descent("train", "data.csv", "--target", "answer", "--epochs", 1, "--quiet", "--indicators",
                                     "--task", task, "--activation", activation, "--hidden", "9,7", "--validation", 0,
                                     "--seed", seed, "--device", "cpu", "--out", f"{seed}.safetensors")
                        paths.append(self.path(f"{seed}.safetensors"))
                    join(paths, self.path("ensemble.safetensors"))
                    worst = max(worst, self.share(table))
        print(f"largest difference: {worst:.2g} of its bound")
        self.assertLessEqual(worst, 1)

    def share(self, table):
        """The largest difference between the two predictions, as a share of its bound."""
        ensemble = Ensemble(self.path("ensemble.safetensors"))
        X = ensemble.encode(table.columns)
        names, old = {}, os.getcwd()
        os.chdir(self.path("."))
        try:
            exec(example(), names)
        finally:
            os.chdir(old)
        with torch.no_grad():
            theirs = names["predict"](torch.tensor(X, dtype=torch.float32)).numpy()
        first = 0 if ensemble.task == "regression" else 2 if ensemble.task == "binary" else 1  # column of the output
        ours = np.array([row[first:] for row in self.predictions("ensemble.safetensors", "data.csv")[1]], np.float64)
        error = ensemble.outputs(X)[1][:, -ours.shape[1]:]
        return (np.abs(theirs - ours) / (ERRORS * error)).max()


if __name__ == "__main__":
    main()
