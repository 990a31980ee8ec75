"""Make a copy of a graph fit for analysis: known shape arithmetic becomes constants, shared constants are parted.

Exporters deduplicate equal tables, which would couple layers that have nothing to do with each other; and a length
read from a shape must not change its meaning when another axis shrinks. Neither changes an output bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..index import index_of
from ..model import Model
from ..nodes import reads, replace_nodes
from ..readings import readings
from ..shapes import Shapes
from ..traits import operator_key
from .constancy import constants
from .node import ALL, RULES

_LARGEST_COPY = 1 << 16
"""Elements up to which a shared constant is parted: tables and biases are small, embeddings are not."""


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
    read = readings(model)
    shapes, fixed = read.first, read.varying()
    copy = model.copy()
    fold_known(copy, constants(model, read))
    dims = {k: shapes.dims[k] for k in fixed}
    varying = {k: axes for k, axes in fixed.items() if any(axes)}
    base = _part_constants(copy, dims.keys())
    dims.update({name: dims[source] for name, source in base.items()})
    dtypes = {**shapes.dtypes, **{name: shapes.dtypes[source] for name, source in base.items()}}
    return Prepared(copy, Shapes(dims, dtypes, shapes.values), varying, base)


def fold_known(model: Model, values: dict[str, np.ndarray]) -> None:
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
