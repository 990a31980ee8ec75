"""A random graph while it grows: every tensor's shape is known, every move adds a few nodes to what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
from numpy.typing import ArrayLike

from tests.zoo.graph import Graph, ir_version

Shape = tuple[int, ...]
Item = TypeVar("Item")
WIDTHS = (2, 3, 4, 6, 8, 12)
LARGEST = 3000
"""Elements of a tensor: enough for every pattern, and quick to run."""
BATCH = "batch"


class Choice(Protocol):
    """Where a random graph takes its decisions from: hypothesis, or a generator."""

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""


class Rolled:
    """Decisions by a seeded generator: quick, for long runs."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high + 1))


class Growing:
    """A graph that grows by moves. ``pool`` holds the tensors that moves may start from."""

    def __init__(self, choice: Choice, seed: int, opset: int, dynamic: bool) -> None:
        self.choice, self.opset, self.dynamic = choice, opset, dynamic
        self.graph = Graph(f"random{seed}", opset)
        self.shapes: dict[str, Shape] = {}
        self.pool: list[str] = []
        self.weights: list[str] = []
        self.vectors: list[str] = []
        self.feeds: dict[str, Shape] = {}

    def finish(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The checked model."""
        g = self.graph
        values = []
        for name in outputs:
            dims: list[Any] = list(self.shapes[name])
            if self.dynamic:
                dims[0] = BATCH
            values.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
        used = {i for n in g.nodes for i in n.input}
        constants = [t for t in g.constants if t.name in used]
        graph = onnx.helper.make_graph(g.nodes, g.name, g.inputs, values, constants)
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(self.opset))
        onnx.checker.check_model(model, full_check=True)
        return model

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.choice.integer(0, len(items) - 1)]

    def chance(self, percent: int) -> bool:
        return self.choice.integer(0, 99) < percent

    def order(self, count: int) -> list[int]:
        """A random permutation."""
        left, out = list(range(count)), []
        while left:
            out.append(left.pop(self.choice.integer(0, len(left) - 1)))
        return out

    def input(self, name: str, shape: Shape) -> str:
        dims: list[Any] = list(shape)
        if self.dynamic:
            dims[0] = BATCH
        self.graph.inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims))
        self.feeds[name] = shape
        self.shapes[name] = shape
        self.pool.append(name)
        return name

    def op(self, kind: str, *inputs: str, shape: Iterable[int], **attributes: Any) -> str:
        """A node with one output of this shape."""
        (out,) = self.ops(kind, *inputs, shapes=[tuple(shape)], **attributes)
        return out

    def ops(self, kind: str, *inputs: str, shapes: Sequence[Shape], **attributes: Any) -> list[str]:
        outputs = self.graph.ops(kind, *inputs, count=len(shapes), **attributes)
        self.shapes.update(zip(outputs, shapes, strict=True))
        return outputs

    def const(self, value: ArrayLike, dtype: str | None = None) -> str:
        name = self.graph.const(value, dtype)
        self.shapes[name] = np.shape(value)
        return name

    def weight(self, *shape: int, fan_in: int = 1) -> str:
        """Weights that several layers may share: now and then an older one of the same shape."""
        known = [w for w in self.weights if self.shapes[w] == shape]
        if known and self.chance(25):
            return self.pick(known)
        name = self.const(self.graph.random.standard_normal(shape) / np.sqrt(max(1, fan_in)))
        self.weights.append(name)
        return name

    def vector(self, *shape: int) -> str:
        """Biases, sometimes shared as exporters share equal ones."""
        known = [v for v in self.vectors if self.shapes[v] == shape]
        if known and self.chance(15):
            return self.pick(known)
        self.vectors.append(self.const(0.5 * self.graph.random.standard_normal(shape)))
        return self.vectors[-1]

    def scale(self, *shape: int) -> str:
        return self.const(self.graph.random.uniform(0.5, 1.5, shape))

    def width(self) -> int:
        return self.pick(WIDTHS)

    def rank(self, x: str) -> int:
        return len(self.shapes[x])

    def axes(self, x: str) -> list[int]:
        """Axes that moves may touch: with a dynamic batch, all but the first."""
        return list(range(1 if self.dynamic else 0, self.rank(x)))

    def some_axis(self, x: str, longest_first: int = 40) -> int | None:
        axes = self.axes(x)
        if not axes:
            return None
        if self.chance(longest_first):
            return max(axes, key=lambda a: self.shapes[x][a])
        return self.pick(axes)

    def spelled(self, axis: int, rank: int) -> int:
        """An axis as some exporter writes it: counted from the front or from the end."""
        return axis - rank if self.chance(30) else axis

    def peers(self, x: str, same: Callable[[Shape], bool]) -> list[str]:
        return [t for t in self.pool if same(self.shapes[t])]


Move = Callable[[Growing, str], "Sequence[str] | str | None"]
MOVES: dict[str, tuple[Move, int]] = {}


def move(weight: int = 3) -> Callable[[Move], Move]:
    """Register a way to grow. A move returns the tensors it made, or None if it does not fit the one it got."""

    def add(function: Move) -> Move:
        MOVES[function.__name__] = (function, weight)
        return function

    return add
