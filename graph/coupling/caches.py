"""Caches: graph inputs that hold what earlier runs made, and outputs that hold it with what is new.

Decoders keep keys and values of tokens they have seen so. What a run gives, the next one takes, so both have the same
shape but for their length, and may change it together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import onnx

from ..index import CAPTURE, Index, index_of
from ..model import Model
from ..traits import Trait, has, operator


def caches(model: Model) -> Mapping[str, str]:
    """The output that each cache comes back as, by the name of the input.

    A cache is moved to one output only, of equal lengths where the input's are fixed, and on the way what is computed
    from other inputs is joined behind it along an axis of free length, or an operator does that by itself.
    """
    index = index_of(model)
    outputs = {value.name for value in model.graph.output}
    found: dict[str, str] = {}
    for value in model.graph.input:
        free = [not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim]
        if len(free) < 3 or not any(free[1:]):
            continue
        reached = [name for name in _joined(index, value.name) if name in outputs]
        if len(reached) == 1 and _alike(index, value, reached[0]):
            found[value.name] = reached[0]
    times = Counter(found.values())
    return {name: output for name, output in found.items() if times[output] == 1}


def _joined(index: Index, start: str) -> Iterator[str]:
    """Tensors that hold a cache with what is new."""
    todo, seen = [(start, False)], {(start, False)}
    while todo:
        name, joined = todo.pop()
        if joined:
            yield name
        for node, _, position in index.reads(name):
            if node is None or position == CAPTURE:
                continue
            fresh = [(made, joined or joins) for made, joins in _handed_on(index, node, position)]
            todo += [pair for pair in fresh if pair not in seen]
            seen.update(fresh)


def _handed_on(index: Index, node: onnx.NodeProto, position: int) -> list[tuple[str, bool]]:
    """Where a node moves an operand, and whether it joins what is new behind it."""
    row = operator(node)
    if position in row.caches:
        return [(node.output[row.caches[position]], True)] if row.caches[position] < len(node.output) else []
    if not has(node, Trait.MOVES) or not row.is_data(position):
        return []
    behind = row.data is None and position == 0 and not index.constant.issuperset(node.input[1:])
    return [(made, behind) for made in node.output if made]


def _alike(index: Index, value: onnx.ValueInfoProto, output: str) -> bool:
    dims = value.type.tensor_type.shape.dim
    made = index.shapes.dims.get(output, ())
    return len(made) == len(dims) and all(d.dim_value in (0, n) for d, n in zip(dims, made, strict=True))
