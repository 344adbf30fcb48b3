"""vocabulary.py SOURCE: the plan and the three backends call a quantity by its name in ARCHITECTURE.md's glossary.

A name in the glossary's column "not" must not be an identifier there; structs that carry the parameters of one operation have
the members that the operation needs, by the glossary's names, and no floating-point member that the glossary lacks.
"""
import pathlib
import re
import sys

SOURCE = pathlib.Path(sys.argv[1])
FILES = [
    "host/plan/*.[ch]", "host/train/*.[ch]", "host/verify/*.[ch]", "host/backend/*.[ch]", "host/backend/cpu/*.[ch]", "host/backend/reference/*.[ch]",
    "kernels/*.cu", "kernels/*.cuh", "kernels/*.[ch]"
]
MASK = "seed layer threshold"
STEP = "learning_rate decay_factor corrected_learning_rate root_bias_correction"
BETAS = "beta1 beta2 rho epsilon momentum l2"
MOMENTS = "parameters gradients moment1 moment2 scalars layer_statistics"

# The members that each struct must have, by operation: the plan's, which the reference reads, the cpu's, CUDA's.
REQUIRED = {
    "plan_gather": "fill shift scale y_shift y_scale class_weight X y w n_x n_y",
    "gather": "fill shift scale y_shift y_scale class_weight X y w",
    "gather_launch": "fill shift scale y_shift y_scale class_weight X y w n_x n_y rows weight_sum",
    "plan_dense_forward": "A_in parameters Z A W b n_in n_out activation dropout",
    "plan_dense_backward_weights": "dZ A_in gradients W b n_in n_out",
    "plan_dense_backward_input": "dZ parameters A Z W n_in n_out activation dropout",
    "dense": "A_in dZ W b A Z n_in n_out activation dropout keep_probability",
    "weights": "dZ A_in dW db rows n_in n_out",
    "forward_launch": "Z A rows n activation dropout_scale " + MASK,
    "backward_launch": "dZ A Z rows n activation dropout_scale keep_probability " + MASK,
    "kernel_dropout": "dropout_scale " + MASK,
    "dropout": "dropout_scale " + MASK,
    "plan_loss": "A Z y w scalars dZ n activation label_smoothing",
    "kernel_loss": "A Z y w dZ rows n activation label_smoothing inverse_weight_sum",
    "loss_launch": "A Z y w scalars dZ rows n activation label_smoothing",
    "plan_backward_output": "dA A Z dZ n activation",
    "backward_output": "dA A Z dZ activation",
    "backward_output_launch": "dA A Z dZ rows n activation",
    "plan_accumulate": "gradients kept_gradients n",
    "accumulate": "gradients kept_gradients n",
    "accumulate_launch": "gradients kept_gradients",
    "plan_output": "A y_shift y_scale P n",
    "output": "A y_shift y_scale P rows",
    "output_launch": "A y_shift y_scale P rows n",
    "plan_gradient_norm": "gradients scalars layer_statistics clip_norm",
    "norm": "gradients",
    "norm_launch": "gradients scalars layer_statistics clip_norm",
    "plan_update": "weight_decay nesterov " + BETAS + " " + MOMENTS,
    "update": "parameters moment1 moment2 gradients",
    "update_launch": MOMENTS + " working",
    "update_factors": STEP,
    "update_coefficients": "clip_factor one_minus_beta1 one_minus_beta2 one_minus_rho " + BETAS,
    "plan_statistics": "A Z layer_statistics n activation dropout",
    "statistics_launch": "A Z layer_statistics rows n activation keep_probability " + MASK,
    "plan_step": "number rows learning_rate",
    "device_step": "number rows",
}
# Members in float or double that are not quantities of the glossary: results and scratch of one function.
OWN = {"gather": {"weight_sums"}, "backward_launch": {"bias_gradient"}, "dense": {"A_below", "Z_below", "C"},
       "weights": {"workspace"}, "gather_launch": {"bad_step"}}


def glossary(text):
    """(names, words not to be used) of the table under the heading."""
    names, avoided, rows = set(), set(), 0
    section = text.split("\n## Glossary\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or cells[0] in ("symbol", "---"):
            continue
        assert len(cells) == 6, "not six columns: " + line
        named = re.findall(r"`(\w+)`", cells[1])
        assert named, "no name in code: " + line
        names.update(named)
        avoided.update(re.findall(r"`(\w+)`", cells[5]))
        rows += 1
    assert rows > 20, "the glossary has %d rows" % rows
    return names, avoided


def code_of(path):
    """The file without comments, strings and character constants, lines kept."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group())
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, path.read_text(), flags=re.S)


def members_of(body):
    """{name: type} of a struct's members; of nested ones too."""
    members = {}
    for declaration in body.replace("{", ";").replace("}", ";").split(";"):
        declaration = re.sub(r"^\s*#.*$", "", declaration, flags=re.M).strip()
        function = re.match(r"[\w\s*]+\(\*(\w+)\)", declaration)
        if function:
            members[function.group(1)] = "function"
            continue
        match = re.match(r"((?:const\s+|struct\s+|enum\s+|unsigned\s+)*\w+(?:\(\w+\))?)\s+\**\s*(\w.*)", declaration, re.S)
        if not match or "(" in match.group(2):
            continue
        for declarator in match.group(2).split(","):
            name = re.match(r"[\s*]*(\w+)", declarator)
            if name:
                members[name.group(1)] = match.group(1).replace("const", "").strip()
    return members


def structs_of(code):
    """(name, body) of the structs defined in the code."""
    for name, kind in re.findall(r"#define (\w+) struct TYPED\((\w+)\)", code):
        code = re.sub(r"(?m)^%s \{" % name, "struct %s {" % kind, code)
    for match in re.finditer(r"\bstruct (\w+) \{", code):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        yield match.group(1), code[match.end():end - 1]


def main():
    names, avoided = glossary((SOURCE / "ARCHITECTURE.md").read_text())
    wrong, seen = [], set()
    overlap = names & avoided
    wrong += ["the glossary both has and forbids " + word for word in sorted(overlap)]
    forbidden = re.compile(r"\b(%s)\b" % "|".join(sorted(avoided - overlap)))
    for pattern in FILES:
        paths = sorted(path for path in SOURCE.glob(pattern) if path.name != "cublas.c")  # the library's own names
        assert paths, "nothing matches " + pattern
        for path in paths:
            where, code = path.relative_to(SOURCE), code_of(path)
            for number, line in enumerate(code.splitlines(), 1):
                wrong += ["%s:%d: `%s` has another name in the glossary" % (where, number, word)
                          for word in forbidden.findall(line) if not line.lstrip().startswith("#include")]
            for struct, body in structs_of(code):
                if struct not in REQUIRED:
                    continue
                seen.add(struct)
                members = members_of(body)
                wrong += ["%s: struct %s has no member %s" % (where, struct, name)
                          for name in REQUIRED[struct].split() if name not in members]
                wrong += ["%s: struct %s: the glossary has no %s" % (where, struct, name)
                          for name, kind in members.items() if kind in ("float", "double", "REAL")
                          and name not in names | OWN.get(struct, set())]
    wrong += ["no struct %s: is the list of this test out of date?" % struct for struct in sorted(REQUIRED.keys() - seen)]
    wrong += ["%s: the glossary has no %s" % (struct, name) for struct, required in REQUIRED.items()
              for name in required.split() if name not in names]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


sys.exit(main())
