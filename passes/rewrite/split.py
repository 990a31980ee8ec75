"""A model in two: one that also gives some of its inner tensors, and one that takes them.

Source: feature inheritance of A-SDM, Wang et al., 2024, arXiv:2406.00210: of the steps of a loop some compute deep features,
and the others take those of the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import onnx

from ...graph.cost import cost
from ...graph.errors import BadModel, NothingChanged, UsageError
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import all_graphs, drop_dead, reads, refill, replace_nodes
from .free import free_numbers, named


@dataclass(frozen=True)
class Halves:
    """``full`` gives all outputs and ``tensors``, ``light`` takes these and gives the outputs."""

    full: Model
    light: Model
    tensors: Sequence[str]


def split(model: Model, tensors: Sequence[str]) -> Halves:
    """Raises UsageError, BadModel, NothingChanged where it cannot be split there, or nothing would be saved."""
    for name in dict.fromkeys(tensors):
        _require_inner(model, name)
    ends = [_end(model, name) for name in dict.fromkeys(tensors)]
    full = model.copy()
    there = {v.name for v in full.graph.output}
    full.graph.output.extend(end for end in ends if end.name not in there)
    return Halves(full, _light(model, ends), [end.name for end in ends])


def _light(model: Model, ends: Sequence[onnx.ValueInfoProto]) -> Model:
    light, taken = model.copy(), {end.name for end in ends}
    for node in light.graph.node:
        node.output[:] = ["" if name in taken else name for name in node.output]
    replace_nodes(light.graph, [node for node in light.graph.node if any(node.output)])
    drop_dead(light)
    needed = {name for node in light.graph.node for name in reads(node)}
    if idle := sorted(taken - needed):
        raise UsageError(
            f"tensor {idle[0]!r} would not be read",
            why="all that reads it makes another of the tensors",
            fix="leave it out",
        )
    refill(light.graph.input, [*(v for v in light.graph.input if v.name in needed), *ends])
    made = {*needed, *(v.name for v in light.graph.output)}
    refill(light.graph.value_info, [v for v in light.graph.value_info if v.name in made - taken])
    if cost(light).macs >= cost(model).macs:
        raise NothingChanged(
            f"the light model would cost as much as the full one, {cost(model).macs:,} MACs",
            why="all that makes the tensor is needed beside it as well, or costs nothing",
            fix="name a tensor behind deeper layers, or several: --at repeated",
        )
    return light


def _require_inner(model: Model, name: str) -> None:
    index = index_of(model)
    if name in index.outputs:
        raise UsageError(
            f"tensor {name!r} is an output", fix="name one before it: nothing would be left of the light model"
        )
    if name in index.place:
        if name in index.constant:
            raise UsageError(
                f"tensor {name!r} follows from constants", why="there is nothing to keep from step to step"
            )
        return
    if name in model.weights:
        raise UsageError(f"tensor {name!r} is a constant", why="there is nothing to keep from step to step")
    if name in index.inputs:
        raise UsageError(f"tensor {name!r} is an input already", fix="name one that a node makes")
    inner = {out for graph in all_graphs(model.graph) for node in graph.node for out in node.output}
    if name in inner:
        raise UsageError(
            f"tensor {name!r} is made inside a body", why="only tensors of the graph itself can be handed over"
        )
    node = next((one for one in index.nodes if one.name == name), None)
    near = [*(node.output[:1] if node else ()), *get_close_matches(name, list(index.place), n=3)]
    told = f"did you mean {', '.join(near)}?" if near else "list nodes with intaglio inspect MODEL --top 1000"
    raise UsageError(f"there is no tensor {name!r}", fix=told)


def _end(model: Model, name: str) -> onnx.ValueInfoProto:
    """As an input of one graph and an output of the other."""
    numbers = free_numbers(model)
    shapes = index_of(model).shapes_at(lambda symbol: numbers.get(symbol, 1))
    if name not in shapes.dims or name not in shapes.dtypes:
        raise BadModel(f"the shape of {name!r} is not known", fix="pin the shapes of the inputs with --shape")
    return onnx.helper.make_tensor_value_info(name, shapes.dtypes[name], named(shapes.dims[name], numbers, repr(name)))
