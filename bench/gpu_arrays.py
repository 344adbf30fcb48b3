#!/usr/bin/env python3
"""gpu_arrays.py LIBDESCENT: trains and predicts on tensors of PyTorch, or arrays of CuPy, in a GPU's memory, on a
stream of theirs, and on the same numbers in the host's memory, and compares the bits.

Prints "passed", "FAILED: ..." or, without PyTorch and CuPy that can use a GPU, "NOT RUN: ..."; the exit code is 1 after
a failure. The library finds its CUDA backend beside it, or in DESCENT_BACKEND_PATH.
"""
import array
import ctypes
import sys

F32, F16, I64 = 0, 2, 6  # the order of DESCENT_DTYPE_MAP
HOST, CUDA = 0, 1
ROWS, INPUTS, CLASSES, STEPS = 512, 20, 4, 20


class Array(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("dtype", ctypes.c_int), ("place", ctypes.c_int),
                ("ordinal", ctypes.c_int32), ("rows", ctypes.c_int64), ("columns", ctypes.c_int64),
                ("row_stride", ctypes.c_int64), ("column_stride", ctypes.c_int64)]


class NetworkOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("inputs", ctypes.c_int64), ("layers", ctypes.c_int32),
                ("loss", ctypes.c_int), ("widths", ctypes.POINTER(ctypes.c_int64)), ("activations", ctypes.c_void_p)]


def array_of(data, dtype, place, shape, strides=(0, 0)):
    return Array(ctypes.sizeof(Array), data, dtype, place, 0, *shape, *strides)


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        self.c.descent_last_error.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        if getattr(self.c, "descent_" + name)(*arguments):
            raise RuntimeError(f"{name}: {self.c.descent_last_error().decode()}")

    def made(self, name, *arguments):
        """The object that a function creates."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle


def learn(library, device, X, y, outputs):
    """Steps on X and y, then the predictions of all rows into `outputs`."""
    options, widths = NetworkOptions(), (ctypes.c_int64 * 2)(64, CLASSES)
    library.c.descent_network_options_init(ctypes.byref(options), ctypes.c_size_t(ctypes.sizeof(options)))
    options.inputs, options.layers, options.loss, options.widths = INPUTS, 2, 1, widths
    train = (ctypes.c_uint64 * 256)()
    library.c.descent_train_options_init(train, ctypes.c_size_t(1024))
    network = library.made("network_create", ctypes.byref(options))
    library.call("network_initialise", network, 0, ctypes.c_uint64(1))
    trainer = library.made("trainer_create", network, device, train, ctypes.c_int64(ROWS))
    for _ in range(STEPS):
        library.call("trainer_step_arrays", trainer, ctypes.byref(X), ctypes.byref(y), None, None)
    library.call("trainer_sync", trainer)
    predictor = library.made("predictor_create", network, device, ctypes.c_int64(ROWS))
    library.call("predictor_run_arrays", predictor, ctypes.byref(X), ctypes.byref(outputs))
    library.c.descent_predictor_free(predictor)
    library.c.descent_trainer_free(trainer)
    library.c.descent_network_free(network)


def rows():
    """Float16 numbers as their bits and values, and classes: a fixed sequence."""
    state, values = 1, []
    for _ in range(ROWS * INPUTS):
        state = (1103515245 * state + 12345) % 2**31
        values.append((state >> 16) % 256 / 64 - 2)  # exact in float16
    return values, [int(sum(values[r * INPUTS:r * INPUTS + 3]) * 8) % CLASSES for r in range(ROWS)]


def on_host(library, device, values, classes):
    X, y = array.array("f", values), array.array("q", classes)
    outputs = array.array("f", bytes(4 * ROWS * CLASSES))
    learn(library, device, array_of(X.buffer_info()[0], F32, HOST, (ROWS, INPUTS)),
          array_of(y.buffer_info()[0], I64, HOST, (ROWS, 1)),
          array_of(outputs.buffer_info()[0], F32, HOST, (ROWS, CLASSES)))
    return list(outputs)


def with_torch(library, device, values, classes, transposed):
    import torch
    if not torch.cuda.is_available():
        raise ImportError("PyTorch finds no GPU")
    stream = torch.cuda.Stream()
    library.call("device_set_stream", device, ctypes.c_void_p(stream.cuda_stream))
    with torch.cuda.stream(stream):
        X = torch.tensor(values, dtype=torch.float16 if transposed else torch.float32).pin_memory()
        X = X.to("cuda", non_blocking=True).reshape(ROWS, INPUTS)
        X = X.t().contiguous().t() if transposed else X
        y = torch.tensor(classes, dtype=torch.int64, device="cuda")
        outputs = torch.zeros(ROWS, CLASSES, device="cuda")
        learn(library, device, array_of(X.data_ptr(), F16 if transposed else F32, CUDA, X.shape, X.stride()),
              array_of(y.data_ptr(), I64, CUDA, (ROWS, 1)), array_of(outputs.data_ptr(), F32, CUDA, outputs.shape))
        return outputs.cpu().flatten().tolist()


def with_cupy(library, device, values, classes, transposed):
    import cupy
    stream = cupy.cuda.Stream(non_blocking=True)
    library.call("device_set_stream", device, ctypes.c_void_p(stream.ptr))
    with stream:
        X = cupy.array(values, dtype="float16" if transposed else "float32").reshape(ROWS, INPUTS)
        X = cupy.asfortranarray(X) if transposed else X
        y, outputs = cupy.array(classes, dtype="int64"), cupy.zeros((ROWS, CLASSES), dtype="float32")
        learn(library, device, array_of(X.data.ptr, F16 if transposed else F32, CUDA, X.shape,
                                        [stride // X.itemsize for stride in X.strides]),
              array_of(y.data.ptr, I64, CUDA, (ROWS, 1)), array_of(outputs.data.ptr, F32, CUDA, outputs.shape))
        return outputs.get().flatten().tolist()


def main(path):
    library, (values, classes), ran, missing = Library(path), rows(), 0, []
    device = library.made("device_open", b"cuda", 0)
    expected = on_host(library, device, values, classes)
    for provider in (with_torch, with_cupy):
        for transposed in (False, True):
            try:
                found = provider(library, device, values, classes, transposed)
            except ImportError as why:
                missing.append(str(why))
                continue
            ran += 1
            if found != expected:
                return f"FAILED: {provider.__name__}, transposed {transposed}: other bits than from the host"
    library.c.descent_device_close(device)
    return "passed" if ran else f"NOT RUN: {'; '.join(sorted(set(missing)))}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    result = main(sys.argv[1])
    print(result)
    sys.exit(result.startswith("FAILED"))
