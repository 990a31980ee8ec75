"""What would end the process in ONNX Runtime, put so that it fails instead."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.model import Model
from ...graph.nodes import all_graphs, all_nodes, attribute, display_name, is_standard, replace_nodes, subgraphs
from ...graph.traits import operator, operator_key

_NO_AXES = "intaglio/no_axes"


def may_end(model: Model) -> bool:
    """Whether there is anything to guard."""
    return any(_deciding(node, model) or _turned(node) or _biasless(node) for node in all_nodes(model.graph))


def guarded(model: Model) -> Model:
    """The same model, which computes the same.

    What a Loop reads without a look whether it holds a number goes through a Reshape, which fails where it holds none. What
    a Scan takes or gives along another axis than the first is turned by a Transpose: its own divides by the length of what
    is empty. An Attention without a bias gets one of nothing.

    Raises:
        BadModel: its weights are computed, so that nobody knows how long the bias would be.
    """
    if not may_end(model):
        return model
    changed = model.copy()
    changed.weights[_NO_AXES] = np.zeros(0, np.int64)
    for graph in all_graphs(changed.graph):
        nodes = []
        for node in graph.node:
            if _biasless(node):
                _give_bias(node, changed)
            turned = _turned(node)
            for k in _deciding(node, model):
                single, name = f"{''.join(node.output)}/operand{k}", f"{display_name(node)}, operand {k} is one number"
                nodes.append(onnx.helper.make_node("Reshape", [node.input[k], _NO_AXES], [single], name))
                node.input[k] = single
            nodes += [*(_turn(node, *one) for one in turned if one[0] == "input"), node]
            nodes += [_turn(node, *one) for one in turned if one[0] == "output"]
        replace_nodes(graph, nodes)
    return changed


def _deciding(node: onnx.NodeProto, model: Model) -> list[int]:
    """The operands of a Loop, say, that ONNX Runtime reads without a look whether they hold a number."""
    places = operator(node).deciding if is_standard(node) else ()
    return [k for k in places if any(name and name not in model.weights for name in node.input[k : k + 1])]


def _biasless(node: onnx.NodeProto) -> bool:
    return operator_key(node) == "com.microsoft:Attention" and not any(node.input[2:3])


def _give_bias(node: onnx.NodeProto, model: Model) -> None:
    weight = model.weights.get(node.input[1])
    if weight is None:
        why = "ONNX Runtime ends the process at one without, and how long it would be is not known where weights are computed"
        raise BadModel(f"Attention {display_name(node)!r} has no bias", why=why, fix="export it with a bias of 0")
    name = f"{''.join(node.output)}/bias"
    model.weights[name] = np.zeros(weight.shape[-1], weight.dtype)
    node.input[:] = [*node.input[:2], name, *node.input[3:]]


def _turned(node: onnx.NodeProto) -> list[tuple[str, int, int, int, int]]:
    """What a Scan takes or gives along another axis than the first, where its body says of how many axes that is: which
    end, its place there and in the list of axes, the axis, and how many axes there are.
    """
    if node.op_type != "Scan" or not is_standard(node):
        return []
    return [*_turned_ends(node, "input"), *_turned_ends(node, "output")]


def _turned_ends(node: onnx.NodeProto, end: str) -> Iterator[tuple[str, int, int, int, int]]:
    axes = attribute(node, f"scan_{end}_axes", None) or ()
    states = len(node.input) - int(attribute(node, "num_scan_inputs", 0))
    body = next(subgraphs(node), onnx.GraphProto())
    ends = zip(axes, getattr(body, end)[states:], getattr(node, end)[states:], strict=False)
    for k, (axis, value, name) in enumerate(ends):
        kind = value.type.tensor_type
        rank = len(kind.shape.dim) + 1
        if kind.HasField("shape") and -rank <= axis < rank and axis % rank and name:
            yield end, states + k, k, axis % rank, rank


def _turn(node: onnx.NodeProto, end: str, place: int, k: int, axis: int, rank: int) -> onnx.NodeProto:
    """The Transpose at one end of a Scan, which is changed to work along the first axis there."""
    names = getattr(node, end)
    outside, inside = names[place], f"{''.join(node.output)}/{end}{place}"
    names[place] = inside
    next(one for one in node.attribute if one.name == f"scan_{end}_axes").ints[k] = 0
    others = [a for a in range(rank) if a != axis]
    if end == "input":
        ends, perm = ([outside], [inside]), [axis, *others]
    else:
        ends, perm = ([inside], [outside]), [*range(1, axis + 1), 0, *range(axis + 1, rank)]
    return onnx.helper.make_node("Transpose", *ends, f"{display_name(node)}, {end} {place} turned", perm=perm)
