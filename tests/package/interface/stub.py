"""stub.py COMPILER INCLUDE: writes, from the public header in INCLUDE, the source of a library that has each of its
functions and does nothing. Compiled, it is what a program of that header was linked with; its debug information is the
interface."""
import re
import subprocess
import sys

compiler, include = sys.argv[1:]
text = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input="#include <descent/descent.h>\n",
                      text=True, stdout=subprocess.PIPE, check=True).stdout
text = re.sub(r"static inline [^{]*\{[^}]*\}", "", " ".join(text.split()))
# abidiff does not see members of structs without a name change places.
text = re.sub(r"(?<!typedef )struct \{([^{}]*)\} (\w+);", r"struct group_\2 {\1} \2;", text)
functions = re.findall(r"[;}] *((?:const )?\w+ [*]?descent_[a-z0-9_]+\((?:[^();{}]|\([^()]*\))*\)) *(?=;)", text)
names = set(re.findall(r"\b(descent_[a-z0-9_]+)\(", re.sub(r"typedef \w+ \w+\(", "", text)))
known = {re.search(r"(descent_[a-z0-9_]+)\(", function).group(1) for function in functions}
if names != known:
    sys.exit(f"not recognised: {names ^ known}")
print(text.replace("; ", ";\n"))
print("\n".join(f"{function} {{ __builtin_trap(); }}" for function in functions))
