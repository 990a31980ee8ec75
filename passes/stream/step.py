"""One node whose operands are streams, as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from math import lcm

import numpy as np
import onnx

from ...graph.nodes import as_ints, attribute
from ...graph.shapes import Shapes
from .frames import Flow, Frames, View

Rule = Callable[["Step"], Flow | None]
"""None where a node needs whole windows."""
RULES: dict[str, Rule] = {}


def streams(*operators: str) -> Callable[[Rule], Rule]:
    """Register how operators go on with streams."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, rule))
        return rule

    return register


@dataclass(frozen=True)
class Step:
    """``frames`` are of all streams, ``windows`` the tensors that are of whole windows; all else does not change in time.

    ``given`` and ``wanted`` are the names of the graph's inputs and outputs, ``read`` of all tensors that are read.
    """

    node: onnx.NodeProto
    shapes: Shapes
    weights: Mapping[str, np.ndarray]
    frames: Mapping[str, Frames]
    windows: AbstractSet[str]
    given: AbstractSet[str]
    wanted: AbstractSet[str]
    read: AbstractSet[str]
    exact: bool

    def name(self, operand: int) -> str:
        return self.node.input[operand] if operand < len(self.node.input) else ""

    def dims(self, operand: int) -> tuple[int, ...]:
        return self.shapes.dims[self.name(operand)]

    def of(self, operand: int) -> Frames | None:
        return self.frames.get(self.name(operand))

    @property
    def main(self) -> Frames:
        """The stream of operand 0."""
        return self.frames[self.node.input[0]]

    @property
    def made(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return self.shapes.dims[self.node.output[0]]

    def still(self, operands: Iterable[int]) -> bool:
        """Whether none of these changes in time."""
        return all(self.name(k) not in self.frames and self.name(k) not in self.windows for k in operands)

    def alone(self) -> bool:
        """Whether operand 0 is a stream and nothing else changes."""
        return self.of(0) is not None and self.still(range(1, len(self.node.input)))

    def ints(self, operand: int) -> list[int] | None:
        """The numbers of a constant operand."""
        name = self.name(operand)
        value = self.weights.get(name, self.shapes.values.get(name)) if name else None
        return None if value is None else as_ints(value)

    def axis(self, default: int, of: Sequence[int] | None = None) -> int:
        """The attribute ``axis``, counted from the front of operand 0."""
        rank = len(self.dims(0) if of is None else of)
        return int(attribute(self.node, "axis", default)) % max(1, rank)

    def same(self, axis: int, **more: object) -> Flow:
        """All outputs are streams like operand 0, along this axis."""
        main = self.main
        made = replace(main, axis=axis)
        return Flow([made if name else None for name in self.node.output], **more)  # type: ignore[arg-type]

    def joined(self, axis: int, operands: Sequence[int]) -> Flow | None:
        """Streams of one rate become one, as late as the latest."""
        found = {k: one for k in operands if (one := self.of(k))}
        latest = max(found.values(), key=lambda one: one.delay)
        if {(one.rate, one.length) for one in found.values()} != {(latest.rate, latest.length)}:
            return None
        grain = lcm(*(one.step for one in found.values()))
        made = replace(latest, axis=axis, grain=grain, delay=-(-latest.delay // grain) * grain)
        views = {k: View(late=one.later(made)) for k, one in found.items() if one.delay != made.delay}
        return Flow([made if name else None for name in self.node.output], views)


def stretched(step: Step) -> Flow | None:
    """Number by number: streams meet on one axis of the output, and nothing else has a length there."""
    rank, axes = len(step.made), set[int]()
    for k, name in enumerate(step.node.input):
        if name in step.frames:
            axes.add(step.frames[name].axis + rank - len(step.dims(k)))
    if len(axes) != 1:
        return None
    (axis,) = axes
    for k, name in enumerate(step.node.input):
        if not name or name in step.frames:
            continue
        place = axis - rank + len(step.dims(k))
        if name in step.windows or (place >= 0 and step.dims(k)[place] != 1):
            return None
    return step.joined(axis, range(len(step.node.input)))
