"""Exported graphs in ONNX Runtime predict what `descent predict` predicts: every activation, task and normalisation,
with missing cells, indicators, categories and categories that training did not see.

How far the two may be apart is estimated row by row from the network's own numbers, read from the model file. Rounding
errors are taken as independent and of mean 0, each within u = 2^-24 of its result: then they add up as squares do
(Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"). Worst cases, where all point the same
way, exceed that by the square root of the terms, and grow with each layer until they allow anything. Two evaluations
count as equal within ERRORS such errors: errors that all point the same way in a sum of a thousand terms would take
32."""

import json
import math

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors import safe_open

from command import Folder, main

U = 2.0**-24
SMALLEST = 2.0**-149  # error of results below the normal range
FLUSHED = 2.0**-126  # the same where they may become 0
ERRORS = 64
NORMALIZES = ["none", "standard", "minmax"]
IMPUTES = ["mean", "median", "most_frequent"]
TASKS = ["binary", "classes", "regression"]
# A table of numbers; the same with missing cells; with columns of categories too; with indicators.
TABLES = ["complete", "missing", "categories", "indicators"]
CLASSES = {"binary": ["no", "yes, \"indeed\""], "classes": ["low", "mïddle", "high"]}
NUMBERS, ROWS = 6, 157
ERF = np.vectorize(math.erf)


# ---- rounding errors ------------------------------------------------------------------------------------------------

def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def gelu_slope(z):
    return 0.5 * (1 + ERF(z / math.sqrt(2))) + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


# g(z) and g'(z).
FORMULAS = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z)**2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z < 0, 0.01 * z, z), lambda z: np.where(z < 0, 0.01, 1)),
    "gelu": (lambda z: z * 0.5 * (1 + ERF(z / math.sqrt(2))), gelu_slope),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * (1 - sigmoid(z)))),
}
ACTIVATIONS = list(FORMULAS)


def rounding(value, units):
    return units * U * np.abs(value) + SMALLEST


def activate(name, z, error):
    """One evaluation of g from a float32 argument is off by 4 u of its result. But graphs spell gelu as
    (z / 2) (1 + erf(z / sqrt 2)), and ONNX Runtime computes the sigmoid as 1/2 plus a ratio of polynomials: small
    results of the two are off by as much as large ones."""
    if name == "identity":
        return z, error
    g, slope = FORMULAS[name]
    size = {"sigmoid": 1, "silu": z, "gelu": z}.get(name, g(z))
    return g(z), np.hypot(slope(z) * error, rounding(size, 4))


def dense(W, b, A, error):
    """Z = A W^T + b. The partial sums, each rounded, are a walk to z whose steps are the terms: about as far from 0 as
    its end, or as the root of the sum of its squared steps, whichever is more."""
    Z = A @ W.T + b
    squares = A**2 @ (W**2).T + b**2
    walk = np.maximum(squares, Z**2) * (W.shape[1] + 1) + squares
    return Z, np.sqrt(error**2 @ (W**2).T + U**2 * walk) + SMALLEST


def softmax(z, error):
    """p_k = exp(z_k - max) / sum: dp_k = p_k (dz_k - sum p_j dz_j); the difference is rounded, which its exponential
    feels as a relative error, then exp, the sum and the division. With AVX2 and no AVX-512, ONNX Runtime gives
    0 for a p below the normal range."""
    away = z.max(axis=1, keepdims=True) - z
    p = np.exp(-away) / np.exp(-away).sum(axis=1, keepdims=True)
    shared = (p**2 * error**2).sum(axis=1, keepdims=True)
    relative = np.sqrt(error**2 + shared) + U * (np.minimum(away, 110) + 4 + math.sqrt(z.shape[1]))
    return p, p * relative + FLUSHED


class Model:
    """A model file, evaluated in double."""

    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.about = json.loads(file.metadata()["descent"])
            self.tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}
        self.task = {"binary_cross_entropy": "binary", "softmax_cross_entropy": "classes",
                     "mean_squared_error": "regression"}[self.about["loss"]]

    def encode(self, columns):
        """Columns of numbers, NaN where they are missing, and of texts, "" likewise, to (rows, inputs)."""
        inputs = []
        for feature, column in zip(self.about["columns"], columns):
            feature = feature if isinstance(feature, dict) else {}
            texts = column.dtype == object
            missing = column == "" if texts else np.isnan(column)
            for category in feature.get("categories", []):
                inputs.append(np.where(missing, np.nan, column == category))
            if not texts:
                inputs.append(column)
            if feature.get("indicator"):
                inputs.append(missing)
        return np.array(inputs, dtype=np.float64).T

    def outputs(self, X):
        """The probabilities or predictions for rows of inputs, and the error of one evaluation of each in float32."""
        get = self.tensors.get
        A = X if get("preprocessing.fill") is None else np.where(np.isnan(X), get("preprocessing.fill"), X)
        if get("preprocessing.shift") is not None:
            A = (A - get("preprocessing.shift")) * get("preprocessing.scale")
        error = rounding(A, 2)
        for l, layer in enumerate(self.about["layers"]):
            A, error = dense(get(f"layers.{l}.weight"), get(f"layers.{l}.bias"), A, error)
            A, error = activate(layer["activation"], A, error)
        if self.task == "binary":
            p, error = activate("sigmoid", A, error)
            return np.hstack([1 - p, p]), np.hstack([error + U, error])
        if self.task == "classes":
            return softmax(A, error)
        if get("preprocessing.target_scale") is None:
            return A, error
        scaled = A / get("preprocessing.target_scale")
        value = scaled + get("preprocessing.target_shift")
        return value, error / get("preprocessing.target_scale") + rounding(scaled, 1) + rounding(value, 1)


# ---- tables ---------------------------------------------------------------------------------------------------------

class Table:
    """Columns of numbers and of texts, with an answer that depends on them, as a file and as what a graph is given."""

    def __init__(self, kind, task, numbers=NUMBERS):
        random = np.random.default_rng(7)
        scale, middle = 10.0**random.integers(-1, 3, numbers), 9 * random.normal(size=numbers)
        X = middle + scale * random.normal(size=(ROWS, numbers))
        score = ((X - X.mean(axis=0)) / X.std(axis=0)) @ random.normal(size=numbers)
        self.header = [f"column {j}" for j in range(numbers)]
        self.columns = list(X.T.astype(np.float32))
        if kind in ("categories", "indicators"):
            colours, labels = random.choice(["red", "grün", "light, blue"], ROWS), random.choice(["S", "M", "L"], ROWS)
            score = score + 2 * (colours == "red")
            # Names that are also used inside the graph.
            self.header[1:2] = ["colour", "layers.0.z", "label"]
            self.columns[1:2] = [colours.astype(object), self.columns[1], labels.astype(object)]
        if kind != "complete":
            for column in self.columns[::2] + self.columns[1:2]:
                column[random.random(ROWS) < 0.1] = "" if column.dtype == object else np.nan
        if task == "regression":
            self.answers = [f"{v:.6g}" for v in 40 * score + 300]
        else:
            names = CLASSES[task]
            limits = np.quantile(score, np.linspace(0, 1, len(names) + 1)[1:-1])
            self.answers = [names[k] for k in np.digitize(score, limits)]

    def rows(self):
        def text(cell):
            return cell if isinstance(cell, str) else "" if math.isnan(cell) else repr(float(cell))

        return [[*map(text, row), answer] for row, answer in zip(zip(*self.columns), self.answers)]

    def feed(self, run):
        """The inputs of the graph."""
        if [i.name for i in run.get_inputs()] == ["X"]:
            return {"X": np.array(self.columns, dtype=np.float32).T}
        return {i.name: column.reshape(-1, 1) for i, column in zip(run.get_inputs(), self.columns)}


def session(model):
    """Of a graph in a file, or of one in memory."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxTest(Folder):
    def train_and_export(self, table, *options):
        self.write_csv("data.csv", table.header + ["answer"], table.rows())
        self.descent("train", "data.csv", "--target", "answer", "--epochs", 1, "--quiet", "--device", "cpu",
                     "--out", "model.safetensors", *options)
        self.descent("export", "model.safetensors", "--out", "model.onnx")
        model = onnx.load(self.path("model.onnx"))
        onnx.checker.check_model(model, full_check=True)
        self.assertEqual(model.ir_version, 8)
        self.assertEqual(model.opset_import[0].version, 17)
        return model

    def predict(self, table):
        """What `descent predict` prints for the table: the labels, or None, and the numbers."""
        self.write_csv("rows.csv", table.header + ["answer"], table.rows())
        rows = self.predictions("model.safetensors", "rows.csv", "--unseen", "zeros")[1]
        if Model(self.path("model.safetensors")).task == "regression":
            return None, np.array(rows, dtype=np.float64)
        return np.array([row[0] for row in rows]), np.array([row[1:] for row in rows], dtype=np.float64)

    def difference(self, table, graph, predicted):
        """The largest difference between graph and prediction, and between graph and exact value, each relative to the
    rounding bound; and the number of rows with a label that no evaluation in float32 can give."""
        network, run = Model(self.path("model.safetensors")), session(graph.SerializeToString())
        found = dict(zip([o.name for o in run.get_outputs()], run.run(None, table.feed(run))))
        exact, error = network.outputs(network.encode(table.columns))
        labels, ours = predicted
        theirs = found["prediction" if labels is None else "probabilities"]
        self.assertEqual(theirs.dtype, np.float32)
        self.assertEqual(theirs.shape, ours.shape)
        share = max((np.abs(theirs - ours) / (ERRORS * error)).max(), (np.abs(theirs - exact) / (ERRORS * error)).max())
        if labels is None:
            return share, 0
        names = [str(name) for name in network.about["class_names"]]
        wrong = 0
        for row, label in enumerate(found["label"]):
            k = names.index(label)
            behind = exact[row] - exact[row, k]
            wrong += bool((behind > ERRORS * (error[row] + error[row, k])).any())
            clear = np.sort(exact[row])[-1] - np.sort(exact[row])[-2] > 2 * ERRORS * error[row].max()
            wrong += bool(clear and label != labels[row])
        return share, wrong

    def assert_same(self, table, graph):
        share, wrong = self.difference(table, graph, self.predict(table))
        self.assertLessEqual(share, 1)
        self.assertEqual(wrong, 0)
        return share

    def test_every_activation_task_normalisation_and_kind_of_table(self):
        worst, number = 0, 0
        for task in TASKS:
            for kind in TABLES:
                for activation in ACTIVATIONS:
                    for normalize in NORMALIZES:
                        impute, number = IMPUTES[number % len(IMPUTES)], number + 1
                        with self.subTest(task=task, table=kind, activation=activation, normalize=normalize,
                                          impute=impute):
                            table = Table(kind, task)
                            more = ["--output-activation", activation] if task == "regression" else []
                            more += ["--indicators"] if kind == "indicators" else []
                            graph = self.train_and_export(table, "--task", task, "--activation", activation,
                                                          "--normalize", normalize, "--impute", impute, "--hidden",
                                                          "9,7", *more)
                            if kind in ("categories", "indicators"):
                                table.columns[1][::9] = "pink"  # which training did not see
                            worst = max(worst, self.assert_same(table, graph))
                number += 1  # so that each kind of table meets each pair of the two
        print(f"largest difference: {worst:.2g} of its bound")

    def test_a_row_with_nothing_but_missing_cells(self):
        for kind in TABLES[1:]:
            table = Table(kind, "binary")
            graph = self.train_and_export(table, "--hidden", "9,7")
            for column in table.columns:
                column[:] = "" if column.dtype == object else np.nan
            self.assert_same(table, graph)

    def test_columns_that_are_differences(self):
        """The graph takes float32, which holds every 128th second near 1.7e9."""
        seconds = [1700000000 + 128 * i for i in range(60)]
        for name, times in (("data.csv", [t + 1 for t in seconds]), ("rows.csv", seconds)):
            self.write_csv(name, ["t", "kind", "y"], [[t, "ab"[t // 128 % 2], 5 * t] for t in times])
        for matrix in (False, True):
            self.descent("train", "data.csv", "--target", "y", "--epochs", 5, "--quiet", "--device", "cpu",
                         *(["--ignore", "kind"] if matrix else []))
            self.assertIn("takes float32", self.descent("export", "model.safetensors", "--out", "model.onnx"))
            graph = onnx.load(self.path("model.onnx"))
            onnx.checker.check_model(graph, full_check=True)
            run = session(graph.SerializeToString())
            t = np.array(seconds, dtype=np.float32).reshape(-1, 1)
            kinds = np.array([["ab"[s // 128 % 2]] for s in seconds], dtype=object)
            found = run.run(None, {"X": t} if matrix else {"t": t, "kind": kinds})[0].ravel()
            ours = np.array(self.predictions("model.safetensors", "rows.csv")[1], dtype=np.float64).ravel()
            self.assertGreater(ours.max() - ours.min(), 5000)
            np.testing.assert_allclose(found, ours, rtol=2.0**-23, atol=1)

    def test_any_number_of_rows(self):
        table = Table("complete", "classes")
        run = session(self.train_and_export(table).SerializeToString())
        whole = run.run(["probabilities"], table.feed(run))[0]
        for n in (1, 7):
            labels, part = run.run(["label", "probabilities"], {"X": table.feed(run)["X"][:n]})
            self.assertEqual((len(labels), len(part)), (n, n))
            np.testing.assert_allclose(part, whole[:n], rtol=0, atol=1e-5)

    def test_columns_of_categories_are_inputs_of_their_own(self):
        table = Table("categories", "binary")
        run = session(self.train_and_export(table).SerializeToString())
        self.assertEqual([(i.name, i.type, i.shape) for i in run.get_inputs()][:4],
                         [("column 0", "tensor(float)", ["N", 1]), ("colour", "tensor(string)", ["N", 1]),
                          ("layers.0.z_", "tensor(float)", ["N", 1]), ("label_", "tensor(string)", ["N", 1])])
        self.assertEqual(sorted(Model(self.path("model.safetensors")).tensors["preprocessing.fill"][1:4]), [0, 0, 1])

    def test_a_graph_that_says_something_else_is_found(self):
        """A change in the second or third digit of any one number exceeds the rounding bound."""

        def constant(graph, name, change):
            for tensor in graph.graph.initializer:
                if tensor.name == name:
                    values = numpy_helper.to_array(tensor).copy()
                    values.flat[0] = change(values.flat[0])
                    tensor.CopyFrom(numpy_helper.from_array(values, name))
                    return
            self.fail(f"no constant {name}")

        def operation(graph, name, op):
            next(node for node in graph.graph.node if node.name == name).op_type = op

        def categories(graph):
            texts = next(node for node in graph.graph.node if node.name == "columns.1.encoded").attribute[0].strings
            texts[0], texts[1] = texts[1], texts[0]

        def classes(graph):
            labels = next(t for t in graph.graph.initializer if t.name == "output.class_names").string_data
            labels[0], labels[1] = labels[1], labels[0]

        cases = {
            "a weight": lambda graph: constant(graph, "layers.0.weight", lambda v: 1.001 * v),
            "a bias": lambda graph: constant(graph, "layers.1.bias", lambda v: v + 0.003),
            "an output's bias": lambda graph: constant(graph, "layers.2.bias", lambda v: v + 0.001),
            "a shift": lambda graph: constant(graph, "preprocessing.shift", lambda v: 1.01 * v),
            "a scale": lambda graph: constant(graph, "preprocessing.scale", lambda v: 1.001 * v),
            "what a missing number counts as": lambda graph: constant(graph, "preprocessing.fill", lambda v: v + 0.1),
            "what a missing category counts as": lambda graph: constant(graph, "columns.1.fill", lambda v: 1 - v),
            "an activation": lambda graph: operation(graph, "layers.1.a", "Sigmoid"),
            "two categories": categories,
        }
        for task in TASKS:
            table = Table("indicators", task)
            right = self.train_and_export(table, "--task", task, "--activation", "tanh", "--hidden", "9,7",
                                          "--indicators")
            predicted = self.predict(table)
            self.assertLessEqual(self.difference(table, right, predicted)[0], 1)
            for name, change in cases.items():
                with self.subTest(task=task, change=name):
                    graph = onnx.ModelProto()
                    graph.CopyFrom(right)
                    change(graph)
                    self.assertGreater(self.difference(table, graph, predicted)[0], 1)
            if task != "regression":
                graph = onnx.ModelProto()
                graph.CopyFrom(right)
                classes(graph)
                self.assertGreater(self.difference(table, graph, predicted)[1], 0)

    def test_wide_networks_are_compared_as_sharply(self):
        """Bounds that grow with each layer's width would let anything pass here: one weight of 540,000, doubled."""
        table = Table("complete", "classes", 20)
        graph = self.train_and_export(table, "--task", "classes", "--hidden", "512,512,512")
        predicted = self.predict(table)
        self.assertLessEqual(self.difference(table, graph, predicted)[0], 1)
        weight = next(t for t in graph.graph.initializer if t.name == "layers.2.weight")
        values = numpy_helper.to_array(weight).copy()
        values.flat[1000] *= 2
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        self.assertGreater(self.difference(table, graph, predicted)[0], 1)

    def test_names_and_meaning_travel_in_the_metadata(self):
        model = self.train_and_export(Table("complete", "classes"))
        run = session(model.SerializeToString())
        meta = {p.key: p.value for p in model.metadata_props}
        self.assertEqual(meta["task"], "classes")
        self.assertEqual(meta["class_names"], '["high","low","mïddle"]')
        self.assertEqual(meta["target_names"], '["answer"]')
        self.assertIn('"column 5"', meta["columns"])
        self.assertEqual([(o.name, o.type) for o in run.get_outputs()],
                         [("label", "tensor(string)"), ("probabilities", "tensor(float)")])


if __name__ == "__main__":
    main()
