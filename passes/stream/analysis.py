"""Which tensors of a model are streams, and which nodes need whole windows: one walk from the inputs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import lcm

import onnx

from ...graph.errors import BadModel
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import captured_names, display_name
from ...graph.shapes import Shapes
from ..rewrite.free import free_numbers
from .frames import WHOLE, Flow, Frames
from .rules import rule_of
from .step import Step


@dataclass
class Streams:
    """``frames`` of every streamed tensor, ``windows`` that are computed anew in each run, and what becomes of nodes.

    ``numbers`` are those that stand for free lengths in ``shapes``, by symbol.
    """

    shapes: Shapes
    numbers: Mapping[str, int]
    frames: dict[str, Frames]
    windows: set[str] = field(default_factory=set)
    flows: dict[int, Flow] = field(default_factory=dict)
    whole: dict[int, str] = field(default_factory=dict)

    @property
    def rate(self) -> int:
        """Samples that a hop must be a multiple of."""
        return lcm(*(one.rate for one in self.frames.values()))


def follow(model: Model, axes: Mapping[str, int], *, exact: bool) -> Streams:
    """Follow the inputs of ``axes``, each with a fixed length along its axis.

    Raises:
        BadModel: a shape is not known, or a body reads a stream.
    """
    index, numbers = index_of(model), free_numbers(model)
    shapes = index.shapes_at(lambda name: numbers.get(name, 1))
    found = Streams(shapes, numbers, {name: Frames(axis, shapes.dims[name][axis]) for name, axis in axes.items()})
    given, wanted, read = frozenset(index.inputs), frozenset(index.outputs), frozenset(index.uses)
    for place, node in enumerate(index.nodes):
        moving = [name for name in node.input if name in found.frames]
        if captured_names(node) & found.frames.keys():
            raise BadModel(
                f"node {display_name(node)!r} ({node.op_type}) has a body that reads what goes on in time",
                fix="pin what decides it with --input NAME=VALUE or --shape; a Loop cannot be streamed",
            )
        if not moving:
            if any(name in found.windows for name in (*node.input, *captured_names(node))):
                found.windows.update(filter(None, node.output))
            continue
        step = Step(node, shapes, model.weights, found.frames, found.windows, given, wanted, read, exact)
        _take(found, place, node, _flow(step, moving))
    return found


def _flow(step: Step, moving: list[str]) -> Flow | None:
    rule, known = rule_of(step.node), step.shapes.dims
    if unknown := next((name for name in (*moving, *filter(None, step.node.output)) if name not in known), None):
        if unknown in moving:
            raise BadModel(f"the shape of {unknown!r} is not known", fix="pin the shapes of the inputs with --shape")
        return None
    if rule is None or any(name and name not in known for name in step.node.input):
        return None
    flow = rule(step)
    for name, one in zip(step.node.output, flow.outputs if flow else (), strict=False):
        if one and (one.length < 1 or known[name][one.axis] != one.length):
            return None
    return flow


def _take(found: Streams, place: int, node: onnx.NodeProto, flow: Flow | None) -> None:
    if flow is None:
        found.whole[place] = display_name(node)
        views = {k: WHOLE for k, name in enumerate(node.input) if name in found.frames}
        flow = Flow([None] * len(node.output), views)
    found.flows[place] = flow
    for name, one in zip(node.output, flow.outputs, strict=True):
        if name and one:
            found.frames[name] = one
        elif name:
            found.windows.add(name)
