"""Preprocessing of classical learners, written as the arithmetic that it is, for targets without operators of ai.onnx.ml."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from ..model import Model
from ..registry import registers
from .unfuse import Part, Parting, part_all

_PARTS: dict[str, Part] = {}
_AXES_ARE_INPUTS = 18
"""From this operator set on axes of reductions are operands."""


def without_learners(model: Model) -> Model:
    """A copy without the operators that a few standard ones say; others, such as trees, stay."""
    made = model.copy()
    return made if part_all(made, _PARTS) else model


_parts = registers(_PARTS)


@_parts("ai.onnx.ml:Scaler")
def _scaler(p: Parting) -> bool:
    """``(x - offset) * scale``, each one number or one for each feature, the last axis."""
    offset, scale = (np.array(p.attr(name), np.float32) for name in ("offset", "scale"))
    (shifted,) = p.add("Sub", _floats(p), p.constant(offset))
    p.add("Mul", shifted, p.constant(scale), to=p.node.output[0])
    return True


@_parts("ai.onnx.ml:Normalizer")
def _normalizer(p: Parting) -> bool:
    """Features divided by the sum of their magnitudes, or the root of that of their squares; zeros stay zeros."""
    kind, x = {"L1": "ReduceL1", "L2": "ReduceL2"}.get(p.attr("norm", "MAX")), _floats(p)
    if kind is None or len(p.index.shapes.dims.get(p.operand(0)) or ()) != 2:
        return False
    if p.model.opset < _AXES_ARE_INPUTS:
        (size,) = p.add(kind, x, axes=[1], keepdims=1)
    else:
        (size,) = p.add(kind, x, p.constant(np.array([1], np.int64)), keepdims=1)
    (least,) = p.add("Max", size, p.constant(np.array(np.finfo(np.float32).tiny, np.float32)))
    p.add("Div", x, least, to=p.node.output[0])
    return True


@_parts("ai.onnx.ml:LinearRegressor")
def _regressor(p: Parting) -> bool:
    """Shapes: x (N, F), coefficients (targets, F), y (N, targets)."""
    targets, bias = int(p.attr("targets", 1)), p.attr("intercepts", [])
    if p.attr("post_transform", "NONE") != "NONE" or len(p.index.shapes.dims.get(p.operand(0)) or ()) != 2:
        return False
    weight = np.array(p.attr("coefficients"), np.float32).reshape(targets, -1).T
    (y,) = p.add("MatMul", _floats(p), p.constant(np.ascontiguousarray(weight)), to="" if bias else p.node.output[0])
    if bias:
        p.add("Add", y, p.constant(np.array(bias, np.float32)), to=p.node.output[0])
    return True


def _floats(p: Parting) -> str:
    if p.index.shapes.dtypes.get(p.operand(0)) == TensorProto.FLOAT:
        return p.operand(0)
    (made,) = p.add("Cast", p.operand(0))
    p.nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return made
