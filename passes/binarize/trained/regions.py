"""Parts of a graph that work on each number alone: a tensor as a function of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ....graph.errors import IntaglioError
from ....graph.nodes import copied
from ....graph.traits import Trait, has_any
from ....measure.run.session import open_session, run
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


class Function:
    """A region that can be evaluated: by ONNX Runtime, with the operators that the model has.

    Raises:
        IntaglioError: ONNX Runtime cannot run it by itself.
    """

    def __init__(self, wires: Wires, region: Region, target: str | None = None) -> None:
        self._source, self._target = region.source, target or region.target
        self._session = _session(wires, region, self._target) if self._source != self._target else None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        if self._session is None:
            return points
        return run(self._session, {self._source: points}, [self._target])[self._target]


def _session(wires: Wires, region: Region, target: str) -> Any:
    nodes = []
    for original in region.nodes:
        node = copied(original)
        for k, name in enumerate(node.input):
            node.input[k] = wires.resolve(name)
        nodes.append(node)
    source = onnx.helper.make_tensor_value_info(region.source, onnx.TensorProto.FLOAT, None)
    made = wires.model.of_nodes(nodes, [source], [onnx.ValueInfoProto(name=target)], wires.known)
    return open_session(made, optimize=False)


def evaluate_region(wires: Wires, region: Region, points: np.ndarray) -> np.ndarray | None:
    """Values of the region's target, or None where it does not keep the shape of ``points``, or cannot be run."""
    try:
        values = Function(wires, region)(points)
    except IntaglioError:
        return None
    return np.asarray(values) if np.shape(values) == points.shape else None


def find_region(wires: Wires, target: str, sources: set[str]) -> Region | None:
    """The region from one of some tensors to ``target``; with no node where it is one of them."""
    target = wires.resolve(target)
    if target in sources:
        return Region(target, target, ())
    return next((r for r in regions(wires, target) if r.source in sources), None)
