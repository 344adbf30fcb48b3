"""numpy.load reads from the output of `descent export --format npz` what the model file holds."""

import json
import zipfile

import numpy as np
from safetensors.numpy import load_file

from command import Folder, main


class NpzTest(Folder):
    def test_numpy_reads_every_array_of_the_model_by_its_name(self):
        random = np.random.default_rng(3)
        X = random.normal(size=(60, 4)) * 5 + 2
        self.write_csv("data.csv", ["a", "b", "c", "d", "y"], [[*row, sum(row) * 3] for row in X.tolist()])
        self.descent("train", "data.csv", "--target", "y", "--hidden", "6,3", "--epochs", 2, "--quiet",
                     "--out", "model.safetensors")
        self.descent("export", "model.safetensors", "--out", "model.npz")
        arrays, tensors = np.load(self.path("model.npz")), load_file(self.path("model.safetensors"))
        self.assertEqual(set(arrays.files), set(tensors) | {"metadata"})
        self.assertIn("preprocessing.target_scale", arrays.files)
        for name, tensor in tensors.items():
            self.assertEqual(arrays[name].dtype, np.float32)
            self.assertEqual(arrays[name].shape, tensor.shape)
            self.assertEqual(arrays[name].tobytes(), tensor.tobytes())
        metadata = json.loads(arrays["metadata"].item())
        self.assertEqual(metadata["columns"], ["a", "b", "c", "d"])
        self.assertEqual([layer["width"] for layer in metadata["layers"]], [6, 3, 1])

        with zipfile.ZipFile(self.path("model.npz")) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual({entry.compress_type for entry in archive.infolist()}, {zipfile.ZIP_STORED})
        self.descent("export", "model.safetensors", "--out", "again.npz")
        with open(self.path("model.npz"), "rb") as one, open(self.path("again.npz"), "rb") as other:
            self.assertEqual(one.read(), other.read())


if __name__ == "__main__":
    main()
