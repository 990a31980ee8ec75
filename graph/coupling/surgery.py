"""Remove chosen channels everywhere at once: slice constants, let nodes follow, drop what became unread."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..errors import IntaglioError
from ..index import index_of
from ..io.collector import paused_collector
from ..model import Model
from ..nodes import attribute, drop_dead, is_same, refill, replace_nodes, set_attribute
from ..traits import operator_key
from .labels import IntArray, Why
from .node import RULES, Node
from .solve import BoolArray

if TYPE_CHECKING:
    from .coupling import Coupling


class Removal:
    """A choice of atoms, and what follows from it for every axis.

    ``removed`` is boolean, one entry an atom. Masks of axes are computed once each.
    """

    def __init__(self, coupling: Coupling, removed: BoolArray) -> None:
        self.coupling = coupling
        self.removed = removed
        self.goes = coupling.solution.goes(removed)
        self._tensors: dict[str, dict[int, BoolArray]] = {}

    @cached_property
    def _masks(self) -> list[BoolArray | None]:
        """For each axis of the table which indices stay, or None where all do."""
        table = self.coupling.axis_table
        if not len(table.starts):
            return []
        gone = self.goes[table.classes]
        some = np.logical_or.reduceat(gone, table.starts).tolist()
        kept = ~gone
        ends = [*table.starts[1:].tolist(), len(gone)]
        bounds = zip(table.starts.tolist(), ends, some, strict=True)
        return [kept[start:end] if shrinks else None for start, end, shrinks in bounds]

    def keep(self, axis: IntArray | Why) -> BoolArray | None:
        """Which indices of an axis stay, or None where all do."""
        if isinstance(axis, Why):
            return None
        place = self.coupling.axis_table.places.get(id(axis))
        if place is not None:
            return self._masks[place]
        mask: BoolArray = ~self.goes[self.coupling.solution.classes[axis]]
        return None if mask.all() else mask

    def tensor(self, name: str) -> dict[int, BoolArray]:
        """Masks of the axes of a tensor that shrink."""
        if name not in self._tensors:
            masks = enumerate(map(self.keep, self.coupling.trace.axes.get(name, ())))
            self._tensors[name] = {a: mask for a, mask in masks if mask is not None}
        return self._tensors[name]

    @cached_property
    def shrinking(self) -> set[str]:
        """Tensors with an axis that shrinks."""
        return {name for name in self.coupling.trace.axes if self.tensor(name)}

    @cached_property
    def names(self) -> set[str]:
        """Names of tensors that are there already."""
        indexes = (index_of(self.coupling.original), index_of(self.coupling.model))
        return {name for index in indexes for name in (*index.uses, *index.place)}


class Edit:
    """A node under surgery: its old view, the masks of its axes, and ways to change it."""

    def __init__(self, node: Node, proto: onnx.NodeProto, removal: Removal, model: Model) -> None:
        self.node, self.proto, self.removal, self.model = node, proto, removal, model
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []
        self._outputs = list(proto.output)

    def keep(self, i: int, a: int) -> BoolArray:
        """Which indices of an input's axis stay."""
        return self._mask(self.node.inputs[i], a)

    def keep_out(self, j: int, a: int) -> BoolArray:
        return self._mask(self._outputs[j], a)

    def _mask(self, name: str, a: int) -> BoolArray:
        length, mask = self._removed(name, a)
        return np.ones(length, dtype=bool) if mask is None else mask

    def _removed(self, name: str, a: int) -> tuple[int, BoolArray | None]:
        """The length of an axis, and its mask where it has one: a free axis may be as long as memory."""
        dims = self.node.trace.dims[name]
        return dims[a], self.removal.tensor(name).get(a % len(dims))

    def kept(self, i: int, a: int) -> int:
        return self._kept(self.node.inputs[i], a)

    def kept_out(self, j: int, a: int) -> int:
        return self._kept(self._outputs[j], a)

    def _kept(self, name: str, a: int) -> int:
        length, mask = self._removed(name, a)
        return length if mask is None else int(mask.sum())

    def shrinks(self, i: int, a: int) -> bool:
        return self._shrinks(self.node.inputs[i], a)

    def shrinks_out(self, j: int, a: int) -> bool:
        return bool(self._outputs[j]) and self._shrinks(self._outputs[j], a)

    def _shrinks(self, name: str, a: int) -> bool:
        _, mask = self._removed(name, a)
        return mask is not None and not mask.all()

    def noted(self, name: str, otherwise: int) -> int:
        """What is left of an axis the rule noted; ``otherwise`` if it has no labels."""
        axis = self.node.trace.notes[self.node.index, name]
        if isinstance(axis, Why):
            return otherwise
        mask = self.removal.keep(axis)
        return len(axis) if mask is None else int(mask.sum())

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node.proto, name, default)

    def set_attr(self, name: str, value: Any) -> None:
        set_attribute(self.proto, name, value)

    def drop_attr(self, name: str) -> None:
        kept = [a for a in self.proto.attribute if a.name != name]
        del self.proto.attribute[:]
        self.proto.attribute.extend(kept)

    def set_input(self, i: int, value: np.ndarray) -> None:
        """Give an input a constant of its own."""
        while len(self.proto.input) <= i:
            self.proto.input.append("")
        self.proto.input[i] = self._constant(value)

    def set_setting(self, i: int, name: str, value: np.ndarray) -> None:
        """Set an operand where this node has it: as an attribute in older opsets, else as an input."""
        as_attribute = any(a.name == name for a in self.node.proto.attribute) or (
            len(self.node.inputs) == 1 and self.model.opset < 13
        )
        if as_attribute:
            set_attribute(self.proto, name, [int(v) for v in value])
        else:
            self.set_input(i, value)

    def patch(self, i: int, changes: dict[int, int]) -> None:
        """Change some entries of a shape operand: of a constant in a copy, of a computed one where it is read."""
        if not changes:
            return
        value = self.node.value(i)
        if value is not None:
            fresh = np.array(value)
            fresh[list(changes)] = list(changes.values())
            self.set_input(i, fresh)
            return
        name = self.proto.input[i]
        patched = self._name(f"{name}_patched")
        self.before.append(self._where(name, patched, changes, self.node.dims(i)[0]))
        self.proto.input[i] = patched

    def patch_output(self, j: int, changes: dict[int, int]) -> None:
        """Replace some entries of a shape that the node computes."""
        if not changes:
            return
        name = self._outputs[j]
        self.proto.output[j] = self._name(f"{name}_raw")
        self.after.append(self._where(self.proto.output[j], name, changes, self.node.out_dims(j)[0]))

    def gather_after(self, j: int, axis: int, indices: IntArray) -> None:
        """Read an output of the node at indices before anyone else does."""
        name = self.after[-1].output[0] if self.after else self._outputs[j]
        raw = self._name(f"{self._outputs[j]}_whole")
        if self.after:
            self.after[-1].output[0] = raw
        else:
            self.proto.output[j] = raw
        table = self._constant(np.asarray(indices, dtype=np.int64))
        self.after.append(onnx.helper.make_node("Gather", [raw, table], [name], name=self._name(name), axis=axis))

    def _where(self, old: str, new: str, changes: dict[int, int], count: int) -> onnx.NodeProto:
        mask, values = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
        mask[list(changes)], values[list(changes)] = True, list(changes.values())
        inputs = [self._constant(mask), self._constant(values), old]
        return onnx.helper.make_node("Where", inputs, [new], name=self._name(new))

    def _constant(self, value: np.ndarray) -> str:
        name = self._name(f"{self._outputs[0]}_const")
        self.model.weights[name] = value
        return name

    def _name(self, stem: str) -> str:
        taken = self.removal.names
        name, serial = stem, 0
        while name in taken or name in self.model.weights:
            serial += 1
            name = f"{stem}_{serial}"
        taken.add(name)
        return name


@paused_collector()
def remove(removal: Removal) -> Model:
    """The model without the removed channels. What is not touched is shared with the original.

    Raises:
        IntaglioError: an operator's node cannot follow; nothing of the original is changed.
    """
    coupling = removal.coupling
    vars(removal).pop("names", None)  # done again, it makes the same names
    model = coupling.model.copy()
    for name in coupling.model.weights:
        if name in removal.shrinking:
            model.weights[name] = slice_weight(model.weights[name], removal.tensor(name))
    nodes: list[onnx.NodeProto] = []
    for index, proto in enumerate(model.graph.node):
        nodes.extend(follow(coupling, removal, model, index, proto))
    if len(nodes) != len(model.graph.node):
        replace_nodes(model.graph, nodes)
    _reunite(model, coupling.prepared.base)
    drop_dead(model)
    _update_shapes(model, removal)
    return model


def follow(
    coupling: Coupling, removal: Removal, model: Model, index: int, proto: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """A node of the new graph with what must stand before and after it."""
    rule = RULES.get(operator_key(proto))
    if rule is None or rule.rewrite is None:
        return [proto]
    if removal.shrinking.isdisjoint((*coupling.nodes[index].input, *proto.output)):
        return [proto]
    edit = Edit(Node(coupling.nodes[index], index, coupling.trace), proto, removal, model)
    try:
        rule.rewrite(edit)
    except (KeyError, IndexError, ValueError) as error:
        raise IntaglioError(
            f'{proto.op_type} "{proto.name}" cannot follow the channels removed around it',
            why=f"{type(error).__name__}: {error}",
            fix="leave the group out with --exclude and report the model",
        ) from error
    return [*edit.before, proto, *edit.after]


def slice_weight(weight: np.ndarray, masks: dict[int, BoolArray]) -> np.ndarray:
    for axis, mask in masks.items():
        weight = np.compress(mask, weight, axis=axis)
    return weight


def _reunite(model: Model, base: dict[str, str]) -> None:
    """Give copies of a parted constant that stayed equal one name again, the original one to the first."""
    if not base:
        return
    final: dict[str, str] = {}
    by_base: dict[str, list[str]] = defaultdict(list)
    for copy, name in base.items():
        if copy in model.weights:
            by_base[name].append(copy)
    used = index_of(model).uses
    for name, copies in by_base.items():
        owners: list[str] = [name] if name in used else []
        for copy in copies:
            twin = next((o for o in owners if is_same(model.weights[o], model.weights[copy])), None)
            if twin is None:
                twin = copy if owners else name
                model.weights[twin] = model.weights[copy]
                owners.append(twin)
            final[copy] = twin
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in final and final[name] != name:
                node.input[i] = final[name]


def _update_shapes(model: Model, removal: Removal) -> None:
    """Correct the recorded shapes of tensors, caches among them; forget those of tensors that are gone."""
    graph = model.graph
    present = index_of(model).place
    refill(graph.value_info, [value for value in graph.value_info if value.name in present])
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name in removal.shrinking and value.type.tensor_type.HasField("shape"):
            for axis, mask in removal.tensor(value.name).items():
                value.type.tensor_type.shape.dim[axis].dim_value = int(mask.sum())
