"""The original with removed channels zeroed where they are consumed: what a pruned model must equal."""

from __future__ import annotations

from collections import defaultdict
from itertools import count

import numpy as np
import onnx

from ..index import index_of
from ..model import Model
from ..nodes import replace_nodes
from ..traits import Trait, has, operator
from .labels import Why
from .node import Contraction
from .surgery import Removal, follow, slice_weight


def mask_removed(removal: Removal) -> Model:
    """A copy of the original model in which nothing that went is heard of.

    Entries of weights that removed channels meet are set to zero; where a summed axis meets no weight, a 0/1 mask
    multiplies the operand. Normalizations and means over a removed channel have no such equal: around those (and only
    if ``removal`` contains inexact channels) what stays is gathered, the node works on that, and its result is spread
    to the full width again.
    """
    return _Masking(removal).run()


class _Masking:
    def __init__(self, removal: Removal) -> None:
        self.removal, self.coupling = removal, removal.coupling
        self.model = self.coupling.original.copy()
        self.places = index_of(self.model).place
        self.before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self.after: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        self.shared = set(self.coupling.prepared.base.values())
        self.start = self._unused_start()

    def run(self) -> Model:
        inexact = self.coupling.trace.narrowed
        narrowed = {i: None for i, axes in inexact.items() if any(self.removal.keep(a) is not None for a in axes)}
        for contraction in self.coupling.trace.contractions:
            if contraction.node not in narrowed:
                self._silence(contraction)
        for index in narrowed:
            self._narrow(index)
        nodes = []
        for at, node in enumerate(self.model.graph.node):
            nodes.extend([*self.before.get(at, ()), node, *self.after.get(at, ())])
        replace_nodes(self.model.graph, nodes)
        return self.model

    def _unused_start(self) -> str:
        """What the name of no tensor starts with, for the new ones."""
        index = index_of(self.model)
        taken = {*index.uses, *index.place, *self.model.weights}
        starts = (f"mask{k or ''}/" for k in count())
        return next(start for start in starts if not any(name.startswith(start) for name in taken))

    def _silence(self, c: Contraction) -> None:
        """Zero what removed channels add to a sum: in the weight they meet, else in front of the node."""
        old = self.coupling.nodes[c.node]
        axis = self.coupling.axes(old.input[c.position])[c.axis]
        mask = self.removal.keep(axis)
        if mask is None or isinstance(axis, Why):
            return
        at = self.places[_made(old)]
        node = self.model.graph.node[at]
        name = node.input[c.position]
        if name not in self.model.weights:
            self._multiply(at, c, mask)
            return
        weight, fill = self.model.weights[name], self._neutral(node, c)
        if name in self.shared:
            # Other nodes use it index by index, each on its own: they must not see the zeros.
            name = f"{self.start}{name}@{at}"
            node.input[c.position] = name
        self.model.weights[name] = _filled(weight, c.axis, ~mask, fill)

    def _neutral(self, node: onnx.NodeProto, c: Contraction) -> np.ndarray | int:
        """The value that adds nothing."""
        if c.neutral < 0 or c.neutral >= len(node.input) or not node.input[c.neutral]:
            return 0
        return self.model.weights[node.input[c.neutral]]

    def _multiply(self, at: int, c: Contraction, mask: np.ndarray) -> None:
        """``Mul`` by zeros and ones in front of an operand."""
        node, shapes = self.model.graph.node[at], self.coupling.prepared.shapes
        old = self.coupling.nodes[c.node].input[c.position]
        shape = [1] * len(shapes.dims[old])
        shape[c.axis] = len(mask)
        name = f"{self.start}{_made(node)}.{c.position}.{c.axis}"
        kind = onnx.helper.tensor_dtype_to_np_dtype(shapes.dtypes[old])
        self.model.weights[f"{name}.kept"] = mask.reshape(shape).astype(kind)
        inputs = [node.input[c.position], f"{name}.kept"]
        self.before[at].append(onnx.helper.make_node("Mul", inputs, [name], name=name))
        node.input[c.position] = name

    def _narrow(self, index: int) -> None:
        """Let a node work on what stays, and spread its result."""
        old = self.coupling.nodes[index]
        at = self.places[_made(old)]
        node = self.model.graph.node[at]
        outputs = list(node.output)
        affine = self._part_affine(node, old)
        inputs = list(node.input)
        edited = follow(self.coupling, self.removal, self.model, index, node)
        place = edited.index(node)
        first, last = self.before[at], self.after[at]
        for i, name in enumerate(old.input):
            masks = self.removal.tensor(name) if name and i not in affine else {}
            if masks and inputs[i] in self.model.weights:
                name = f"{self.start}{_made(node)}.{i}"
                self.model.weights[name] = slice_weight(self.model.weights[inputs[i]], masks)
                node.input[i] = name
                continue
            for axis, mask in masks.items():
                target = f"{self.start}{_made(node)}.{i}.{axis}"
                node.input[i] = self._gather(first, node.input[i], target, axis, np.flatnonzero(mask))
        first.extend(edited[:place])
        last.extend(edited[place + 1 :])
        for name in outputs:
            if name:
                self._spread(node, last, name, affine if name == outputs[0] else {})

    def _part_affine(self, node: onnx.NodeProto, old: onnx.NodeProto) -> dict[int, np.ndarray]:
        """Take the scale and shift of a normalization off it: they belong to channels, whatever it runs over.

        Returns their original values by position, shaped to broadcast to the output.
        """
        axis = operator(node).channels if has(node, Trait.NORMALIZES) else None
        dims = self.coupling.prepared.shapes.dims[old.input[0]]
        masks = self.removal.tensor(old.input[0])
        left = [int(masks[a].sum()) if a in masks else n for a, n in enumerate(dims)]
        found: dict[int, np.ndarray] = {}
        for i in range(1, len(node.input)):
            weight = self.model.weights.get(node.input[i])
            if axis is None or weight is None or (axis == 1 and weight.shape != (dims[1],)):
                return {}
            found[i] = weight.reshape(-1, *(1 for _ in dims[2:])) if axis == 1 else weight
        for i in found:
            whole = self.model.weights[node.input[i]].shape
            aligned = [1] if axis == 1 else range(len(dims) - len(whole), len(dims))
            shape = [left[a] if n == dims[a] else n for a, n in zip(aligned, whole, strict=True)]
            node.input[i] = f"{self.start}{_made(node)}.{i}.none"
            self.model.weights[node.input[i]] = np.full(shape, 1 if i == 1 else 0, dtype=found[i].dtype)
        return found

    def _spread(
        self, node: onnx.NodeProto, last: list[onnx.NodeProto], name: str, affine: dict[int, np.ndarray]
    ) -> None:
        """Give an output its full width back, then its scale and shift; what went repeats a neighbour, for nobody."""
        masks = self.removal.tensor(name)
        inner = f"{self.start}{name}.narrow"
        if masks or affine:
            for n in (node, *last):
                n.output[:] = [inner if o == name else o for o in n.output]
        steps = len(masks) + len(affine)
        for k, (axis, mask) in enumerate(masks.items(), start=1):
            target = name if k == steps else f"{self.start}{name}.wide{axis}"
            inner = self._gather(last, inner, target, axis, np.where(mask, np.cumsum(mask) - 1, 0))
        for k, (i, table) in enumerate(affine.items(), start=len(masks) + 1):
            target = name if k == steps else f"{self.start}{name}.scaled"
            self.model.weights[f"{self.start}{name}.{i}.table"] = table
            inputs = [inner, f"{self.start}{name}.{i}.table"]
            last.append(onnx.helper.make_node("Mul" if i == 1 else "Add", inputs, [target], name=target))
            inner = target

    def _gather(self, nodes: list[onnx.NodeProto], source: str, target: str, axis: int, indices: np.ndarray) -> str:
        table = f"{self.start}{target}.{axis}.places"
        self.model.weights[table] = np.asarray(indices, dtype=np.int64)
        nodes.append(onnx.helper.make_node("Gather", [source, table], [target], name=target, axis=axis))
        return target


def _made(node: onnx.NodeProto) -> str:
    """The first tensor that a node makes: what it can be found by in another copy of the graph."""
    return next((o for o in node.output if o), "")


def _filled(weight: np.ndarray, axis: int, gone: np.ndarray, fill: np.ndarray | int) -> np.ndarray:
    out = np.array(weight)
    view = np.moveaxis(out, axis, -1)
    values = np.asarray(fill, dtype=weight.dtype)
    if values.ndim == 1 and values.size > 1:
        # One zero point per output channel: the first axis of a convolution's weight, the last of a matrix.
        at = 0 if axis != 0 else weight.ndim - 1
        shape = [1] * weight.ndim
        shape[at] = values.size
        spread = np.moveaxis(np.broadcast_to(values.reshape(shape), weight.shape), axis, -1)
        view[..., gone] = spread[..., gone]
    else:
        view[..., gone] = values.reshape(-1)[0]
    return out
