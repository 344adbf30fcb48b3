#!/usr/bin/env python3
"""Records training trajectories and learning rates of PyTorch for tests/pytorch_test.cpp.

    python3 tests/record_pytorch.py > tests/fixtures/pytorch.json      (needs torch and numpy)

Everything is computed in float64; initial weights, data and weights of examples are float32 numbers, so that a float32
engine can start from exactly the same point. JSON, one case per line; numbers have as many digits as they need to read
back to the same bits.
"""

import json
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

ROWS, INPUTS, EPOCHS, BATCH = 50, 5, 10, 16
KINK = 1e-4  # a relu unit closer to 0 than this could fall on either side of it in float32

ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
}
BINARY, CLASSES, SQUARED = "binary_cross_entropy", "softmax_cross_entropy", "mean_squared_error"


def float32(values):
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def make_data():
    random = np.random.default_rng(20)
    X = float32(random.normal(size=(ROWS, INPUTS)))
    score = X @ random.normal(size=(INPUTS, 3)) + 0.3 * random.normal(size=(ROWS, 3))
    weights = random.uniform(0.25, 3, size=ROWS)
    weights[7] = 0  # a row that does not count
    return {
        "X": X,
        "weights": float32(weights),
        BINARY: float32(score[:, :1] > 0),
        CLASSES: float32(score.argmax(axis=1)[:, None]),
        SQUARED: float32(np.tanh(score[:, :2])),
    }


DATA = make_data()


def outputs(loss):
    return {BINARY: 1, CLASSES: 3, SQUARED: 2}[loss]


def example_losses(loss, a, y, smoothing):
    """L of each row, through PyTorch's own losses."""
    if loss == BINARY:
        target = y * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(a, target, reduction="none")[:, 0]
    if loss == CLASSES:
        return F.cross_entropy(a, y[:, 0].long(), label_smoothing=smoothing, reduction="none")
    return F.mse_loss(a, y, reduction="none").mean(dim=1)


def total_loss(case, a, y, w):
    """J: PyTorch's reduction="mean" where it has the weights, otherwise the weighted mean of the rows' losses."""
    smoothing, classes = case["options"].get("label_smoothing", 0), case.get("class_weights")
    if w is None and classes is not None and case["loss"] == CLASSES:
        return F.cross_entropy(a, y[:, 0].long(), weight=torch.tensor(classes))
    if w is None and classes is None and case["loss"] == CLASSES:
        return F.cross_entropy(a, y[:, 0].long(), label_smoothing=smoothing)
    if w is None and classes is None and case["loss"] == SQUARED:
        return F.mse_loss(a, y)
    if w is None and classes is None and smoothing == 0:
        return F.binary_cross_entropy_with_logits(a, y)
    if w is None:
        w = torch.ones(len(y))
    if classes is not None:
        w = w * torch.tensor(classes)[y[:, 0].long()]
    return (w * example_losses(case["loss"], a, y, smoothing)).sum() / w.sum()


def make_optimizer(parameters, options):
    kind, lr = options["optimizer"], options["learning_rate"]
    l2, betas, eps = options.get("l2", 0), (options.get("beta1", 0.9), options.get("beta2", 0.999)), 1e-8
    momentum = options.get("momentum", 0)
    if kind in ("gd", "sgd"):
        nesterov = options.get("nesterov", False)
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=l2)
    if kind == "rmsprop":
        rho = options.get("rho", 0.99)
        return torch.optim.RMSprop(parameters, lr=lr, alpha=rho, eps=eps, momentum=momentum, weight_decay=l2)
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=l2)
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=options["weight_decay"])


def make_scheduler(optimizer, options, total_steps):
    """The scheduler and whether it advances by step ("step"), by epoch or by the epoch's loss ("loss")."""
    kind, gamma = options.get("schedule", "constant"), options.get("schedule_gamma", 0.1)
    every, least, warmup = options.get("schedule_every", 10), options.get("schedule_minimum", 0.0), options.get("warmup_steps", 0)
    if kind == "step":
        return lr_scheduler.StepLR(optimizer, every, gamma), "epoch"
    if kind == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, gamma), "epoch"
    if kind == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=gamma, patience=every, threshold=options["min_delta"],
                                              threshold_mode="abs", min_lr=least), "loss"
    ramp = lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1) if warmup else None
    if kind == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimizer, total_steps - warmup, eta_min=least)
        if ramp is None:
            return main, "step"
        ramp = lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        return lr_scheduler.SequentialLR(optimizer, [ramp, main], milestones=[warmup]), "step"
    return (ramp, "step") if ramp else (None, "never")


class Network(nn.Module):
    def __init__(self, case, random):
        super().__init__()
        widths = [INPUTS] + case["widths"]
        self.activations = [ACTIVATIONS[name] for name in case["activations"]]
        self.kinked = [name in ("relu", "leaky_relu") for name in case["activations"]]
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in zip(widths, widths[1:]))
        self.nearest_kink = np.inf
        for layer in self.layers:
            scale = 1 / np.sqrt(layer.in_features)
            layer.weight.data = torch.tensor(float32(random.normal(0, scale, tuple(layer.weight.shape))))
            layer.bias.data = torch.tensor(float32(random.normal(0, 0.3, tuple(layer.bias.shape))))

    def forward(self, a):
        for layer, activation, kinked in zip(self.layers, self.activations, self.kinked):
            z = layer(a)
            if kinked:
                self.nearest_kink = min(self.nearest_kink, z.abs().min().item())
            a = activation(z)
        return a

    def flat(self):
        return torch.cat([p.detach().flatten() for p in self.parameters()]).tolist()


def make_order(random, full_batch):
    """Row numbers of all epochs, and each step's number of rows: the last batch of an epoch is short."""
    if full_batch:
        return list(range(ROWS)) * (4 * EPOCHS), [ROWS] * (4 * EPOCHS)
    order = np.concatenate([random.permutation(ROWS) for _ in range(EPOCHS)]).tolist()
    return order, ([BATCH] * (ROWS // BATCH) + [ROWS % BATCH]) * EPOCHS


def run(case, seed):
    random = np.random.default_rng(seed)
    network = Network(case, random)
    options = case["options"]
    optimizer = make_optimizer(network.parameters(), options)
    order, batches = make_order(random, options["optimizer"] == "gd")
    scheduler, advance = make_scheduler(optimizer, options, len(batches))
    X, y = torch.tensor(DATA["X"]), torch.tensor(DATA[case["loss"]])
    w = torch.tensor(DATA["weights"]) if case["weighted"] else None
    result = {"order": order, "batches": batches, "initial": network.flat()}
    losses, norms, rates, epoch_loss, first = [], [], [], 0.0, 0
    for rows in batches:
        batch = order[first:first + rows]
        first += rows
        optimizer.zero_grad()
        loss = total_loss(case, network(X[batch]), y[batch], None if w is None else w[batch])
        loss.backward()
        gradients = [p.grad for p in network.parameters()]
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        if options.get("clip_norm", 0):
            nn.utils.clip_grad_norm_(network.parameters(), options["clip_norm"])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        losses.append(loss.item())
        epoch_loss += loss.item() * rows / ROWS
        if advance == "step":
            scheduler.step()
        if first % ROWS == 0:
            if advance == "epoch":
                scheduler.step()
            elif advance == "loss":
                scheduler.step(epoch_loss)
            epoch_loss = 0.0
    result |= {"losses": losses, "norms": norms, "learning_rates": rates, "final": network.flat()}
    return result, network.nearest_kink


def record(case):
    """Draws starting points until no unit comes close to a kink."""
    for seed in range(1000):
        result, nearest_kink = run(case, seed)
        if nearest_kink > KINK:
            return case | result
    sys.exit(f"{case['name']}: every seed passes a kink")


def case(name, loss, options, activations=("tanh", "tanh", "identity"), weighted=False, class_weights=None):
    made = {"name": name, "widths": [7, 6, outputs(loss)], "activations": list(activations), "loss": loss,
            "weighted": weighted, "options": options}
    return made | ({"class_weights": class_weights} if class_weights else {})


def cases():
    def optimizer(kind, rate, **others):
        return {"optimizer": kind, "learning_rate": rate, **others}

    sgd, adam = optimizer("sgd", 0.1, momentum=0.9), optimizer("adam", 0.02)
    yield case("gd", BINARY, optimizer("gd", 0.5), ("sigmoid", "sigmoid", "identity"))
    yield case("sgd", CLASSES, optimizer("sgd", 0.2))
    yield case("sgd_momentum", CLASSES, sgd)
    yield case("sgd_nesterov", CLASSES, sgd | {"nesterov": True})
    yield case("rmsprop", CLASSES, optimizer("rmsprop", 0.01))
    yield case("rmsprop_rho", CLASSES, optimizer("rmsprop", 0.01, rho=0.9))
    yield case("rmsprop_momentum", CLASSES, optimizer("rmsprop", 0.003, momentum=0.8))
    yield case("adam", CLASSES, adam)
    yield case("adam_betas", CLASSES, adam | {"beta1": 0.8, "beta2": 0.95})
    yield case("adamw", CLASSES, optimizer("adamw", 0.02, weight_decay=0.1))
    yield case("sgd_l2", CLASSES, sgd | {"l2": 0.01})
    yield case("sgd_nesterov_l2", CLASSES, sgd | {"nesterov": True, "l2": 0.01})
    yield case("rmsprop_l2", CLASSES, optimizer("rmsprop", 0.01, momentum=0.5, l2=0.01))
    yield case("adam_l2", CLASSES, adam | {"l2": 0.01})
    yield case("sgd_clip", CLASSES, sgd | {"clip_norm": 0.3})
    yield case("adam_l2_clip", CLASSES, adam | {"l2": 0.01, "clip_norm": 0.3})
    yield case("adamw_clip", CLASSES, optimizer("adamw", 0.02, weight_decay=0.1, clip_norm=0.3))
    for loss in (BINARY, CLASSES, SQUARED):
        yield case(f"{loss}", loss, adam)
        yield case(f"{loss}_weighted", loss, sgd, weighted=True)
    for loss, weights in ((BINARY, [0.75, 2.5]), (CLASSES, [0.5, 1.25, 3.0])):
        yield case(f"{loss}_smoothed", loss, sgd | {"label_smoothing": 0.1})
        yield case(f"{loss}_smoothed_weighted", loss, adam | {"label_smoothing": 0.2}, weighted=True)
        yield case(f"{loss}_class_weights", loss, sgd, class_weights=weights)
        yield case(f"{loss}_class_weights_weighted", loss, sgd, weighted=True, class_weights=weights)
    for name in ACTIVATIONS:
        yield case(f"{name}_hidden", CLASSES, sgd, (name, name, "identity"))
        yield case(f"{name}_everywhere", SQUARED, adam, (name, name, name))
    yield case("schedule_step", CLASSES, sgd | {"schedule": "step", "schedule_every": 3, "schedule_gamma": 0.5})
    yield case("schedule_exponential", CLASSES, adam | {"schedule": "exponential", "schedule_gamma": 0.8})
    yield case("schedule_cosine", CLASSES, adam | {"schedule": "cosine", "schedule_minimum": 0.001})
    yield case("schedule_warmup", CLASSES, adam | {"schedule": "constant", "warmup_steps": 12})
    yield case("schedule_cosine_warmup", CLASSES, adam | {"schedule": "cosine", "schedule_minimum": 0.001, "warmup_steps": 7})
    yield case("schedule_plateau", CLASSES, sgd | {"schedule": "plateau", "schedule_gamma": 0.3, "schedule_every": 1,
                                                   "schedule_minimum": 0.01, "min_delta": 0.4})


def main():
    lists = {name: values.flatten().tolist() for name, values in DATA.items()}
    print(f'{{"torch": "{torch.__version__}", "rows": {ROWS}, "inputs": {INPUTS},')
    print(f'"data": {json.dumps(lists, separators=(",", ":"))},')
    print('"cases": [')
    print(",\n".join(json.dumps(record(c), separators=(",", ":")) for c in cases()))
    print("]}")


if __name__ == "__main__":
    main()
