"""What each layer cost before a run, and what it costs after it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..graph.cost import cost
from ..graph.dtypes import stored_bytes
from ..graph.index import Index, index_of
from ..graph.model import Model
from ..graph.nodes import subgraphs
from ..measure.run.profile import layer_times


def by_layer(before: Model, after: Model) -> Iterator[dict[str, Any]]:
    """Of each node that multiplies: its MACs, those of bits, and the bytes of the weights that it reads, on both sides.
    What several of them read is shared out among them.

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


def with_times(
    rows: Sequence[Mapping[str, Any]], before: Model, after: Model, inputs: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """The same with the time that each layer takes in both models, where their profiles tell it."""
    old, parts = ({one.name for one in cost(model).nodes} for model in (before, after))
    first, new = layer_times(before, inputs, old), dict[str, float]()
    for name, took in layer_times(after, inputs, parts).items():
        new[_origin(name, old)] = new.get(_origin(name, old), 0.0) + took
    return [
        {**row, "latency_ms": {"before": first.get(row["name"]), "after": new.get(row["name"])}}
        if row["name"] in first
        else dict(row)
        for row in rows
    ]


def _origin(name: str, known: Container[str]) -> str:
    """The node before that one after comes from: of its own name, or of the longest that its name begins with."""
    while name and name not in known:
        name = name.rpartition("/")[0]
    return name


def _costs(model: Model) -> dict[str, dict[str, Any]]:
    """By name, of the nodes that multiply; of those with bodies only the whole is known, so they are left out."""
    pairs = zip(model.graph.node, cost(model).nodes, strict=True)
    layers = [(node, one) for node, one in pairs if (one.macs or one.bops) and not any(subgraphs(node))]
    index = index_of(model)
    weights = [_weights(index, node) & model.weights.keys() for node, _ in layers]
    readers = Counter(name for read in weights for name in read)
    found: dict[str, dict[str, Any]] = {}
    for (_, one), read in zip(layers, weights, strict=True):
        known = found.setdefault(one.name, {"op": one.op, "macs": 0, "bops": 0, "bytes": 0})
        size = round(sum(_stored(model.weights[name]) / readers[name] for name in sorted(read)))
        for key, value in (("macs", one.macs), ("bops", one.bops), ("bytes", size)):
            known[key] += value
    return found


def _weights(index: Index, node: onnx.NodeProto) -> set[str]:
    """What the constant operands of a node are made of."""
    seen: set[str] = set()
    waiting = [name for name in node.input if name in index.constant]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            maker = index.makers.get(name)
            waiting += maker.input if maker is not None else ()
    return seen


def _stored(weight: np.ndarray) -> int:
    return stored_bytes(weight.size, helper.np_dtype_to_tensor_dtype(weight.dtype))
