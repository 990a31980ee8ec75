"""What follows a layer and is one scale and one shift for each channel: it becomes part of the layer.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, arXiv:1712.05877, section 3.2, for folding BatchNormalization; here into the scale behind a sum of signs.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.nodes import attribute, is_standard
from .steps import Layout
from .wires import Wires

Affine = tuple[np.ndarray, np.ndarray]
"""Scale and shift. Shapes: float64 (channels,) or (1,) each."""
Rule = Callable[[onnx.NodeProto, Sequence[np.ndarray | None]], "Affine | None"]
_RULES: dict[str, Rule] = {}
_EPSILON = float(np.float32(1e-5))


def rule(op: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        _RULES[op] = function
        return function

    return add


@dataclass(frozen=True)
class Tail:
    """``scale * x + shift`` gives ``target``; the nodes at ``places`` do that. Shapes: (channels,) each.

    If it is ``joined`` to a shortcut by the Add at that place, what was shifted behind it is shifted before it, and the
    Add makes ``result``.
    """

    scale: np.ndarray
    shift: np.ndarray
    target: str
    places: frozenset[int] = frozenset()
    joined: int | None = None
    result: str = ""


def tail(wires: Wires, start: str, layout: Layout, read: Container[str] = (), taken: Container[int] = ()) -> Tail:
    """As much as follows ``start`` one by one and is affine; perhaps nothing.

    Tensors that are ``read`` by new nodes stay, and so do additions that are ``taken``.
    """
    scale, shift = np.ones(layout.channels), np.zeros(layout.channels)
    name, places = start, []
    while wires.is_private(name) and name not in read:
        (place,) = wires.readers(name)
        found = _affine(wires, wires.nodes[place], name, layout)
        if found is None:
            break
        scale, shift = scale * found[0], shift * found[0] + found[1]
        name = wires.nodes[place].output[0]
        places.append(place)
    plain = Tail(scale, shift, name, frozenset(places))
    return _joined(wires, plain, layout, read, taken) or plain


def _joined(wires: Wires, found: Tail, layout: Layout, read: Container[str], taken: Container[int]) -> Tail | None:
    """``(y + shortcut) + c`` as ``(y + c) + shortcut``."""
    if not wires.is_private(found.target) or found.target in read:
        return None
    (join,) = wires.readers(found.target)
    node = wires.nodes[join]
    if node.op_type != "Add" or not is_standard(node) or join in taken or any(i in wires.known for i in node.input):
        return None
    name, shift, places = node.output[0], found.shift, []
    dims = wires.dims(name)
    while wires.is_private(name) and name not in read and dims is not None and len(dims) == layout.rank:
        (place,) = wires.readers(name)
        step = _affine(wires, wires.nodes[place], name, layout)
        if step is None or not (step[0] == 1).all():
            break
        name, shift = wires.nodes[place].output[0], shift + step[1]
        places.append(place)
    if not places:
        return None
    return Tail(found.scale, shift, found.target, found.places.union(places), join, name)


def _affine(wires: Wires, node: onnx.NodeProto, name: str, layout: Layout) -> Affine | None:
    """What a node does to each channel of one of its operands, the others being constants."""
    if not is_standard(node) or node.op_type not in _RULES or list(node.input).count(name) != 1 or any(node.output[1:]):
        return None
    operands: list[np.ndarray | None] = []
    for other in node.input:
        if other == name:
            operands.append(None)
            continue
        value = wires.known.get(other)
        if value is None or value.dtype.kind != "f":
            return None
        flat = value if node.op_type == "BatchNormalization" else layout.constant(value)
        if flat is None:
            return None
        operands.append(flat.astype(np.float64))
    if node.op_type == "BatchNormalization" and layout.axis != 1:
        return None
    return _RULES[node.op_type](node, operands)


@rule("Add")
def _add(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    shift = next(o for o in operands if o is not None)
    return np.ones(1), shift


@rule("Sub")
def _sub(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    left, right = operands
    if left is None:
        return (np.ones(1), -right) if right is not None else None
    return -np.ones(1), left


@rule("Mul")
def _mul(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    return next(o for o in operands if o is not None), np.zeros(1)


@rule("Div")
def _div(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    by = operands[1]
    return None if by is None or not by.all() else (1 / by, np.zeros(1))


@rule("Neg")
def _neg(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    return -np.ones(1), np.zeros(1)


@rule("BatchNormalization")
def _batch_norm(node: onnx.NodeProto, operands: Sequence[np.ndarray | None]) -> Affine | None:
    gamma, beta, mean, variance = operands[1:5]
    if gamma is None or beta is None or mean is None or variance is None or attribute(node, "training_mode", 0):
        return None
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", _EPSILON))
    return scale, beta - mean * scale
