"""Shared by the tests in Python: the command under test, run in a temporary folder."""

import csv
import os
import subprocess
import sys
import tempfile
import unittest

COMMAND = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "descent"


def main():
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)


class Folder(unittest.TestCase):
    """Each test gets an empty folder; names of files are relative to it."""

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="descent_python_")
        self.addCleanup(self._folder.cleanup)

    def path(self, name):
        return os.path.join(self._folder.name, name)

    def descent(self, *arguments):
        """Runs the command, which must succeed, and returns its output."""
        done = subprocess.run([COMMAND, *map(str, arguments)], cwd=self._folder.name, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, f"descent {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def predictions(self, model, data, *options):
        """The output of `descent predict`: the header and the rows, as texts."""
        rows = list(csv.reader(self.descent("predict", model, data, "--device", "cpu", *options).splitlines()))
        return rows[0], rows[1:]

    def write_csv(self, name, header, rows):
        with open(self.path(name), "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
