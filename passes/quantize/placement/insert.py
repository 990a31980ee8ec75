"""Put QuantizeLinear and DequantizeLinear around activations.

A tensor keeps its name: what made it now writes ``NAME/raw``, and what comes out of DequantizeLinear is called ``NAME``.
So whatever reads it, graph outputs among them, needs no change. Only readers of a graph input are told a new name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from ....graph.index import index_of
from ....graph.model import Model
from ....graph.nodes import reads, replace_nodes, saturation, set_attribute
from ....graph.traits import Trait, has
from ...precision.grid import CARRIERS, Affine, Grid, affine
from ...rewrite.edit import drop_unread
from ...simplify import Names
from .placement import Placement


def insert(model: Model, placement: Placement, found: Mapping[str, Affine], grid: Grid, *, symmetric: bool) -> Model:
    """A copy in which each tensor of ``found`` is rounded to what its integers can say.

    Constant operands of sums and products become integers of the ``grid``. Weights are left as they are. Rectifiers
    that saturation makes needless go.
    """
    return _Insertion(model, placement, found).run(grid, symmetric)


def is_needless(node: onnx.NodeProto, model: Model, found: Affine) -> bool:
    """Whether rounding and saturation give the same without the rectifier before them."""
    grid, (lowest, highest) = found.grid, found.range
    low, high = saturation(node, model.weights) or (-np.inf, np.inf)
    same_low = low <= lowest or found.integers(np.array(low)) == grid.low
    same_high = high >= highest or found.integers(np.array(high)) == grid.high
    return bool(same_low and same_high)


class _Insertion:
    def __init__(self, model: Model, placement: Placement, found: Mapping[str, Affine]) -> None:
        self.model, self.found, self.moved = model.copy(), found, placement.moved
        self.names = Names(model)
        made = index_of(model).makers
        self.dropped = {
            y: x for x, y in placement.absorbed.items() if y in found and is_needless(made[y], model, found[y])
        }
        self.constants = placement.constants
        self.renamed: dict[str, str] = {}  # graph inputs, to what is read in their place
        self.integers: dict[str, str] = {}

    def run(self, grid: Grid, symmetric: bool) -> Model:
        graph = self.model.graph
        nodes: list[onnx.NodeProto] = []
        for value in graph.input:
            if value.name in self.found:
                self.renamed[value.name] = self.names.fresh(f"{value.name}/dq")
                nodes += self._pair(value.name, value.name, self.renamed[value.name])
        for place, node in enumerate(graph.node):
            if has(node, Trait.ON_INTEGERS) and node.output[0] in self.moved:
                nodes += self._on_integers(node)
                continue
            self._read(node)
            nodes += [self._constant(node, i, grid, symmetric) for i in self.constants.get(place, ())]
            first = node.output[0] if node.output else ""
            if first in self.dropped:
                nodes += self._pair(first, self.dropped[first], first)
                continue
            after: list[onnx.NodeProto] = []
            for k, name in enumerate(node.output):
                if name in self.found:
                    node.output[k] = self.names.fresh(f"{name}/raw")
                    after += self._pair(name, node.output[k], name)
            nodes += [node, *after]
        read = {i for node in nodes for i in reads(node)} | {o.name for o in graph.output}
        nodes = [n for n in nodes if n.op_type != "DequantizeLinear" or n.output[0] in read]
        replace_nodes(graph, nodes)
        drop_unread(self.model)
        return self.model

    def _on_integers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Let a node that moves values read and make integers; Pad fills up with their zero point."""
        name, (scale, zero) = node.output[0], self._parameters(node.output[0])
        node.input[0] = self.integers[node.input[0]]
        if node.op_type == "Pad":
            node.input.extend([""] * (3 - len(node.input)))
            node.input[2] = zero
        node.output[0] = self.integers[name] = self.names.fresh(f"{name}/q")
        return [node, self._back(name, scale, zero, name)]

    def _constant(self, node: onnx.NodeProto, i: int, grid: Grid, symmetric: bool) -> onnx.NodeProto:
        value = np.asarray(self.model.weights[node.input[i]], np.float64)
        found = affine(float(value.min(initial=0)), float(value.max(initial=0)), grid, symmetric=symmetric)
        carrier = np.dtype(CARRIERS[max(8, grid.stored_bits), grid.signed])
        parts = found.integers(value).astype(carrier), found.scale, found.zero.astype(carrier)
        return insert_dequantize(self.model, self.names, node, i, *parts)

    def _read(self, node: onnx.NodeProto) -> None:
        """Rename what it reads of graph inputs; shapes are read off the integers, which saves going back to floats."""
        shape = has(node, Trait.SHAPE_ONLY)
        for k, name in enumerate(node.input):
            if shape and name in self.integers:
                node.input[k] = self.integers[name]
            elif name in self.renamed:
                node.input[k] = self.renamed[name]

    def _pair(self, name: str, raw: str, out: str) -> list[onnx.NodeProto]:
        """From the tensor ``raw`` through integers to ``out``; ``name`` is what it was called."""
        found, (scale, zero) = self.found[name], self._parameters(name)
        integers = self.integers[name] = self.names.fresh(f"{name}/q")
        nodes = [
            helper.make_node("QuantizeLinear", [raw, scale, zero], [integers], self.names.fresh(f"{name}/Quantize"))
        ]
        carrier = self.model.weights[zero].dtype
        limits = np.iinfo(carrier)
        if found.grid.low > limits.min + 1 or found.grid.high < limits.max:
            ends = [self.names.fresh(f"{name}/{end}") for end in ("lowest", "highest")]
            for end, value in zip(ends, (found.grid.low, found.grid.high), strict=True):
                self.model.put(end, np.array(value, carrier))
            clipped = self.names.fresh(f"{name}/clipped")
            nodes.append(helper.make_node("Clip", [integers, *ends], [clipped], self.names.fresh(f"{name}/Clip")))
            self.integers[name] = clipped
        return [*nodes, self._back(name, scale, zero, out)]

    def _back(self, name: str, scale: str, zero: str, out: str) -> onnx.NodeProto:
        title = self.names.fresh(f"{name}/Dequantize")
        return helper.make_node("DequantizeLinear", [self.integers[name], scale, zero], [out], title)

    def _parameters(self, name: str) -> tuple[str, str]:
        """Names of a tensor's scale and zero point, as constants of the model."""
        found = self.found[name]
        scale, zero = self.names.fresh(f"{name}/scale"), self.names.fresh(f"{name}/zero")
        self.model.put(scale, found.scale)
        self.model.put(zero, found.zero.astype(CARRIERS[max(8, found.grid.stored_bits), found.grid.signed]))
        return scale, zero


def insert_dequantize(
    model: Model,
    names: Names,
    node: onnx.NodeProto,
    place: int,
    integers: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    axis: int | None = None,
) -> onnx.NodeProto:
    """Make a node read integers in place of a constant, through the node that is returned."""
    stem = node.input[place]
    stored = []
    for part, value in (("q", integers), ("scale", scale), ("zero", zero)):
        stored.append(model.put(names.fresh(f"{stem}/{part}"), np.array(value)))  # a copy, as arrays may be shared
    node.input[place] = names.fresh(f"{stem}/dq")
    made = helper.make_node("DequantizeLinear", stored, [node.input[place]], names.fresh(f"{stem}/Dequantize"))
    if axis is not None:
        set_attribute(made, "axis", axis)
    return made
