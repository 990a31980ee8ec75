"""Functions of one number that have two values: where the step is, exactly.

The place of a step is found by bisection over the single-precision numbers themselves, by evaluating the operators
that the model has. So it is right to the last bit, whatever the chain of shifts, scales and clips before the
comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....graph.errors import IntaglioError
from .monotone import Condition, Evaluate, Kind, Monotone, Operand, Pieces, conditions, kind
from .regions import Region, function_of
from .wires import Wires

LIMIT = np.float32(2.0**100)
"""Magnitudes above this are not looked at: beyond it the intermediate values of a chain may overflow."""
_WAYS = 256
"""Points per channel in one evaluation of the bisection."""
THIRD = "it is 0 where its input is 0, and a bit has no third value"
_SAME = 1e-5
"""Relative distance up to which two values count as one: signs that pass through arithmetic lose a last bit."""


@dataclass(frozen=True)
class Layout:
    """How the channels of a tensor lie: ``rank`` axes, the channels on ``axis``, so many of them."""

    rank: int
    axis: int
    channels: int

    def shape(self, samples: int) -> list[int]:
        """Of a tensor of that many samples, with one place."""
        assert self.axis  # a tensor of one axis has no samples
        return [samples, *(self.channels if a == self.axis else 1 for a in range(1, self.rank))]

    def spread(self, points: np.ndarray) -> np.ndarray:
        """Points (P, C) as a tensor with P samples."""
        return np.ascontiguousarray(points, np.float32).reshape(self.shape(len(points)))

    def along(self, values: np.ndarray) -> np.ndarray:
        """A number for each channel in a shape that broadcasts against the tensor."""
        return values.reshape([len(values) if a == self.axis else 1 for a in range(self.axis, self.rank)])

    def gather(self, values: np.ndarray, points: int) -> np.ndarray | None:
        """The inverse; None for a tensor of another shape."""
        return values.reshape(points, self.channels) if list(values.shape) == self.shape(points) else None

    def constant(self, value: np.ndarray) -> np.ndarray | None:
        """A constant operand as (C,) or (1,); None where it differs along another axis."""
        if value.size == 1:
            return value.reshape(1)
        return value.reshape(-1) if [1] * (self.rank - value.ndim) + list(value.shape) == self.shape(1) else None


@dataclass(frozen=True)
class Step:
    """``low`` below ``threshold`` and ``high`` from there on, the other way round in channels that ``fall``.

    Shapes: threshold, falls (C,).
    """

    threshold: np.ndarray
    falls: np.ndarray
    low: float
    high: float


def step(wires: Wires, region: Region, layout: Layout, *, zeros: bool = False) -> Step | str:
    """The step that a region is, or why it is none. ``zeros`` takes the 0 that Sign has between its two values as +1."""
    try:
        return _step(wires, region, layout, _walk(wires, region, layout), zeros)
    except IntaglioError as error:
        return error.what


def _step(wires: Wires, region: Region, layout: Layout, walked: Kind, zeros: bool) -> Step | str:
    function = _by_channel(wires, region, layout, region.target)
    found = walked.cuts if isinstance(walked, Pieces) else _ends_of_range(function, layout.channels)
    points = np.concatenate([np.full((1, layout.channels), -LIMIT, np.float32), np.sort(found, axis=0)])
    values = function(points)
    return two_values(points, values.astype(np.float64), zeros=zeros)


def _ends_of_range(function: Evaluate, channels: int) -> np.ndarray:
    """Where a monotone function leaves one end of its range: if it has two values, it is at the other end then.

    Shapes: (1, channels).

    Raises:
        IntaglioError: it has more values.
    """
    ends = function(np.full((2, channels), LIMIT, np.float32) * np.array([[-1], [1]], np.float32))
    if ends.dtype.kind != "f":
        raise IntaglioError("it is no number")
    leaves, reaches = Condition(ends.min(axis=0), at=False), Condition(ends.max(axis=0), at=True)
    first, last = (first_number(function, c, channels) for c in (leaves, reaches))
    if (first != last).any():
        raise IntaglioError("it has more than two values")
    return first[None]


def two_values(points: np.ndarray, values: np.ndarray, *, zeros: bool = False) -> Step | str:
    """The step through points of each channel, in rising order, at which alone the values may change.

    Shapes: points, values (P, C). Points at infinity are not looked at.
    """
    seen = np.isfinite(points)
    low, high = float(values[seen].min()), float(values[seen].max())
    if not np.isfinite((low, high)).all() or low == high:
        return "it is always the same" if low == high else "it is no finite number"
    near = _SAME * max(abs(low), abs(high))
    is_low, is_high = values <= low + near, values >= high - near
    middle = seen & ~is_low & ~is_high
    if middle.any():
        zero = abs(low + high) <= near and bool(np.all(np.abs(values[middle]) <= near))
        if not zero:
            return "it has more than two values"
        if not zeros:
            return THIRD
        is_high = is_high | middle
    is_high = np.where(seen, is_high, is_high[:1])
    first = is_high[0]
    changes = (is_high[1:] != is_high[:-1]) & seen[1:]
    if (changes.sum(axis=0) > 1).any():
        return "it goes up and down again"
    at = np.where(changes.any(axis=0), 1 + changes.argmax(axis=0), 0)
    threshold = np.take_along_axis(points, at[None], axis=0)[0].astype(np.float64)
    constant = ~changes.any(axis=0)
    threshold[constant] = np.where(first[constant], -np.inf, np.inf)
    return Step(threshold, first & ~constant, low, high)


def _by_channel(wires: Wires, region: Region, layout: Layout, target: str) -> Evaluate:
    """A part of a region as a function on points (P, C). Raises IntaglioError where it is none."""
    function = function_of(wires, region, target)

    def evaluate(points: np.ndarray) -> np.ndarray:
        values = layout.gather(function(layout.spread(points)), len(points))
        if values is None:
            raise IntaglioError("it differs from place to place")
        return values

    return evaluate


def _walk(wires: Wires, region: Region, layout: Layout) -> Kind:
    """What is known of the region's target, operator by operator. Raises IntaglioError where nothing is."""
    known: dict[str, Operand] = {region.source: Monotone(np.ones(layout.channels, np.int8))}
    for node in region.nodes:
        operands = [_operand(wires, known, name, layout) for name in node.input]
        asked = conditions(node, operands)
        if asked and isinstance(operands[asked[0]], Monotone):
            inner = _by_channel(wires, region, layout, wires.resolve(node.input[asked[0]]))
            known[node.output[0]] = Pieces(np.stack([first_number(inner, c, layout.channels) for c in asked[1]]))
            continue
        result = kind(node, operands)
        if result is None:
            raise IntaglioError(f"{node.op_type} is no step")
        known[node.output[0]] = result
    target = known[region.target]
    assert isinstance(target, (Monotone, Pieces))
    return target


def _operand(wires: Wires, known: dict[str, Operand], name: str, layout: Layout) -> Operand | None:
    if not name or name not in wires.known:
        return known[wires.resolve(name)] if name else None
    value = wires.known[name]
    if value.ndim == 1 and value.size == layout.channels:
        return value  # the parameters of a BatchNormalization, or of the last axis
    found = layout.constant(value)
    if found is None:
        raise IntaglioError("it differs from place to place")
    return found


def first_number(function: Evaluate, condition: Condition, channels: int) -> np.ndarray:
    """First number in each channel at which a condition on a monotone function is not what it is far below.

    Infinite where it never changes. Shapes: result (channels,), float32.
    """
    low = np.full(channels, _key(-LIMIT), np.int64)
    high = np.full(channels, _key(LIMIT), np.int64)
    ends = condition.holds(function(np.stack([_number(low), _number(high)])))
    start, never = ends[0], ends[0] == ends[1]
    while (high - low > 1).any():
        steps = np.linspace(0, 1, _WAYS)[:, None]
        keys = low + np.floor(steps * (high - low)).astype(np.int64)
        changed = condition.holds(function(_number(keys))) != start
        changed[-1] |= never
        at = changed.argmax(axis=0)[None]
        low, high = np.take_along_axis(keys, at - 1, 0)[0], np.take_along_axis(keys, at, 0)[0]
    return np.where(never, np.float32(np.inf), _number(high))


def _key(number: np.float32) -> int:
    bits = int(np.float32(number).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _number(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys >= 0, keys, -keys | -0x80000000)
    return bits.astype(np.int32).view(np.float32)
