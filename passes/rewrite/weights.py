"""Putting something smaller into a model in the place of float weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.io.opset import structure
from ...graph.layer import Layer
from ...graph.model import Model
from ...graph.nodes import replace_nodes
from ..simplify.names import Names
from .edit import drop_unread, require_domain

MICROSOFT = "com.microsoft"


class Decoder(Protocol):
    """Writes nodes that make a float weight of what is stored."""

    def same(self, other: Decoder, /) -> bool:
        """Whether both stand for the same tensor, number for number."""

    def nodes(self, work: Work, weight: str, out: str, /) -> list[onnx.NodeProto]:
        """The last one makes ``out``."""


Asked = tuple[Decoder, set[int]]
"""What some nodes read, and where they stand."""


def _with_rest(forms: Sequence[Asked], rest: Decoder, left: set[int]) -> list[Asked]:
    """The same, what is left reading ``rest``, which comes last."""
    alike = [one for one in forms if one[0].same(rest)]
    readers = left.union(*(readers for _, readers in alike))
    return [*(one for one in forms if one not in alike), (rest, readers)]


@dataclass
class Work:
    """A copy of a model whose weights become integers one after the other.

    ``rest`` is what of a weight those of its readers and of the graph's outputs get that nobody asked for: without, they
    keep the float.
    """

    original: Model
    model: Model = field(init=False)
    names: Names = field(init=False)
    constants: dict[str, list[tuple[np.ndarray, str]]] = field(default_factory=lambda: defaultdict(list))
    replaced: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)
    shared: list[onnx.NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = self.original.copy()
        self.names = Names(self.original)
        index = index_of(self.model)
        self.nodes, self.maker, self.uses = index.nodes, index.place, index.uses
        self.readers = {name: set(places) for name in self.model.weights if (places := index.readers(name))}
        self.asked: dict[str, list[Asked]] = defaultdict(list)
        self.rest: dict[str, Decoder] = {}
        self.given = frozenset(index.outputs)

    def node(self, layer: Layer) -> onnx.NodeProto:
        return self.nodes[self.maker[layer.node]]

    def constant(self, stem: str, value: np.ndarray) -> str:
        """A constant of that name or one like it; what is there already under that stem is not stored again."""
        for known, name in self.constants[stem]:
            if known.dtype == value.dtype and np.array_equal(known, value):
                return name
        name = self.model.put(self.names.fresh(stem), value)
        self.constants[stem].append((self.model.weights[name], name))
        return name

    def share(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """What a node of constants makes, one node for all who ask for the same; it stands in front of all others."""
        made = onnx.helper.make_node(op, inputs, [""], **attributes)
        for node in self.shared:
            known = node.output[0]
            made.output[0] = made.name = known
            if made == node:
                return known
        made.output[0] = made.name = self.names.fresh("q")
        self.shared.append(made)
        return made.name

    def replace(self, layer: Layer, nodes: Sequence[onnx.NodeProto], *, domain: str = "") -> None:
        """Other nodes in the place of a reader of a weight; the last one makes what it made."""
        self.replaced[self.maker[layer.node]] = list(nodes)
        self.readers[layer.weight].discard(self.maker[layer.node])
        if domain:
            require_domain(self.model, domain)

    def substitute(self, layer: Layer, op: str, operands: Sequence[str], **attributes: Any) -> None:
        """An operator of ONNX Runtime's own in the place of a reader of a weight."""
        node = self.node(layer)
        made = onnx.helper.make_node(op, operands, node.output[:1], node.name, domain=MICROSOFT, **attributes)
        self.replace(layer, [made], domain=MICROSOFT)

    def decode(self, layer: Layer, form: Decoder) -> None:
        """Ask for a weight that one node reads; of several askers some may get the same."""
        place = self.maker[layer.node]
        for known, readers in self.asked[layer.weight]:
            if known.same(form):
                readers.add(place)
                return
        self.asked[layer.weight].append((form, {place}))

    def finish(self) -> Model:
        before: dict[int, list[onnx.NodeProto]] = defaultdict(list)
        for weight in {**self.asked, **self.rest}:
            forms = self.asked[weight]
            left = self.readers[weight].difference(*(readers for _, readers in forms))
            gone = not left and weight not in self.given
            if not gone and weight in self.rest:
                forms, gone = _with_rest(forms, self.rest[weight], left or {0}), True
            for form, readers in forms:
                alone = gone and form is forms[-1][0]
                out = weight if alone else self.names.fresh(f"{weight}/dq")
                before[min(readers)] += form.nodes(self, weight, out)
                if alone:
                    del self.model.weights[weight]
                    continue
                for place in readers:
                    for k, name in enumerate(self.nodes[place].input):
                        if name == weight:
                            self.nodes[place].input[k] = out
        nodes = list(self.shared)
        for k, node in enumerate(self.nodes):
            nodes += [*before[k], *self.replaced.get(k, [node])]
        self._hint()
        replace_nodes(self.model.graph, nodes)
        drop_unread(self.model, self.uses)
        return self.model

    def _hint(self) -> None:
        """Record the shapes of what nodes of other domains make: nobody can infer them."""
        known = {v.name for v in (*self.model.graph.value_info, *self.model.graph.output)}
        wanted = {nodes[-1].output[0] for nodes in self.replaced.values()} - known
        if not wanted:
            return
        try:
            inferred = onnx.shape_inference.infer_shapes(structure(self.original), data_prop=True).graph.value_info
        except Exception:  # whatever its C++ code throws; shapes then stay unknown
            return
        self.model.graph.value_info.extend(v for v in inferred if v.name in wanted)


@dataclass
class Lines:
    """Nodes one after the other that make what ``stem`` stands for, with constants that are named after it."""

    work: Work
    stem: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], out: str = "", **attributes: Any) -> str:
        name = self.work.names.fresh("q")
        self.nodes.append(onnx.helper.make_node(op, inputs, [out or name], name, **attributes))
        return out or name

    def constant(self, what: str, value: np.ndarray) -> str:
        return self.work.constant(f"{self.stem}/{what}", np.array(value))
