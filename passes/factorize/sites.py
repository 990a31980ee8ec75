"""Which nodes multiply by a constant that could be split into factors, and why the others cannot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np
import onnx

from ...graph.errors import UsageError
from ...graph.index import index_of
from ...graph.io.spill import is_finite
from ...graph.layer import Floats, Layer
from ...graph.layers import STACK, Layers, Unused
from ...graph.model import Model
from ...graph.nodes import display_name
from ...graph.shapes import Shapes
from ...graph.traits import Trait, has
from ..masks import masks

LARGE = 1 << 22
"""Weights from which on a matrix stays in single precision; its Gram matrix does not."""
UNKNOWN = "its shape is not known before it runs"


@dataclass(frozen=True)
class Site(Layer):
    """A layer that could be split, with the sizes that tell what it costs.

    ``in_size`` and ``out_size`` are the pixels of a convolution, ``rows`` how many rows other operators multiply, all for
    a batch as the model has it (1 where it is free).
    """

    proto: onnx.NodeProto = field(default_factory=onnx.NodeProto, repr=False, hash=False, compare=False)
    in_size: tuple[int, ...] = ()
    out_size: tuple[int, ...] = ()
    rows: int = 1

    @property
    def form(self) -> tuple[object, ...]:
        """Sites of one form see their weight as the same matrices."""
        return self.op, self.operand, self.groups, self.axis

    @property
    def macs(self) -> int:
        """What the node costs now."""
        if self.op == "Gather":
            return 0
        return self.rows * self.groups * self.outputs * self.columns * prod(self.out_size)


@dataclass(frozen=True)
class Unit:
    """One weight with all the nodes that read it: it is split once, or not at all."""

    sites: tuple[Site, ...]

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def site(self) -> Site:
        """The first of them: what holds for the weight can be read off it."""
        return self.sites[0]

    @property
    def weight(self) -> str:
        return self.site.weight

    def matrices(self, model: Model) -> Floats:
        """The weight as it is stored, without ``alpha``. Shapes: -> (groups, outputs, columns).

        In double precision, but a large one, of which that would be a large copy.
        """
        weight = model.weights[self.weight]
        large = weight.size > LARGE and weight.dtype == np.float32
        return self.site.folded(weight if large else np.asarray(weight, dtype=np.float64))

    def weight_of(self, matrices: Floats, model: Model) -> Floats:
        """The inverse, with the shape and type of the model's weight."""
        old = model.weights[self.weight]
        return np.ascontiguousarray(self.site.unfolded(matrices, old.shape), dtype=old.dtype)

    @property
    def macs(self) -> int:
        return sum(site.macs for site in self.sites)

    @property
    def params(self) -> int:
        return self.site.groups * self.site.outputs * self.site.columns


@dataclass(frozen=True)
class LayerReport:
    """What became of one layer. ``scheme`` is None where it stays whole, and ``reason`` says why."""

    name: str
    op: str
    scheme: str | None = None
    rank: tuple[int, ...] = ()
    gain: float | None = None
    speedup: float | None = None
    reason: str = ""


MASKED = "most of it is nought and is to stay so, which no factors do"


def find(model: Model) -> tuple[list[Unit], list[LayerReport]]:
    """All weights that could be split, in graph order, and the layers that cannot be with the reason."""
    index = index_of(model)
    sites: dict[str, list[Site]] = defaultdict(list)
    whole: dict[str, LayerReport] = {}
    sparse = masks(model)
    for one in Layers(model).found:
        if isinstance(one, Unused):
            found: Site | str = one.reason
        else:
            found = MASKED if one.weight in sparse else _site(model, index.shapes, one)
        if isinstance(found, Site):
            sites[found.weight].append(found)
        elif found:
            whole.setdefault(one.node, LayerReport(one.name, one.op, reason=found))
    units = []
    for weight, users in sites.items():
        readers = [display_name(r.node) if r.node else "the graph's outputs" for r in index.reads(weight)]
        obstacle = _sharing(users, readers)
        if obstacle:
            whole |= {site.node: LayerReport(site.name, site.op, reason=obstacle) for site in users}
        else:
            units.append(Unit(tuple(users)))
    return units, list(whole.values())


def _sharing(users: Sequence[Site], readers: Sequence[str]) -> str:
    others = sorted({*readers} - {site.name for site in users})
    if others or len(readers) > len(users):
        return f"its weight is also read by {', '.join(others) or 'the same node'}, which needs it whole"
    if len({site.form for site in users}) > 1:
        return f"its weight is shared in another form: {', '.join(site.name for site in users)}"
    return ""


def _site(model: Model, shapes: Shapes, layer: Layer) -> Site | str:
    """The site that a layer is, the reason why it is none, or nothing for a table of which constant rows are chosen."""
    table = layer.op == "Gather"
    if layer.op == "ConvTranspose" or has(layer.op, Trait.RECURRENT):
        what = "transposed convolutions" if layer.op == "ConvTranspose" else "recurrent layers"
        return f"{what} are not split into factors"
    if table and (layer.x in model.weights or min(layer.shape) < 2 or not is_finite(model.weights[layer.weight])):
        return ""
    if has(layer.op, Trait.MULTIPLIES) and layer.x in model.weights:
        return "both its operands are constant"
    if layer.op == "MatMul" and len(layer.shape) != 2:
        return STACK
    x, y = shapes.dims.get(layer.x), shapes.dims.get(layer.node)
    if (y is None and not table) or (x is None and layer.op == "Conv"):
        return UNKNOWN
    site = partial(Site, **vars(layer), proto=model.graph.node[layer.place])
    if layer.window is not None and x is not None and y is not None:
        return site(in_size=tuple(x[2:]), out_size=tuple(y[2:]), rows=x[0])
    return site(rows=prod(y) // layer.outputs if y is not None else 1)


def by_name(units: Sequence[Unit], name: str) -> int:
    """The number of the unit that a user means. Raises UsageError where there is none."""
    for k, unit in enumerate(units):
        if name in (unit.weight, *(s.name for s in unit.sites), *(s.node for s in unit.sites)):
            return k
    some = ", ".join([*(u.name for u in units[:8]), *("…" for _ in units[8:9])])
    raise UsageError(f"there is no layer {name!r} that can be split into factors", fix=f"choose one of {some}")
