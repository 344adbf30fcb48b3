"""The first program in Python, by ctypes alone. LD_LIBRARY_PATH must name the folder of libdescent.so unless it is
installed where the loader looks.

usage: first.py DATA.csv TARGET MODEL.safetensors"""
import ctypes
import sys
from ctypes import (POINTER, byref, c_bool, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64,
                    c_void_p)

library = ctypes.CDLL("libdescent.so.0.2")  # the name says which interface this script was written for


class DatasetOptions(ctypes.Structure):
    """The first members are enough: `size` tells the library that the script knows no more."""
    _fields_ = [("size", c_size_t), ("format", c_char_p), ("target", c_char_p)]


class NetworkOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("inputs", c_int64), ("layers", c_int32), ("loss", c_int),
                ("widths", POINTER(c_int64)), ("activations", POINTER(c_int))]


class Error(Exception):
    pass


def check(status, _function, _arguments):
    if status != 0:
        raise Error(library.descent_last_error().decode())


def declare(name, *arguments, result=c_int):
    """A function of the library; one that returns a status raises Error instead."""
    function = getattr(library, "descent_" + name)
    function.argtypes, function.restype = arguments, result
    if result is c_int:
        function.errcheck = check
    return function


handle, text = c_void_p, c_char_p
declare("last_error", result=text)
device_open = declare("device_open", text, c_int, POINTER(handle))
device_close = declare("device_close", handle, result=None)
dataset_options_init = declare("dataset_options_init", POINTER(DatasetOptions), c_size_t, result=None)
dataset_read = declare("dataset_read", text, POINTER(DatasetOptions), POINTER(handle))
dataset_split = declare("dataset_split", handle, c_double, c_uint64, POINTER(handle), POINTER(handle))
dataset_free = declare("dataset_free", handle, result=None)
dataset_rows = declare("dataset_rows", handle, result=c_int64)
dataset_inputs = declare("dataset_inputs", handle, result=c_int64)
dataset_classes = declare("dataset_classes", handle, result=c_int64)
dataset_target = declare("dataset_target", handle, c_int64, POINTER(c_float))
network_options_init = declare("network_options_init", POINTER(NetworkOptions), c_size_t, result=None)
network_create = declare("network_create", POINTER(NetworkOptions), POINTER(handle))
network_initialise = declare("network_initialise", handle, c_int, c_uint64)
network_fit_preprocessing = declare("network_fit_preprocessing", handle, handle, c_int, c_int, c_bool)
network_save = declare("network_save", handle, text)
network_free = declare("network_free", handle, result=None)
loss_parse = declare("loss_parse", text, POINTER(c_int))
normalize_parse = declare("normalize_parse", text, POINTER(c_int))
train_options_init = declare("train_options_init", c_void_p, c_size_t, result=None)
train_options_set = declare("train_options_set", c_void_p, text, text)
fit = declare("fit", handle, handle, handle, handle, c_void_p, c_void_p)
predict = declare("predict", handle, handle, handle, POINTER(c_float))


def term(parse, name):
    value = c_int()
    parse(name.encode(), byref(value))
    return value.value


def read(path, target):
    options, data = DatasetOptions(), handle()
    dataset_options_init(byref(options), ctypes.sizeof(options))
    options.target = target.encode()
    dataset_read(path.encode(), byref(options), byref(data))
    return data


def create(inputs, classes):
    outputs = 1 if classes == 2 else classes
    widths = (c_int64 * 3)(16, 8, outputs)
    options, network = NetworkOptions(), handle()
    network_options_init(byref(options), ctypes.sizeof(options))
    options.inputs, options.layers, options.widths = inputs, 3, widths
    options.loss = term(loss_parse, "binary_cross_entropy" if outputs == 1 else "softmax_cross_entropy")
    network_create(byref(options), byref(network))
    network_initialise(network, 0, 1)
    return network, outputs


def train_options(**values):
    """The struct as bytes, more than it has: its members are set by name, so its layout does not matter here."""
    options = ctypes.create_string_buffer(1024)
    options.texts = [str(value).encode() for value in values.values()]  # borrowed by the options, as paths are
    train_options_init(options, len(options))
    for name, text in zip(values, options.texts):
        train_options_set(options, name.encode(), text)
    return options


def accuracy(network, device, data, outputs):
    rows = dataset_rows(data)
    values, y, right = (c_float * (rows * outputs))(), c_float(), 0
    predict(network, device, data, values)
    for row in range(rows):
        dataset_target(data, row, byref(y))
        scores = values[row * outputs:(row + 1) * outputs]
        predicted = int(scores[0] >= 0.5) if outputs == 1 else scores.index(max(scores))
        right += predicted == int(y.value)
    return right / rows


def main(path, target, model):
    device, training, validation = handle(), handle(), handle()
    device_open(b"auto", 0, byref(device))
    data = read(path, target)
    dataset_split(data, 0.25, 1, byref(training), byref(validation))
    network, outputs = create(dataset_inputs(data), dataset_classes(data))
    network_fit_preprocessing(network, training, term(normalize_parse, "standard"), 0, False)
    options = train_options(epochs=50, optimizer="adamw", learning_rate=0.002, weight_decay="1e-4")
    fit(network, device, training, validation, options, None)
    network_save(network, model.encode())
    print(f"accuracy {accuracy(network, device, validation, outputs):.4f} on {dataset_rows(validation)} held-out rows; "
          f"saved {model}")
    network_free(network)
    for dataset in (validation, training, data):
        dataset_free(dataset)
    device_close(device)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except Error as error:
        sys.exit(f"first.py: {error}")
