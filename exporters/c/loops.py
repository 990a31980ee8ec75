"""Text of C: nested loops over tensors, templates, literals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isinf, isnan
from string import Template
from textwrap import dedent, indent

import numpy as np

from .tensor import C_TYPES, Tensor

Body = Callable[[Sequence[str]], str]


def c(text: str, /, **values: object) -> str:
    """C with ``$names`` filled in; what spans lines is moved in as far as the line that it stands on."""
    lines = []
    for line in dedent(text).strip("\n").split("\n"):
        left = line[: len(line) - len(line.lstrip())]
        filled = Template(line.lstrip()).substitute(values)
        if filled.strip() or not line.strip():
            lines.append(indent(filled, left))
    return "\n".join(lines)


def literal(value: object, dtype: np.dtype) -> str:
    """A number as C writes it, to the last bit."""
    if dtype.kind != "f":
        return _integer(int(value), dtype)  # type: ignore[call-overload]
    number = float(value)  # type: ignore[arg-type]
    if isnan(number) or isinf(number):
        return "NAN" if isnan(number) else "-INFINITY" if number < 0 else "INFINITY"
    text = str(dtype.type(number))
    text = text if set(text) & set(".en") else f"{text}.0"
    return f"{text}f" if dtype.itemsize == 4 else text


def _integer(value: int, dtype: np.dtype) -> str:
    if dtype.itemsize < 4 or dtype.kind == "b":
        return str(value)
    if value == np.iinfo(dtype).min and dtype.kind == "i":
        return f"INT{dtype.itemsize * 8}_MIN"
    if dtype.itemsize == 4:
        return f"{value}u" if dtype.kind == "u" else str(value)
    return f"{'U' if dtype.kind == 'u' else ''}INT64_C({value})"


def array(name: str, values: np.ndarray) -> str:
    """A constant table, lines of about a hundred characters."""
    lines, line = [], ""
    for text in (literal(v, values.dtype) for v in values.reshape(-1).tolist()):
        if len(line) + len(text) > 100:
            lines.append(line)
            line = ""
        line += f"{text},"
    lines.append(line)
    return (
        f"static const {C_TYPES[values.dtype.name]} {name}[{max(values.size, 1)}] = {{\n" + "\n".join(lines) + "\n};\n"
    )


def nest(tensors: Sequence[Tensor], body: Body, name: str = "i") -> str:
    """Loops over tensors of one shape, in the order in which the first lies; ``body`` gets the index into each."""
    axes = [a for a in tensors[0].order if tensors[0].dims[a] != 1]
    merged: list[tuple[int, list[int]]] = []
    for axis in axes:
        length, steps = tensors[0].dims[axis], [t.strides[axis] for t in tensors]
        if merged and all(outer == inner * length for outer, inner in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * length, steps)
        else:
            merged.append((length, steps))
    text = body([index((f"{name}{k}", steps[n]) for k, (_, steps) in enumerate(merged)) for n in range(len(tensors))])
    for k, (length, _) in reversed(list(enumerate(merged))):
        text = f"for (int {name}{k} = 0; {name}{k} < {length}; {name}{k}++) {{\n{indent(text, '    ')}\n}}"
    return text


def index(terms: Iterable[tuple[str, int]]) -> str:
    """A sum of variables times constants."""
    parts = [name if step == 1 else f"{name} * {step}" for name, step in terms if step]
    return " + ".join(parts) or "0"
