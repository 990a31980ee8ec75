"""Weights that nodes move and convert before a layer reads them: done once, when the model is read.

Exporters leave weights behind Transpose, Slice, Concat and Cast nodes. Whatever looks for layers would find that their
weights are computed. What such nodes make is put in the place of what they read, unless the file would grow.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from ..evaluate import evaluates, moved
from ..index import Index, index_of
from ..model import Model
from ..nodes import attribute, is_standard, refill
from ..traits import Role, Trait, has, operator

_NUMBERS = "fiub"
"""Kinds of element types that numpy itself has."""
_AT_MOST = 8
"""What chains may take, in times of all weights."""
_OLDEST = 7
"""Before, operators broadcast in ways of their own."""
_BESIDE = 16
"""Bytes that a tensor takes in a file beside its name and its values, about."""


Compute = Callable[[onnx.NodeProto, Sequence[np.ndarray]], "list[np.ndarray] | None"]
"""What a node makes of constants; None for one that stays."""


def fold_chains(model: Model, compute: Compute | None = None) -> int:
    """Make weights of what nodes that move or convert numbers make of weights, or ``compute`` does; how many nodes went.

    Nodes that read the same weights go together or stay together: they go where what is made takes no more bytes than
    the nodes themselves and the weights that nobody else reads. What two nodes make alike is made once.
    """
    index = index_of(model)
    work = _Work(model, index, compute)
    for node in index.nodes:
        work.look_at(node)
    gone = [chain for chain in work.chains() if chain.saved >= 0]
    if not gone:
        return 0
    dropped = {id(node) for chain in gone for node in chain.nodes}
    tensors = {name for name, place in index.place.items() if id(index.nodes[place]) in dropped}
    kept = [node for node in index.nodes if id(node) not in dropped]
    for node in kept:
        node.input[:] = [work.same.get(name, name) if name in tensors else name for name in node.input]
    refill(model.graph.node, kept)
    refill(model.graph.value_info, [v for v in model.graph.value_info if v.name not in tensors])
    for chain in gone:
        for name in dict.fromkeys(work.same.get(name, name) for name in chain.read):
            model.put(name, work.made[name])
    after = index_of(model).uses
    for name in [n for n in model.weights if index.uses[n] and not after[n]]:
        del model.weights[name]
    return len(dropped)


@dataclass
class _Chain:
    """Nodes that hang together, of what they make what others ``read``, and the bytes that are ``saved`` without them."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    saved: int = 0


class _Work:
    """Nodes that compute on weights alone, what they make, and which of them hang together."""

    def __init__(self, model: Model, index: Index, compute: Compute | None) -> None:
        self._compute = compute or self._moved
        self.weights, self.index, self.opset = model.weights, index, model.opset
        self.made: dict[str, np.ndarray] = {}
        self.same: dict[str, str] = {}
        self._seen: dict[bytes, onnx.NodeProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._parent: dict[str, str] = {}
        self._room = _AT_MOST * sum(weight.nbytes for weight in model.weights.values())

    def look_at(self, node: onnx.NodeProto) -> None:
        found = [self.made.get(name, self.weights.get(name)) for name in node.input]
        inputs = [value for value in found if value is not None and value.dtype.kind in _NUMBERS]
        outside = any(name in self.index.outputs for name in node.output)
        if not inputs or len(inputs) < len(found) or outside or not all(node.output):
            return
        before = self._before(node)
        if before is None:
            values = self._compute(node, inputs)
            if values is None or len(values) != len(node.output) or any(v.dtype.kind not in _NUMBERS for v in values):
                return
        else:
            values = [self.made[name] for name in before.output]
            self.same.update(zip(node.output, before.output, strict=True))
        self.made.update(zip(node.output, values, strict=True))
        self._nodes.append(node)
        for name in (*_data(node), *node.output, *(before.output if before is not None else ())):
            self._parent[self._root(name)] = self._root(node.output[0])

    def chains(self) -> list[_Chain]:
        found: defaultdict[str, _Chain] = defaultdict(_Chain)
        for node in self._nodes:
            chain = found[self._root(node.output[0])]
            chain.nodes.append(node)
        for chain in found.values():
            reads = Counter(name for node in chain.nodes for name in node.input)
            made = [name for node in chain.nodes for name in node.output]
            chain.read = [name for name in made if self.index.uses[name] > reads[name]]
            freed = {name for node in chain.nodes for name in _data(node) if name in self.weights}
            freed = {name for name in freed if self.index.uses[name] == reads[name]}
            nodes = sum(node.ByteSize() for node in chain.nodes)
            stay = {self.same.get(name, name) for name in chain.read}
            chain.saved = nodes + _bytes(freed, self.weights) - _bytes(stay, self.made)
        return list(found.values())

    def _before(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """A node that makes the same; bodies know tensors by their names, so for what they read there is none."""
        alike = onnx.NodeProto(op_type=node.op_type, input=[self.same.get(name, name) for name in node.input])
        alike.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
        first = self._seen.setdefault(alike.SerializeToString(deterministic=True), node)
        alone = (
            first is node or len(first.output) != len(node.output) or not self.index.captured.isdisjoint(node.output)
        )
        return None if alone or first.output[0] not in self.made else first

    def _moved(self, node: onnx.NodeProto, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """What a node makes that only moves or converts weights, where there is room for it."""
        if not (is_standard(node) and evaluates(node) and (has(node, Trait.MOVES) or node.op_type == "Cast")):
            return None
        self._room -= (needed := _needed(node, inputs))
        return moved(node, inputs) if needed >= 0 and self._room >= 0 and self.opset >= _OLDEST else None

    def _root(self, name: str) -> str:
        while (above := self._parent.setdefault(name, name)) != name:
            name = above
        return name


def _data(node: onnx.NodeProto) -> list[str]:
    return [name for position, name in enumerate(node.input) if operator(node).is_data(position)]


def _needed(node: onnx.NodeProto, inputs: Sequence[np.ndarray]) -> int:
    """Bytes of what a node makes, at most; below 0 where that is more than it reads."""
    if Role.INDICES in operator(node).roles.values():
        axis = attribute(node, "axis", 0)
        rows = inputs[0].shape[axis] if -inputs[0].ndim <= axis < inputs[0].ndim else 0
        return inputs[0].nbytes if inputs[1].size <= rows else -1
    if node.op_type == "Cast":
        kind = attribute(node, "to", 0)
        known = kind in onnx.helper.get_all_tensor_dtypes()
        to = onnx.helper.tensor_dtype_to_np_dtype(kind) if known else None
        # What numpy and ONNX Runtime convert alike: all numbers to floats.
        return inputs[0].size * to.itemsize if to is not None and to.kind == "f" else -1
    return sum(value.nbytes for value in inputs)


def _bytes(names: Sequence[str] | set[str], values: Mapping[str, np.ndarray]) -> int:
    """What tensors take in a file."""
    return sum(values[name].nbytes + len(name) + _BESIDE for name in names)
