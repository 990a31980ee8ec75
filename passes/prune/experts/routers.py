"""Routers: a product scores experts for each token, TopK takes the best, and their weights are looked up by number.

``scores = x @ W (tokens, experts)``, ``best = TopK(softmax(scores))``, ``Gather(stack, best)``, or GatherND. Experts that stay keep their
order, so that of equal scores the same one wins; a softmax over those that stay is that over all with the others' scores at
minus infinity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from ....graph.index import Index, index_of
from ....graph.model import Model
from ....graph.nodes import attribute, copied, display_name, is_standard, refill, replace_nodes

_SCORED = frozenset({"Softmax", "Sigmoid", "Cast", "Identity", "Mul", "Add", "Div", "Reshape"})
"""What scores go through one by one, or a softmax over all."""
_HANDED = frozenset({"Reshape", "Flatten", "Cast", "Identity", "Unsqueeze", "Squeeze", "Transpose", "Shape", "Size"})
"""What hands numbers of experts on as they are."""


@dataclass(frozen=True)
class Router:
    """``stacks`` are constants with experts along an axis, ``shapes`` those of a Reshape that end with their number.

    ``looked`` are those of the stacks that are looked up by number.

    ``made`` are tensors with a score for each expert, the raw ones first; ``numbers`` those that count experts.
    """

    name: str
    experts: int
    taken: int
    scores: str
    best: str
    stacks: Mapping[str, int] = field(default_factory=dict)
    looked: frozenset[str] = frozenset()
    shapes: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()


class Unfit(Exception):
    """Why the experts of a TopK cannot be told apart in the graph."""


def routers(model: Model) -> tuple[list[Router], dict[str, str]]:
    """All that there are, in graph order, and why a TopK that takes experts is none."""
    found, refused = list[Router](), dict[str, str]()
    for node in model.graph.node:
        if node.op_type == "TopK" and is_standard(node) and attribute(node, "largest", 1):
            try:
                found.append(_Finder(model, node).router())
            except Unfit as unfit:
                refused[display_name(node)] = str(unfit)
    shared = [name for one in found for name in one.stacks]
    for one in [one for one in found if any(shared.count(name) > 1 for name in one.stacks)]:
        refused[one.name] = "its weights are those of another router as well"
        found.remove(one)
    return found, refused


class _Finder:
    def __init__(self, model: Model, top: onnx.NodeProto) -> None:
        self.model, self.top, self.index = model, top, index_of(model)
        self.stacks: dict[str, int] = {}
        self.looked: set[str] = set()
        self.shapes: set[str] = set()

    def router(self) -> Router:
        count = self.model.weights.get(self.top.input[1])
        if count is None:
            raise Unfit("how many it takes is computed")
        product, made = self._back(self.top.input[0])
        weight = self.model.weights[product.input[1]]
        axis = 0 if attribute(product, "transB", 0) else weight.ndim - 1
        experts = weight.shape[axis]
        if attribute(self.top, "axis", -1) not in (-1, self._rank(self.top.input[0]) - 1):
            raise Unfit("it takes along another axis than that of the scores")
        self._take(product.input[1], axis)
        for name in product.input[2:]:
            self._along_last(name, experts)
        self._settle(made, experts)
        numbers = self._forward(self.top.output[1], experts)
        return Router(
            display_name(product),
            experts,
            int(count.reshape(-1)[0]),
            product.output[0],
            self.top.output[1],
            self.stacks,
            frozenset(self.looked),
            frozenset(self.shapes),
            frozenset(made),
            frozenset(numbers),
        )

    def _back(self, name: str) -> tuple[onnx.NodeProto, list[str]]:
        """The product that makes the scores, and all tensors between it and TopK."""
        made = [name]
        while True:
            node = self.index.makers.get(name)
            if node is None or not is_standard(node):
                raise Unfit(f"what makes {name!r} is no product with a constant")
            if node.op_type in ("MatMul", "Gemm") and self._is_matrix(node):
                return node, made
            computed = [i for i in node.input if i and i not in self.model.weights]
            if node.op_type not in _SCORED or len(computed) != 1:
                raise Unfit(f"{node.op_type} {display_name(node)!r} stands between the scores and it")
            if node.op_type == "Softmax" and attribute(node, "axis", -1) not in (-1, self._rank(name) - 1):
                raise Unfit(f"Softmax {display_name(node)!r} is over another axis")
            name = computed[0]
            made.append(name)

    def _is_matrix(self, node: onnx.NodeProto) -> bool:
        return (
            len(node.input) > 1 and node.input[1] in self.model.weights and self.model.weights[node.input[1]].ndim == 2
        )

    def _settle(self, made: list[str], experts: int) -> None:
        """Scores are read by nothing but what leads to TopK; constants beside them go with the experts."""
        for name in made:
            if name in self.index.outputs:
                raise Unfit(f"{name!r} is an output")
            for place in self.index.readers(name):
                node = self.index.nodes[place]
                if node is self.top or node.op_type in ("Shape", "Size"):
                    if node is not self.top:
                        raise Unfit(f"{node.op_type} {display_name(node)!r} reads how many there are")
                    continue
                if not {*node.output} & {*made}:
                    raise Unfit(f"{node.op_type} {display_name(node)!r} reads all scores")
                for other in node.input:
                    if other in self.model.weights:
                        self._beside(node, other, experts)

    def _beside(self, node: onnx.NodeProto, name: str, experts: int) -> None:
        if node.op_type != "Reshape":
            self._along_last(name, experts)
            return
        last = int(self.model.weights[name].reshape(-1)[-1])
        if last == experts:
            self.shapes.add(name)
        elif last != -1 or experts in self.model.weights[name]:
            raise Unfit(f"Reshape {display_name(node)!r} moves the scores")

    def _along_last(self, name: str, experts: int) -> None:
        weight = self.model.weights.get(name)
        if weight is None:
            raise Unfit(f"{name!r} is computed")
        if weight.ndim and weight.shape[-1] == experts:
            self._take(name, weight.ndim - 1)
        elif weight.size != 1:
            raise Unfit(f"{name!r} has not one number for each expert")

    def _take(self, name: str, axis: int) -> None:
        if len(self.index.readers(name)) != 1 or name in self.index.outputs:
            raise Unfit(f"{name!r} is read by others, too")
        self.stacks[name] = axis

    def _forward(self, name: str, experts: int) -> list[str]:
        """Tensors that hold numbers of experts, all of which end in look-ups."""
        numbers, waiting = list[str](), [name]
        while waiting:
            name = waiting.pop()
            numbers.append(name)
            if name in self.index.outputs:
                raise Unfit("which experts were taken is an output")
            for place in self.index.readers(name):
                node = self.index.nodes[place]
                if (
                    node.op_type in ("Gather", "GatherND")
                    and node.input[1] == name
                    and node.input[0] in self.model.weights
                ):
                    self._look_up(node, experts)
                elif node.op_type in _HANDED and node.input[0] == name:
                    waiting.extend([] if node.op_type in ("Shape", "Size") else node.output)
                else:
                    raise Unfit(f"{node.op_type} {display_name(node)!r} reads which experts were taken")
        if not self.looked:
            raise Unfit("no weights are looked up by what it takes")
        return numbers

    def _look_up(self, node: onnx.NodeProto, experts: int) -> None:
        stack, axis = self.model.weights[node.input[0]], attribute(node, "axis", 0)
        if axis != 0 or stack.shape[0] != experts:
            raise Unfit(f"{node.op_type} {display_name(node)!r} looks up {stack.shape[0]} along axis {axis}")
        last = self.index.shapes.dims.get(node.input[1], (0,))[-1]
        if node.op_type == "GatherND" and (last != 1 or attribute(node, "batch_dims", 0)):
            raise Unfit(f"GatherND {display_name(node)!r} looks up by more than the number of an expert")
        self._take(node.input[0], 0)
        self.looked.add(node.input[0])

    def _rank(self, name: str) -> int:
        return len(self.index.shapes.dims.get(name, ()))


Kept = NDArray[np.int64]
"""Numbers of experts that stay, in order."""


def without(model: Model, kept: Mapping[str, Kept], found: list[Router]) -> Model:
    """The model with these experts of each router alone, by its name."""
    small = model.copy()
    for one in found:
        stay = kept[one.name]
        for name, axis in one.stacks.items():
            small.put(name, np.ascontiguousarray(np.take(model.weights[name], stay, axis=axis)))
        for name in one.shapes:
            _own_shape(small, one, name, len(stay))
        made = {one.scores, *one.made}
        refill(small.graph.value_info, [value for value in small.graph.value_info if value.name not in made])
    return small


def _own_shape(small: Model, one: Router, name: str, count: int) -> None:
    """Give the scores' Reshape a constant of its own: others may read the one it has."""
    shape = small.weights[name].copy()
    shape[-1] = count
    own = small.put(f"{one.scores}/{name}", shape)
    for node in small.graph.node:
        if node.op_type == "Reshape" and {*node.output} & one.made and node.input[1] == name:
            node.input[1] = own


def masked(model: Model, kept: Mapping[str, Kept], found: list[Router]) -> Model:
    """With the scores of the others at minus infinity."""
    changed, places = model.copy(), {one.scores: one for one in found}
    nodes: list[onnx.NodeProto] = []
    for node in changed.graph.node:
        one = places.get(node.output[0]) if node.output else None
        if one is None:
            nodes.append(node)
            continue
        mask = np.full(one.experts, -np.inf, np.float32)
        mask[kept[one.name]] = 0
        raw, node = f"{one.scores}/raw", copied(node)
        node.output[0] = raw
        kind = model.weights[node.input[1]].dtype
        nodes += [
            node,
            onnx.helper.make_node("Add", [raw, changed.put(f"{raw}/mask", mask.astype(kind))], [one.scores]),
        ]
    replace_nodes(changed.graph, nodes)
    return changed


def compared(index: Index, found: list[Router]) -> Iterator[str]:
    """Tensors that both models make alike: neither all scores nor numbers of experts."""
    apart = {name for one in found for name in (one.scores, *one.made, *one.numbers)}
    yield from (name for name in index.place if name not in apart)
