"""The files of an export: header, source, an example with a test vector, CMakeLists.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from textwrap import indent

import numpy as np

from ...graph.version import VERSION
from .loops import array, c
from .lower import Lowered
from .rules import Step
from .tensor import Tensor

KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "asm",
        "bool",
        "class",
        "main",
        "state",
        "worst",
        "largest",
        "runs",
        "count",
        "words",
        "start",
        "drawn",
        "compare",
    ]
)
Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """What inputs are drawn from, what ONNX Runtime made of them, and how close is close."""

    ranges: Mapping[str, Range]
    expected: Mapping[str, np.ndarray]
    tolerance: float


def identifiers(names: Sequence[str], taken: frozenset[str] = KEYWORDS) -> dict[str, str]:
    """A C name for each, all different."""
    found: dict[str, str] = {}
    used = set(taken)
    for name in names:
        made = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "t"
        made = f"t{made}" if made[0].isdigit() else made
        free = made if made not in used else next(n for k in count(2) if (n := f"{made}_{k}") not in used)
        used.add(free)
        found[name] = free
    return found


def sources(lowered: Lowered, name: str, case: Case) -> dict[str, str]:
    """Contents by file name."""
    names = _names(lowered, name)
    return {
        **code(lowered, name),
        "main.c": _main(lowered, name, names, case),
        "test_vector.h": _vector(names, case),
        "CMakeLists.txt": _filled("CMakeLists.txt", name=name),
    }


def code(lowered: Lowered, name: str) -> dict[str, str]:
    """The header and the source alone."""
    ends, names, upper = {**lowered.inputs, **lowered.outputs}, _names(lowered, name), name.upper()
    parameters = [f"const {t.ctype} *{names[n]}" for n, t in lowered.inputs.items()]
    parameters += [f"{t.ctype} *{names[n]}" for n, t in lowered.outputs.items()]
    common = {
        "name": name,
        "upper": upper,
        "version": VERSION,
        "arena": lowered.plan.arena_bytes,
        "parameters": ", ".join(parameters),
    }
    sizes = "\n".join(f"#define {upper}_{names[n].upper()}_SIZE {t.size}" for n, t in ends.items())
    header = _filled("header.h", **common, sizes=sizes)
    return {f"{name}.h": header, f"{name}.c": _source(lowered, common, names)}


def _names(lowered: Lowered, name: str) -> dict[str, str]:
    """What C calls inputs and outputs."""
    return identifiers([*lowered.inputs, *lowered.outputs], KEYWORDS | {name, f"{name}_run", "arena"})


def _filled(file: str, **values: object) -> str:
    return c((files(__package__) / "text" / file).read_text(), **values) + "\n"


def _source(lowered: Lowered, common: Mapping[str, object], names: Mapping[str, str]) -> str:
    functions = [_function(step, lowered) for step in lowered.steps]
    number = {text: k for k, text in enumerate(dict.fromkeys(functions))}
    steps = [text.replace("void step(", f"void step{k}(", 1) for text, k in number.items()]
    calls = [f"step{number[functions[k]]}({_words(k, one, lowered, names)});" for k, one in enumerate(lowered.steps)]
    text, called = "\n".join(steps), " ".join(calls)
    idle = [names[n] for n in lowered.inputs if not re.search(rf"\b{names[n]}\b", called)]
    calls = [*(f"(void){name};" for name in idle), *calls]
    used = set(re.findall(r"\bk\d+\b", text + "".join(calls)))
    tables = "\n".join(array(n, v) for n, v in lowered.program.tables.items() if n in used)
    size = lowered.plan.arena_bytes
    memory = f"/* What steps hand on to each other. */\nstatic uint8_t arena[{size}] NET_ALIGNED;" if size else ""
    common = {**common, "memory": memory}
    return _filled("source.c", **common, helpers=_helpers(text), tables=tables, steps=text, calls="\n".join(calls))


def _helpers(text: str) -> str:
    """Those functions of ours that are called."""
    parts = re.split(r"\n(?=/\* net_)", (files(__package__) / "text" / "helpers.c").read_text())
    named = {part.split()[1].rstrip(":"): part for part in parts}
    return "\n".join(part for name, part in named.items() if f"{name}(" in text)


def _pointers(step: Step, lowered: Lowered) -> tuple[list[tuple[str, str, Tensor]], dict[str, str]]:
    """Parameters of a step, and those that are others under another name: inputs that the output lies on."""
    found, y = [("y", f"y{k}", t) for k, t in enumerate(step.outputs)], step.outputs[0]
    same: dict[str, str] = {}
    for k, x in enumerate(step.inputs):
        offsets = lowered.plan.offsets
        over = step.in_place and x.buffer in offsets and offsets[x.buffer] == offsets.get(y.buffer)
        if over and x.ctype == y.ctype:
            same[f"x{k}"] = "y0"
        else:
            found.append(("x", f"x{k}", x))
    return found, same


def _function(step: Step, lowered: Lowered) -> str:
    found, same = _pointers(step, lowered)
    body = re.sub(r"\bx\d+\b", lambda m: same.get(m[0], m[0]), step.body)
    words = [f"{'const ' if kind == 'x' else ''}{t.ctype} *restrict {n}" for kind, n, t in found if kind == "x"]
    words += [f"{t.ctype} *restrict {n}" for kind, n, t in found if kind == "y"]
    words += [f"{kind} *restrict s{k}" for k, (kind, _) in enumerate(step.scratch)]
    unused = "".join(f"(void){n};\n" for _, n, _ in found if not re.search(rf"\b{n}\b", body))
    what = re.sub(r"[^\w /.:-]", "_", step.what, flags=re.ASCII).replace("*/", "__").replace("/*", "__")
    return f"/* {what} */\nNET_STEP void step({', '.join(words)}) {{\n{indent(unused + body, '    ')}\n}}\n"


def _words(number: int, step: Step, lowered: Lowered, names: Mapping[str, str]) -> str:
    found, _ = _pointers(step, lowered)
    words = [_place(t, lowered, names, "const ") for kind, _, t in found if kind == "x"]
    words += [_place(t, lowered, names, "") for kind, _, t in found if kind == "y"]
    place = lowered.plan.offsets.get(~lowered.plan.order[number], 0)
    for kind, length in step.scratch:
        words.append(f"({kind} *)(arena + {place})")
        place += -(-_bytes(kind) * length // 16) * 16
    return ", ".join(words)


def _bytes(kind: str) -> int:
    return {"float": 4, "double": 8}.get(kind) or int(re.sub(r"\D", "", kind)) // 8


def _place(tensor: Tensor, lowered: Lowered, names: Mapping[str, str], const: str) -> str:
    """Where a tensor starts."""
    plus = f" + {tensor.offset}" if tensor.offset else ""
    if tensor.buffer in lowered.plan.offsets:
        byte = lowered.plan.offsets[tensor.buffer] + tensor.offset * tensor.dtype.itemsize
        return f"({const}{tensor.ctype} *)(arena + {byte})"
    for name, end in {**lowered.outputs, **lowered.inputs}.items():
        if end.buffer == tensor.buffer:
            return names[name] + plus
    return tensor.buffer + plus


def _main(lowered: Lowered, name: str, names: Mapping[str, str], case: Case) -> str:
    ends = {**lowered.inputs, **lowered.outputs}
    upper = name.upper()
    size = {n: f"{upper}_{names[n].upper()}_SIZE" for n in ends}
    draws = [
        f"for (int i = 0; i < {size[n]}; i++) {names[n]}[i] = ({lowered.inputs[n].ctype})drawn({a!r}, {b!r});"
        for n, (a, b) in case.ranges.items()
    ]
    compares = [
        f"for (int i = 0; i < {case.expected[n].size}; i++) compare((double){names[n]}[i], (double)expected_{names[n]}[i]);"
        for n in lowered.outputs
    ]
    return _filled(
        "main.c",
        name=name,
        buffers="\n".join(f"static {t.ctype} {names[n]}[{size[n]}];" for n, t in ends.items()),
        draws="\n".join(draws),
        compares="\n".join(compares),
        call=f"{name}_run({', '.join(names[n] for n in ends)});",
    )


def _vector(names: Mapping[str, str], case: Case) -> str:
    tables = "\n".join(array(f"expected_{names[n]}", value) for n, value in case.expected.items())
    lead = "/* What ONNX Runtime made of the numbers that main.c draws; of large outputs the first ones. */\n#include <math.h>\n#include <stdint.h>\n"
    return f"{lead}\n#define TEST_TOLERANCE {case.tolerance!r}\n\n{tables}"
