"""Walk a graph once, let every operator state its equations, solve them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from ..cost import node_macs, parameters
from ..index import index_of
from ..io.collector import paused_collector
from ..model import Model
from ..nodes import captured
from ..shapes import Shapes, symbols
from ..traits import operator_key
from .groups import Group, find_groups
from .labels import LENGTH_ONE, Axes, Ledger, Why
from .node import RULES, Node, Rule, Trace
from .prepare import Prepared, prepare
from .solve import BoolArray, Solution, solve
from .table import AxisTable, axis_table


@dataclass(eq=False)
class Coupling:
    """Which channels of a model can only go together, and which can never go.

    ``original`` is the model as given; ``prepared`` an equal one in which shape arithmetic is folded and shared
    small constants are parted. Node indices and tensor names are those of the prepared graph.
    """

    original: Model
    prepared: Prepared
    trace: Trace
    solution: Solution

    @cached_property
    def groups(self) -> list[Group]:
        """Everything a user can make narrower, and everything that could be but for one operator, in graph order."""
        return find_groups(self)

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


@paused_collector()
def analyse(model: Model) -> Coupling:
    """Find the coupled channels of a model.

    Source: unification of per-index labels; it refines the coupling of Wang et al., "Structurally Prune Anything",
    2024, arXiv:2403.18955, and Fang et al., "DepGraph", CVPR 2023, arXiv:2301.12900, to products of axes.

    Raises:
        BadModel: shapes contradict each other.
    """
    prepared = prepare(model)
    ledger = Ledger()
    trace = Trace(ledger, prepared.shapes.dims, prepared.varying, prepared.model.weights, model.opset)
    graph = prepared.model.graph
    for value in graph.input:
        _label(trace, value.name, Why(value.name, "graph input", "has the shape that callers send"))
    for index, proto in enumerate(graph.node):
        _walk(Node(proto, index, trace))
    for value in graph.output:
        why = Why(value.name, "graph output", "has the shape that callers expect")
        for axis in trace.axes.get(value.name, ()):
            ledger.freeze(axis, why)
    return Coupling(model, prepared, trace, solve(ledger))


def _label(trace: Trace, name: str, why: Why) -> None:
    dims = trace.dims.get(name)
    if dims is not None:
        trace.axes[name] = tuple(LENGTH_ONE if length == 1 else why for length in dims)


def _walk(n: Node) -> None:
    """Apply a node's rule; without one, or without shapes to apply it to, freeze what it touches."""
    known, trace = n.trace.dims, n.trace
    unknown = False
    for name in n.inputs:
        if name not in known:
            unknown |= bool(name)
        elif name not in trace.axes and name not in trace.weights:
            _label(trace, name, Why(name, "tensor", "comes from an operator whose shapes are unknown"))
    for name in n.outputs:
        unknown |= bool(name) and name not in known
    rule = RULES.get(operator_key(n.proto))
    if unknown:
        outputs = n.frozen("has a shape that could not be worked out")
    elif rule is None:
        outputs = n.frozen("has no channel rule")
    else:
        outputs = _applied(rule, n)
    for name in captured(n.proto):
        _freeze_tensor(n, name)
    for name, axes in zip(n.outputs, outputs, strict=False):
        if name and name in known:
            n.trace.axes[name] = _settled(n, name, axes)


def _applied(rule: Rule, n: Node) -> list[Axes]:
    """A rule's outputs. One that fails must not take the model down: its node is frozen, and the failure noted."""
    try:
        outputs = list(rule.couple(n))
        n.freeze_unseen()
        for name, axes in zip(n.outputs, outputs, strict=False):
            _check(n, name, axes)
    except Exception as error:
        n.trace.failures.append(f'{n.op} "{n.why("").node}": {type(error).__name__}: {error}')
        return n.frozen("has a channel rule that failed")
    return outputs


def _freeze_tensor(n: Node, name: str) -> None:
    dims = n.trace.dims.get(name)
    if dims is None:
        return
    why = n.why("uses it inside a subgraph")
    if name not in n.trace.axes:
        n.trace.axes[name] = tuple(LENGTH_ONE if length == 1 else why for length in dims)
    for axis in n.trace.axes[name]:
        n.freeze(axis, why)


def _check(n: Node, name: str, axes: Axes) -> None:
    """A rule must describe the tensor that shape inference saw."""
    dims = n.trace.dims.get(name, ())
    if name and (
        len(axes) != len(dims) or any([not isinstance(x, Why) and len(x) != d for x, d in zip(axes, dims, strict=True)])
    ):
        lengths = [str(len(x)) if isinstance(x, np.ndarray) else "-" for x in axes]
        raise ValueError(f"its rule gives {name} axes {lengths}, shape inference {dims}")


def _settled(n: Node, name: str, axes: Axes) -> Axes:
    """Axes with labels only where lengths are fixed."""
    if name in n.trace.varying:
        why = n.why("has an axis of varying length")
        return tuple(x if n.trace.fixed(name, a) else n.freeze(x, why) for a, x in enumerate(axes))
    return tuple(axes)
