"""What each layer cost before a run, and what it costs after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from onnx import helper

from ..graph.cost import cost
from ..graph.dtypes import stored_bytes
from ..graph.index import index_of
from ..graph.model import Model
from ..graph.nodes import subgraphs


def by_layer(before: Model, after: Model) -> Iterator[dict[str, Any]]:
    """Of each node that multiplies: its MACs, those of bits, and the bytes of the weights that it reads, on both sides.

    Passes keep the names of nodes; what one is split into begins with its name. A node that is found no more has None
    after: it was removed, or merged into another.
    """
    old, new = _costs(before), _costs(after)
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, one in new.items():
        found[_origin(name, old)].append(one)
    for name, one in old.items():
        sides: dict[str, Any] = {"name": name, "op": one["op"]}
        for key in ("bytes", "macs", "bops"):
            left = sum(part[key] for part in found[name]) if found[name] else None
            if key != "bops" or one[key] or left:
                sides[key] = {"before": one[key], "after": left}
        yield sides


def _origin(name: str, known: Mapping[str, object]) -> str:
    """The node before that one after comes from: of its own name, or of the longest that its name begins with."""
    while name and name not in known:
        name = name.rpartition("/")[0]
    return name


def _costs(model: Model) -> dict[str, dict[str, Any]]:
    """By name, of the nodes that multiply; of those with bodies only the whole is known, so they are left out."""
    sizes, found = _Sizes(model), dict[str, dict[str, Any]]()
    for node, one in zip(model.graph.node, cost(model).nodes, strict=True):
        if (one.macs or one.bops) and not any(subgraphs(node)):
            known = found.setdefault(one.name, {"op": one.op, "macs": 0, "bops": 0, "bytes": 0})
            for key, value in (("macs", one.macs), ("bops", one.bops), ("bytes", sizes.read_by(node))):
                known[key] += value
    return found


class _Sizes:
    """How many bytes of the file the constant operands of a node come from."""

    def __init__(self, model: Model) -> None:
        self.model, self.index = model, index_of(model)

    def read_by(self, node: onnx.NodeProto) -> int:
        seen: set[str] = set()
        waiting = [name for name in node.input if name in self.index.constant or name in self.model.weights]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                maker = self.index.makers.get(name)
                waiting += maker.input if maker is not None else ()
        return sum(self._stored(name) for name in seen)

    def _stored(self, name: str) -> int:
        weight = self.model.weights.get(name)
        return 0 if weight is None else stored_bytes(weight.size, helper.np_dtype_to_tensor_dtype(weight.dtype))
