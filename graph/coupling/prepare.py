"""Make a copy of a graph fit for analysis: known shape arithmetic becomes constants, shared constants are parted.

Exporters deduplicate equal tables, which would couple layers that have nothing to do with each other; and a length
read from a shape must not change its meaning when another axis shrinks. Neither changes an output bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from ..errors import BadModel
from ..index import index_of
from ..model import Model
from ..nodes import reads, replace_nodes
from ..shapes import Shapes, symbols
from ..traits import operator_key
from .node import ALL, RULES

_LARGEST_COPY = 1 << 16
"""Elements up to which a shared constant is parted: tables and biases are small, embeddings are not."""
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


@dataclass
class Prepared:
    """A graph ready for analysis.

    ``varying`` says of tensors with axes whose length depends on a symbolic dimension which axes those are; ``base``
    maps a parted constant to the one it is a copy of.
    """

    model: Model
    shapes: Shapes
    varying: dict[str, tuple[bool, ...]]
    base: dict[str, str]


def prepare(model: Model) -> Prepared:
    shapes, other = _two_readings(model)
    copy = model.copy()
    fixed_values = {k: v for k, v in shapes.values.items() if k in other.values and _equal(v, other.values[k])}
    _fold(copy, fixed_values)
    dims = {k: d for k, d in shapes.dims.items() if k in other.dims and len(other.dims[k]) == len(d)}
    varying = {
        k: tuple(a != b for a, b in zip(d, other.dims[k], strict=True)) for k, d in dims.items() if d != other.dims[k]
    }
    base = _part_constants(copy, dims.keys())
    dims.update({name: dims[source] for name, source in base.items()})
    dtypes = {**shapes.dtypes, **{name: shapes.dtypes[source] for name, source in base.items()}}
    return Prepared(copy, Shapes(dims, dtypes, shapes.values), varying, base)


def _two_readings(model: Model) -> tuple[Shapes, Shapes]:
    """Shapes under two different numberings of the symbolic dimensions: what agrees does not depend on them."""
    names, index = symbols(model), index_of(model)
    if not names:
        shapes = index.shapes
        return shapes, shapes
    batch = _batch_symbols(model)
    best: Shapes | None = None
    chosen = _SIZES[0]
    for primes, factor in _SIZES:
        try:
            shapes = index.shapes_at(_numbering(names, batch, primes, factor, 0))
        except BadModel:
            if primes is _SIZES[-1][0] and best is None:
                raise
            continue
        if best is None or len(shapes.dims) > len(best.dims):
            best, chosen = shapes, (primes, factor)
        if shapes.dims.keys() >= index.place.keys():
            break
    assert best is not None
    return best, index.shapes_at(_numbering(names, batch, *chosen, 1))


def _batch_symbols(model: Model) -> set[str]:
    found = set()
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) and not dims[0].HasField("dim_value"):
            found.add(dims[0].dim_param or f"{value.name}.0")
    return found


def _numbering(
    names: list[str], batch: set[str], primes: tuple[int, ...], factor: int, shift: int
) -> Callable[[str], int]:
    numbers = {
        name: primes[(2 * i + shift) % len(primes)] * (1 if name in batch else factor) for i, name in enumerate(names)
    }
    return lambda name: numbers.get(name, primes[-1 - shift])


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def _fold(model: Model, values: dict[str, np.ndarray]) -> None:
    """Replace nodes whose outputs are all known by constants."""
    graph = model.graph
    outputs = {o.name for o in graph.output}
    kept, gone = [], set()
    for node in graph.node:
        made = [o for o in node.output if o]
        if made and all(o in values and o not in outputs for o in made):
            gone.update(made)
        else:
            kept.append(node)
    if not gone:
        return
    replace_nodes(graph, kept)
    for name in sorted(gone & index_of(model).uses.keys()):
        model.weights[name] = values[name]


def _part_constants(model: Model, taken: Collection[str]) -> dict[str, str]:
    """Give every use of a shared small constant that works index by index on an activation a copy of its own.

    Uses among constants alone, as in weight normalization, stay together: they compute one weight. Returns what each
    copy is a copy of.
    """
    index = index_of(model)
    small = [k for k, w in model.weights.items() if w.size <= _LARGEST_COPY]
    shared = {k for k in small if sum(read.node is not None for read in index.reads(k)) > 1}
    serial: Counter[str] = Counter()
    base: dict[str, str] = {}
    for node in index.nodes:
        if node.input and index.constant.issuperset(reads(node)):
            continue
        rule = RULES.get(operator_key(node))
        unshared = rule.unshared if rule is not None else ()
        for i, name in enumerate(node.input):
            if name in shared and (unshared is ALL or i in unshared):
                serial[name] += 1
                copy = f"{name}__{serial[name]}"
                while copy in model.weights or copy in taken:
                    copy += "_"
                model.weights[copy] = model.weights[name]
                base[copy] = name
                node.input[i] = copy
    return base
