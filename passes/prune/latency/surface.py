"""The time of one node as a function of how long its axes are: measured at a few widths, interpolated between them.

Convolutions run in blocks of channels: widths are filled up to whole blocks, so their time is a staircase, and input
channels that are no multiple of four send them to another, mostly slower kernel. So a node has two tables, one of
widths that suit and one of widths that do not, and both are measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from ....measure.optime.block import UNIT
from ....measure.optime.probe import Layer
from .shape import Shape, Widths

Measure = Callable[[Sequence[Layer]], Sequence[float | None]]


@dataclass(frozen=True)
class Table:
    """Times on a grid of widths, one list of widths an axis."""

    grid: tuple[np.ndarray, ...]
    times: np.ndarray

    def at(self, widths: Sequence[int]) -> float:
        """Linear in every axis between the widths of the grid; past its ends the last piece goes on, down to a tenth."""
        value = self.times
        for points, width in zip(self.grid, widths, strict=True):
            if len(points) == 1:
                value = value[0]
                continue
            k = int(np.clip(np.searchsorted(points, width), 1, len(points) - 1))
            part = (width - points[k - 1]) / (points[k] - points[k - 1])
            value = value[k - 1] * (1 - part) + value[k] * part
        return max(float(value), float(self.times.min()) / 10)


class Surface:
    """The time of a node by its widths. ``block`` is what convolutions fill widths up to."""

    def __init__(self, shape: Shape, suits: Table, odd: Table | None, block: int) -> None:
        self.shape, self._suits, self._odd, self._block = shape, suits, odd, block
        self.at = cache(self._interpolated)

    def _interpolated(self, widths: Widths) -> float:
        if self._odd is not None and not suits(self.shape, widths, self._block):
            return self._odd.at(widths)
        if self.shape.blocked:
            return self._suits.at([_up(w, self._block) if w >= self._block else w for w in widths])
        return self._suits.at(widths)


@dataclass(frozen=True)
class Plan:
    """The widths at which a node is to be measured: those that suit, and those that do not if any are told apart."""

    shape: Shape
    suiting: tuple[np.ndarray, ...]
    odd: tuple[np.ndarray, ...] | None

    def layers(self) -> list[Layer]:
        grids = [self.suiting] if self.odd is None else [self.suiting, self.odd]
        return [self.shape.at([int(w) for w in widths]) for grid in grids for widths in product(*grid)]

    def surface(self, times: Sequence[float], block: int) -> Surface:
        """From the times of ``layers``, in their order."""
        sizes = [len(g) for g in self.suiting]
        first = int(np.prod(sizes))
        table = Table(self.suiting, np.array(times[:first]).reshape(sizes))
        if self.odd is None:
            return Surface(self.shape, table, None, block)
        rest = np.array(times[first:]).reshape([len(g) for g in self.odd])
        return Surface(self.shape, table, Table(self.odd, rest), block)


def surfaces(shapes: Mapping[int, Shape], block: int, measure: Measure, *, coarse: bool) -> dict[int, Surface]:
    """The surface of each node by its index, all measured together; nodes that cannot run are left out.

    ``coarse`` measures at fewer widths.
    """
    block = max(block, UNIT)
    plans = {index: plan(s, block, coarse=coarse) for index, s in shapes.items()}
    layers = {index: p.layers() for index, p in plans.items()}
    times = iter(measure([layer for some in layers.values() for layer in some]))
    found: dict[int, Surface] = {}
    for index, p in plans.items():
        values = [next(times) for _ in layers[index]]
        known = [v for v in values if v is not None]
        if len(known) == len(values):
            found[index] = p.surface(known, block)
    return found


def plan(shape: Shape, block: int, *, coarse: bool) -> Plan:
    """Choose widths: the full one, a half, a quarter, a block, half a block; of widths that do not suit fewer."""
    suiting = tuple(_suiting(n, block, coarse) for n in shape.lengths)
    odd = tuple(_odd(n, block, coarse) for n in shape.lengths)
    told_apart = bool(odd) and all(map(len, odd)) and not ((shape.blocked and shape.channels is None) or shape.integers)
    return Plan(shape, suiting, odd if told_apart else None)


def suits(shape: Shape, widths: Widths, block: int) -> bool:
    """Whether a node runs its fast way: a convolution's input channels must suit, of other nodes all axes."""
    if not shape.blocked:
        return all(w % UNIT == 0 for w in widths)
    channels = UNIT if shape.channels is None else widths[shape.channels]
    return channels < block or channels % UNIT == 0


def _suiting(length: int, block: int, coarse: bool) -> np.ndarray:
    halves = (1, 2) if coarse else (1, 2, 4)
    wanted = {_up(-(-length // part), block) for part in halves} | ({block} if coarse else {block, block // 2})
    return np.array(sorted(w for w in wanted if w <= _up(length, block)))


def _odd(length: int, block: int, coarse: bool) -> np.ndarray:
    """Widths one below those that suit, and the least one; none where the axis is no longer than a block."""
    top = length if length % UNIT else length - 1
    wanted = {top, block + 1, *(_up(-(-length // part), block) - 1 for part in ((2,) if coarse else (2, 4)))}
    return np.array(sorted(w for w in wanted if block < w <= top))


def _up(width: int, block: int) -> int:
    return -(-width // block) * block
