"""Fold what multiplies channels by constants and adds constants to them into the layer before, or the layer behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.layer import Window
from ...graph.model import Model
from ...graph.nodes import attribute, is_standard
from .fold import Affine, Work, affine_of, fold_into_layer
from .outputs import OUTPUTS, output_channels


def fold_affine(model: Model) -> tuple[Model, int]:
    """A model without the sums and products that could go into a Conv, ConvTranspose or Gemm before them, and without
    BatchNormalization that could go into a Conv behind it; and how many those were."""
    work, count = Work(model), 0
    for node in work.nodes:
        if is_standard(node):
            count += _into_layer_before(work, node) or _into_layer_behind(work, node)
    return (work.finish(), count) if count else (model, 0)


def _into_layer_before(work: Work, node: onnx.NodeProto) -> bool:
    of = _AFFINE.get(node.op_type)
    if of is None or len(node.input) != 2:
        return False
    at = next((k for k in (0, 1) if work.constant(node, 1 - k) is not None), None)
    maker = None if at is None else work.sole_maker(node.input[at])
    if at is None or maker is None or maker.op_type not in OUTPUTS or not is_standard(maker):
        return False
    weight, rank = work.constant(maker, 1), work.rank(node.input[at])
    value = work.constant(node, 1 - at)
    if weight is None or value is None or rank is None or maker.op_type == "MatMul" or value.dtype.kind != "f":
        return False
    vector = _by_channel(value, rank, output_channels(maker, weight))
    found = None if vector is None else of(vector, at)
    return found is not None and fold_into_layer(work, node, maker, found) is None


def _by_channel(value: np.ndarray, rank: int, channels: int) -> np.ndarray | None:
    """A constant as one number for each channel, which stand on axis 1; None where it is anything else."""
    dims = (1,) * (rank - value.ndim) + value.shape
    if len(dims) != rank or any(n != 1 for axis, n in enumerate(dims) if axis != 1) or dims[1] not in (1, channels):
        return None
    return np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))


def _sum(vector: np.ndarray, at: int) -> Affine:
    return Affine(np.ones(len(vector)), vector)


def _difference(vector: np.ndarray, at: int) -> Affine:
    sign = np.ones(len(vector))
    return Affine(sign, -vector) if at == 0 else Affine(-sign, vector)


def _product(vector: np.ndarray, at: int) -> Affine:
    return Affine(vector, np.zeros(len(vector)))


def _quotient(vector: np.ndarray, at: int) -> Affine | None:
    return _product(1 / vector, at) if at == 0 and vector.all() else None


_AFFINE: Mapping[str, Callable[[np.ndarray, int], Affine | None]] = {
    "Add": _sum,
    "Div": _quotient,
    "Mul": _product,
    "Sub": _difference,
}
"""By operator: what it does to channels with a constant, where they are its operand ``at``."""


def _into_layer_behind(work: Work, node: onnx.NodeProto) -> bool:
    """Where nothing is padded: padding would have to be what becomes zero."""
    found = affine_of(work, node) if node.op_type == "BatchNormalization" else ""
    reader = work.sole_reader(node.output[0])
    if isinstance(found, str) or reader is None or reader.op_type != "Conv" or reader.input[0] != node.output[0]:
        return False
    weight, bias = work.constant(reader, 1), work.constant(reader, 2)
    if weight is None or (bias is None and any(reader.input[2:])):
        return False
    try:
        window = Window.of(reader, tuple(weight.shape[2:]))
    except BadModel:
        return False
    if window.pads is None or any(map(any, window.pads)):
        return False
    groups, (outputs, inside) = attribute(reader, "group", 1), weight.shape[:2]
    of = np.repeat(np.arange(groups) * inside, outputs // groups)[:, None] + np.arange(inside)
    scale, shift = (v[of].reshape(outputs, inside, *[1] * (weight.ndim - 2)) for v in found)
    exact = weight.astype(np.float64)
    moved = (exact * shift).sum(axis=tuple(range(1, weight.ndim)))
    scaled, shifted = exact * scale, moved + (0 if bias is None else bias.astype(np.float64))
    work.put(reader, 1, scaled.astype(weight.dtype))
    work.put(reader, 2, shifted.astype(weight.dtype))
    work.skip(node, reader)
    return True
