"""Labels and the equations that operators state about them.

Every axis that can shrink carries one *label* per index; an axis that cannot carries the reason instead. Operators
state that labels are equal, that a label is a *product* of others (it goes if any of them goes), or that labels are
frozen. ``Ledger`` only records; ``solve`` draws the conclusions. Neither knows anything of ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]


class Why:
    """Why an axis, or a label, can never go: which operator said so, and what it does.

    ``node`` may be a function that gives the name: reasons are many, and few are ever read.
    """

    __slots__ = ("_node", "op", "text")

    def __init__(self, node: str | Callable[[], str], op: str, text: str) -> None:
        self._node, self.op, self.text = node, op, text

    @property
    def node(self) -> str:
        return self._node if isinstance(self._node, str) else self._node()

    def __str__(self) -> str:
        return f'{self.op} "{self.node}" {self.text}' if self.node else f"{self.op} {self.text}"


Axis: TypeAlias = "IntArray | Why"
Axes: TypeAlias = "tuple[Axis, ...]"

LENGTH_ONE = Why("", "axis", "has length 1")


def barred(dims: Sequence[int], why: Why) -> Axes:
    """Axes of which none can shrink."""
    return tuple(LENGTH_ONE if length == 1 else why for length in dims)


@dataclass(frozen=True, eq=False)
class Product:
    """``labels[i1, .., ik]`` goes if any ``factors[j][ij]`` goes; ``labels`` is flat, row-major over the lengths.

    ``lengths`` are those of all factors of the axis, ``positions`` say which of them have labels.
    """

    labels: IntArray
    factors: tuple[IntArray, ...]
    positions: tuple[int, ...]
    lengths: tuple[int, ...]

    def members(self) -> IntArray:
        """Shapes: (len(labels), len(factors))."""
        columns = [spread(f, p, self.lengths) for f, p in zip(self.factors, self.positions, strict=True)]
        return np.stack(columns, axis=1)


def spread(factor: IntArray, position: int, lengths: Sequence[int]) -> IntArray:
    """Repeat one factor's labels over the box of all factors, flat and row-major."""
    inner = int(np.prod(lengths[position + 1 :], dtype=np.int64))
    outer = int(np.prod(lengths[:position], dtype=np.int64))
    return np.tile(np.repeat(factor, inner), outer)


@dataclass
class Ledger:
    """Everything the operators of one graph say, in order."""

    count: int = 0
    equal: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    frozen: list[tuple[IntArray, Why]] = field(default_factory=list)
    inexact: list[tuple[IntArray, Why]] = field(default_factory=list)
    at_least: list[tuple[IntArray, int]] = field(default_factory=list)
    _joined: dict[tuple[object, ...], Axis] = field(default_factory=dict)
    _parts: dict[tuple[int, tuple[int, ...]], tuple[Axis, ...]] = field(default_factory=dict)
    _alive: list[Axis] = field(default_factory=list)

    def fresh(self, length: int) -> Axis:
        """New labels for an axis; an axis of length 1 gets none."""
        return LENGTH_ONE if length <= 1 else self.numbered(length)

    def numbered(self, length: int) -> IntArray:
        """New labels, even for a single index: part of an axis may be that short."""
        self.count += length
        return np.arange(self.count - length, self.count, dtype=np.int64)

    def freeze(self, axis: Axis, why: Why) -> Why:
        """No index of the axis may go. Returns the reason that holds, which is the older one if there is one."""
        if isinstance(axis, Why):
            return axis
        self.frozen.append((axis, why))
        return why

    def same(self, a: Axis, b: Axis) -> Axis:
        """The two axes lose the same indices; where one cannot shrink, its reason freezes the other."""
        if isinstance(a, Why):
            if isinstance(b, Why):
                return a
            return self.freeze(b, a)
        if isinstance(b, Why):
            return self.freeze(a, b)
        if a is not b:
            if len(a) != len(b):
                raise ValueError(f"axes of lengths {len(a)} and {len(b)} cannot lose the same indices")
            self.equal.append((a, b))
        return a

    def mark_inexact(self, axis: Axis, why: Why, at_least: int = 2) -> None:
        """Removing an index changes what the others become, as under a mean; ``at_least`` indices must stay."""
        if not isinstance(axis, Why):
            self.inexact.append((axis, why))
            self.at_least.append((axis, at_least))

    def take(self, axis: Axis, indices: IntArray | range, why: Why) -> Axis:
        """The axis read at ``indices``. Reading a single index freezes it: its axis would become empty."""
        if isinstance(axis, Why):
            return LENGTH_ONE if len(indices) == 1 else axis
        taken: IntArray = axis[np.asarray(indices)]
        if len(taken) > 1:
            return taken
        self.freeze(taken, why)
        return LENGTH_ONE if len(taken) else why

    def cat(self, parts: Sequence[tuple[Axis, int]]) -> Axis:
        """Axes (with their lengths) one after the other."""
        parts = [(axis, n) for axis, n in parts if n > 0]
        if len(parts) == 1:
            return parts[0][0]
        if all(isinstance(axis, Why) for axis, _ in parts):
            return next((a for a, _ in parts if a is not LENGTH_ONE), LENGTH_ONE)
        return np.concatenate([self._labelled(axis, n) for axis, n in parts])

    def _labelled(self, axis: Axis, length: int) -> IntArray:
        """Labels for an axis that has none: frozen ones."""
        if not isinstance(axis, Why):
            return axis
        labels = self.numbered(length)
        self.freeze(labels, axis)
        return labels

    def join(self, factors: Sequence[Axis], lengths: Sequence[int]) -> Axis:
        """One axis whose index runs over all indices of the factors, row-major. Raises ValueError for other lengths."""
        lengths, factors = _without_ones(lengths, factors)
        for factor, length in zip(factors, lengths, strict=True):
            _require_length(factor, length)
        if len(factors) <= 1:
            return factors[0] if factors else LENGTH_ONE
        live = [(f, p) for p, f in enumerate(factors) if not isinstance(f, Why)]
        if not live:
            return factors[0]
        key = (tuple(lengths), *((p, id(f)) for f, p in live))
        if key not in self._joined:
            if len(live) == 1:
                out = spread(live[0][0], live[0][1], lengths)
            else:
                out = self.numbered(int(np.prod(lengths, dtype=np.int64)))
                self._multiply(out, live, lengths)
            self._intern(out, tuple(factors), tuple(lengths), key)
        return self._joined[key]

    def split(self, axis: Axis, lengths: Sequence[int]) -> tuple[Axis, ...]:
        """The factors of an axis whose index runs over all of theirs, row-major. Raises ValueError for other lengths."""
        _require_length(axis, math.prod(lengths) if min(lengths, default=1) > 0 else -1)
        if isinstance(axis, Why):
            return barred(lengths, axis)
        long = tuple(n for n in lengths if n != 1)
        if len(long) == 1:
            parts: tuple[Axis, ...] = (axis,)
        elif (known := self._parts.get((id(axis), long))) is not None:
            parts = known
        else:
            parts = tuple(self.fresh(n) for n in long)
            live = [(f, p) for p, f in enumerate(parts) if not isinstance(f, Why)]
            self._multiply(axis, live, long)
            self._intern(axis, parts, long, (long, *((p, id(f)) for f, p in live)))
        remaining = iter(parts)
        return tuple(LENGTH_ONE if n == 1 else next(remaining) for n in lengths)

    def reshape(self, axes: Axes, old: Sequence[int], new: Sequence[int], varying: Sequence[Why | None] = ()) -> Axes:
        """Axes after a row-major reshape: lengths are matched into the shortest segments of equal product.

        ``varying`` gives a reason for each new axis that must not have labels, because its length is not fixed.
        """
        if 0 in old or 0 in new:
            return tuple(self._first_reason(axes) for _ in new)
        out: list[Axis] = [LENGTH_ONE] * len(new)
        olds = [i for i, n in enumerate(old) if n != 1]
        news = [j for j, n in enumerate(new) if n != 1]
        for left, right in _segments([old[i] for i in olds], [new[j] for j in news]):
            sources, targets = [olds[k] for k in left], [news[k] for k in right]
            barred = [varying[j] if varying else None for j in targets]
            parts = self._regroup(
                [axes[i] for i in sources], [old[i] for i in sources], [new[j] for j in targets], barred
            )
            for j, part in zip(targets, parts, strict=True):
                out[j] = part
        return tuple(out)

    def _regroup(
        self, axes: Sequence[Axis], old: Sequence[int], new: Sequence[int], barred: Sequence[Why | None]
    ) -> Sequence[Axis]:
        """One segment: divide the old axes where either side has a border, then merge into the new ones."""
        if len(old) == len(new) == 1 and not barred[0]:
            return axes
        borders = sorted({*np.cumprod(old, dtype=object), *np.cumprod(new, dtype=object)})
        if any(b % a for a, b in pairwise(borders)):
            reason = next((why for why in barred if why), None)
            if reason is not None:
                return [self._first_frozen(axes, reason)] * len(new)
            return self.split(self.join(axes, old), new)
        pieces: list[tuple[Axis, int]] = []
        for axis, lengths in zip(axes, _between(borders, old), strict=True):
            pieces.extend(zip(self.split(axis, lengths), lengths, strict=True))
        parts: list[Axis] = []
        for lengths, why in zip(_between(borders, new), barred, strict=True):
            mine, pieces = pieces[: len(lengths)], pieces[len(lengths) :]
            factors = [axis for axis, _ in mine]
            parts.append(self._first_frozen(factors, why) if why else self.join(factors, lengths))
        return parts

    def _first_frozen(self, axes: Sequence[Axis], why: Why) -> Why:
        """Freeze all; the reason of the first that had one already, else ``why``."""
        reasons = [self.freeze(axis, why) for axis in axes]
        return next((r for r in reasons if r is not LENGTH_ONE), why)

    def _first_reason(self, axes: Axes) -> Why:
        empty = Why("", "tensor", "is empty")
        for axis in axes:
            self.freeze(axis, empty)
        return empty

    def _multiply(self, axis: IntArray, live: Sequence[tuple[IntArray, int]], lengths: Sequence[int]) -> None:
        factors, positions = tuple(f for f, _ in live), tuple(p for _, p in live)
        self.products.append(Product(axis, factors, positions, tuple(lengths)))

    def _intern(
        self, axis: IntArray, parts: tuple[Axis, ...], lengths: tuple[int, ...], key: tuple[object, ...]
    ) -> None:
        self._joined[key] = axis
        self._parts[id(axis), lengths] = parts
        self._alive.extend((axis, *parts))


def _require_length(axis: Axis, length: int) -> None:
    """A model can contradict itself where weights are computed: a rule must not hand that on to the solver."""
    if not isinstance(axis, Why) and len(axis) != length:
        raise ValueError(f"{len(axis)} channels stand where there should be {length}")


def _without_ones(lengths: Sequence[int], factors: Sequence[Axis]) -> tuple[list[int], list[Axis]]:
    kept = [(n, f) for n, f in zip(lengths, factors, strict=True) if n != 1]
    return [n for n, _ in kept], [f for _, f in kept]


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Match two shapes of equal size, without ones, into the shortest runs of equal product."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        left, right, a, b = [i], [j], old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
                left.append(i - 1)
            else:
                b, j = b * new[j], j + 1
                right.append(j - 1)
        runs.append((left, right))
    return runs


def _between(borders: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """For each axis the lengths of the pieces that the borders (running products) divide it into."""
    found: list[list[int]] = []
    last, position = 1, 0
    for end in np.cumprod(lengths, dtype=object):
        mine: list[int] = []
        while last < end:
            mine.append(borders[position] // last)
            last, position = borders[position], position + 1
        found.append(mine)
    return found
