"""Conversion to float16: everything that operators' definitions allow, but for a list of nodes that stay float32.

Each tensor has one type where it is made; whoever wants the other one reads a single Cast of it, so that no tensor is
cast twice to one type, nor there and back. Constants are converted; one that float16 cannot hold keeps the nodes that
read it in float32, and so does a node whose output, computed in float16 from what the original computes, is too far off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx

from ....graph.index import Index, index_of
from ....graph.io.spill import slices_of
from ....graph.model import Model
from ....graph.nodes import attribute, display_name, reads
from ...patterns import choose_nodes
from ...precision.decibels import Noise
from ...rewrite.edit import Edit, Outcome
from .types import FLOAT, HALF, Operands, Stays, half_operands

LARGEST = float(np.finfo(np.float16).max)
_SIZE = np.uint16(0x7FFF)
"""Bits of a float16 but for its sign."""
_FEW = 1024
"""Elements of constants below which a node is not worth a Cast on either side."""
_CRASH = "ONNX Runtime 1.24 to 1.31 crashes on a float16 Transpose of the first axis before a MatMul (its issue 28392)"


@dataclass(frozen=True)
class Candidates:
    """Which nodes could be float16, by place, and why others could not."""

    model: Model
    dtypes: Mapping[str, int]
    operands: Mapping[int, Operands]
    reasons: Mapping[int, str]
    notes: list[str] = field(default_factory=list)


def candidates(
    model: Model, *, include: Sequence[str] = (), exclude: Sequence[str] = (), least_db: float = 30.0
) -> Candidates:
    """What definitions, patterns and constants allow.

    Raises:
        UsageError: a pattern matches nothing.
        BadModel: types cannot be worked out.
    """
    index, dtypes = index_of(model), index_of(model).shapes.dtypes
    operands: dict[int, Operands] = {}
    reasons: dict[int, str] = {}
    constants = _Constants(model, least_db)
    for k, (node, chosen) in enumerate(zip(model.graph.node, choose_nodes(model, include, exclude), strict=True)):
        if not any(dtypes.get(name, FLOAT) == FLOAT for name in (*node.input, *node.output) if name):
            continue
        try:
            found = half_operands(node, model.opset, dtypes)
            if found.inputs:
                if not chosen:
                    raise Stays("it is excluded")
                _check_turned(node, index)
                constants.check(node.input[i] for i in found.inputs)
                operands[k] = found
        except Stays as stays:
            if stays.reason:
                reasons[k] = stays.reason
    return Candidates(model, dtypes, operands, reasons, constants.notes)


def _check_turned(node: onnx.NodeProto, index: Index) -> None:
    order = attribute(node, "perm") if node.op_type == "Transpose" else None
    readers = [index.nodes[place].op_type for place in index.readers(node.output[0])] if order else []
    if order and order[0] != 0 and len(order) > 2 and "MatMul" in readers:
        raise Stays(_CRASH)


class _Constants:
    """What rounding does to constants, each looked at once."""

    def __init__(self, model: Model, least_db: float) -> None:
        self.model, self.least_db = model, least_db
        self._told = cache(self._look)
        self._gone: dict[str, int] = {}

    @property
    def notes(self) -> list[str]:
        if not self._gone:
            return []
        worst = max(self._gone, key=lambda name: self._gone[name])
        return [
            f"{sum(self._gone.values())} values of {len(self._gone)} constants are too small for float16 and become nought, "
            f"most of them in {worst!r}: {self._gone[worst]} of {self.model.weights[worst].size}"
        ]

    def check(self, names: Iterable[str]) -> None:
        """Raises Stays where a node that reads these cannot be float16."""
        for name in names:
            if name in self.model.weights and (told := self._told(name)):
                raise Stays(told)

    def _look(self, name: str) -> str | None:
        peak, gone, count, noise = 0.0, 0, 0, Noise()
        for some in slices_of(self.model.weights[name]):
            known = np.isfinite(some)
            finite = some if known.all() else some[known]
            rounded = to_half(finite)
            peak = max(peak, float(np.abs(finite).max(initial=0.0)))
            gone += int(np.count_nonzero(finite) - np.count_nonzero(rounded.view(np.uint16) & _SIZE))
            count += finite.size
            noise.add(finite, rounded)
        if not np.isfinite(to_half(np.array(peak))):
            return f"its constant {name!r} reaches {peak:.3g}, float16 {LARGEST:.0f}"
        quality = noise.decibels
        if quality < self.least_db and peak:
            lost = f", {gone} of {count} values become nought" if gone else ""
            return f"its constant {name!r} would be off by {quality:.1f} dB{lost}"
        if gone:
            self._gone[name] = gone
        return None


def to_half(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return value.astype(np.float16)


@dataclass(frozen=True)
class Converted(Outcome):
    """``halves`` are the tensors made in float16: their names before and now, by place of the node."""

    halves: Mapping[int, list[tuple[str, str]]] = field(default_factory=dict)


def convert(found: Candidates, kept: Mapping[int, str], *, keep_io: bool = True) -> Converted:
    """The model with all candidates in float16 but those that are ``kept`` for a reason."""
    plan = _Plan(found, kept, keep_io)
    if not any(found.operands[k].outputs for k in plan.half):
        return Converted(found.model, {}, plan.told(), list(found.notes))
    nodes = found.model.graph.node
    done = {display_name(nodes[k]): "float16" for k in sorted(plan.half) if found.operands[k].outputs}
    writer = _Writer(plan)
    return Converted(writer.write(), done, plan.told(), list(found.notes), writer.halves)


class _Plan:
    """Which nodes are float16, which type each tensor is made in, and which types its readers want."""

    def __init__(self, found: Candidates, kept: Mapping[int, str], keep_io: bool) -> None:
        self.found, self.model, self.keep_io = found, found.model, keep_io
        self.nodes, self.fixed = index_of(found.model).nodes, index_of(found.model).captured
        self.kept = dict(kept)
        self.half = {k for k in found.operands if k not in kept}
        self._settle()
        while lonely := self._lonely():
            self.kept.update(dict.fromkeys(lonely, "it would stand alone between nodes in float32"))
            self.half -= lonely
            self._settle()

    def told(self) -> dict[str, str]:
        reasons = {**self.found.reasons, **self.kept}
        return {display_name(self.nodes[k]): reasons[k] for k in sorted(reasons)}

    def wants(self, k: int, i: int) -> int:
        """The type in which a node reads an input that was float32."""
        operands = self.found.operands.get(k)
        if k not in self.half or operands is None or i not in operands.inputs:
            return FLOAT
        return self.made[self.nodes[k].input[i]] if operands.indifferent else HALF

    def end(self, name: str) -> int:
        """The type of a graph input or output that was float32."""
        return FLOAT if self.keep_io or name in self.fixed or name in self.model.weights else HALF

    def _settle(self) -> None:
        graph = self.model.graph
        float32 = {name for name, kind in self.found.dtypes.items() if kind == FLOAT}
        self.made = dict.fromkeys(float32, FLOAT)
        self.made.update({v.name: self.end(v.name) for v in graph.input if v.name in float32})
        for k in self.half:
            self.made.update({self.nodes[k].output[j]: HALF for j in self.found.operands[k].outputs})
        self.needs: dict[str, set[int]] = defaultdict(set)
        for k, node in enumerate(self.nodes):
            for i, name in enumerate(node.input):
                if name in float32:
                    self.needs[name].add(self.wants(k, i))
        for name in self.fixed & float32:
            self.needs[name].add(FLOAT)
        for value in graph.output:
            if value.name in float32:
                self.needs[value.name].add(self.end(value.name))

    def _lonely(self) -> set[int]:
        """Nodes of little weight that would be cast to and from on all sides."""
        lonely = set()
        for k in self.half:
            node, operands = self.nodes[k], self.found.operands[k]
            inputs = [node.input[i] for i in operands.inputs]
            computed = [name for name in inputs if name not in self.model.weights]
            weight = sum(self.model.weights[n].size for n in inputs if n in self.model.weights)
            before = all(self.made[name] == FLOAT for name in computed)
            after = all(HALF not in self.needs[node.output[j]] for j in operands.outputs)
            if before and after and weight < _FEW and not operands.indifferent:
                lonely.add(k)
        return lonely


class _Writer:
    """Writes a planned model, each tensor's other type right behind the node that makes it."""

    def __init__(self, plan: _Plan) -> None:
        self.plan, self.edit = plan, Edit(plan.model)
        self._names: dict[tuple[str, int], str] = {}
        self._written: set[str] = set()
        self.halves: dict[int, list[tuple[str, str]]] = defaultdict(list)
        graph = self.edit.model.graph
        for value in (*graph.input, *graph.output):
            if plan.made.get(value.name) is not None:
                value.type.tensor_type.elem_type = plan.end(value.name)
                self._names[value.name, plan.end(value.name)] = value.name

    def write(self) -> Model:
        for value in self.plan.model.graph.input:
            self._other(value.name)
        for k, node in enumerate(self.plan.nodes):
            if not self._absorbed(node):
                self._node(k, node)
            for name in node.output:
                self._other(name)
        for value in self.plan.model.graph.output:
            self._hand_out(value.name)
        return self.edit.finish()

    def _node(self, k: int, node: onnx.NodeProto) -> None:
        fresh = onnx.NodeProto.FromString(node.SerializeToString())
        for i, name in enumerate(node.input):
            if name in self.plan.made:
                constant = self.plan.wants(k, i) == HALF and name in self.plan.model.weights
                fresh.input[i] = self._constant(name) if constant else self._name(name, self.plan.wants(k, i))
        for j, name in enumerate(node.output):
            if name in self.plan.made:
                fresh.output[j] = self._name(name, self.plan.made[name])
                if self.plan.made[name] == HALF:
                    self.halves[k].append((name, fresh.output[j]))
        self.edit.keep(fresh)

    def _name(self, name: str, kind: int) -> str:
        """What a tensor is called in one of the types: its own name in float32, unless it is an end of the graph."""
        if (name, kind) not in self._names:
            free = kind == FLOAT and self._names.get((name, HALF)) != name
            self._names[name, kind] = (
                name if free else self.edit.tensor(f"{name}_{'half' if kind == HALF else 'float'}")
            )
        return self._names[name, kind]

    def _constant(self, name: str) -> str:
        if (name, HALF) not in self._names:
            self._names[name, HALF] = self.edit.constant(f"{name}_half", to_half(self.plan.model.weights[name]))
        return self._names[name, HALF]

    def _hand_out(self, name: str) -> None:
        """Cast a constant that is an output from its one copy in float16, unless a node reads it in float32."""
        half = self._names.get((name, HALF))
        if half in self.edit.model.weights and all(name not in reads(node) for node in self.edit.nodes):
            del self.edit.model.weights[name]
            self.edit.add("Cast", [half], name, to=FLOAT)

    def _other(self, name: str) -> None:
        """Cast a tensor to the type that it is not made in, if anyone wants that."""
        made = self.plan.made.get(name)
        if made is None or name in self.plan.model.weights or name in self._written:
            return
        for kind in self.plan.needs[name] - {made}:
            self.edit.add("Cast", [self._name(name, made)], self._name(name, kind), to=kind)

    def _absorbed(self, node: onnx.NodeProto) -> bool:
        """Whether a Cast to float32 that is only wanted in float16 was written as a Cast to that."""
        if node.op_type != "Cast" or attribute(node, "to") != FLOAT:
            return False
        (source,), (name,) = node.input, node.output
        kind = self.plan.found.dtypes.get(source)
        if self.plan.needs[name] != {HALF} or kind is None or kind == FLOAT:
            return False
        if kind == HALF and (name, HALF) not in self._names:
            self._names[name, HALF] = source
        else:
            self.edit.add("Cast", [source], self._name(name, HALF), name=node.name, to=HALF)
        self._written.add(name)
        return True
