"""Weights that nodes compute from constants: values while a pass looks for layers, nodes again where nothing came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from ..graph.errors import BadModel
from ..graph.evaluate import moved
from ..graph.index import Index, index_of
from ..graph.io.spill import spilled
from ..graph.model import Model
from ..graph.nodes import alive, reads, refill
from ..graph.traits import operator
from .rewrite.zeros import PACKED

_AT_MOST = 8
"""What is computed may take, in times of all weights."""


@dataclass(frozen=True)
class Seen:
    """A model with values in the place of what ``cones`` of nodes compute."""

    given: Model
    model: Model
    made: Mapping[str, np.ndarray]
    cones: Mapping[str, list[onnx.NodeProto]]

    def give_back(self, result: Model) -> Model:
        """The result with the nodes again whose values it left alone."""
        return _given_back(self.given, result, self.made, self.cones)

    @property
    def packed(self) -> bool:
        """Whether zeros of some are stored as bits."""
        return any(_unpacks(self.given, name, cone) for name, cone in self.cones.items())

    @property
    def stores_twice(self) -> bool:
        """Whether something else reads what a value is computed from."""
        sources = {name for cone in self.cones.values() for node in cone for name in node.input}
        return not sources.isdisjoint(self.model.weights)


def seen_through(model: Model, *, zeros_alone: bool = False) -> Seen | None:
    """The model with the values of such weights and biases, or of those alone whose zeros are stored as bits; None where it
    has none.

    A float in a file may stand behind a Cast of half as many bytes, or a table be read as it is and transposed. Numbers
    that were quantized before stay as they are.
    """
    index = index_of(model)
    wanted = list(dict.fromkeys(_wanted(index, model)))
    if zeros_alone:
        wanted = [name for name in wanted if _unpacks(model, name, _cone(index, name, set(model.weights)))]
    values = _values(model, index, wanted) if wanted else {}
    cones = {name: _cone(index, name, set(model.weights)) for name in wanted if name in values}
    if not cones:
        return None
    made = {name: values[name] for cone in cones.values() for name in cone[0].output}
    seen, places = model.copy(), {k for name in made for k in (index.place[name],)}
    for name, value in made.items():
        seen.put(name, value)
    refill(seen.graph.node, [node for k, node in enumerate(index.nodes) if k not in places])
    inner = {id(node) for cone in cones.values() for node in cone}
    steps = {name for name, place in index.place.items() if id(index.nodes[place]) in inner}
    _drop_unread(seen, steps - made.keys(), index)
    return Seen(model, seen, {n: seen.weights[n] for n in made}, cones)


def _wanted(index: Index, model: Model) -> Iterator[str]:
    """Weights and biases that nodes compute from constants alone, and no caller reads."""
    for node in index.nodes:
        known = operator(node)
        for position in (*known.weights, *(() if known.bias is None else (known.bias,))):
            name = node.input[position] if position < len(node.input) else ""
            if name in index.constant and name in index.makers:
                made = index.makers[name].output
                if all(made) and not set(made) & set(index.outputs):
                    yield name


def _cone(index: Index, name: str, weights: set[str]) -> list[onnx.NodeProto]:
    """The nodes that a tensor comes from, itself first."""
    found, todo = dict[int, onnx.NodeProto](), [name]
    while todo:
        tensor = todo.pop()
        if tensor not in weights and index.place[tensor] not in found:
            found[index.place[tensor]] = node = index.makers[tensor]
            todo += reads(node)
    return [found[k] for k in sorted(found, reverse=True)]


def _values(model: Model, index: Index, wanted: list[str]) -> dict[str, np.ndarray]:
    """What can be computed, bit for bit or nearly so: of floats, and of no more numbers than there is room for."""
    try:
        dims = index.shapes.dims
    except BadModel:
        return {}
    room = _AT_MOST * sum(weight.size for weight in model.weights.values())
    known: dict[str, np.ndarray | None] = dict(model.weights)
    for name in wanted:
        cone = _cone(index, name, set(model.weights))
        unpacks = _unpacks(model, name, cone)
        for node in reversed(cone):
            if all(output in known for output in node.output):
                continue
            if not unpacks:  # which makes no more numbers than the file has bits
                room -= sum(prod(dims.get(output, (room + 1,))) for output in node.output)
            inputs = [known[i] if i else None for i in node.input]
            coded = not unpacks and any(map(_is_code, inputs))
            fits = room >= 0 and not coded and all(i is not None for i in inputs)
            results = moved(node, inputs) if fits else None
            if results is None or len(results) != len(node.output):
                known.update(dict.fromkeys(node.output))
            else:
                known.update(zip(node.output, map(spilled, results), strict=True))
    found = {name: value for name, value in known.items() if value is not None and name not in model.weights}
    return {name: value for name, value in found.items() if value.dtype.kind == "f"}


def _unpacks(model: Model, weight: str, cone: Iterable[onnx.NodeProto]) -> bool:
    """Whether bytes are a map of the noughts of floats, which the bits of every byte tell, or their places in a table; and
    no integers."""
    sources = {name: model.weights[name] for node in cone for name in node.input if name in model.weights}
    kinds = {(value.dtype.name, value.shape if value.dtype == bool else ()) for value in sources.values()}
    mapped = ("bool", (256, 8)) in kinds or f"{weight}/{PACKED}" in sources
    return mapped and ("int8", ()) not in kinds


def _is_code(value: np.ndarray | None) -> bool:
    """Whether numbers are what quantization leaves."""
    return value is not None and value.dtype.itemsize == 1 and value.dtype.kind in "iuV" and value.size > 1


def _drop_unread(model: Model, made: set[str], before: Index) -> None:
    """Remove those of the nodes that make these tensors, and of the weights, that have lost their last reader."""
    outputs = [v.name for v in model.graph.output]
    nodes = list(model.graph.node)
    kept, _ = alive(nodes, outputs)
    refill(model.graph.node, [n for n, keep in zip(nodes, kept, strict=True) if keep or not made.issuperset(n.output)])
    uses = index_of(model).uses
    for name in [n for n in model.weights if before.uses[n] and not uses[n]]:
        del model.weights[name]


def _given_back(
    model: Model, result: Model, made: Mapping[str, np.ndarray], cones: Mapping[str, list[onnx.NodeProto]]
) -> Model:
    """The result with the nodes of the model in the place of values that are as they were made."""
    there = index_of(result)
    changed, nodes = result.copy(), dict[str, onnx.NodeProto]()
    for cone in cones.values():
        outputs, steps = list(cone[0].output), [n for n in cone if n.output[0] not in there.makers]
        sources = {name: model.weights[name] for n in cone for name in n.input if name in model.weights}
        if any(
            result.weights.get(name) is not made[name] for name in outputs if there.uses[name] or name in result.weights
        ):
            continue
        if any(result.weights.get(name, value) is not value for name, value in sources.items()):
            continue
        for name in outputs:
            changed.weights.pop(name, None)
        if any(there.uses[name] for name in outputs):
            changed.weights.update(sources)
            nodes.update((n.output[0], n) for n in steps)
    order = index_of(model).place
    first = sorted(nodes.values(), key=lambda n: order[n.output[0]])
    refill(changed.graph.node, [*first, *changed.graph.node])
    return changed
