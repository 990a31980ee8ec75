"""Walk a graph once, let every operator state its equations, solve them."""

from __future__ import annotations

import numpy as np

from ..io.collector import paused_collector
from ..model import Model
from ..nodes import captured_names
from ..traits import Trait, has, operator_key
from .caches import caches
from .coupling import Coupling
from .labels import Axes, Ledger, Why, barred
from .node import RULES, Node, Rule, Trace
from .prepare import prepare
from .solve import solve


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
    kept = caches(prepared.model)
    for value in graph.input:
        if value.name in kept:
            _label_cache(trace, value.name)
        else:
            _label(trace, value.name, Why(value.name, "graph input", "has the shape that callers send"))
    for index, proto in enumerate(graph.node):
        _walk(Node(proto, index, trace))
    for value in graph.output:
        why = Why(value.name, "graph output", "has the shape that callers expect")
        for axis in trace.axes.get(value.name, ()):
            if value.name not in kept.values():
                ledger.freeze(axis, why)
    for given, made in kept.items():
        for before, after in zip(trace.axes.get(given, ()), trace.axes.get(made, ()), strict=False):
            ledger.same(before, after)
    return Coupling(model, prepared, trace, solve(ledger))


def _label(trace: Trace, name: str, why: Why) -> None:
    if name in trace.dims:
        trace.axes[name] = barred(trace.dims[name], why)


def _label_cache(trace: Trace, name: str) -> None:
    """Callers send back what they were given: only the axes of free length are theirs."""
    why = Why(name, "graph input", "has an axis of varying length")
    if name in trace.dims:
        lengths = enumerate(trace.dims[name])
        trace.axes[name] = tuple(trace.ledger.fresh(n) if trace.fixed(name, a) else why for a, n in lengths)


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
    if rule is None and has(n.proto, Trait.BODIES):
        outputs = n.frozen("hands it to a body")
    elif unknown:
        outputs = n.frozen("has a shape that could not be worked out")
    elif rule is None:
        outputs = n.frozen("has no channel rule")
    else:
        outputs = _applied(rule, n)
    for name in captured_names(n.proto):
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
    why = n.why("uses it inside a subgraph")
    if name not in n.trace.axes:
        _label(n.trace, name, why)
    for axis in n.trace.axes.get(name, ()):
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
