"""Writing the folder: the program, a test vector from ONNX Runtime, what is said of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...graph.bits import DOMAIN
from ...graph.errors import UsageError
from ...graph.io.inline import inlined
from ...graph.model import Model
from ...graph.nodes import all_nodes
from ...measure.run.rounding import SIGMOID_STEP, stepped_outputs
from ...measure.run.session import open_session, run
from ..base import Artifact, CannotExport
from .lower import Lowered, lower
from .net import net_of
from .source import Case, Range, identifiers, sources

_TESTED = 4096
"""Numbers of each output that the test vector holds."""
_EXACT, _ROUNDED = 1e-3, 0.1
"""How far from the largest number results may be: those of floats, and those of integers, which round at every layer."""


def write(model: Model, path: Path, memory: str) -> Artifact:
    """The files of a model in a new folder."""
    allowed = read_bytes(memory) if memory else 0
    lowered = lower(net_of(_without_functions(model)), allowed)
    _check_budget(lowered, allowed, memory)
    name = identifiers([path.name.lower()])[path.name.lower()]
    path.mkdir()
    for file, text in sources(lowered, name, _case(model, lowered)).items():
        (path / file).write_text(text)
    plan = lowered.plan
    figures = {"arena_bytes": plan.arena_bytes, "live_bytes": plan.live_bytes, "constant_bytes": lowered.constant_bytes}
    notes = [f"steps run again to save memory: {lowered.more:.1%} more work"] if lowered.more else []
    return Artifact(path, tuple(notes), figures)


def _without_functions(model: Model) -> Model:
    """Bodies of functions in the place of calls, except for operators on bits."""
    others = [(f.domain, f.name) for f in model.proto.functions if f.domain != DOMAIN]
    if not others:
        return model
    made = model.copy()
    made.proto.CopyFrom(inlined(model.proto, others))
    return made


def _check_budget(lowered: Lowered, allowed: int, memory: str) -> None:
    needed = lowered.plan.arena_bytes
    if memory and needed > allowed:
        raise CannotExport(
            f"the arena takes {needed:,} bytes, more than {memory}",
            why=f"{lowered.plan.live_bytes:,} bytes are alive at once in the best order of steps that was found, "
            "and running some of them again does not save enough",
            fix=f"allow {needed} bytes, or make the model smaller first: quantize and prune",
        )


def read_bytes(text: str) -> int:
    """``256KB``: units are of 1024, as memories are."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f"memory={text} is no number of bytes", fix="write it as 262144 or 256KB")
    return int(float(found[1]) * 1024 ** "KMG".find(found[2].upper()) * 1024 if found[2] else float(found[1]))


def _case(model: Model, lowered: Lowered) -> Case:
    ranges = {name: _range(model, name, t.dtype) for name, t in lowered.inputs.items()}
    feeds = drawn({n: (t.dims, t.dtype) for n, t in lowered.inputs.items()}, ranges)
    found = run(open_session(model), feeds)
    expected = {name: np.asarray(found[name]).reshape(-1)[:_TESTED] for name in lowered.outputs}
    rounded = any(node.op_type == "QuantizeLinear" for node in all_nodes(model.graph))
    return Case(ranges, expected, _ROUNDED if rounded else _tolerance(expected, stepped_outputs(model)))


def _tolerance(expected: Mapping[str, np.ndarray], stepped: Sequence[str]) -> float:
    """As a part of the largest number; where all are from Sigmoid, no less than that is rounded by."""
    largest = max((float(np.abs(one).max()) for one in expected.values() if one.size), default=0.0)
    if largest == 0 or set(expected) != set(stepped):
        return _EXACT
    return min(max(_EXACT, SIGMOID_STEP / largest), _ROUNDED)


def _range(model: Model, name: str, dtype: np.dtype) -> Range:
    """What an input is drawn from: all that codes can tell apart, if it is rounded to such."""
    if dtype.kind != "f":
        return (0.0, 2.0)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == name and len(node.input) > 2:
            scale, zero = (model.weights.get(n) for n in node.input[1:3])
            if scale is not None and zero is not None and scale.size == 1 and zero.dtype.itemsize == 1:
                kind = np.iinfo(zero.dtype)
                return float((kind.min - int(zero)) * scale), float((kind.max - int(zero)) * scale)
    return (-1.0, 1.0)


def drawn(kinds: dict[str, tuple[tuple[int, ...], np.dtype]], ranges: dict[str, Range]) -> dict[str, np.ndarray]:
    """The numbers that main.c draws."""
    state, made = 1, {}
    for name, (dims, dtype) in kinds.items():
        low, high = ranges[name]
        values = np.empty(int(np.prod(dims, dtype=np.int64)))
        for k in range(values.size):
            state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
            values[k] = low + (high - low) * ((state >> 8) / 16777216.0)
        whole = (
            values if dtype.kind == "f" else np.trunc(values)
        )  # C rounds on the way to a byte that stands for a bool, too
        made[name] = whole.astype(dtype).reshape(dims)
    return made
