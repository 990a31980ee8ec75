"""A network of floats as one whose inner layers multiply signs; the floats behind them stay, to be trained.

Signs of activations are nodes of an operator of our own, ``SIGNS``, which has a gradient in training; ``written`` puts standard
operators in its place. Weights stay floats under their names until signs are put there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.errors import NothingChanged
from ....graph.index import Index, index_of
from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import attribute, copied, refill, saturation
from ....graph.traits import Trait, has, has_any
from ...precision.edges import edges
from ...rewrite.edit import Edit
from .operators import BinaryOperator

DOMAIN, SIGNS = "intaglio.train", "intaglio.train:Signs"
_LEAST_COLUMNS = 16
"""In shorter rows signs say too little."""


@dataclass(frozen=True)
class Binary:
    """A layer of signs: the tensor ``x`` that it reads, its ``weight``, whose filters stand along ``axis``, the constant that
    scales them, and the one that signs of x stand for, if any."""

    x: str
    weight: str
    axis: int
    scale: str = ""
    elastic: str = ""


def binarized(model: Model, operator: BinaryOperator) -> tuple[Model, list[Binary]]:
    """The graph with signs in it, and its layers. Raises NothingChanged where no layer can multiply signs."""
    layers = _layers(model)
    if not layers:
        raise NothingChanged(
            "no layer can become binary",
            why="first and last layers, depthwise ones, short rows and weights that others read stay floats",
            fix="list layers with: intaglio inspect MODEL",
        )
    return _Conversion(model, operator, layers).made()


def _layers(model: Model) -> dict[str, Layer]:
    every = Layers(model)
    ends = edges(model, {one.node for one in every})
    return {
        one.node: one
        for one in every
        if one.node not in ends
        and one.columns >= _LEAST_COLUMNS
        and not (one.groups > 1 and one.channels == 1)
        and not every.tied(one)
        and model.weights[one.weight].dtype == np.float32
    }


class _Conversion:
    def __init__(self, model: Model, operator: BinaryOperator, layers: Mapping[str, Layer]) -> None:
        self._model, self._operator, self._layers = model, operator, layers
        self._index, self._edit = index_of(model), Edit(model)
        self._dims = self._index.shapes.dims
        self._replaced = _positive_before(self._index, model, layers)
        self._shortcuts = self._around() if operator.shortcut else {}
        self._binary: list[Binary] = []
        self._elastic: dict[str, str] = {}

    def made(self) -> tuple[Model, list[Binary]]:
        for node in self._model.graph.node:
            out = node.output[0] if node.output else ""
            shortcut, name = self._shortcuts.get(out), out
            if shortcut is not None:
                node, name = copied(node), self._edit.tensor(f"{out}/around")
                node.output[0] = name
            self._node(node, out)
            if shortcut is not None:
                self._edit.add("Add", [name, self._like(shortcut, out)], out)
        return self._edit.finish(), self._binary

    def _node(self, node: onnx.NodeProto, known_as: str) -> None:
        if known_as in self._layers:
            self._edit.replace(node)
            self._layer(node, self._layers[known_as])
        elif known_as in self._replaced:
            self._edit.replace(node)
            self._activation(node)
        else:
            self._edit.keep(node)

    def _layer(self, node: onnx.NodeProto, layer: Layer) -> None:
        """Signs, the product, its scale, and the bias behind that."""
        own, edit, out = self._operator, self._edit, node.output[0]
        copy, dot = copied(node), edit.tensor(f"{layer.node}/dot")
        refill(copy.input, [self._signs(layer), layer.weight])
        copy.output[0] = dot
        edit.keep(copy)
        scale = ""
        parts: list[tuple[str, str, np.ndarray]] = []
        if own.scale:
            sizes = np.abs(layer.folded(self._model.weights[layer.weight])).mean(axis=-1).reshape(-1)
            parts.append(
                ("Mul", "scale", self._along(layer, sizes if own.scale != "layer" else sizes * 0 + sizes.mean()))
            )
        parts += [("Mul", f"factor{k}", one) for k, one in enumerate(self._places(layer))]
        if len(node.input) > 2 and node.input[2]:
            offset = layer.offset(self._model)
            assert offset is not None, "it has a bias"
            parts.append(("Add", "bias", self._along(layer, offset.reshape(-1))))
        for k, (op, what, value) in enumerate(parts):
            constant = edit.constant(f"{layer.node}/{what}", value.astype(np.float32))
            scale = constant if what == "scale" else scale
            dot = edit.add(op, [dot, constant], out if k == len(parts) - 1 else edit.tensor(f"{layer.node}/{what}d"))
        if not parts:
            copy.output[0] = out
        elastic = self._elastic.get(layer.node, "")
        self._binary.append(Binary(layer.x, layer.weight, layer.axis, scale, elastic))

    def _signs(self, layer: Layer) -> str:
        own, edit, x = self._operator, self._edit, layer.x
        if own.shift:
            zeros = edit.constant(f"{layer.node}/shift", self._along(layer, np.zeros(self._dims[x][layer.x_axis])))
            x = edit.add("Add", [x, zeros], edit.tensor(f"{layer.node}/shifted"))
        elastic = edit.constant(f"{layer.node}/elastic", np.ones((), np.float32)) if own.elastic else ""
        if elastic:
            self._elastic[layer.node] = elastic
            x = edit.add("Div", [x, elastic], edit.tensor(f"{layer.node}/divided"))
        signs = edit.add("Signs", [x], edit.tensor(f"{layer.node}/signs"), domain=DOMAIN, unit=int(own.unit))
        if elastic:
            return edit.add("Mul", [signs, elastic], edit.tensor(f"{layer.node}/elastic_signs"))
        if not own.sized:
            return signs
        size = edit.add("Abs", [layer.x], edit.tensor(f"{layer.node}/sizes"))
        axes = list(range(1, 2 + len(layer.kernel))) if layer.window else [-1]
        mean = reduced(edit, "ReduceMean", size, axes, f"{layer.node}/size")
        return edit.add("Mul", [signs, mean], edit.tensor(f"{layer.node}/sized"))

    def _along(self, layer: Layer, values: np.ndarray) -> np.ndarray:
        """One number for each output. Shapes: (outputs,) -> as it goes with the layer's output."""
        return values.reshape(-1, *[1] * len(layer.kernel)).astype(np.float32)

    def _places(self, layer: Layer) -> list[np.ndarray]:
        """A factor for each row, and for each column of an image."""
        dims = self._dims.get(layer.node, ())
        if not self._operator.places or not layer.window:
            return []
        return [np.ones([n if a == k else 1 for a in range(1, len(dims))]) for k, n in enumerate(dims) if k > 1]

    def _activation(self, node: onnx.NodeProto) -> None:
        """What lets negative numbers through."""
        edit, x, out, kind = self._edit, node.input[0], node.output[0], self._operator.activation
        if kind == "none":
            edit.add("Identity", [x], out)
        elif kind == "rprelu":
            wide = (self._dims[x][1], *[1] * (len(self._dims[x]) - 2))
            before, slope, after = (
                edit.constant(f"{out}/{name}", np.full(wide, value, np.float32))
                for name, value in (("before", 0), ("slope", 0.25), ("after", 0))
            )
            moved = edit.add("Sub", [x, before], edit.tensor(f"{out}/moved"))
            bent = edit.add("PRelu", [moved, slope], edit.tensor(f"{out}/bent"))
            edit.add("Add", [bent, after], out)
        else:
            low = 0.0 if kind == "unit" else -1.0
            ends = [edit.constant(f"{out}/{name}", np.array(v, np.float32)) for name, v in (("low", low), ("high", 1))]
            edit.add("Clip", [x, *ends], out)

    def _around(self) -> dict[str, Layer]:
        """By the tensor that an input is to be added to, behind normalizations, the layer whose input it is."""
        found = {}
        for layer in self._layers.values():
            name = layer.output
            while (reader := self._index.sole_reader(name)) is not None and has(reader, Trait.STANDARDIZES):
                name = reader.output[0]
            readers = [self._model.graph.node[k] for k in self._index.readers(name)]
            summed = any(
                has_any(one, Trait.BROADCASTS) and one.op_type == "Add" and self._index.constant.isdisjoint(one.input)
                for one in readers
            )
            if not summed and self._fits(self._dims.get(layer.x), self._dims.get(name)):
                found[name] = layer
        return found

    @staticmethod
    def _fits(x: tuple[int, ...] | None, y: tuple[int, ...] | None) -> bool:
        """Whether there are as many channels or more, and pixels are as many or a whole fraction."""
        if x is None or y is None or len(x) != len(y):
            return False
        if len(x) < 4:
            return x == y
        steps = {a / b for a, b in zip(x[2:], y[2:], strict=True)}
        return y[1] >= x[1] and len(steps) == 1 and steps.pop().is_integer()

    def _like(self, layer: Layer, out: str) -> str:
        """The input of a layer in the shape of its output."""
        edit, x, y, name = self._edit, self._dims[layer.x], self._dims[out], layer.x
        if x[2:] != y[2:]:
            step = [a // b for a, b in zip(x[2:], y[2:], strict=True)]
            name = edit.add("AveragePool", [name], edit.tensor(f"{out}/pooled"), kernel_shape=step, strides=step)
        if repeats := y[1] // x[1] - 1:
            name = edit.add("Concat", [name] * (repeats + 1), edit.tensor(f"{out}/repeated"), axis=1)
        if more := y[1] % x[1]:
            pads = edit.constant(f"{out}/pads", np.array([0] * len(x) + [0, more] + [0] * (len(x) - 2), np.int64))
            name = edit.add("Pad", [name, pads], edit.tensor(f"{out}/widened"))
        return name


def reduced(edit: Edit, op: str, x: str, axes: list[int], stem: str) -> str:
    """A maximum or mean over axes, which older operator sets have as an attribute."""
    out = edit.tensor(stem)
    if edit.model.opset >= 18:
        return edit.add(op, [x, edit.constant(f"{stem}/axes", np.array(axes, np.int64))], out)
    return edit.add(op, [x], out, axes=axes)


def _positive_before(index: Index, model: Model, layers: Mapping[str, Layer]) -> set[str]:
    """What nodes make that cut negative numbers off, where signs are taken of it, or of what follows without a layer."""
    wanted, found = {layer.x for layer in layers.values()}, set()
    for node in reversed(model.graph.node):
        if not wanted.intersection(node.output):
            continue
        limits = saturation(node, model.weights) if has(node, Trait.RECTIFIES) else None
        if limits is not None and limits[0] >= 0:
            found.add(node.output[0])
        elif not has(node, Trait.LAYER):
            wanted.update(node.input)
    return found


def written(model: Model) -> Model:
    """Standard operators in the place of ``SIGNS``: -1 below 0 and +1 else, or 0 below a half and 1 else."""
    edit = Edit(model)
    for node in model.graph.node:
        if node.domain != DOMAIN:
            edit.keep(node)
            continue
        edit.replace(node)
        unit, out = attribute(node, "unit", 0), node.output[0]
        level, low, high = (
            edit.constant(f"{out}/{name}", np.array(value, np.float32))
            for name, value in (("level", 0.5 * unit), ("low", unit - 1), ("high", 1))
        )
        below = edit.add("Less", [node.input[0], level], edit.tensor(f"{out}/below"))
        edit.add("Where", [below, low, high], out)
    return edit.finish()
