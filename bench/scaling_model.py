"""A model of data-parallel training: nothing here is measured. A step of R ranks takes

    t(B / R) + 2 phases, each (R - 1) messages of n / R floats: latency (R - 1) + bytes / bandwidth

since the ordered sum sends each rank its slice of everyone's gradient, and then every finished slice to everyone. The
step does not overlap with it; `overlapped` is what it could gain at most if it did. Figures of a GPU's step are the predictions of bench/results/README.md; those of links are
what their vendors state, and halves of it where the host's memory is in the way."""

from gpu_workloads import WORKLOADS

GPUS_OF_A_NODE = 8
# Bytes per second in one direction. NVLink, PCIe 5.0 x16 and the InfiniBand adapter of each GPU: system description
# H200-SXM-141GBx8 of MLPerf Inference 4.1 (18 links of 4th generation, 900 GB/s both ways together; 400 Gb/s).
NVLINK, NETWORK, PCIE = 450e9, 50e9, 55e9
HOST_MEMORY = 300e9  # assumed, of a node: half of two sockets' 8 channels of DDR5-4800, 2 x 307 GB/s
HOST_ADDS = 10e9     # assumed: the gradient's bytes that one core of a rank reads and adds per second
LATENCY = 5e-6       # assumed, of a message, between GPUs and between hosts alike
MEMORY = 4.4e12      # of an H200, between the 4.0 and 4.8 TB/s of the predictions
LAUNCH = 3e-6        # of a kernel in a graph: mnist's 9 kernels are predicted to take 28 us

# Seconds of a step by bench/results/README.md, "Counted and predicted", the middle of each range, and its kernels. A
# micro-batch may be a fused step or a fused chain, never a whole step in one cluster. tf32 and fp32 have no prediction
# there: the products' arithmetic at 395 and 60 TFLOP/s, and their aimed share of 0.9.
PREDICTED = {
    "4096x5": (11.25e-3, 18), "1024x5": (3.2e-3, 18), "higgs": (0.4e-3, 10), "256x5": (0.3e-3, 9),
    "64x5": (0.475e-3, 5), "mnist": (33e-6, 9), "4096x5-tf32": (21.7e-3, 18), "4096x5-fp32": (143e-3, 18),
}
UPDATE_BYTES = 30  # of a parameter: Adam's reads and writes of W, m, v, their gradient, and the copy in bf16


def layers(name):
    """(n_in, n_out) of each."""
    inputs, hidden, outputs = WORKLOADS[name][:3]
    widths = [inputs, *hidden, outputs]
    return list(zip(widths, widths[1:]))


def parameters(name):
    return sum((n_in + 1) * n_out for n_in, n_out in layers(name))


def batch_of(name):
    return WORKLOADS[name][4]


def products_seconds(name, rows):
    """The part of a step of one GPU that is in proportion to its rows. Few rows leave parts of a GPU idle, so that this
    is too optimistic for them."""
    seconds, _ = PREDICTED[name]
    return (seconds - fixed_seconds(name)) * rows / batch_of(name)


def fixed_seconds(name):
    """Launches and update, whatever the rows are."""
    seconds, kernels = PREDICTED[name]
    return min(seconds, kernels * LAUNCH + parameters(name) * UPDATE_BYTES / MEMORY)


def step_seconds(name, rows):
    return fixed_seconds(name) + products_seconds(name, rows)


def sum_seconds(n, ranks, latency, bandwidth):
    """The ordered sum of n floats over ranks whose links are alike."""
    return 2 * (ranks - 1) * (latency + 4 * n / ranks / bandwidth)


def shares(n, ranks):
    """Bytes that a rank sends in a phase: to ranks of its node, and of others."""
    near = min(ranks, GPUS_OF_A_NODE) - 1
    return 4 * n * near / ranks, 4 * n * (ranks - 1 - near) / ranks


def sum_between_gpus(n, ranks):
    """By NCCL, over NVLink and InfiniBand at once. The kernel that adds is left out: it reads n floats from memory."""
    near, far = shares(n, ranks)
    return 2 * ((ranks - 1) * LATENCY + max(near / NVLINK, far / NETWORK))


def sum_through_hosts(n, ranks):
    """Without NCCL: to the host's memory and back, the exchange there, and a sum by one core."""
    if ranks == 1:
        return 0.0
    near, far = shares(n, ranks)
    through_memory = 2 * min(ranks, GPUS_OF_A_NODE) * (near + far)  # read and written, by every rank of the node
    phase = (ranks - 1) * LATENCY + max(through_memory / HOST_MEMORY, far / NETWORK)
    return 2 * 4 * n / PCIE + 2 * phase + 4 * n / HOST_ADDS


PATHS = {"through the hosts' memory": sum_through_hosts, "between GPUs": sum_between_gpus}


def weak(name, ranks, path):
    """Rows per second beside `ranks` times those of one GPU, each with the whole batch of the workload."""
    step = step_seconds(name, batch_of(name))
    return step / (step + path(parameters(name), ranks))


def strong(name, ranks, path):
    """Steps per second beside those of one GPU, the same batch divided among all."""
    one = step_seconds(name, batch_of(name))
    return one / (step_seconds(name, batch_of(name) / ranks) + path(parameters(name), ranks))


def half(name, path, is_weak, most=1024):
    """The smallest power of two of ranks at which the sum takes more than half of the step; None up to `most`."""
    ranks = 2
    while ranks <= most:
        step = step_seconds(name, batch_of(name) / (1 if is_weak else ranks))
        if path(parameters(name), ranks) > step:
            return ranks
        ranks *= 2
    return None


def overlapped(name, rows, ranks, path):
    """Speed-up of a step of `rows` rows a rank, at most, if the gradient of each layer were sent as soon as it is there,
    while the layers below are computed: the exchange takes no time from the computation, and pieces cost no more than the
    whole. The products of a layer have equal times (its forward, dW and dX, which layer 1 lacks), in proportion to their
    arithmetic."""
    work = [n_in * n_out for n_in, n_out in layers(name)]
    of_work = products_seconds(name, rows) / (3 * sum(work) - work[0])
    exchange = path(parameters(name), ranks)
    computed = sent = 0.0  # seconds after the loss
    for l, (n_in, n_out) in reversed(list(enumerate(layers(name)))):
        computed += of_work * work[l]  # dW
        sent = max(sent, computed) + exchange * (n_in + 1) * n_out / parameters(name)
        if l > 0:
            computed += of_work * work[l]  # dX
    whole = step_seconds(name, rows) + exchange
    return whole / (whole - (computed + exchange - sent))
