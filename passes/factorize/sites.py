"""Which nodes multiply by a constant that could be split into factors, and why the others cannot."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from ...graph.dtypes import is_float
from ...graph.errors import UsageError
from ...graph.index import index_of
from ...graph.layer import Floats
from ...graph.model import Model
from ...graph.nodes import attribute, display_name, is_standard
from ...graph.shapes import Shapes

LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "Einsum", "LSTM", "GRU", "RNN"))
"""Operators that are listed where one of their operands is, or stands for, a matrix of float weights."""
_FACTORED = frozenset(("Conv", "Gemm", "MatMul", "Gather"))
_NAMES = {"ConvTranspose": "transposed convolutions", "Einsum": "Einsum operators"}


@dataclass(frozen=True)
class Site:
    """A node and its constant weight, seen as matrices of (outputs, columns) side by side, one for each group.

    Columns of a convolution are ordered by kernel position, then by input channel; looking up row *k* of a table is
    multiplying by a unit vector. ``operand`` is which input the weight is. ``in_size`` and ``out_size`` are the pixels
    of a convolution, ``rows`` how many rows the other operators multiply, all for a batch as the model has it (1 where
    it is free).
    """

    name: str
    node: onnx.NodeProto = field(repr=False, hash=False, compare=False)
    place: int
    operand: int
    weight: str
    groups: int
    outputs: int
    channels: int
    kernel: tuple[int, ...] = ()
    in_size: tuple[int, ...] = ()
    out_size: tuple[int, ...] = ()
    rows: int = 1

    @property
    def op(self) -> str:
        return self.node.op_type

    @property
    def x(self) -> str:
        """The tensor that is multiplied."""
        return self.node.input[1 - self.operand]

    @property
    def output(self) -> str:
        return self.node.output[0]

    @property
    def positions(self) -> int:
        """Kernel positions."""
        return int(np.prod(self.kernel, dtype=np.int64))

    @property
    def columns(self) -> int:
        return self.channels * self.positions

    @property
    def flipped(self) -> bool:
        """Whether the weight's matrix is stored as (columns, outputs)."""
        if self.op == "Gemm":
            return self.operand != bool(attribute(self.node, "transB" if self.operand else "transA", 0))
        return self.op in ("MatMul", "Gather") and (self.operand == 1 or self.op == "Gather")

    def matrices(self, weight: Floats) -> Floats:
        """Shapes: -> (groups, outputs, columns)."""
        w = np.asarray(weight, dtype=np.float64)
        if self.op == "Conv":
            split = w.reshape(self.groups, self.outputs, self.channels, -1)
            return np.ascontiguousarray(split.transpose(0, 1, 3, 2)).reshape(self.groups, self.outputs, -1)
        return (w.T if self.flipped else w)[None]

    def weight_of(self, matrices: Floats, like: Floats) -> Floats:
        """The inverse, with the shape and type of ``like``."""
        if self.op == "Conv":
            split = matrices.reshape(self.groups, self.outputs, -1, self.channels).transpose(0, 1, 3, 2)
            return np.ascontiguousarray(split.reshape(like.shape), dtype=like.dtype)
        return np.ascontiguousarray(matrices[0].T if self.flipped else matrices[0], dtype=like.dtype)

    @property
    def form(self) -> tuple[object, ...]:
        """Sites of one form see their weight as the same matrices."""
        return self.op, self.operand, self.groups, self.flipped

    @property
    def macs(self) -> int:
        """What the node costs now."""
        if self.op == "Gather":
            return 0
        return self.rows * self.groups * self.outputs * self.columns * int(np.prod(self.out_size, dtype=np.int64))


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

    @property
    def macs(self) -> int:
        return sum(site.macs for site in self.sites)

    @property
    def params(self) -> int:
        return self.site.groups * self.site.outputs * self.site.columns


@dataclass(frozen=True)
class Whole:
    """A layer that stays as it is, and why."""

    name: str
    op: str
    reason: str


def find(model: Model) -> tuple[list[Unit], list[Whole]]:
    """All weights that could be split, in graph order, and the layers that cannot be with the reason."""
    index = index_of(model)
    sites: dict[str, list[Site]] = defaultdict(list)
    whole: list[Whole] = []
    for place, node in enumerate(index.nodes):
        found = _site(model, index.shapes, place, node)
        if isinstance(found, Site):
            sites[found.weight].append(found)
        elif found:
            whole.append(Whole(display_name(node), node.op_type, found))
    units = []
    for weight, users in sites.items():
        readers = [display_name(r.node) if r.node else "the graph's outputs" for r in index.reads(weight)]
        obstacle = _sharing(users, readers)
        if obstacle:
            whole += [Whole(site.name, site.op, obstacle) for site in users]
        else:
            units.append(Unit(tuple(users)))
    return units, whole


def _sharing(users: Sequence[Site], readers: Sequence[str]) -> str:
    others = sorted({*readers} - {site.name for site in users})
    if others or len(readers) > len(users):
        return f"its weight is also read by {', '.join(others) or 'the same node'}, which needs it whole"
    if len({site.form for site in users}) > 1:
        return f"its weight is shared in another form: {', '.join(site.name for site in users)}"
    return ""


def _site(model: Model, shapes: Shapes, place: int, node: onnx.NodeProto) -> Site | str:
    """The site that a node is, the reason why it is none, or nothing for a node that is no layer."""
    if not is_standard(node) or node.op_type not in LAYERS:
        return ""
    candidates = (0,) if node.op_type == "Gather" else (1, 0) if node.op_type in ("Gemm", "MatMul") else (1,)
    constants = [i for i in candidates if i < len(node.input) and node.input[i] in model.weights]
    if not constants:
        return _computed(model, node)
    weight = model.weights[node.input[constants[0]]]
    kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
    if not is_float(kind):
        return "" if node.op_type == "Gather" else f"its weight is {weight.dtype}"
    if node.op_type == "Gather":
        return _table(model, shapes, place, node)
    if node.op_type not in _FACTORED:
        return f"{_NAMES.get(node.op_type, 'recurrent layers')} are not split into factors"
    if len(constants) > 1:
        return "both its operands are constant"
    if weight.dtype.kind != "f":
        return f"its weight is {weight.dtype}, in which numpy does not calculate"
    if node.op_type == "Conv":
        return _conv(model, shapes, place, node)
    return _dense(model, shapes, place, node, constants[0])


def _computed(model: Model, node: onnx.NodeProto) -> str:
    """Why a layer whose weight follows from constants stays whole; nothing for products of activations."""
    if node.op_type in ("Gather", "Einsum"):
        return ""
    index = index_of(model)
    for i in (1, 0):
        maker = index.makers.get(node.input[i]) if i < len(node.input) else None
        if maker is not None and maker.input and all(name in model.weights for name in maker.input if name):
            return f"its weight is computed by {maker.op_type} {display_name(maker)!r}"
    return "its weight is computed" if node.op_type in ("Conv", "ConvTranspose") else ""


def _conv(model: Model, shapes: Shapes, place: int, node: onnx.NodeProto) -> Site | str:
    weight, groups = model.weights[node.input[1]], int(attribute(node, "group", 1))
    x, y = shapes.dims.get(node.input[0]), shapes.dims.get(node.output[0])
    if x is None or y is None:
        return "its shape is not known before it runs"
    kernel = tuple(int(k) for k in weight.shape[2:])
    if weight.shape[0] % groups or not weight.size:
        return "its weight is empty, or no multiple of its groups"
    return Site(
        display_name(node),
        node,
        place,
        1,
        node.input[1],
        groups,
        weight.shape[0] // groups,
        weight.shape[1],
        kernel,
        tuple(x[2:]),
        tuple(y[2:]),
        rows=int(x[0]),
    )


def _dense(model: Model, shapes: Shapes, place: int, node: onnx.NodeProto, operand: int) -> Site | str:
    weight = model.weights[node.input[operand]]
    if weight.ndim != 2:
        return f"its weight has {weight.ndim} axes: a batch of matrices, or a vector"
    if not weight.size:
        return "its weight is empty"
    y = shapes.dims.get(node.output[0])
    if y is None:
        return "its shape is not known before it runs"
    site = Site(display_name(node), node, place, operand, node.input[operand], 1, 1, 1)
    columns, outputs = weight.shape if site.flipped else weight.shape[::-1]
    rows = int(np.prod(y, dtype=np.int64)) // max(1, outputs)
    return Site(site.name, node, place, operand, site.weight, 1, outputs, columns, rows=rows)


def _table(model: Model, shapes: Shapes, place: int, node: onnx.NodeProto) -> Site | str:
    table = model.weights[node.input[0]]
    if table.ndim != 2 or node.input[1] in model.weights or min(table.shape) < 2:
        return ""  # no embedding, but a choice of constants
    if attribute(node, "axis", 0) not in (0, -2):
        return "it looks up columns of its table, not rows"
    if table.dtype.kind != "f":
        return f"its table is {table.dtype}, in which numpy does not calculate"
    y = shapes.dims.get(node.output[0])
    rows = int(np.prod(y, dtype=np.int64)) // table.shape[1] if y is not None else 1
    return Site(display_name(node), node, place, 0, node.input[0], 1, table.shape[1], table.shape[0], rows=rows)


def chosen(units: Sequence[Unit], whole: Sequence[Whole], include: Sequence[str], exclude: Sequence[str]) -> set[int]:
    """Numbers of the units that the patterns allow.

    A pattern is a name (of a node or its weight), an operator type, or ``re:`` and a regular expression.

    Raises:
        UsageError: a pattern matches nothing.
    """
    names = [{u.weight, u.site.op, *(s.name for s in u.sites)} for u in units]
    also = [{w.name, w.op} for w in whole]
    wanted = _matching(include, names, also) if include else set(range(len(units)))
    return wanted - _matching(exclude, names, also)


def _matching(patterns: Iterable[str], names: Sequence[set[str]], also: Sequence[set[str]]) -> set[int]:
    found: set[int] = set()
    for pattern in patterns:
        match = _matcher(pattern)
        hits = {k for k, words in enumerate(names) if any(match(w) for w in words)}
        if not hits and not any(match(w) for words in also for w in words):
            raise UsageError(
                f"pattern {pattern!r} matches no layer, weight or operator type",
                fix="list the layers with: intaglio inspect MODEL",
            )
        found |= hits
    return found


def _matcher(pattern: str) -> Callable[[str], object]:
    if not pattern.startswith("re:"):
        return pattern.__eq__
    try:
        return re.compile(pattern[3:]).search
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression", why=str(error)) from error


def by_name(units: Sequence[Unit], name: str) -> int:
    """The number of the unit that a user means. Raises UsageError where there is none."""
    for k, unit in enumerate(units):
        if name in (unit.weight, *(s.name for s in unit.sites), *(s.output for s in unit.sites)):
            return k
    raise UsageError(
        f"there is no layer {name!r} that can be split into factors", fix=f"choose one of {', '.join(_some(units))}"
    )


def _some(units: Sequence[Unit]) -> Iterator[str]:
    yield from (u.name for u in units[:8])
    if len(units) > 8:
        yield "…"
