"""Bring a graph to its standard form without changing an output bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import count

import numpy as np
import onnx

from ..evaluate import LARGEST, evaluate
from ..index import index_of
from ..model import Model
from ..nodes import (
    all_graphs,
    all_nodes,
    attribute,
    captured_by,
    constant_value,
    display_name,
    is_standard,
    refill,
    subgraphs,
    tensor_names,
)
from ..traits import Trait, has, operator_key
from .chains import fold_chains

_INTEGERS = (np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.bool_))
NAMED = "outputs that an If, Loop or Scan leaves out got names: ONNX Runtime ends the process without"
SPELLED = "operands that are left out were written so that ONNX Runtime does not end the process"
SHARED = "what Loops hand on unchanged from turn to turn is read from outside of them"
_OPERANDS = {"DFT": 1, "LayerNormalization": 2, "com.microsoft:QLinearLeakyRelu": 5, "com.microsoft:QLinearSigmoid": 5}
"""How many operands are spelled, at least and without empty ones behind."""
# Elementwise operators broadcast as numpy does from operator set 7 on.
_NUMPY_BROADCASTING = 7
# Dropout has no training mode of its own from operator set 7 on; before, it is one unless is_test says otherwise.
_DROPOUT_INFERS = 7
_NOTES = {
    "Constant": "Constant {} became weights",
    "Identity": "Identity {} dropped",
    "Dropout": "Dropout {} dropped, idle at inference",
    "folded": "{} of integer arithmetic on constants computed",
    "moved": "{} between weights and their readers carried out",
}


def canonicalize(model: Model) -> None:
    """Turn ``Constant`` nodes into weights, drop ``Identity`` and inference ``Dropout``, compute integer constants.

    Floats are moved and converted, see ``fold_chains``, not computed with. Graph outputs stay as they are made, and
    tensors that subgraphs capture keep their names. Weights that lose their last use go.
    """
    if _name_all(model.graph):
        model.notes.append(NAMED)
    if _spell_operands(model.graph):
        model.notes.append(SPELLED)
    if _share_states(model.graph):
        model.notes.append(SHARED)
    index = index_of(model)
    fixed, before, there = set(index.outputs), index.uses, index.place.keys()
    renamed: dict[str, str] = {}
    keep: list[onnx.NodeProto] = []
    done: Counter[str] = Counter()
    made: set[str] = set()
    for node in index.nodes:
        for position, name in enumerate(node.input):
            if name in renamed:
                node.input[position] = renamed[name]
        stay = fixed | index.captured if has(node, Trait.IDLE) else fixed
        if is_standard(node) and not stay.intersection(node.output) and _absorb(node, model, renamed, made, before):
            done[node.op_type if node.op_type in _NOTES else "folded"] += 1
        else:
            keep.append(node)
    if done:
        graph = model.graph
        for notes in graph.quantization_annotation:
            notes.tensor_name = renamed.get(notes.tensor_name, notes.tensor_name)
        refill(graph.node, keep)
        after = index_of(model)
        unused = [n for n in model.weights if not after.uses[n] and (before[n] or n in made)]
        gone = there - after.place.keys()
        refill(graph.value_info, [v for v in graph.value_info if v.name not in gone])
        for name in unused:
            del model.weights[name]
    done["moved"] = fold_chains(model)
    model.notes += _notes(done)


def _name_all(graph: onnx.GraphProto) -> bool:
    """Give names to outputs of If, Loop and Scan that are left out. Tells whether there were such."""
    held = [node for node in all_nodes(graph) if has(node, Trait.BODIES)]
    taken, before = {*tensor_names(graph)} if held else set(), sum(map(_named, held))
    for node in held:
        made = max((len(body.output) for body in subgraphs(node)), default=0) - (node.op_type == "Loop")
        node.output.extend([""] * (made - len(node.output)))
        names = (name for k in count() if (name := f"{display_name(node)}/output{k}") not in taken)
        node.output[:] = [name or next(names) for name in node.output]
        taken.update(node.output)
    return before < sum(map(_named, held))


def _spell_operands(graph: onnx.GraphProto) -> bool:
    """Say of operands that are left out what ONNX Runtime takes. Tells whether that changed anything."""
    changed = False
    for node in all_nodes(graph):
        if (least := _OPERANDS.get(operator_key(node))) is None:
            continue
        given = [*node.input]
        while len(given) > least and not given[-1]:
            del given[-1]
        given += [""] * (least - len(given))
        if given != [*node.input]:
            node.input[:] = given
            changed = True
    return changed


def _share_states(graph: onnx.GraphProto) -> bool:
    """Have bodies of Loops read what they only hand on, weights above all, from outside. Tells whether there was such."""
    found = False
    for part in [*all_graphs(graph)]:
        given = {value.name for value in part.output}
        for node in part.node:
            if node.op_type == "Loop" and is_standard(node) and (outside := _shared_by(node, given)):
                found = True
                _read_instead(part, outside)
    return found


def _shared_by(loop: onnx.NodeProto, given: AbstractSet[str]) -> dict[str, str]:
    """Take such states out of one Loop; gives for its outputs what they are. Those stay that an output of its graph
    (``given``) or another one of its body is named after, which cannot come from outside.
    """
    (body,) = subgraphs(loop)
    made, results, inside = Counter(value.name for value in body.output), dict[str, str](), dict[str, str]()
    own = {*tensor_names(body)} - captured_by(body)
    for k in reversed(range(len(loop.input) - 2)):
        inner, outer, result = body.input[k + 2].name, loop.input[k + 2], loop.output[k]
        alike = body.output[k + 1].name == inner and made[inner] == 1
        free = outer == inner or outer not in own
        if alike and free and result not in given and len(loop.output) > 1:
            results[result], inside[inner] = outer, outer
            del body.input[k + 2], body.output[k + 1], loop.input[k + 2], loop.output[k]
    _read_instead(body, inside)
    return results


def _read_instead(graph: onnx.GraphProto, others: Mapping[str, str]) -> None:
    """Have the nodes of a graph and of bodies in it read other tensors."""
    for node in all_nodes(graph) if others else ():
        if not others.keys().isdisjoint(node.input):
            node.input[:] = [others.get(name, name) for name in node.input]
    if any(value.name in others for value in graph.value_info):
        refill(graph.value_info, [value for value in graph.value_info if value.name not in others])


def _named(node: onnx.NodeProto) -> int:
    return sum(map(bool, node.output))


def _absorb(node: onnx.NodeProto, model: Model, renamed: dict[str, str], made: set[str], uses: Counter[str]) -> bool:
    """Whether the node can go: its outputs are weights now, or other names of its input."""
    values: list[np.ndarray] | None
    if node.op_type == "Constant":
        value = constant_value(node)
        values = None if value is None else [value]
    elif node.op_type == "Identity" or (node.op_type == "Dropout" and _is_idle(node, model, uses)):
        renamed[node.output[0]] = node.input[0]
        return True
    else:
        values = _fold(node, model)
    if values is None:
        return False
    for name, value in zip(node.output, values, strict=True):
        value.flags.writeable = False
        model.weights[name] = value
        made.add(name)
    return True


def _is_idle(node: onnx.NodeProto, model: Model, uses: Counter[str]) -> bool:
    """Whether a Dropout hands its input through: it is not training, and nobody reads its mask."""
    if any(uses[mask] for mask in node.output[1:] if mask):
        return False
    if model.opset < _DROPOUT_INFERS:
        return bool(attribute(node, "is_test", 0))
    mode = node.input[2] if len(node.input) > 2 else ""
    return not mode or (mode in model.weights and not model.weights[mode].any())


def _fold(node: onnx.NodeProto, model: Model) -> list[np.ndarray] | None:
    """Outputs of integer arithmetic on small constants; None for anything else."""
    if not node.input or any(i and i not in model.weights for i in node.input) or not all(node.output):
        return None
    # The shape of a weight changes when the weight is pruned.
    if has(node, Trait.SHAPE_ONLY) or model.opset < _NUMPY_BROADCASTING:
        return None
    inputs = [model.weights[i] if i else None for i in node.input]
    if any(x is not None and (x.dtype not in _INTEGERS or x.size > LARGEST) for x in inputs):
        return None
    if has(node, Trait.DIVIDES) and inputs[1] is not None and not inputs[1].all():
        return None
    values = evaluate(node, inputs)
    if values is None or len(values) != len(node.output) or any(v.dtype not in _INTEGERS for v in values):
        return None
    return [v.copy() for v in values]


def _notes(done: Counter[str]) -> list[str]:
    plural = {kind: "node" if done[kind] == 1 else "nodes" for kind in _NOTES}
    return [f"{done[kind]} {text.format(plural[kind])}" for kind, text in _NOTES.items() if done[kind]]
