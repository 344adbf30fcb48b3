"""bench/predict.py measures what it says: every way of predicting gives the same values, which it checks itself."""

import json
import os
import subprocess
import sys

from command import COMMAND, Folder, main

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
LIBRARY = os.path.join(os.path.dirname(COMMAND), "..", "lib", "libdescent.so")


class PredictTest(Folder):
    def test_times_every_peer_at_every_number_of_rows(self):
        out = self.path("out.json")
        done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "predict.py"), "--library", LIBRARY, "--threads",
                               "1", "--workloads", "notes", "--rounds", "1", "--seconds", "0.01", "--json", out],
                              text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out, encoding="utf-8") as file:
            rows = json.load(file)["rows"]
        self.assertEqual([row["rows"] for row in rows], [1, 64, "1..64", 1024, 16384])
        for row in rows:
            for peer in ("predictor", "predict", "onnxruntime"):
                self.assertGreater(row["p50_us"][peer], 0)
                self.assertLessEqual(row["p50_us"][peer], row["p99_us"][peer])


if __name__ == "__main__":
    main()
