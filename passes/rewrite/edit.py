"""Rewriting nodes one by one: what every conversion of a graph to smaller numbers does alike, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import refill, replace_nodes
from ..simplify.names import Names


@dataclass(frozen=True)
class Outcome:
    """A model, what was done to which node, and why others stay as they were; all by the nodes' names."""

    model: Model
    done: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.done)


class Edit:
    """A copy of a model whose nodes are written anew in order; constants nobody reads any more go at the end."""

    def __init__(self, model: Model) -> None:
        self.original, self.model = model, model.copy()
        self.nodes: list[onnx.NodeProto] = []
        self._names = Names(model)
        self._titles = {n.name for n in model.graph.node}

    def constant(self, stem: str, value: np.ndarray) -> str:
        """A new constant of that name, or one like it."""
        return self.model.put(self._names.fresh(stem), value)

    def tensor(self, stem: str) -> str:
        return self._names.fresh(stem)

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        *,
        name: str = "",
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node; ``outputs`` are names that are its own already. Gives back the first.

        The node gets ``name``, with a number behind it if another node has that.
        """
        made = [outputs] if isinstance(outputs, str) else list(outputs)
        title, serial = name or made[0], 0
        while title in self._titles:
            serial += 1
            title = f"{name or made[0]}_{serial}"
        self._titles.add(title)
        self.nodes.append(onnx.helper.make_node(op_type, inputs, made, title, domain=domain or None, **attributes))
        return made[0]

    def keep(self, node: onnx.NodeProto) -> None:
        self._titles.add(node.name)
        self.nodes.append(node)

    def replace(self, node: onnx.NodeProto) -> None:
        """What is added from now on takes the place of ``node``, and may take its name."""
        self._titles.discard(node.name)

    def finish(self) -> Model:
        graph = self.model.graph
        before = index_of(self.model).uses
        replace_nodes(graph, self.nodes)
        after = index_of(self.model)
        made = {*after.place, *after.inputs, *after.outputs}
        drop_unread(self.model, before)
        refill(graph.value_info, [v for v in graph.value_info if v.name in made])
        return self.model


def drop_unread(model: Model, before: Mapping[str, int] | None = None) -> None:
    """Remove constants that nothing reads, in place; with ``before`` those that had so many readers there."""
    uses = index_of(model).uses
    for name in [n for n in model.weights if not uses[n] and (before is None or before[n])]:
        del model.weights[name]


def require_domain(model: Model, name: str, version: int = 1) -> None:
    """Declare an operator set beside the standard one, in place."""
    if all(o.domain != name for o in model.proto.opset_import):
        model.proto.opset_import.append(onnx.helper.make_opsetid(name, version))
