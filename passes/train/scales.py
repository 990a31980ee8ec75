"""Scales of integers that may be learned, and those that follow from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.index import Index, index_of
from ...graph.model import Model
from ...graph.nodes import is_standard
from ...graph.traits import Trait, has, operator
from .weights import Weight

_NEAR = 1e-6
"""Scales of biases are products of others but for rounding."""


@dataclass(frozen=True)
class Scale:
    """Weights that hold the same scales, bit for bit, so that they stay the same. ``count`` numbers have one of them, and
    integers of them reach to ``greatest``."""

    names: tuple[str, ...]
    count: int
    greatest: int
    of_weights: bool


def scales_of(model: Model, weights: Sequence[Weight]) -> list[Scale]:
    """Those of QuantizeLinear, DequantizeLinear and of the weights that are trained, but not of biases."""
    index, coded, products = index_of(model), {one.scale: one for one in weights if one.scale}, bias_scales(model)
    found: dict[tuple[object, ...], Scale] = {}
    for name, value in model.weights.items():
        one = coded.get(name)
        if name in products or not _may_be_learned(index, name, value, one):
            continue
        count, greatest = _numbers(model, index, name, one)
        alike = (value.shape, value.dtype, value.tobytes(), one is not None)
        names = (*found[alike].names, name) if alike in found else (name,)
        found[alike] = Scale(names, count, greatest, one is not None)
    return list(found.values())


def bias_scales(model: Model) -> Mapping[str, tuple[str, str]]:
    """Scales of biases, each with the scale of its layer's input and that of its layer's weight, whose product it is."""
    index, found = index_of(model), dict[str, tuple[str, str]]()
    for node in model.graph.node:
        bias = operator(node).bias
        scales = [
            _scale_of(index, node.input[k]) if k is not None and k < len(node.input) else "" for k in (0, 1, bias)
        ]
        if not all(scale in model.weights for scale in scales):
            continue
        x, weight, own = (model.weights[scale].astype(np.float64) for scale in scales)
        product = x.reshape(-1) * weight.reshape(-1) if x.size == 1 else np.zeros(0)
        if own.size == product.size and np.allclose(own.reshape(-1), product, rtol=_NEAR, atol=0):
            found[scales[2]] = (scales[0], scales[1])
    return found


def _scale_of(index: Index, tensor: str) -> str:
    node = index.makers.get(tensor)
    return node.input[1] if node is not None and node.op_type == "DequantizeLinear" and is_standard(node) else ""


def _may_be_learned(index: Index, name: str, value: np.ndarray, one: Weight | None) -> bool:
    positive = value != 0 if one is not None else value > 0
    if value.dtype.kind != "f" or not np.isfinite(value).all() or not positive.all():
        return False
    reads = index.reads(name)
    quantizes = [r.node is not None and has(r.node, Trait.QUANTIZES) and r.operand == 1 for r in reads]
    return bool(reads) and (all(quantizes) or (one is not None and (len(reads) == 1 or one.columns > 0)))


def _numbers(model: Model, index: Index, name: str, one: Weight | None) -> tuple[int, int]:
    """How many numbers a scale stands for, and the greatest integer of them."""
    if one is not None:
        size = one.packed.values.size if one.packed else model.weights[one.source].size
        return max(1, size // model.weights[name].size), max(1, one.greatest)
    node = index.reads(name)[0].node
    assert node is not None, "only nodes scale"
    return int(np.prod(index.shapes.dims.get(node.input[0], ())[1:], dtype=np.int64)), _greatest(model, index, node)


def _greatest(model: Model, index: Index, node: onnx.NodeProto) -> int:
    """What a Clip behind leaves, else what a byte holds."""
    reader = index.sole_reader(node.output[0])
    ends = [model.weights[name] for name in reader.input[2:3] if name in model.weights] if reader else []
    return max(1, int(ends[0].max())) if reader and reader.op_type == "Clip" and ends else 255
