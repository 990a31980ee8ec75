"""Keep one of nodes that compute the same of the same, and one of weights that hold the same."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import refill, replace_nodes
from ...graph.traits import Trait, has_any
from ..rewrite.edit import drop_unread


def merge_duplicates(model: Model) -> int:
    """In place; gives how many nodes went."""
    index = index_of(model)
    fixed, before = index.captured.union(index.outputs), index.uses
    renamed = _equal_weights(model, fixed)
    seen: dict[bytes, onnx.NodeProto] = {}
    kept: list[onnx.NodeProto] = []
    for node in index.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        first = node if has_any(node, Trait.RANDOM | Trait.BODIES) else seen.setdefault(_content(node), node)
        if first is node or not fixed.isdisjoint(node.output):
            kept.append(node)
        else:
            renamed.update(zip(node.output, first.output, strict=True))
    went = len(index.nodes) - len(kept)
    if renamed:
        replace_nodes(model.graph, kept)
        drop_unread(model, before)
        made = {*index_of(model).place, *index.inputs}
        refill(model.graph.value_info, [v for v in model.graph.value_info if v.name in made])
    return went


def _content(node: onnx.NodeProto) -> bytes:
    """All that a node's results depend on; outputs that are left out are."""
    same = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=node.input)
    same.output.extend("1" if name else "" for name in node.output)
    same.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
    return same.SerializeToString(deterministic=True)


def _equal_weights(model: Model, fixed: frozenset[str]) -> dict[str, str]:
    first: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    for name, value in model.weights.items():
        if value.dtype.kind in "fiub" and name not in fixed:
            digest = blake2b(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, digest_size=32).digest()
            other = first.setdefault((value.dtype, value.shape, digest), name)
            if other != name:
                renamed[name] = other
    return renamed
