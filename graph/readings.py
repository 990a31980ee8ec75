"""Shapes at several sizes of the free dimensions, and the sizes at which what a graph computes from them turns.

Two readings at primes tell which lengths depend on a free dimension. Small ones, and those on both sides of every
comparison, tell what looks constant at the primes only because it saturates there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx

from .errors import BadModel
from .evaluate import operand
from .index import Index, index_of
from .model import Model
from .nodes import as_ints, is_standard
from .shapes import Shapes, free_dims, symbols
from .traits import Trait, has, has_any

Sizes = Mapping[str, int]
_LARGE = (9973, 9967, 9949, 9941, 9931, 9929, 9923, 9907, 9901, 9887)
_SMALL = (7, 11, 13, 5, 17, 19, 23, 29, 3, 2)
_SIZES: tuple[tuple[tuple[int, ...], int], ...] = (
    (_LARGE, 1),
    (_LARGE, 32),
    (_LARGE, 224),
    (_SMALL, 1),
    (_SMALL, 32),
    ((3, 2), 1),
)
"""Primes and a common factor for symbolic sizes, tried in turn until every shape follows.

Primes divide no other size, so no product of sizes is mistaken for another. Some networks accept only multiples of
their total stride, others only what fits their table of positions.
"""
_EQUAL = ((9973, 9967), (9973 * 32, 9967 * 32), (7, 11), (224, 448))
"""Sizes that all symbols have at once: names of their own do not say that two lengths may differ."""
_MOST_TURNS = 32
"""Sizes at which something turns that are looked at: each costs a reading."""
_LARGEST_TURN = 1 << 24


@dataclass(frozen=True)
class Readings:
    """``first`` is a reading in which as many shapes follow as in any; ``others`` are at other sizes.

    ``turns`` are sizes of single symbols just below, at and above which a comparison, a limit or a cut comes out
    differently.
    """

    first: Shapes
    others: tuple[Shapes, ...] = ()
    turns: tuple[tuple[str, int], ...] = ()

    def varying(self) -> dict[str, tuple[bool, ...]]:
        """Of all tensors whose rank is fixed, which axes have no fixed length."""
        found: dict[str, tuple[bool, ...]] = {}
        for name, dims in self.first.dims.items():
            if self.others and name not in self.others[0].dims:
                continue
            seen = [other.dims[name] for other in self.others if name in other.dims]
            if all(len(other) == len(dims) for other in seen):
                found[name] = tuple(any(other[a] != n for other in seen) for a, n in enumerate(dims))
        return found


def readings(model: Model) -> Readings:
    """Readings at large, small and equal sizes, at 1, and on both sides of what turns.

    Raises:
        BadModel: shapes contradict each other at all sizes.
    """
    index, names = index_of(model), symbols(model)
    if not names:
        return Readings(index.shapes)
    first, second, shapes = _pair(model, index, names)
    alone = [(name, _at(index, {**first, name: second[name]})) for name in names]
    steps = [(name, found) for name, found in alone if found is not None]
    turns = _turns(model, index, shapes[0], steps, first, second)
    more: list[Sizes] = [dict.fromkeys(names, size) for size in (1, 2)]
    more += [{**first, name: 1} for name in names if len(names) > 1]
    more += [{**first, name: size} for name, size in turns]
    others = [found for sizes in more if (found := _at(index, sizes)) is not None]
    return Readings(shapes[0], (shapes[1], *(found for _, found in steps), *others), turns)


def _at(index: Index, sizes: Sizes) -> Shapes | None:
    """Shapes at some sizes; None where the graph does not take them."""
    try:
        return index.shapes_at(lambda name: sizes.get(name, 1))
    except BadModel:
        return None


def _pair(model: Model, index: Index, names: Sequence[str]) -> tuple[Sizes, Sizes, tuple[Shapes, Shapes]]:
    """The first two sets of sizes at both of which every shape follows, or those at which the most do."""
    best: tuple[Sizes, Sizes, tuple[Shapes, Shapes]] | None = None
    failed: BadModel | None = None
    most = -1
    for first, second in _pairs(model, names):
        try:
            pair = index.shapes_at(first.__getitem__), index.shapes_at(second.__getitem__)
        except BadModel as error:
            failed = error
            continue
        known = min(len(shapes.dims) for shapes in pair)
        if known > most:
            best, most = (first, second, pair), known
        if all(shapes.dims.keys() >= index.place.keys() for shapes in pair):
            break
    if best is None:
        assert failed is not None
        raise failed
    return best


class _Numbers(dict[str, int]):
    """Sizes by symbol, and one for symbols that no graph input has."""

    def __init__(self, sizes: Sizes, otherwise: int) -> None:
        super().__init__(sizes)
        self.otherwise = otherwise

    def __missing__(self, name: str) -> int:
        return self.otherwise


def _pairs(model: Model, names: Sequence[str]) -> Iterator[tuple[_Numbers, _Numbers]]:
    batch = {name for _, axis, name, _ in free_dims(model.graph.input) if axis == 0}
    for primes, factor in _SIZES:
        a, b = (
            _Numbers(
                {
                    name: primes[(2 * i + shift) % len(primes)] * (1 if name in batch else factor)
                    for i, name in enumerate(names)
                },
                primes[-1 - shift],
            )
            for shift in (0, 1)
        )
        yield a, b
    for first, second in _EQUAL:
        yield _Numbers(dict.fromkeys(names, first), first), _Numbers(dict.fromkeys(names, second), second)


def _turns(
    model: Model, index: Index, shapes: Shapes, steps: Sequence[tuple[str, Shapes]], first: Sizes, second: Sizes
) -> tuple[tuple[str, int], ...]:
    """Sizes of each symbol around which the gap between two compared numbers, taken as linear, is zero."""
    found: dict[tuple[str, int], None] = {}
    for name, other in steps:
        gaps = dict.fromkeys(chain.from_iterable(_gaps(model, node, shapes, other) for node in index.nodes))
        for a, b in gaps:
            slope = (b - a) / (second[name] - first[name])
            root = first[name] - a / slope if slope else math.inf
            if not abs(root) <= _LARGEST_TURN:
                continue
            step = max(1, round(min(1 / abs(slope), _LARGEST_TURN)))
            below, above = math.floor(root), math.ceil(root)
            for size in (below - step, below - 1, below, above, above + 1, above + step):
                if 1 <= size <= _LARGEST_TURN:
                    found[name, size] = None
    return tuple(found)[:_MOST_TURNS]


def _gaps(model: Model, node: onnx.NodeProto, one: Shapes, two: Shapes) -> Iterator[tuple[float, float]]:
    """In both readings, the differences between numbers on whose order the node's result depends."""
    if not is_standard(node) or has(node, Trait.SHAPE_ONLY):
        return
    cuts = node.op_type == "Slice"
    if not cuts and has_any(node, Trait.MOVES | Trait.POLYNOMIAL):
        return
    pair = [_compared(model, node, shapes, cuts) for shapes in (one, two)]
    for a, b in zip(*pair, strict=False):
        if a.shape == b.shape and a.dtype.kind in "iuf":
            changed = a != b
            yield from zip(a[changed].astype(float).tolist(), b[changed].astype(float).tolist(), strict=True)


def _compared(model: Model, node: onnx.NodeProto, shapes: Shapes, cuts: bool) -> list[np.ndarray]:
    values = [shapes.values.get(name, model.weights.get(name)) if name else None for name in node.input]
    if cuts:
        return _bounds(node, values, shapes.dims.get(node.input[0]))
    known = [v.astype(np.float64) if v.dtype.kind in "iub" else v for v in values if v is not None]
    if not known or len(known) < sum(bool(name) for name in node.input) or any(v.size > 64 for v in known):
        return []
    try:
        return [known[0], *(known[0] - other for other in known[1:])]
    except ValueError:
        return []


def _bounds(
    node: onnx.NodeProto, values: Sequence[np.ndarray | None], dims: tuple[int, ...] | None
) -> list[np.ndarray]:
    """Where a cut starts and ends, from either end of its axis."""
    bounds = [operand(node, values, i, name) for i, name in ((1, "starts"), (2, "ends"))]
    axes = operand(node, values, 3, "axes")
    if dims is None or any(b is None for b in bounds) or (len(node.input) > 3 and node.input[3] and axes is None):
        return []
    both = [np.array(as_ints(b), dtype=np.float64) for b in bounds]
    at = as_ints(axes) if axes is not None else list(range(len(both[0])))
    if {len(at)} != {len(b) for b in both} or any(not -len(dims) <= a < len(dims) for a in at):
        return []
    lengths = np.array([dims[a] for a in at], dtype=np.float64)
    return [gap for b in both for gap in (b - lengths, b + lengths)] + [both[1] - both[0]]
