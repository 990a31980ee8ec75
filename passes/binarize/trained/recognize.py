"""Find the layers of a network that work on signs, and say why the others do not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ....graph.layers import Unused
from ....graph.model import Model
from ....graph.traits import Trait, has
from .bits import Bits
from .dots import Dot, dot_of
from .finder import Finder
from .fuse import Fusion, fusions
from .layer import Layer
from .weights import Signs, signs_of
from .wires import Wires

_WORTH = 1024
"""Weights from which on it pays to store the signs of a layer whose input stays float."""


@dataclass(frozen=True)
class Recognized:
    """Layers by the place of their node, how their outputs become bits at once, and why other layers stay.

    ``zeros`` tells that what Sign makes of 0 is taken as +1.
    """

    wires: Wires
    layers: dict[int, Layer]
    fused: dict[int, Fusion]
    left: dict[str, str] = field(default_factory=dict)
    zeros: bool = False


def recognize(model: Model, *, zeros: bool = False, chosen: list[bool] | None = None) -> Recognized:
    """The layers of a model that are or can be computed with bits.

    ``zeros`` takes the 0 that Sign makes of 0 as +1. ``chosen`` says for each node whether it may change.
    """
    wires = Wires(model)
    layers: dict[int, Layer] = {}
    left: dict[str, str] = {}
    outputs: dict[str, Layer] = {}
    finder = Finder(wires, zeros, outputs)
    for one in wires.layers.found:
        if not has(one.op, Trait.LAYER):
            continue
        dot = one.reason if isinstance(one, Unused) else dot_of(wires, one)
        found = dot if isinstance(dot, str) else _layer(finder, dot)
        place = wires.place.get(one.node)
        if chosen is not None and place is not None and not chosen[place]:
            found = "it was left out"
        if isinstance(found, str) or place is None:
            left[one.name] = str(found)
        else:
            layers[place] = outputs[found.dot.out] = found
    return Recognized(wires, layers, fusions(wires, layers, zeros=zeros), left, zeros)


def _layer(finder: Finder, dot: Dot) -> Layer | str:
    signs = signs_of(dot.rows)
    if isinstance(signs, str):
        return signs
    found = finder.find(dot.data, dot.layout)
    reason = found if isinstance(found, str) else _obstacle(dot, found)
    if isinstance(found, Bits) and not reason:
        return Layer(dot, signs, found)
    if signs.signs.size < _WORTH or not (signs.signs < 0).any() or not (signs.signs > 0).any():
        return reason
    return Layer(dot, signs, None, reason)


def _obstacle(dot: Dot, bits: Bits) -> str:
    """Why a layer cannot read the bits; empty where it can."""
    if dot.window is None:
        return "a Pad feeds it" if bits.border is not None else ""
    if bits.border is not None and any(dot.window.pads) and bits.border != 0:
        return "it adds zeros around an input that is padded already"
    layer = Layer(dot, Signs(np.zeros((1, 1), np.int8), np.zeros(1)), bits)
    assert layer.window is not None
    value = bits.border if bits.border is not None else 0.0
    if any(layer.window.pads) and bits.as_sign(value) is None:
        return f"it is padded with {value:g}, which is neither of the two values {bits.step.low:g}, {bits.step.high:g}"
    if bits.pools and dot.window.flat:
        return "a MaxPool along one axis feeds it"
    return ""
