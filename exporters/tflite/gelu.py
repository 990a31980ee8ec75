"""The Gaussian error linear unit, x · (1 + erf(x / √2)) / 2, where a graph spells it out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import helper

from ...graph.index import Index

Constants = Mapping[str, np.ndarray]


def spelled_out(index: Index, constants: Constants) -> Iterator[tuple[onnx.NodeProto, list[onnx.NodeProto]]]:
    """Nodes that stand for others: one for the last of those behind it."""
    for node in index.nodes:
        leaves, inner = _factors(node, index)
        found = [_unit(name, index, constants) for name in leaves]
        if len(leaves) != 3 or sum(map(bool, found)) != 1:
            continue
        x, nodes = next(one for one in found if one)
        halves = [name for name in leaves if _is(constants.get(name), 0.5)]
        if x in leaves and len(halves) == 1:
            yield helper.make_node("Gelu", [x], list(node.output), node.name), [node, *inner, *nodes]


def _factors(node: onnx.NodeProto, index: Index) -> tuple[list[str], list[onnx.NodeProto]]:
    """What a product of products multiplies, and the nodes of it that nobody else reads."""
    if node.op_type != "Mul":
        return [], []
    leaves: list[str] = []
    inner: list[onnx.NodeProto] = []
    for name in node.input:
        maker = index.makers.get(name)
        if maker is not None and maker.op_type == "Mul" and index.sole_reader(name) is node:
            inner.append(maker)
            leaves += maker.input
        else:
            leaves.append(name)
    return leaves, inner


def _unit(name: str, index: Index, constants: Constants) -> tuple[str, list[onnx.NodeProto]] | None:
    """The x of 1 + erf(x / √2), and its nodes."""
    add = index.makers.get(name)
    if add is None or add.op_type != "Add" or not any(_is(constants.get(i), 1.0) for i in add.input):
        return None
    erf = next((m for i in add.input if (m := index.makers.get(i)) is not None and m.op_type == "Erf"), None)
    inside = index.makers.get(erf.input[0]) if erf is not None else None
    if erf is None or inside is None or len(inside.input) != 2:
        return None
    x, by = inside.input
    divided = inside.op_type == "Div" and _is(constants.get(by), math.sqrt(2))
    times = inside.op_type == "Mul" and _is(constants.get(by), math.sqrt(0.5))
    nodes = [add, erf, inside]
    alone = all(index.sole_reader(n.output[0]) is not None for n in nodes)
    return (x, nodes) if (divided or times) and alone else None


def _is(value: np.ndarray | None, wanted: float) -> bool:
    return value is not None and value.size == 1 and math.isclose(float(value.reshape(())), wanted, rel_tol=1e-6)
