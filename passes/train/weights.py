"""Which weights are trained, and what they must stay: zeros that are a mask, integers on their grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx

from ...graph.bits import bit_operator
from ...graph.errors import NothingChanged
from ...graph.index import Index, index_of
from ...graph.model import Model
from ...graph.nodes import attribute, display_name
from ...graph.traits import Trait, has, has_any, operator
from ...kernels.packing import pack, unpack
from ..masks import looks_masked, masks
from ..patterns import choose_nodes
from .packed import Packed, packed_weights

_HUGE = 1e4
"""Larger numbers are borders and masks."""
_TINY = 1e-30
"""Integers of smaller steps stand for nothing."""
_ROOM = 1 << 30
"""Integers of 32 bits stay below this, so that sums do not overflow."""
_SCALED = Trait.NORMALIZES | Trait.STANDARDIZES
_COMBINES = Trait.POLYNOMIAL | Trait.HOMOGENEOUS


@dataclass(frozen=True)
class Weight:
    """A weight that is trained.

    ``mask`` is where it may differ from zero, None for everywhere. Of a weight that is stored as integers, ``step`` is what
    one of them stands for, as the weight ``scale`` holds it at the places ``which``, and ``zero`` is the one that stands for
    nought; ``least`` and ``greatest`` are their limits, and ``packed`` says how bytes hold them, where a byte is not just one.
    Rows of ``columns`` signs are stored as bits. Shapes: as the weight; ``step`` and ``zero`` broadcast.
    """

    name: str
    mask: np.ndarray | None = None
    step: np.ndarray | None = None
    least: int = 0
    greatest: int = 0
    packed: Packed | None = None
    scale: str = ""
    which: np.ndarray | None = None
    zero: np.ndarray | None = None
    columns: int = 0

    @property
    def is_code(self) -> bool:
        return self.step is not None or bool(self.columns)

    @property
    def source(self) -> str:
        """The weight of the file that it stands in."""
        return self.packed.source if self.packed else self.name

    def start(self, stored: np.ndarray) -> np.ndarray:
        """What the file holds as floats in units of the weight."""
        if self.columns:
            return unpack(stored, self.columns)
        floats = self._numbers(stored).astype(np.float32)
        return floats if self.step is None else ((floats - self.nought) * self.step).astype(np.float32)

    @property
    def nought(self) -> np.ndarray:
        """The integer that stands for 0."""
        return np.zeros((), np.float32) if self.zero is None else self.zero

    def _numbers(self, stored: np.ndarray) -> np.ndarray:
        return self.packed.read(stored) if self.packed else stored

    def stored(self, value: np.ndarray, old: np.ndarray) -> np.ndarray:
        """As the file holds it, which has ``old`` in its place."""
        if self.columns:
            return pack(value)
        if self.step is None:
            return value.astype(old.dtype)
        near = (np.rint(value / self.step) + self.nought).clip(self.least, self.greatest)
        codes = np.where(value == self.start(old), self._numbers(old), near)  # floats round large integers
        return self.packed.stored(codes, old) if self.packed else codes.astype(np.int64).astype(old.dtype)


def weights_to_train(model: Model, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Weight]:
    """Weights that outputs depend on and that gradients say something of.

    Raises:
        UsageError: a pattern matches nothing.
        NothingChanged: there is no such weight.
    """
    index, chosen = index_of(model), choose_nodes(model, include, exclude)
    found = {name: one for name, one in _plain(model, index) if any(chosen[k] for k in _places(index, name, one))}
    for packed in packed_weights(model):
        reads = index.reads(packed.name)
        one = _scaled(model, reads[0].node, packed) if len(reads) == 1 else None
        if one and any(chosen[k] for k in _places(index, packed.name, one)):
            found[packed.name] = one
    if not found:
        raise NothingChanged(
            "there is no weight to train",
            why="no layer or normalization reads constant floats"
            + (", as far as patterns choose" if include or exclude else ""),
            fix="list what the model holds with: intaglio inspect MODEL",
        )
    return list(found.values())


def _plain(model: Model, index: Index) -> Iterator[tuple[str, Weight]]:
    """Weights that stand in the file as they are, and mean the same to all that read them."""
    for name in model.weights:
        seen = [_weight(model, index, name, r.node, r.operand) for r in index.reads(name) if r.node is not None]
        if seen and seen[0] is not None and None not in seen:
            yield name, seen[0]


def _places(index: Index, name: str, one: Weight) -> set[int]:
    """Where nodes stand that read it, or what a node makes of its integers."""
    places, new = set[int](), set(index.readers(name))
    while new:
        places |= new
        made = [index.nodes[at].output[0] for at in new] if one.is_code else []
        constant = [tensor for tensor in made if tensor in index.constant]
        new = {k for tensor in constant for k in index.readers(tensor)} - places
    return places


def _weight(model: Model, index: Index, name: str, node: onnx.NodeProto, position: int) -> Weight | None:
    value, known = model.weights[name], operator(node)
    if value.size < 2:
        return None
    if (value.dtype.kind in "iuV" and value.dtype.itemsize == 1) or value.dtype == np.int32:
        return _signs(node, position, value) or _codes(model, index, node, position, value)
    if value.dtype not in (np.dtype(np.float32), np.dtype(np.float16)) or node.output[0] in index.constant:
        return None
    if not (position in known.weights or position == known.bias or _shifts_or_scales(model, index, node, position)):
        return None
    if not np.isfinite(value).all() or float(np.abs(value).max()) >= _HUGE:
        return None
    zeros = value == 0
    masked = name in masks(model) or (position in known.weights and looks_masked(value))
    return Weight(name, ~zeros if masked else None)


def _shifts_or_scales(model: Model, index: Index, node: onnx.NodeProto, position: int) -> bool:
    """Whether an operand scales or shifts channels: of a normalization, or in a sum or product of its own."""
    if has_any(node, _SCALED):
        return position in (1, 2)
    elementwise = has(node, Trait.BROADCASTS) and has_any(node, _COMBINES)
    return elementwise and any(name not in index.constant for name in node.input)


def _codes(model: Model, index: Index, node: onnx.NodeProto, position: int, codes: np.ndarray) -> Weight | None:
    """Integers that a DequantizeLinear reads, or a product with constants behind a Cast."""
    if has(node, Trait.QUANTIZES) and position in operator(node).codes:
        reader: onnx.NodeProto | None = node
    else:
        reader = index.sole_reader(node.output[0]) if node.op_type == "Cast" else None
    if reader is None:
        return None
    held, masked = _scale(model, reader, codes.shape), reader.output[0] in masks(model)
    limits = ml_dtypes.iinfo(codes.dtype)  # type: ignore[no-untyped-call]
    least, greatest = max(int(limits.min), -_ROOM), min(int(limits.max), _ROOM)
    mask = codes != (0 if held is None or held.zero is None else held.zero) if masked else None
    return (
        None if held is None else Weight(node.input[position], mask, least=least, greatest=greatest, **held._asdict())
    )


def _scaled(model: Model, node: onnx.NodeProto | None, one: Packed) -> Weight | None:
    held = None if node is None else _scale(model, node, one.values.shape)
    least, greatest = int(one.levels[0]), int(one.levels[-1])
    return None if held is None else Weight(one.name, least=least, greatest=greatest, packed=one, **held._asdict())


def _signs(node: onnx.NodeProto, position: int, bits: np.ndarray) -> Weight | None:
    """Planes of signs that are made floats, or that floats are multiplied by."""
    known = bit_operator(node)
    if known is None or known.binary or known.weight != position or not known.scales or known.length is None:
        return None
    scale = node.input[known.scales[0]]
    return Weight(node.input[position], least=-1, greatest=1, scale=scale, columns=known.length(node))


class _Held(NamedTuple):
    scale: str
    which: np.ndarray
    step: np.ndarray
    zero: np.ndarray | None


def _scale(model: Model, node: onnx.NodeProto, shape: tuple[int, ...]) -> _Held | None:
    """What integers that a node reads first are multiplied by; None where that is not constant."""
    quantizes = has(node, Trait.QUANTIZES)
    if not quantizes and not has(node, Trait.BROADCASTS | Trait.POLYNOMIAL):
        return None
    scale = model.weights.get(node.input[1]) if len(node.input) > 1 else None
    if (
        scale is None
        or scale.dtype.kind != "f"
        or (quantizes and node.input[2:3] and node.input[2] not in model.weights)
    ):
        return None
    which, zero = np.arange(scale.size).reshape(scale.shape), None
    if quantizes:
        axis, block = attribute(node, "axis", 1), attribute(node, "block_size", 0)
        which = _spread(which, shape, axis, block)
        if node.input[2:3] and node.input[2]:
            zero = _spread(model.weights[node.input[2]].astype(np.float32), shape, axis, block)
    elif node.op_type != "Mul":
        return None
    step = scale.astype(np.float32).reshape(-1)[which]
    return _Held(node.input[1], which, np.where(abs(step) > _TINY, step, np.float32(1)), zero)


def _spread(scale: np.ndarray, shape: tuple[int, ...], axis: int, block: int) -> np.ndarray:
    """One number for all, for each index of an axis, or for each block along it."""
    if scale.size == 1:
        return scale.reshape((1,) * len(shape))
    axis %= len(shape)
    if scale.ndim == 1:
        return scale.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return np.repeat(scale, block, axis).take(range(shape[axis]), axis)


def batch_statistics(model: Model) -> Iterator[str]:
    """Weights that hold running statistics of a normalization."""
    for node in model.graph.node:
        if has(node, Trait.STANDARDIZES):
            yield from (name for name in node.input[3:5] if name in model.weights)


def told(model: Model, name: str) -> str:
    """The node that reads a weight first."""
    reader = next((read.node for read in index_of(model).reads(name)), None)
    return name if reader is None else display_name(reader)
