"""Exported graphs in ONNX Runtime say what `descent predict` says: every activation, task and normalisation.

The bounds are derived. With u = 2^-24 a dot product of length n is off by gamma(n + 1) of its sum of magnitudes, in any
order of summation; an error in a layer's input grows by |W| and by the activation's steepest slope; and an activation
adds a few u of its own. Two evaluations are then within twice the error of either.
"""

import math

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from command import Folder, main

U = 2.0**-24
ACTIVATIONS = ["identity", "sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu"]
NORMALIZES = ["none", "standard", "minmax"]
TASKS = ["binary", "classes", "regression"]
# The steepest slopes.
SLOPES = {"identity": 1, "sigmoid": 0.25, "tanh": 1, "relu": 1, "leaky_relu": 1, "gelu": 1.13, "silu": 1.1}
# Error of one evaluation of an activation from a float32 argument: of its largest value 1 where it has one, else of |z|.
OWN = 8 * U
INPUTS, ROWS = 6, 157
ERF = np.vectorize(math.erf)


def gamma(n):
    return n * U / (1 - n * U)


def activate(name, z):
    def sigmoid(t):
        return 0.5 * (1 + np.tanh(t / 2))

    return {
        "identity": lambda: z,
        "sigmoid": lambda: sigmoid(z),
        "tanh": lambda: np.tanh(z),
        "relu": lambda: np.maximum(z, 0),
        "leaky_relu": lambda: np.where(z < 0, 0.01 * z, z),
        "gelu": lambda: z * 0.5 * (1 + ERF(z / math.sqrt(2))),
        "silu": lambda: z * sigmoid(z),
    }[name]()


def own_error(name, z):
    return OWN * (1 if name in ("sigmoid", "tanh") else np.abs(z))


def exact_and_error(model, X, hidden, output, task):
    """The network in double, and how far one evaluation in float32 may be from it."""
    constants = {t.name: numpy_helper.to_array(t).astype(np.float64)
                 for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    A, error = X.astype(np.float64), np.zeros(X.shape)
    if "preprocessing.shift" in constants:
        A = (A - constants["preprocessing.shift"]) * constants["preprocessing.scale"]
        error = gamma(2) * np.abs(A)
    layers = sum(name.endswith(".weight") for name in constants)
    for l in range(layers):
        W, b = np.abs(constants[f"layers.{l}.weight"]), constants[f"layers.{l}.bias"]
        name = output if l == layers - 1 else hidden
        magnitude = (np.abs(A) + error) @ W.T + np.abs(b)
        error = error @ W.T + gamma(W.shape[1] + 1) * magnitude
        z = A @ constants[f"layers.{l}.weight"].T + b
        A, error = activate(name, z), SLOPES[name] * error + own_error(name, z)
    if task == "binary":
        p = activate("sigmoid", A)
        return np.hstack([1 - p, p]), np.hstack([0.25 * error + OWN + U] * 2)
    if task == "classes":
        away = A - A.max(axis=1, keepdims=True)
        p = np.exp(away) / np.exp(away).sum(axis=1, keepdims=True)
        spread = np.expm1(2 * error.max(axis=1, keepdims=True))
        return p, p * (spread + gamma(A.shape[1] + 8) + 4 * U * np.abs(away)) + OWN * p + 2.0**-120
    scale, shift = constants["preprocessing.target_scale"], constants["preprocessing.target_shift"]
    A, error = A / scale, error / scale
    return A + shift, error + gamma(2) * (np.abs(A) + np.abs(shift))


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OnnxTest(Folder):
    def make_data(self, task):
        random = np.random.default_rng(7)
        X = (random.normal(size=(ROWS, INPUTS)) * [1, 10, 0.1, 3, 1, 100] + [0, 50, 3, -2, 1, 1000]).astype(np.float32)
        score = ((X - X.mean(axis=0)) / X.std(axis=0)) @ random.normal(size=INPUTS)
        if task == "regression":
            y = [f"{v:.6g}" for v in 40 * score + 300]
        else:
            names = ["no", "yes, \"indeed\""] if task == "binary" else ["low", "mïddle", "high"]
            y = [names[k] for k in np.digitize(score, np.quantile(score, np.linspace(0, 1, len(names) + 1)[1:-1]))]
        header = [f"column {j}" for j in range(INPUTS)]
        self.write_csv("data.csv", header + ["answer"], [[*map(repr, map(float, x)), t] for x, t in zip(X, y)])
        return X

    def train_and_export(self, *options):
        self.descent("train", "data.csv", "--target", "answer", "--hidden", "9,7", "--epochs", 3, "--quiet",
                     "--device", "cpu", "--out", "model.safetensors", *options)
        self.descent("export", "model.safetensors", "--out", "model.onnx")
        model = onnx.load(self.path("model.onnx"))
        onnx.checker.check_model(model, full_check=True)
        self.assertEqual(model.ir_version, 8)
        self.assertEqual(model.opset_import[0].version, 17)
        return model, session(self.path("model.onnx"))

    def compare(self, task, found, bound):
        """What ONNX Runtime found against what `descent predict` prints; returns the worst share of the bound."""
        header, rows = self.predictions("model.safetensors", "data.csv")
        if task == "regression":
            ours, theirs = np.array(rows, dtype=np.float64), found["prediction"]
        else:
            ours, theirs = np.array([row[1:] for row in rows], dtype=np.float64), found["probabilities"]
        self.assertEqual(theirs.dtype, np.float32)
        self.assertEqual(theirs.shape, ours.shape)
        share = np.abs(theirs - ours) / bound
        self.assertLessEqual(share.max(), 1, f"differs by {np.abs(theirs - ours).max()}")
        if task != "regression":
            ranked = np.sort(ours, axis=1)
            clear = ranked[:, -1] - ranked[:, -2] > 2 * bound.max(axis=1)
            labels = np.array([row[0] for row in rows])
            self.assertTrue(clear.any())
            self.assertEqual(list(found["label"][clear]), list(labels[clear]))
        return share.max()

    def test_every_activation_task_and_normalisation(self):
        worst = 0
        for task in TASKS:
            X = self.make_data(task)
            for activation in ACTIVATIONS:
                for normalize in NORMALIZES:
                    with self.subTest(task=task, activation=activation, normalize=normalize):
                        output = activation if task == "regression" else "identity"
                        more = ["--output-activation", output] if task == "regression" else []
                        model, run = self.train_and_export("--task", task, "--activation", activation,
                                                           "--normalize", normalize, *more)
                        names = [o.name for o in run.get_outputs()]
                        found = dict(zip(names, run.run(None, {"X": X})))
                        exact, error = exact_and_error(model, X, activation, output, task)
                        worst = max(worst, self.compare(task, found, 2 * error))
                        own = found.get("prediction", found.get("probabilities"))
                        self.assertLessEqual((np.abs(own - exact) / error).max(), 1)
                        for n in (1, 7):  # the batch is dynamic
                            part = run.run(None, {"X": X[:n]})
                            for name, value in zip(names, part):
                                self.assertEqual(len(value), n)
                                if name != "label":
                                    np.testing.assert_allclose(value, found[name][:n], rtol=0, atol=2 * error.max())
        print(f"largest difference: {worst:.2g} of its bound")

    def test_missing_cells_are_replaced_inside_the_graph(self):
        random = np.random.default_rng(6)
        X = self.make_data("binary")
        X[random.random(X.shape) < 0.1] = np.nan
        X[-1] = np.nan
        rows = [["" if math.isnan(v) else repr(float(v)) for v in x] + ["no" if i % 3 else "yes, \"indeed\""]
                for i, x in enumerate(X)]
        self.write_csv("data.csv", [f"column {j}" for j in range(INPUTS)] + ["answer"], rows)
        model, run = self.train_and_export("--activation", "silu")
        fill = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "preprocessing.fill")
        _, error = exact_and_error(model, np.where(np.isnan(X), fill, X), "silu", "identity", "binary")
        found = dict(zip(["label", "probabilities"], run.run(["label", "probabilities"], {"X": X})))
        self.compare("binary", found, 2 * error)

    def test_columns_of_categories_are_inputs_of_their_own(self):
        random = np.random.default_rng(5)
        ages, heights = random.integers(18, 90, ROWS), random.normal(170, 9, ROWS).astype(np.float32)
        colours, labels = random.choice(["red", "grün", "light, blue"], ROWS), random.choice(["S", "M", "L"], ROWS)
        answers = np.where((ages > 50) ^ (colours == "red"), "yes", "no")
        colours[::7], heights[::5] = "", np.nan  # missing
        rows = [[*row[:3], "" if math.isnan(row[3]) else row[3], row[4]]
                for row in zip(ages, colours, labels, map(float, heights), answers)]
        self.write_csv("data.csv", ["age", "colour", "label", "layers.0.z", "answer"], rows)
        model, run = self.train_and_export("--activation", "tanh")
        self.assertEqual([(i.name, i.type, i.shape) for i in run.get_inputs()],
                         [("age", "tensor(float)", ["N", 1]), ("colour", "tensor(string)", ["N", 1]),
                          ("label_", "tensor(string)", ["N", 1]), ("layers.0.z_", "tensor(float)", ["N", 1])])
        feed = {"age": ages.astype(np.float32), "colour": colours.astype(object), "label_": labels.astype(object),
                "layers.0.z_": heights}
        feed = {name: column.reshape(-1, 1) for name, column in feed.items()}
        X = np.hstack([feed["age"], *(feed["colour"] == c for c in sorted(set(colours) - {""}, key=str.encode)),
                       *(feed["label_"] == c for c in sorted(set(labels))), feed["layers.0.z_"]]).astype(np.float32)
        X[colours == "", 1:4] = np.nan
        fill = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "preprocessing.fill")
        self.assertEqual(sorted(fill[1:4]), [0, 0, 1])  # the most frequent category
        X = np.where(np.isnan(X), fill, X)
        _, error = exact_and_error(model, X, "tanh", "identity", "binary")
        found = dict(zip(["label", "probabilities"], run.run(["label", "probabilities"], feed)))
        self.compare("binary", found, 2 * error)

        # A category that the model has not seen is none of them.
        feed["colour"][:] = "pink"
        X[:, 1:4] = 0
        exact, error = exact_and_error(model, X, "tanh", "identity", "binary")
        probabilities = run.run(["probabilities"], feed)[0]
        self.assertLessEqual((np.abs(probabilities - exact) / error).max(), 1)

    def test_names_and_meaning_travel_in_the_metadata(self):
        self.make_data("classes")
        model, run = self.train_and_export()
        meta = {p.key: p.value for p in model.metadata_props}
        self.assertEqual(meta["task"], "classes")
        self.assertEqual(meta["class_names"], '["high","low","mïddle"]')
        self.assertEqual(meta["target_names"], '["answer"]')
        self.assertIn('"column 5"', meta["columns"])
        self.assertEqual([(o.name, o.type) for o in run.get_outputs()],
                         [("label", "tensor(string)"), ("probabilities", "tensor(float)")])


if __name__ == "__main__":
    main()
