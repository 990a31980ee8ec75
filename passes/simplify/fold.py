"""Fold inference-mode BatchNormalization into the layer that feeds it.

At inference it is one line per channel c, and layers are linear in their weights:

    scale[c] = gamma[c] / sqrt(variance[c] + epsilon)
    shift[c] = beta[c] - mean[c] scale[c]
    scale (W x + b) + shift = (scale W) x + (scale b + shift)

A convolution *behind* a BatchNormalization cannot take it up: its padding would have to be ``-shift / scale``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from ...graph.errors import BadModel
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import attribute, display_name, is_standard, refill, replace_nodes, set_attribute
from ..base import PASSES, Context, Pass
from ..change import Change
from .names import Names
from .outputs import OUTPUTS, output_channels, outputs_of

Vector = NDArray[np.float64]

# Before, BatchNormalization has no mode, or one mean for each pixel. Loading raises such models where it can.
_OLDEST = 9
_EPSILON = float(np.float32(1e-5))  # attributes are single precision


@dataclass(frozen=True)
class Folded:
    """A model without the BatchNormalization that could go; ``left`` says why the other nodes stay, by their name."""

    model: Model
    count: int
    left: dict[str, str] = field(default_factory=dict)


class Affine(NamedTuple):
    """What a BatchNormalization does to each channel. Shapes: (channels,) each."""

    scale: Vector
    shift: Vector


@PASSES.register("fold")
class FoldBatchNorm(Pass):
    """Fold BatchNormalization into the layer before it; outputs stay equal to rounding."""

    name: ClassVar[str] = "fold"
    doing: ClassVar[str] = "folding"

    def run(self, model: Model, context: Context | None = None) -> Change:
        folded = fold(model)
        details = {"folded": folded.count, "left": folded.left}
        return Change(model, folded.model if folded.count else model, details=details)


def fold_batch_norm(model: Model) -> tuple[Model, int]:
    """A model with every BatchNormalization folded that can be, and how many those were."""
    folded = fold(model)
    return folded.model, folded.count


def fold(model: Model) -> Folded:
    """The same, with the reason for every BatchNormalization that stays.

    A tensor that a BatchNormalization made keeps its name. A weight that other nodes read too is copied.
    """
    work = Work(model)
    count, left = 0, {}
    for node in work.nodes:
        if node.op_type == "BatchNormalization" and is_standard(node):
            obstacle = _fold_one(work, node)
            if obstacle:
                left[display_name(node)] = obstacle
            count += not obstacle
    return Folded(work.finish(), count, left)


class Work:
    """A copy of a model while nodes go, and who makes and who reads each tensor."""

    def __init__(self, model: Model) -> None:
        self.original, self.model = model, model.copy()
        index = index_of(self.model)
        self.nodes, self.makers, self.readers = index.nodes, dict(index.makers), Counter(index.uses)
        self._names = Names(model)
        self._gone: list[onnx.NodeProto] = []
        self._vanished: set[str] = set()

    def constant(self, node: onnx.NodeProto, position: int) -> np.ndarray | None:
        return self.model.weights.get(node.input[position]) if position < len(node.input) else None

    def sole_maker(self, name: str) -> onnx.NodeProto | None:
        """What makes a tensor that only one node reads."""
        return self.makers.get(name) if self.readers[name] == 1 else None

    def sole_reader(self, name: str) -> onnx.NodeProto | None:
        """What alone reads a tensor, as a node of the graph itself."""
        found = [node for node in self.nodes if name in node.input and not self._is_gone(node)]
        return found[0] if len(found) == 1 == self.readers[name] else None

    def rank(self, name: str) -> int | None:
        return len(self._dims[name]) if name in self._dims else None

    @cached_property
    def _dims(self) -> Mapping[str, tuple[int, ...]]:
        try:
            return index_of(self.original).shapes.dims
        except BadModel:
            return {}

    def put(self, node: onnx.NodeProto, position: int, value: np.ndarray) -> None:
        """Give an operand a new value, under a new name where others read the old one."""
        while len(node.input) <= position:
            node.input.append("")
        old = node.input[position]
        name = old
        if not old or self.readers[old] > 1 or self.model.weights[old].shape != value.shape:
            name = self._names.fresh(f"{old}_folded" if old else f"{display_name(node)}_bias")
            self._unread(old)
            self.readers[name] += 1
        node.input[position] = self.model.put(name, value)

    def drop(self, node: onnx.NodeProto, maker: onnx.NodeProto) -> None:
        """Take a node out; what fed it makes its output from now on."""
        self._vanished.add(maker.output[0])
        maker.output[0] = node.output[0]
        self.makers[node.output[0]] = maker
        self._gone.append(node)
        for name in node.input:
            self._unread(name)

    def skip(self, node: onnx.NodeProto, reader: onnx.NodeProto) -> None:
        """Take a node out; its reader reads what it read from now on."""
        self._vanished.add(node.output[0])
        reader.input[0] = node.input[0]
        self._gone.append(node)
        self.readers[node.input[0]] += 1
        for name in node.input:
            self._unread(name)

    def _is_gone(self, node: onnx.NodeProto) -> bool:
        return any(node is one for one in self._gone)

    def replace(self, node: onnx.NodeProto, op_type: str, operand: np.ndarray) -> None:
        """Make a node another one with the same first input and the same output."""
        for name in node.input[1:]:
            self._unread(name)
        node.op_type = op_type
        del node.input[1:], node.attribute[:], node.output[1:]
        self.put(node, 1, operand)

    def finish(self) -> Model:
        graph = self.model.graph
        if self._gone:
            gone = {id(n) for n in self._gone}
            replace_nodes(graph, [n for n in self.nodes if id(n) not in gone])
        refill(graph.value_info, [v for v in graph.value_info if v.name not in self._vanished])
        annotations = graph.quantization_annotation
        refill(annotations, [a for a in annotations if a.tensor_name not in self._vanished])
        return self.model

    def _unread(self, name: str) -> None:
        self.readers[name] -= 1
        if self.readers[name] == 0:
            self.model.weights.pop(name, None)


def _fold_one(work: Work, node: onnx.NodeProto) -> str | None:
    """Fold one node; why not, if it cannot be."""
    found = affine_of(work, node)
    if isinstance(found, str):
        return found
    maker = work.sole_maker(node.input[0])
    if maker is None:
        return "its input is read elsewhere too" if node.input[0] in work.makers else "no layer feeds it"
    if not is_standard(maker):
        return f"{maker.op_type} feeds it"
    if maker.op_type in ("MatMul", "Add"):
        return _fold_into_matmul(work, node, maker, found)
    if maker.op_type in OUTPUTS:
        return fold_into_layer(work, node, maker, found)
    return f"{maker.op_type} feeds it"


def affine_of(work: Work, node: onnx.NodeProto) -> Affine | str:
    if work.model.opset < _OLDEST:
        return f"operator set {work.model.opset} is too old"
    if attribute(node, "training_mode", 0) or any(node.output[1:]):
        return "it is in training mode"
    parameters = [work.constant(node, i) for i in range(1, 5)]
    gamma, beta, mean, variance = (None if p is None else p.astype(np.float64) for p in parameters)
    if gamma is None or beta is None or mean is None or variance is None:
        return "its parameters are computed"
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", _EPSILON))
        return Affine(scale, beta - mean * scale)


def fold_into_layer(work: Work, node: onnx.NodeProto, maker: onnx.NodeProto, affine: Affine) -> str | None:
    """Into a Conv, ConvTranspose or Gemm."""
    weight, bias = work.constant(maker, 1), work.constant(maker, 2)
    if weight is None or (bias is None and any(maker.input[2:])):
        return f"the weights of {maker.op_type} {display_name(maker)!r} are computed"
    share = attribute(maker, "beta", 1.0) if maker.op_type == "Gemm" else 1.0
    changed = _applied(maker, weight, bias, affine, share)
    if isinstance(changed, str):
        return changed
    scaled, shifted = changed
    work.put(maker, 1, scaled)
    work.put(maker, 2, shifted)
    if share != 1:
        set_attribute(maker, "beta", 1.0)
    work.drop(node, maker)
    return None


def _fold_into_matmul(work: Work, node: onnx.NodeProto, maker: onnx.NodeProto, affine: Affine) -> str | None:
    """Into a MatMul with a matrix, and the Add behind it, which the BatchNormalization becomes if there is none.

    Only where the result has two axes: axis 1 is the matrix's then, else it may be time.
    """
    product, at = (maker, -1) if maker.op_type == "MatMul" else _summand(work, maker)
    if product is None:
        return "Add feeds it"
    weight = work.constant(product, 1)
    if weight is None or weight.ndim != 2 or work.rank(node.input[0]) != 2:
        return f"MatMul {display_name(product)!r} is no matrix of weights and two-dimensional data"
    bias = work.constant(maker, at) if at >= 0 else None
    changed = _applied(product, weight, bias, affine)
    if isinstance(changed, str):
        return changed
    scaled, shifted = changed
    work.put(product, 1, scaled)
    if bias is None:
        work.replace(node, "Add", shifted)
    else:
        work.put(maker, at, shifted)
        work.drop(node, maker)
    return None


def _summand(work: Work, add: onnx.NodeProto) -> tuple[onnx.NodeProto | None, int]:
    """The MatMul that alone feeds one side of a sum, and the side on which the constant stands."""
    for side in (0, 1):
        maker = work.sole_maker(add.input[side])
        if maker is not None and maker.op_type == "MatMul" and is_standard(maker):
            return (maker, 1 - side) if work.constant(add, 1 - side) is not None else (None, -1)
    return None, -1


def _applied(
    maker: onnx.NodeProto, weight: np.ndarray, bias: np.ndarray | None, affine: Affine, share: float = 1.0
) -> tuple[np.ndarray, np.ndarray] | str:
    """New weight and bias of a layer that adds ``share`` times the bias, each rounded once."""
    if output_channels(maker, weight) != len(affine.scale):
        return f"it has more channels than {maker.op_type} {display_name(maker)!r} makes"
    scale = affine.scale[outputs_of(maker, weight)]
    scaled = np.empty(weight.shape, weight.dtype)
    old = np.zeros(1, weight.dtype) if bias is None else bias
    with np.errstate(all="ignore"):
        np.multiply(weight, scale, out=scaled, dtype=np.float64, casting="unsafe")
        shifted = (old.astype(np.float64) * share * affine.scale + affine.shift).astype(old.dtype)
    if np.isfinite(scaled).all() and np.isfinite(shifted).all():
        return scaled, shifted
    return f"{weight.dtype} cannot hold its product with the weights of {maker.op_type} {display_name(maker)!r}"
