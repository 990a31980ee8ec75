"""What follows a layer and is one scale and one shift for each channel: it becomes part of the layer.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, arXiv:1712.05877, section 3.2, for folding BatchNormalization; here into the scale behind a sum of signs.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.nodes import attribute, is_standard
from .steps import Layout
from .wires import Wires

Affine = tuple[np.ndarray, np.ndarray]
"""Scale and shift. Shapes: float64 (channels,) or (1,) each."""
_EPSILON = float(np.float32(1e-5))


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
    if not is_standard(node) or list(node.input).count(name) != 1 or any(node.output[1:]):
        return None
    normalizes = node.op_type == "BatchNormalization"
    others = [wires.known.get(other) for other in node.input if other != name]
    flat = [v if v is None or v.dtype.kind != "f" or normalizes else layout.constant(v) for v in others]
    operands = [v.astype(np.float64) for v in flat if v is not None and v.dtype.kind == "f"]
    if len(operands) < len(others):
        return None
    if normalizes:
        return _normalized(node, *operands) if layout.axis == 1 and node.input[0] == name else None
    rule = _RULES.get(node.op_type)
    return rule(node.input[0] == name, *operands) if rule else None


def _normalized(
    node: onnx.NodeProto, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> Affine | None:
    if attribute(node, "training_mode", 0):
        return None
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", _EPSILON))
    return scale, beta - mean * scale


_ONE, _ZERO = np.ones(1), np.zeros(1)
_RULES: dict[str, Callable[..., Affine | None]] = {
    "Add": lambda first, by: (_ONE, by),
    "Sub": lambda first, by: (_ONE, -by) if first else (-_ONE, by),
    "Mul": lambda first, by: (by, _ZERO),
    "Div": lambda first, by: (1 / by, _ZERO) if first and by.all() else None,
    "Neg": lambda first: (-_ONE, _ZERO),
}
"""By the constant operand, and whether the other one comes first."""
