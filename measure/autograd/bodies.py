"""Nodes that run other graphs: If, Loop and Scan, turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import torch

from ...graph.nodes import attribute
from .call import Unsupported, Value, as_tensor

Body = Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]]
"""Runs a graph that sees the tensors around it, given what it is handed by name."""
Values = Sequence[Value | None]


def branch(node: onnx.NodeProto, values: Values, run: Body, dtype: torch.dtype) -> list[Value]:
    taken = "then_branch" if bool(_given(values[0])) else "else_branch"
    return run(attribute(node, taken), {})


def loop(node: onnx.NodeProto, values: Values, run: Body, dtype: torch.dtype) -> list[Value]:
    body = attribute(node, "body")
    names = [value.name for value in body.input]
    most = None if values[0] is None else int(_given(values[0]))
    more = True if len(values) < 2 or values[1] is None else bool(values[1])
    states, turns, turn = [_given(one) for one in values[2:]], list[list[Value]](), 0
    while more and (most is None or turn < most):
        handed = [np.array(turn, np.int64), np.array(True), *states]
        again, *made = run(body, dict(zip(names, handed, strict=True)))
        more, states, turn = bool(again), made[: len(states)], turn + 1
        turns.append(made[len(states) :])
    return [*states, *_stacked(node, turns, len(body.output) - 1 - len(states), dtype)]


def scan(node: onnx.NodeProto, values: Values, run: Body, dtype: torch.dtype) -> list[Value]:
    body = attribute(node, "body")
    names, count = [value.name for value in body.input], attribute(node, "num_scan_inputs")
    given = [_given(one) for one in values]
    states, rows = given[: len(given) - count], [as_tensor(one, dtype) for one in given[len(given) - count :]]
    axes, turned = (attribute(node, f"scan_input_{name}") or [0] * count for name in ("axes", "directions"))
    parts = [one.flip(a) if back else one for one, a, back in zip(rows, axes, turned, strict=True)]
    turns = list[list[Value]]()
    for each in zip(*(one.unbind(a) for one, a in zip(parts, axes, strict=True)), strict=True):
        made = run(body, dict(zip(names, [*states, *each], strict=True)))
        states = made[: len(states)]
        turns.append(made[len(states) :])
    return [*states, *_stacked(node, turns, len(body.output) - len(states), dtype)]


def _given(value: Value | None) -> Value:
    assert value is not None, "onnx's checker refuses nodes without what they must have"
    return value


def _stacked(node: onnx.NodeProto, turns: list[list[Value]], count: int, dtype: torch.dtype) -> list[Value]:
    """What each turn made, along an axis of its own."""
    if count and not turns:
        raise Unsupported("it makes no turn, so that no one says of which shape its results are")
    axes = attribute(node, "scan_output_axes") or [0] * count
    turned = attribute(node, "scan_output_directions") or [0] * count
    found: list[Value] = []
    for k, (axis, back) in enumerate(zip(axes, turned, strict=True)):
        column = [turn[k] for turn in (reversed(turns) if back else turns)]
        plain = [one for one in column if isinstance(one, np.ndarray)]
        stacked = (
            np.stack(plain, axis)
            if len(plain) == len(column)
            else torch.stack([as_tensor(v, dtype) for v in column], axis)
        )
        found.append(stacked)
    return found


RUN: dict[str, Callable[[onnx.NodeProto, Values, Body, torch.dtype], list[Value]]] = {
    "If": branch,
    "Loop": loop,
    "Scan": scan,
}
