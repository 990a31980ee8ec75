"""Labels of all axes of a model after their equations were solved."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from ..cost import node_macs, parameters
from ..index import index_of
from ..model import Model
from ..shapes import Shapes, symbols
from .labels import Axes
from .node import Trace
from .prepare import Prepared
from .solve import BoolArray, Solution
from .table import AxisTable, axis_table


@dataclass(eq=False)
class Solved:
    """The labels of a model's axes, and what is equal of them.

    ``original`` is the model as given; ``prepared`` an equal one in which shape arithmetic is folded and shared
    small constants are parted. Node indices and tensor names are those of the prepared graph.
    """

    original: Model
    prepared: Prepared
    trace: Trace
    solution: Solution

    @property
    def model(self) -> Model:
        return self.prepared.model

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        return list(self.model.graph.node)

    def axes(self, tensor: str) -> Axes:
        """Labels by axis of a tensor of the prepared graph."""
        return self.trace.axes.get(tensor, ())

    @cached_property
    def axis_table(self) -> AxisTable:
        return axis_table(self.trace.axes.values(), self.trace.ledger, self.solution.classes)

    @cached_property
    def unit_shapes(self) -> Shapes:
        """Shapes with every symbolic dimension 1, as costs are counted."""
        return index_of(self.model).shapes if symbols(self.model) else self.prepared.shapes

    @cached_property
    def params(self) -> dict[str, int]:
        """Number of parameters in each constant that has any."""
        return parameters(self.model, self.unit_shapes)

    def macs(self, index: int) -> int:
        """Multiply-accumulates of a node."""
        return node_macs(self.nodes[index], self.unit_shapes) or 0

    def nothing(self) -> BoolArray:
        """An empty removal. Shapes: (atoms,)."""
        return np.zeros(self.solution.atoms.shape[1], dtype=bool)
