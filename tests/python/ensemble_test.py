"""Ensembles in the hands of other programs: a file put together in Python is an ensemble, its ONNX graph and its arrays
predict the mean of the members, and so do networks of PyTorch that take its tensors by their names."""

import json
import math

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from command import Folder, main
from onnx_test import ACTIVATIONS, ERRORS, IMPUTES, NORMALIZES, TABLES, TASKS, U, Model, Table, session


def join(paths, out):
    """Writes the ensemble of plain model files: the form of docs/models.md, without Descent's checksum."""
    tensors = {}
    for k, path in enumerate(paths):
        with safe_open(path, "np") as file:
            metadata = file.metadata()
        for name, tensor in load_file(path).items():
            tensors[f"members.{k}.{name}" if name.startswith("layers.") else name] = tensor
    about = json.loads(metadata["descent"])
    save_file(tensors, out, {"descent": json.dumps({**about, "version": 3, "members": len(paths)})})


class Ensemble:
    """A model file of an ensemble, evaluated in double."""

    def __init__(self, path):
        whole = Model(path)
        self.task, self.about, self.encode, self.members = whole.task, whole.about, whole.encode, []
        for k in range(whole.about["members"]):
            member, prefix = Model(path), f"members.{k}."
            member.tensors = {name.removeprefix(prefix): tensor for name, tensor in whole.tensors.items()
                              if name.startswith((prefix, "preprocessing."))}
            self.members.append(member)

    def outputs(self, X):
        """The means, and the error of one evaluation of each in float32. The members share rounding errors of the
        inputs, so theirs are taken to point the same way. The partial sums of the members, each rounded, are at most
        the sum of the sizes; then the division is rounded. Values of regression are averaged before they are
        shifted."""
        values, errors = (np.array(both) for both in zip(*(member.outputs(X) for member in self.members)))
        shift = self.members[0].tensors.get("preprocessing.target_shift", 0)
        size = np.abs(values - shift).mean(axis=0)
        return values.mean(axis=0), errors.mean(axis=0) + (math.sqrt(len(values)) + 1) * U * size


class EnsembleTest(Folder):
    def train(self, table, count, *options):
        """Trains `count` networks, which differ in their seeds, and joins them."""
        self.write_csv("data.csv", table.header + ["answer"], table.rows())
        paths = []
        for seed in range(count):
            self.descent("train", "data.csv", "--target", "answer", "--epochs", 1, "--quiet", "--device", "cpu",
                         "--validation", 0, "--seed", seed, "--out", f"{seed}.safetensors", *options)
            paths.append(self.path(f"{seed}.safetensors"))
        join(paths, self.path("model.safetensors"))
        return paths

    def export(self):
        self.descent("export", "model.safetensors", "--out", "model.onnx")
        model = onnx.load(self.path("model.onnx"))
        onnx.checker.check_model(model, full_check=True)
        self.assertEqual((model.ir_version, model.opset_import[0].version), (8, 17))
        return model

    def predict(self, table, model="model.safetensors"):
        """What `descent predict` prints for the table: the labels, or None, and the numbers."""
        self.write_csv("rows.csv", table.header + ["answer"], table.rows())
        rows = self.predictions(model, "rows.csv", "--unseen", "zeros")[1]
        if Model(self.path(model)).task == "regression":
            return None, np.array(rows, dtype=np.float64)
        return np.array([row[0] for row in rows]), np.array([row[1:] for row in rows], dtype=np.float64)

    def difference(self, table, graph, predicted):
        """The largest difference of the graph from the prediction and from the exact mean, each as a share of its
        bound; and the number of rows with a label that no evaluation in float32 can give."""
        ensemble, run = Ensemble(self.path("model.safetensors")), session(graph.SerializeToString())
        found = dict(zip([o.name for o in run.get_outputs()], run.run(None, table.feed(run))))
        exact, error = ensemble.outputs(ensemble.encode(table.columns))
        labels, ours = predicted
        theirs = found["prediction" if labels is None else "probabilities"]
        self.assertEqual((theirs.dtype, theirs.shape), (np.float32, ours.shape))
        share = max((np.abs(theirs - ours) / (ERRORS * error)).max(), (np.abs(theirs - exact) / (ERRORS * error)).max())
        if labels is None:
            return share, 0
        names = [str(name) for name in ensemble.about["class_names"]]
        chosen = np.array([names.index(label) for label in found["label"]])
        rows = np.arange(len(exact))
        behind = exact.max(axis=1) - exact[rows, chosen]
        wrong = behind > 2 * ERRORS * error.max(axis=1)
        clear = np.diff(np.sort(exact, axis=1)[:, -2:], axis=1)[:, 0] > 2 * ERRORS * error.max(axis=1)
        return share, int((wrong | clear & (found["label"] != labels)).sum())

    def assert_same(self, table):
        share, wrong = self.difference(table, self.export(), self.predict(table))
        self.assertLessEqual(share, 1)
        self.assertEqual(wrong, 0)
        return share

    def test_graphs_of_every_activation_and_task(self):
        worst, number = 0, 0
        for task in TASKS:
            for activation in ACTIVATIONS:
                kind, normalize = TABLES[number % 4], NORMALIZES[number % 3]
                impute, hidden, count = IMPUTES[number // 3 % 3], ["9,7", "8"][number % 2], [2, 3, 5][number % 3]
                number += 1
                with self.subTest(task=task, activation=activation, table=kind, normalize=normalize, members=count):
                    table = Table(kind, task)
                    more = ["--output-activation", activation] if task == "regression" else []
                    more += ["--indicators"] if kind == "indicators" else []
                    self.train(table, count, "--task", task, "--activation", activation, "--normalize", normalize,
                               "--impute", impute, "--hidden", hidden, *more)
                    worst = max(worst, self.assert_same(table))
        print(f"largest difference: {worst:.2g} of its bound")

    def test_a_single_layer(self):
        for task in TASKS:
            table = Table("missing", task)
            self.train(table, 3, "--task", task, "--hidden", "none")
            self.assert_same(table)

    def test_any_number_of_rows(self):
        table = Table("complete", "classes")
        self.train(table, 4)
        run = session(self.export().SerializeToString())
        whole = run.run(["probabilities"], table.feed(run))[0]
        for n in (1, 7):
            labels, part = run.run(["label", "probabilities"], {"X": table.feed(run)["X"][:n]})
            self.assertEqual((len(labels), len(part)), (n, n))
            np.testing.assert_allclose(part, whole[:n], rtol=0, atol=1e-5)

    def test_columns_that_are_differences(self):
        """The graph takes float32, which holds every 128th second near 1.7e9."""
        seconds = [1700000000 + 128 * i for i in range(60)]
        for name, times in (("data.csv", [t + 1 for t in seconds]), ("rows.csv", seconds)):
            self.write_csv(name, ["t", "y"], [[t, 5 * t] for t in times])
        for seed in range(3):
            self.descent("train", "data.csv", "--target", "y", "--epochs", 5, "--quiet", "--device", "cpu",
                         "--validation", 0, "--seed", seed, "--out", f"{seed}.safetensors")
        join([self.path(f"{seed}.safetensors") for seed in range(3)], self.path("model.safetensors"))
        run = session(self.export().SerializeToString())
        found = run.run(None, {"X": np.array(seconds, dtype=np.float32).reshape(-1, 1)})[0].ravel()
        ours = np.array(self.predictions("model.safetensors", "rows.csv")[1], dtype=np.float64).ravel()
        self.assertGreater(ours.max() - ours.min(), 5000)
        np.testing.assert_allclose(found, ours, rtol=2.0**-23, atol=1)

    def test_a_graph_that_says_something_else_is_found(self):
        def constant(graph, name):
            return next(tensor for tensor in graph.graph.initializer if tensor.name == name)

        def change(graph, name, index, function):
            tensor = constant(graph, name)
            values = numpy_helper.to_array(tensor).copy()
            values[index] = function(values[index])
            tensor.CopyFrom(numpy_helper.from_array(values, name))

        def node(graph, name):
            return next(one for one in graph.graph.node if one.name == name)

        def swap(values):
            return values[::-1].copy()

        cases = {
            "a weight of the first layer": lambda g: change(g, "layers.0.weight", (17, 0), lambda v: 1.01 * v),
            "a weight of the last member": lambda g: change(g, "layers.1.weight", (2, 0, 0), lambda v: 1.01 * v),
            "a bias": lambda g: change(g, "layers.2.bias", (1, 0, 0), lambda v: v + 0.003),
            "members in another order": lambda g: change(g, "layers.1.weight", slice(None), swap),
            "a transposed matrix": lambda g: change(g, "layers.1.weight", 0, lambda v: v.T),
            "an activation": lambda g: setattr(node(g, "layers.1.a"), "op_type", "Sigmoid"),
            "a maximum": lambda g: setattr(next(n for n in g.graph.node if n.op_type == "ReduceMean"), "op_type",
                                           "ReduceMax"),
        }
        for task in TASKS:
            table = Table("indicators", task)
            self.train(table, 3, "--task", task, "--activation", "tanh", "--hidden", "9,9", "--indicators")
            right, predicted = self.export(), self.predict(table)
            self.assertLessEqual(self.difference(table, right, predicted)[0], 1)
            for name, alter in cases.items():
                with self.subTest(task=task, change=name):
                    graph = onnx.ModelProto()
                    graph.CopyFrom(right)
                    alter(graph)
                    self.assertGreater(self.difference(table, graph, predicted)[0], 1)

    def test_a_file_that_python_wrote_is_an_ensemble_of_its_members(self):
        table = Table("indicators", "classes")
        paths = self.train(table, 3, "--indicators")
        self.assertEqual(json.loads(self.descent("info", "model.safetensors", "--json"))["members"], 3)
        for k, path in enumerate(paths):
            self.descent("export", "model.safetensors", "--member", k, "--out", "member.safetensors")
            members, ours = load_file(self.path("member.safetensors")), load_file(path)
            self.assertEqual({name: tensor.tobytes() for name, tensor in members.items()},
                             {name: tensor.tobytes() for name, tensor in ours.items()})

    def test_arrays_of_every_member(self):
        self.train(Table("missing", "regression"), 3, "--hidden", "6,3")
        self.descent("export", "model.safetensors", "--out", "model.npz")
        arrays, tensors = np.load(self.path("model.npz")), load_file(self.path("model.safetensors"))
        self.assertEqual(set(arrays.files), set(tensors) | {"metadata"})
        self.assertIn("members.2.layers.1.bias", arrays.files)
        for name, tensor in tensors.items():
            self.assertEqual((arrays[name].dtype, arrays[name].shape), (np.float32, tensor.shape))
            self.assertEqual(arrays[name].tobytes(), tensor.tobytes())
        self.assertEqual(json.loads(arrays["metadata"].item())["members"], 3)


if __name__ == "__main__":
    main()
