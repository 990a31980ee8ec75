"""An operator rule: how ``com.example:ScaleChannels`` couples the axes of its operands."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.graph.coupling.labels import Axes
from intaglio.graph.coupling.node import Node, Rule


def couple(n: Node) -> Sequence[Axes]:
    """Multiplies every channel by a number of its own. Shapes: x (N, C, ...), scale (C), y (N, C, ...)."""
    n.same(n.axis(0, 1), n.axis(1, 0))
    return [n.axes(0)]


scale_channels = Rule(couple, unshared=(1,))  # nodes that share a scale need not lose the same channels
