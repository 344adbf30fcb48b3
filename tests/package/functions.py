"""functions.py SOURCE: the list of functions in docs/c-api.md is that of the header.

The terms' functions come from one macro and are listed by their pattern.
"""
import pathlib
import re
import sys

SOURCE = pathlib.Path(sys.argv[1])
declared = set(re.findall(r"DESCENT_API [^;(]*?(descent_\w+)\(", (SOURCE / "include/descent/descent.h").read_text()))
listed = set()
for row in (SOURCE / "docs/c-api.md").read_text().split("## All functions")[1].splitlines():
    if row.startswith("| option structs") or row.startswith("| terms"):
        continue
    noun = ""
    for name in re.findall(r"`(\w+)`", row.partition(" | ")[2]):
        noun = name if name.startswith("descent_") else noun
        listed.add(name if name == noun else "_".join(noun.split("_")[:2]) + name)
for name in sorted(declared ^ listed):
    print(f"{name}: " + ("not listed in docs/c-api.md" if name in declared else "not in the header"))
sys.exit(declared != listed or not declared)
