"""Put QuantizeLinear and DequantizeLinear around activations.

A tensor keeps its name: what made it now writes ``NAME/raw``, and what comes out of DequantizeLinear is called ``NAME``.
So whatever reads it, graph outputs among them, needs no change. Only readers of a graph input are told a new name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from ...graph.model import Model
from ...graph.nodes import is_standard, replace_nodes
from ..simplify import Names
from .grid import CARRIERS, Affine
from .placement import Placement

_SHAPES = ("Shape", "Size")


def insert(model: Model, placement: Placement, found: Mapping[str, Affine]) -> Model:
    """A copy in which each tensor of ``found`` is rounded to what its integers can say.

    Rectifiers that saturation makes needless go. Constants are left as they are.
    """
    return _Insertion(model, placement, found).run()


def needless(node: onnx.NodeProto, model: Model, found: Affine) -> bool:
    """Whether rounding and saturation give the same without the rectifier before them."""
    grid, (lowest, highest) = found.grid, found.range
    low, high = (0.0, np.inf) if node.op_type == "Relu" else _limits(node, model)
    same_low = low <= lowest or found.integers(np.array(low)) == grid.low
    same_high = high >= highest or found.integers(np.array(high)) == grid.high
    return bool(same_low and same_high)


def _limits(node: onnx.NodeProto, model: Model) -> tuple[float, float]:
    limits = [-np.inf, np.inf]
    for side, name in enumerate(node.input[1:3]):
        if name:
            limits[side] = float(model.weights[name].reshape(-1)[0])
    return limits[0], limits[1]


class _Insertion:
    def __init__(self, model: Model, placement: Placement, found: Mapping[str, Affine]) -> None:
        self.model, self.found = model.copy(), found
        self.names = Names(model)
        made = {o: node for node in model.graph.node for o in node.output}
        self.dropped = {
            y: x for x, y in placement.absorbed.items() if y in found and needless(made[y], model, found[y])
        }
        self.renamed: dict[str, str] = {}  # graph inputs, to what is read in their place
        self.integers: dict[str, str] = {}

    def run(self) -> Model:
        graph = self.model.graph
        nodes: list[onnx.NodeProto] = []
        for value in graph.input:
            if value.name in self.found:
                self.renamed[value.name] = self.names.fresh(f"{value.name}/dq")
                nodes += self._pair(value.name, value.name, self.renamed[value.name])
        for node in graph.node:
            self._read(node)
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
        replace_nodes(graph, nodes)
        return self.model

    def _read(self, node: onnx.NodeProto) -> None:
        """Rename what it reads of graph inputs; shapes are read off the integers, which saves going back to floats."""
        shape = is_standard(node) and node.op_type in _SHAPES
        for k, name in enumerate(node.input):
            if shape and name in self.integers:
                node.input[k] = self.integers[name]
            elif name in self.renamed:
                node.input[k] = self.renamed[name]

    def _pair(self, name: str, raw: str, out: str) -> list[onnx.NodeProto]:
        """From the tensor ``raw`` through integers to ``out``; ``name`` is what it was called."""
        found = self.found[name]
        scale, zero = self.names.fresh(f"{name}/scale"), self.names.fresh(f"{name}/zero")
        carrier = np.dtype(CARRIERS[max(8, found.grid.stored_bits), found.grid.signed])
        self._weight(scale, found.scale)
        self._weight(zero, found.zero.astype(carrier))
        integers = self.integers[name] = self.names.fresh(f"{name}/q")
        nodes = [
            helper.make_node("QuantizeLinear", [raw, scale, zero], [integers], self.names.fresh(f"{name}/Quantize"))
        ]
        limits = np.iinfo(carrier)
        if found.grid.low > limits.min + 1 or found.grid.high < limits.max:
            ends = [self.names.fresh(f"{name}/{end}") for end in ("lowest", "highest")]
            for end, value in zip(ends, (found.grid.low, found.grid.high), strict=True):
                self._weight(end, np.array(value, carrier))
            clipped = self.names.fresh(f"{name}/clipped")
            nodes.append(helper.make_node("Clip", [integers, *ends], [clipped], self.names.fresh(f"{name}/Clip")))
            integers = self.integers[name] = clipped
        back = helper.make_node(
            "DequantizeLinear", [integers, scale, zero], [out], self.names.fresh(f"{name}/Dequantize")
        )
        return [*nodes, back]

    def _weight(self, name: str, value: np.ndarray) -> None:
        value = np.asarray(value)
        value.flags.writeable = False
        self.model.weights[name] = value
