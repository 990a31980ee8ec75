"""Write the layers of signs that were found in one of several forms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
import onnx

from ....graph.model import Model
from ....graph.nodes import alive, copied
from ....kernels.operators import attach
from ...rewrite.edit import Edit
from .bits import Bits
from .forms import FORMS, Form
from .layer import Layer
from .recognize import Recognized
from .steps import Layout
from .tails import Tail, tail


@dataclass(frozen=True)
class Lowered:
    """A model whose layers of signs have another form; what each became, and why other layers stay, by name.

    For the proof: ``signs`` are the tensors that hold signs, by the original's float tensor of the same signs, and the
    number between that tensor's two values, and the channels that hold the opposite;
    ``floats`` the outputs of layers, which have the names that they have in the original; ``sources`` the float tensors
    that signs are taken of, ``takers`` what the nodes make that read them for that.
    """

    model: Model
    form: str
    done: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    signs: dict[str, tuple[str, Layout, float, np.ndarray]] = field(default_factory=dict)
    floats: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    takers: list[str] = field(default_factory=list)


def lower(found: Recognized, form: str = "packed") -> Lowered:
    """Write the layers of a recognized model in a form of ``FORMS``, scales and shifts behind them folded."""
    return _Lowering(found, form).lowered()


class _Lowering:
    def __init__(self, found: Recognized, form: str) -> None:
        self._found, self._wires = found, found.wires
        self._edit = Edit(found.wires.model)
        self._form: Form = FORMS[form](self._edit, found.wires)
        self._signs: dict[object, str] = {}
        self._joins: dict[int, onnx.NodeProto] = {}
        bits = [layer.bits for layer in found.layers.values() if layer.bits]
        fused = {one.target for one in found.fused.values()}
        self._read = {name for b in bits for name in ("" if b.target in fused else b.source, b.factor)}
        self._made = Lowered(found.wires.model, form, left=found.left)

    def lowered(self) -> Lowered:
        skipped: set[int] = set()
        for place, node in enumerate(self._wires.nodes):
            layer = self._found.layers.get(place)
            if layer is None:
                if place not in skipped:
                    self._form.keep(self._joins.get(place, node))
                continue
            self._edit.replace(node)
            if layer.bits is None:
                self._form.weights_only(layer)
                self._made.done[layer.dot.name] = "weights"
            elif place in self._found.fused:
                self._as_signs(place, layer, layer.bits)
            else:
                skipped |= self._as_floats(layer, layer.bits)
        kept, _ = alive(self._edit.nodes, self._wires.outputs)
        self._edit.nodes = list(compress(self._edit.nodes, kept))
        model = self._edit.finish()
        attach(model.proto)
        return replace(self._made, model=model)

    def _as_signs(self, place: int, layer: Layer, bits: Bits) -> None:
        fusion = self._found.fused[place]
        signs = self._form.sums_as_signs(self._input(bits), self._turned(layer, bits), fusion, f"{fusion.target}_bits")
        if fusion.pool is not None:
            signs = self._form.pooled(signs, fusion.pool, layer.dot.outputs, f"{fusion.target}_pooled")
        self._signs[fusion.target] = signs
        self._made.signs[fusion.target] = signs, layer.dot.out_layout, fusion.middle, fusion.turned
        self._made.done[layer.dot.name] = "bits to bits"

    def _as_floats(self, layer: Layer, bits: Bits) -> frozenset[int]:
        """Gives the places of the nodes that became part of the layer."""
        dot, signs = layer.dot, self._input(bits)
        self._made.done[dot.name] = "bits to floats"
        if bits.factor:
            self._made.floats.append(dot.out)
            self._with_factor(layer, bits, signs)
            return frozenset()
        behind = tail(self._wires, dot.out, dot.out_layout, self._read, self._joins)
        scale, bias = layer.scale * behind.scale, layer.bias * behind.scale + behind.shift
        out = behind.target
        if behind.joined is not None:
            out = self._edit.tensor(f"{out}_shifted")
            self._joins[behind.joined] = _join(self._wires.nodes[behind.joined], behind, out)
        self._made.floats.append(behind.result or out)
        reader = self._turned(layer, bits)
        self._form.sums(signs, reader, scale.astype(np.float32), bias.astype(np.float32), out)
        return behind.places

    def _with_factor(self, layer: Layer, bits: Bits, signs: str) -> None:
        """One factor for each sample, which multiplies everything but the bias."""
        dot = layer.dot
        sums, scaled = (self._edit.tensor(f"{dot.out}_{what}") for what in ("sums", "scaled"))
        reader = self._turned(layer, bits)
        self._form.sums(signs, reader, layer.scale.astype(np.float32), np.zeros(dot.outputs, np.float32), sums)
        self._edit.add("Mul", [sums, bits.factor], scaled if dot.bias.any() else dot.out)
        if dot.bias.any():
            bias = self._edit.constant(f"{dot.name}_shift", dot.out_layout.along(dot.bias.astype(np.float32)))
            self._edit.add("Add", [scaled, bias], dot.out)

    def _turned(self, layer: Layer, bits: Bits) -> Layer:
        """The layer with negated weights for channels whose bits are the opposite of the signs."""
        fusion = next((f for f in self._found.fused.values() if f.target == bits.target), None)
        if fusion is None or not fusion.turned.any():
            return layer
        groups = layer.dot.window.groups if layer.dot.window else 1
        signs = layer.signs.signs
        each = np.where(fusion.turned, -1, 1).astype(np.int8).reshape(groups, 1, -1, 1)
        rows = signs.reshape(groups, len(signs) // groups, each.shape[2], -1) * each
        return replace(layer, signs=replace(layer.signs, signs=rows.reshape(signs.shape)))

    def _input(self, bits: Bits) -> str:
        """The signs that a layer reads, made once for all that read them."""
        key: object = bits.target
        if not bits.target or bits.target not in self._signs:
            key = (bits.source, bits.step.threshold.tobytes(), bits.step.falls.tobytes(), bits.layout)
        if key not in self._signs:
            self._signs[key] = self._from_floats(bits)
            if bits.target:
                turned = np.zeros(bits.layout.channels, bool)
                self._made.signs[bits.target] = self._signs[key], bits.layout, bits.middle, turned
        signs = self._signs[key]
        for node in (*bits.pools, *([bits.flattened] if bits.flattened else [])):
            key = (key, node.output[0])
            if key not in self._signs:
                stem = f"{node.output[0]}_bits"
                self._signs[key] = (
                    self._form.flattened(signs, node, bits, stem)
                    if node is bits.flattened
                    else self._form.pooled(signs, node, bits.layout.channels, stem)
                )
            signs = self._signs[key]
        return signs

    def _from_floats(self, bits: Bits) -> str:
        """Signs of a float tensor. Channels in which they fall are negated first: ``x >= t`` is ``-x < next(-t)``."""
        stem = f"{bits.target or bits.source}_bits"
        threshold, x = bits.step.threshold.astype(np.float32), bits.source
        if x not in self._made.sources:
            self._made.sources.append(x)
        if bits.step.falls.any():
            above = np.nextafter(-threshold, np.float32(np.inf))
            threshold = np.where(bits.step.falls, above, threshold)
            turn = np.where(bits.step.falls, np.float32(-1), np.float32(1))
            by = self._edit.constant(f"{stem}_turn", bits.layout.along(turn))
            x = self._edit.add("Mul", [x, by], self._edit.tensor(f"{stem}_turned"))
        before = len(self._edit.nodes)
        signs = self._form.signs(x, bits, threshold, stem)
        self._made.takers.append(x if x != bits.source else self._edit.nodes[before].output[0])
        return signs


def _join(node: onnx.NodeProto, behind: Tail, shifted: str) -> onnx.NodeProto:
    """The Add of a shortcut to a layer whose shift holds what was added behind it."""
    made = copied(node)
    for k, name in enumerate(node.input):
        if name == behind.target:
            made.input[k] = shifted
    made.output[0] = behind.result
    return made
