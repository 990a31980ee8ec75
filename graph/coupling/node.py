"""What an operator rule sees of its node, and what it may say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ..nodes import attribute, display_name
from ..registry import Registry
from .labels import LENGTH_ONE, Axes, Axis, IntArray, Ledger, Why, barred

Couple = Callable[["Node"], Sequence[Axes]]


@dataclass
class Rule:
    """How one operator couples the axes of its operands, and how its node follows when they shrink.

    ``unshared`` are the operands (positions, or all of them) at which a constant is used index by index, so that two
    nodes sharing it need not shrink together: each gets a copy of its own.
    """

    couple: Couple
    unshared: tuple[int, ...] | None = ()
    rewrite: Callable[[Any], None] | None = None


RULES: Registry[Rule] = Registry("operator rule", "intaglio.rules", "intaglio.graph.coupling.rules", of=Rule)
ALL = None


def couples(*ops: str, unshared: tuple[int, ...] | None = ()) -> Callable[[Couple], Couple]:
    """Register the coupling of operators: ``"Conv"``, or ``"domain:Op"`` outside the standard domain."""

    def add(couple: Couple) -> Couple:
        for op in ops:
            RULES.register(op)(Rule(couple, unshared))
        return couple

    return add


def rewrites(*ops: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register what operators' nodes need when axes shrink, beside slicing their constants."""

    def add(rewrite: Callable[[Any], None]) -> Callable[[Any], None]:
        for op in ops:
            RULES.registered(op).rewrite = rewrite
        return rewrite

    return add


@dataclass(frozen=True)
class Contraction:
    """An axis that a node sums over: a removed index must contribute nothing.

    ``neutral`` is the operand that holds the value meaning "nothing" (a zero point), -1 for plain zero.
    """

    node: int
    position: int
    axis: int
    neutral: int = -1


@dataclass
class Trace:
    """The state of one walk over a graph: labels by tensor, and what rules noted on the way.

    ``narrowed`` has for each node the axes it normalizes or averages over. ``failures`` names nodes that were frozen
    because their rule raised: a fault of the rule, never of the model.
    """

    ledger: Ledger
    dims: Mapping[str, tuple[int, ...]]
    varying: dict[str, tuple[bool, ...]]
    weights: dict[str, np.ndarray]
    opset: int
    axes: dict[str, Axes] = field(default_factory=dict)
    contractions: list[Contraction] = field(default_factory=list)
    narrowed: dict[int, list[IntArray]] = field(default_factory=dict)
    shares: dict[int, list[tuple[float, list[IntArray]]]] = field(default_factory=dict)
    notes: dict[tuple[int, str], Axis] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def fixed(self, name: str, axis: int) -> bool:
        """Whether an axis has the same length whatever the symbolic dimensions are."""
        return not (name in self.varying and self.varying[name][axis])


class Node:
    """One node and its operands' labels. Inputs and outputs are addressed by position."""

    def __init__(self, proto: onnx.NodeProto, index: int, trace: Trace) -> None:
        self.proto, self.index, self.trace = proto, index, trace
        self.op = proto.op_type
        self.inputs = list(proto.input)
        self.outputs = list(proto.output)
        self.ledger = ledger = trace.ledger
        self.fresh, self.same, self.freeze = ledger.fresh, ledger.same, ledger.freeze
        self.cat, self.join, self.split = ledger.cat, ledger.join, ledger.split
        self.seen: set[int] = set()

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and bool(self.inputs[i])

    def dims(self, i: int) -> tuple[int, ...]:
        return self.trace.dims[self.inputs[i]]

    def out_dims(self, j: int = 0) -> tuple[int, ...]:
        return self.trace.dims[self.proto.output[j]]

    def rank(self, i: int) -> int:
        return len(self.dims(i))

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.proto, name, default)

    def value(self, i: int) -> np.ndarray | None:
        """Content of an operand that is a constant."""
        return self.trace.weights.get(self.inputs[i]) if self.has(i) else None

    def setting(self, i: int, name: str) -> np.ndarray | None:
        """An operand that older opsets hold as an attribute."""
        found = self.value(i) if self.value(i) is not None else self.attr(name)
        return None if found is None else np.asarray(found)

    def is_weight(self, i: int) -> bool:
        return self.has(i) and self.inputs[i] in self.trace.weights

    def why(self, text: str) -> Why:
        return Why(lambda: display_name(self.proto), self.op, text)

    def axes(self, i: int, *only: int) -> Axes:
        """Labels of an operand's axes. ``only`` some of them, if given: the others can then never shrink."""
        name = self.inputs[i]
        self.seen.add(i)
        complete = self.trace.axes.get(name)
        if type(complete) is tuple and not only:
            return complete
        dims = self.trace.dims[name]
        known: list[Axis | None] = list(complete) if complete is not None else [None] * len(dims)
        wanted = {a % len(dims) for a in only} if only else set(range(len(dims)))
        for a, length in enumerate(dims):
            axis = known[a]
            if axis is None and a in wanted:
                fixed = self.trace.fixed(name, a)
                known[a] = self.fresh(length) if fixed else self.why("has an axis of varying length")
            elif axis is None:
                known[a] = LENGTH_ONE if length == 1 else self.why("does not take channels from it")
            elif a not in wanted:
                self.freeze(axis, self.why("does not take channels from it"))
        axes: Axes = tuple(known)  # type: ignore[arg-type]
        self.trace.axes[name] = axes
        return axes

    def axis(self, i: int, a: int) -> Axis:
        return self.axes(i)[a]

    def freeze_axis(self, i: int, a: int, text: str) -> Why:
        axis = self.axes(i)[a]
        return axis if isinstance(axis, Why) else self.freeze(axis, self.why(text))

    def freeze_rest(self, i: int, *kept: int, text: str) -> None:
        """Freeze all axes of an operand, if it is there, but the ones named."""
        axes = self.axes(i) if self.has(i) else ()
        stay = {k % len(axes) for k in kept} if axes else ()
        for a, axis in enumerate(axes):
            if not isinstance(axis, Why) and a not in stay:
                self.freeze(axis, self.why(text))

    def spatial(self, i: int = 0) -> None:
        """Freeze every axis after the first two: windows slide over them."""
        self.freeze_rest(i, 0, 1, text="slides a window over it")

    def follow(self, axis: Axis, *operands: int) -> None:
        """Vectors with a number for each index of the axis share its labels; those of one number for all do not."""
        for i in operands:
            if self.has(i) and self.rank(i) == 1 and self.dims(i)[0] > 1:
                self.same(axis, self.axis(i, 0))

    def take(self, axis: Axis, indices: IntArray | range) -> Axis:
        return self.ledger.take(axis, indices, self.why("reads a single index of it"))

    def reshape(self, axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
        """Axes of the first output, made by reading operand lengths ``old`` row-major as ``new``."""
        varying = self.trace.varying.get(self.outputs[0])
        if varying is None:
            return self.ledger.reshape(axes, old, new)
        why = self.why("merges it into an axis of varying length")
        return self.ledger.reshape(axes, old, new, [why if v else None for v in varying])

    def inexact(self, axis: Axis, text: str, at_least: int = 2) -> None:
        """The node normalizes or averages over the axis."""
        if not isinstance(axis, Why):
            self.ledger.mark_inexact(axis, self.why(text), at_least)
            self.trace.narrowed.setdefault(self.index, []).append(axis)

    def contract(self, i: int, a: int, neutral: int = -1) -> Axis:
        """The node sums over an axis. Returns its labels, frozen where a mask could not hold the neutral value."""
        axis = self.axes(i)[a]
        if neutral >= 0 and self.has(neutral):
            value = self.value(neutral)
            if value is None or (value.any() and not self.is_weight(i)):
                return self.freeze(axis, self.why("has a zero point that no mask can follow"))
        if not isinstance(axis, Why):
            self.trace.contractions.append(Contraction(self.index, i, a % self.rank(i), neutral))
        return axis

    def share(self, *axes: Axis, of: float = 1.0) -> None:
        """A fraction of the node's MACs shrinks with the product of these axes' lengths."""
        arrays = [a for a in axes if not isinstance(a, Why)]
        self.trace.shares.setdefault(self.index, []).append((of, arrays))

    def note(self, name: str, axis: Axis) -> None:
        """Remember an axis for the rewrite."""
        self.trace.notes[self.index, name] = axis

    def meet(self, operands: Iterable[tuple[Axes, Sequence[int]]], out: Sequence[int]) -> Axes:
        """Axes of the multidirectional (numpy) broadcast of operands, given as (axes, lengths), to shape ``out``."""
        result: list[Axis | None] = [None] * len(out)
        for axes, dims in operands:
            shift = len(out) - len(dims)
            for a, length in enumerate(dims):
                if length == 1 and out[shift + a] != 1:
                    continue
                before = result[shift + a]
                result[shift + a] = axes[a] if before is None else self.same(before, axes[a])
        return tuple(LENGTH_ONE if axis is None else axis for axis in result)

    def meet_inputs(self, *positions: int) -> Axes:
        pairs = [(self.axes(i), self.dims(i)) for i in positions if self.has(i)]
        return self.meet(pairs, self.out_dims())

    def freeze_unseen(self) -> None:
        """Freeze the operands that the rule never looked at: shapes, bounds and other settings."""
        for i, name in enumerate(self.inputs):
            if not name or i in self.seen or not self.trace.dims.get(name):
                continue
            if name in self.trace.axes:
                self.freeze_rest(i, text="takes it as a setting")
            else:
                self.trace.axes[name] = barred(self.dims(i), self.why("takes it as a setting"))

    def frozen(self, text: str) -> list[Axes]:
        """Freeze every operand; outputs have no labels."""
        why = self.why(text)
        for i in range(len(self.inputs)):
            if self.has(i) and self.inputs[i] in self.trace.dims:
                for axis in self.axes(i):
                    self.freeze(axis, why)
        return [self.unlabelled(j, why) for j in range(len(self.proto.output))]

    def unlabelled(self, j: int, why: Why) -> Axes:
        return barred(self.trace.dims.get(self.proto.output[j], ()), why)
