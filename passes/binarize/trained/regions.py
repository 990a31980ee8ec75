"""Parts of a graph that work on each number alone: a tensor as a function of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from ....graph.errors import IntaglioError
from ....graph.nodes import copied, refill
from ....graph.traits import Trait, has_any
from ....measure.run.session import open_session, run
from .monotone import Evaluate
from .wires import Wires

LARGEST = 24
"""Nodes of a region above which nothing is looked for: what makes signs is short."""


@dataclass(frozen=True)
class Region:
    """Nodes, in graph order, that make ``target`` of ``source`` and constants, number by number."""

    source: str
    target: str
    nodes: tuple[onnx.NodeProto, ...]

    def is_private(self, wires: Wires) -> bool:
        """Whether nobody else reads what it computes on the way."""
        inside = {wires.place[n.output[0]] for n in self.nodes}
        made = [n.output[0] for n in self.nodes if n.output[0] != self.target]
        return all(name not in wires.outputs and inside.issuperset(wires.readers(name)) for name in made)


def regions(wires: Wires, target: str) -> Iterator[Region]:
    """Regions that end in ``target``, from the smallest on.

    There is one for every earlier tensor through which all goes that the target is made of.
    """
    frontier = {wires.resolve(target)}
    inside: set[int] = set()
    while len(inside) < LARGEST:
        at = max((wires.place.get(name, -1) for name in frontier), default=-1)
        node = wires.nodes[at] if at >= 0 else None
        if node is None or not is_elementwise(node):
            return
        inside.add(at)
        frontier.discard(node.output[0])
        frontier.update(wires.resolve(i) for i in node.input if i and i not in wires.known)
        if not frontier:
            return
        if len(frontier) == 1:
            (source,) = frontier
            yield Region(source, wires.resolve(target), tuple(wires.nodes[i] for i in sorted(inside)))


def is_elementwise(node: onnx.NodeProto) -> bool:
    """Whether each output number depends on the input numbers in its place alone, and on constants."""
    return has_any(node, Trait.ELEMENTWISE | Trait.PER_CHANNEL) and not any(node.output[1:])


def function_of(wires: Wires, region: Region, target: str) -> Evaluate:
    """A region, up to a tensor of it, as a function: ONNX Runtime evaluates it, with the operators that the model has.

    Raises:
        IntaglioError: ONNX Runtime cannot run it by itself.
    """
    if region.source == target:
        return lambda points: points
    nodes = [copied(node) for node in region.nodes]
    for node in nodes:
        refill(node.input, [wires.resolve(name) for name in node.input])
    source = onnx.helper.make_tensor_value_info(region.source, onnx.TensorProto.FLOAT, None)
    made = wires.model.of_nodes(nodes, [source], [onnx.ValueInfoProto(name=target)], wires.known)
    session = open_session(made, optimize=False)
    return lambda points: run(session, {region.source: points}, [target])[target]


def evaluate_region(wires: Wires, region: Region, points: np.ndarray) -> np.ndarray | None:
    """Values of the region's target, or None where it does not keep the shape of ``points``, or cannot be run."""
    try:
        values = function_of(wires, region, region.target)(points)
    except IntaglioError:
        return None
    return np.asarray(values) if np.shape(values) == points.shape else None


def find_region(wires: Wires, target: str, sources: set[str]) -> Region | None:
    """The region from one of some tensors to ``target``; with no node where it is one of them."""
    target = wires.resolve(target)
    if target in sources:
        return Region(target, target, ())
    return next((r for r in regions(wires, target) if r.source in sources), None)
